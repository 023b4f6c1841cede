//! The plugin's entry of the conflist, as the runtime hands it over on stdin.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::value::RawValue;
use tracing::Level;

use crate::defaults;
use crate::guard;
use crate::json::{self, JsonObject};
use crate::refusal::version::{self, CniVersion};
use crate::refusal::{CniError, quoted};

pub use command::Command;
pub use keys::{OURS, may_be_ours};
pub use kubernetes::{Kubernetes, WhenUnreachable};
pub use runtime::{AttachmentRef, POD_ANNOTATIONS, PodAnnotations, ValidAttachments};

mod command;
mod keys;
mod kubernetes;
pub(crate) mod names;
mod runtime;

use names::{ifname_problem, is_identifier};

/// The plugin's `type` in a conflist.
pub const TYPE: &str = "egressway";

/// How long one call may take. Runtimes hold locks while a plugin runs: a plugin that hangs stops
/// every other pod of the node.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// More than this is no configuration. The biggest real part is `prevResult` and the pod's
/// annotations, which Kubernetes limits to 256 KiB.
const MAX_STDIN: u64 = 64 << 20;

/// The whole configuration of one call. Every default is filled in.
#[derive(Debug, Clone)]
pub struct Conf {
    /// The network's name: part of an attachment's identity.
    pub name: String,
    /// The version in which runtime and plugin talk.
    pub cni_version: CniVersion,
    /// Absolute. Default [`defaults::POLICY_FILE`].
    pub policy_file: PathBuf,
    /// None: no API is asked.
    pub kubernetes: Option<Kubernetes>,
    /// Absolute. Default [`defaults::STATE_DIR`].
    pub state_dir: PathBuf,
    /// None: the device of the default route.
    pub uplink: Option<String>,
    /// The NFLOG group of what enforced rules log; what others log goes to the next one. Default
    /// [`defaults::LOG_GROUP`].
    pub log_group: u16,
    /// How much the plugin says about itself. Default info.
    pub log_level: Level,
    /// Absolute. None: stderr.
    pub log_file: Option<PathBuf>,
    /// What ADD does with a pod that can't be enforced here. Default: refuse.
    pub unenforceable: WhenUnenforceable,
    /// What is done about packets whose checksum the kernel would write behind the rules. Default: drop.
    pub forged_checksums: guard::Mode,
    /// Whether the network is asked by ARP if an egress address is in use. Default: on. A network in which a
    /// router answers for every address (proxy ARP) would never let one be taken.
    pub arp_probe: bool,
    /// What the runtime says about the pod's annotations.
    pub pod_annotations: PodAnnotations,
    /// Which attachments GC keeps. Read for GC only.
    pub valid_attachments: ValidAttachments,
    /// The primary plugin's result, exactly as it was written. Always there for ADD and CHECK.
    pub prev_result: Option<Box<RawValue>>,
    /// What was wrong, but not worth failing a DEL for.
    pub warnings: Vec<String>,
}

/// What ADD does with a pod whose traffic no hook of ours sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenUnenforceable {
    /// The pod does not start.
    #[default]
    Refuse,
    /// The pod runs without any policy.
    Allow,
}

/// A group that has another one behind it.
#[derive(serde::Deserialize)]
#[serde(try_from = "u16")]
struct LogGroup(u16);

impl TryFrom<u16> for LogGroup {
    type Error = &'static str;

    fn try_from(group: u16) -> Result<Self, Self::Error> {
        match group {
            u16::MAX => Err("there is no group behind it"),
            group => Ok(LogGroup(group)),
        }
    }
}

/// Reads stdin to its end.
///
/// # Errors
/// Code 5 if reading fails, 6 if there is more than any configuration has.
pub fn read(stdin: impl Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_STDIN + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CniError::io(format!("error reading from stdin: {e}")))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(CniError::decoding(format!(
            "the configuration on stdin has more than {} MiB",
            MAX_STDIN >> 20
        )));
    }
    Ok(bytes)
}

/// stdin, decoded but not interpreted.
#[derive(Debug)]
pub struct RawConf<'a>(JsonObject<'a>);

impl<'a> RawConf<'a> {
    /// Decodes stdin.
    ///
    /// # Errors
    /// Code 6: not JSON, or not an object.
    pub fn decode(stdin: &'a [u8]) -> Result<Self, CniError> {
        serde_json::from_slice(stdin).map(RawConf).map_err(|e| {
            CniError::decoding(format!(
                "the configuration on stdin is not a JSON object: {e}"
            ))
        })
    }

    /// The configuration's version, if this plugin speaks it: errors, too, are told in it.
    pub fn version(&self) -> Option<CniVersion> {
        CniVersion::parse(&self.version_text().ok()?)
    }

    /// No version, or an empty one, is 0.1.0: that spec did not have the key yet.
    fn version_text(&self) -> Result<String, CniError> {
        let text: Option<String> = json::value(
            &self.0,
            "cniVersion",
            "cniVersion",
            "a version such as \"1.0.0\"",
        )?;
        Ok(text
            .filter(|t| !t.is_empty())
            .unwrap_or_else(|| CniVersion::V0_1_0.to_string()))
    }

    /// The version, if `command` exists in it.
    fn version_for(&self, command: Command) -> Result<CniVersion, CniError> {
        let text = self.version_text()?;
        let since = match command {
            Command::Check => Some(CniVersion::V0_4_0),
            Command::Gc | Command::Status => Some(CniVersion::V1_1_0),
            Command::Add | Command::Del | Command::Version => None,
        };
        if let Some(since) = since {
            // As the reference implementation: what is no version at all can't be compared (code 6).
            let asked = version::numbers(&text).ok_or_else(|| {
                CniError::decoding(format!("cniVersion {} is not a version", quoted(&text)))
            })?;
            if version::numbers(since.as_str()).is_some_and(|since| asked < since) {
                return Err(CniError::incompatible_version(format!(
                    "config version does not allow {command}"
                ))
                .with_details(format!(
                    "config is {}, {command} exists since {since}",
                    quoted(&text)
                )));
            }
        }
        CniVersion::parse(&text).ok_or_else(|| {
            let supported = CniVersion::ALL.map(|v| format!("\"{v}\"")).join(" ");
            CniError::incompatible_version("incompatible CNI versions").with_details(format!(
                "config is {}, plugin supports [{supported}]",
                quoted(&text)
            ))
        })
    }
}

impl Conf {
    /// Checks everything that the entry says.
    ///
    /// DEL forgives what it doesn't need, and tells it in [`Conf::warnings`]: a mistake in the
    /// conflist must not keep the primary plugin from releasing the addresses of older pods.
    ///
    /// # Errors
    /// Code 1: no such version, or no such verb in it. Code 6: the version is none.
    /// Code 7: a key is misspelt, of the wrong type, invalid or missing.
    pub fn new(entry: &RawConf<'_>, command: Command) -> Result<Conf, CniError> {
        let name = name(&entry.0)?;
        let cni_version = entry.version_for(command)?;
        let entry = &entry.0;
        let mut check = Checker {
            forgiving: command == Command::Del,
            warnings: Vec::new(),
        };
        check.optional(keys::misspelt(entry).map(Some))?;
        let conf = Conf {
            name,
            cni_version,
            policy_file: check
                .optional(path(entry, "policyFile", "policyFile"))?
                .unwrap_or_else(|| defaults::POLICY_FILE.into()),
            kubernetes: check.optional(kubernetes::read(entry))?,
            // DEL needs it: another directory than ADD's has no trace of the attachment.
            state_dir: path(entry, "stateDir", "stateDir")?
                .unwrap_or_else(|| defaults::STATE_DIR.into()),
            uplink: check.optional(uplink(entry))?,
            log_group: check
                .optional(json::value(
                    entry,
                    "logGroup",
                    "logGroup",
                    "a number from 0 to 65534",
                ))?
                .map_or(defaults::LOG_GROUP, |group: LogGroup| group.0),
            log_level: check.optional(log_level(entry))?.unwrap_or(Level::INFO),
            log_file: check.optional(path(entry, "logFile", "logFile"))?,
            unenforceable: check.optional(unenforceable(entry))?.unwrap_or_default(),
            forged_checksums: check.optional(forged_checksums(entry))?.unwrap_or_default(),
            arp_probe: check.optional(arp_probe(entry))?.unwrap_or(true),
            pod_annotations: check
                .optional(runtime::pod_annotations(entry).map(Some))?
                .unwrap_or_default(),
            valid_attachments: match command {
                Command::Gc => runtime::valid_attachments(entry)?,
                _ => ValidAttachments::Absent,
            },
            prev_result: prev_result(entry, command)?,
            warnings: check.warnings,
        };
        Ok(conf)
    }
}

struct Checker {
    forgiving: bool,
    warnings: Vec<String>,
}

impl Checker {
    /// For keys that DEL can do without.
    fn optional<T>(&mut self, result: Result<Option<T>, CniError>) -> Result<Option<T>, CniError> {
        match result {
            Err(error) if self.forgiving => {
                self.warnings.push(error.to_string());
                Ok(None)
            }
            result => result,
        }
    }
}

fn name(entry: &JsonObject<'_>) -> Result<String, CniError> {
    let name: Option<String> = json::value(entry, "name", "name", "a string")?;
    match name {
        None => Err(CniError::invalid_config("missing network name")),
        Some(name) if name.is_empty() => Err(CniError::invalid_config("missing network name")),
        Some(name) if is_identifier(&name) => Ok(name),
        Some(name) => Err(json::invalid(
            "name",
            &format!(
                "{}: invalid characters found in network name: it starts with a letter or digit, then come letters, digits, '_', '.' and '-'",
                quoted(&name)
            ),
        )),
    }
}

/// An absolute path: nobody knows the working directory in which runtimes start plugins.
fn path(object: &JsonObject<'_>, key: &str, at: &str) -> Result<Option<PathBuf>, CniError> {
    let path: Option<PathBuf> = json::value(object, key, at, "an absolute path")?;
    match path {
        Some(path) if !path.is_absolute() => Err(json::invalid(
            at,
            &format!("expected an absolute path, got {}", quoted(&path)),
        )),
        path => Ok(path),
    }
}

fn uplink(entry: &JsonObject<'_>) -> Result<Option<String>, CniError> {
    let uplink: Option<String> = json::value(entry, "uplink", "uplink", "a device's name")?;
    match uplink.as_deref().and_then(ifname_problem) {
        Some(problem) => Err(json::invalid("uplink", problem)),
        None => Ok(uplink),
    }
}

fn log_level(entry: &JsonObject<'_>) -> Result<Option<Level>, CniError> {
    const EXPECTED: &str = "error, warn, info, debug or trace";
    let text: Option<String> = json::value(entry, "logLevel", "logLevel", EXPECTED)?;
    match text.as_deref() {
        None => Ok(None),
        Some("error") => Ok(Some(Level::ERROR)),
        Some("warn") => Ok(Some(Level::WARN)),
        Some("info") => Ok(Some(Level::INFO)),
        Some("debug") => Ok(Some(Level::DEBUG)),
        Some("trace") => Ok(Some(Level::TRACE)),
        Some(other) => Err(json::invalid(
            "logLevel",
            &format!("expected {EXPECTED}, got {}", quoted(other)),
        )),
    }
}

fn unenforceable(entry: &JsonObject<'_>) -> Result<Option<WhenUnenforceable>, CniError> {
    const EXPECTED: &str = "allow or refuse";
    let text: Option<String> = json::value(entry, "unenforceable", "unenforceable", EXPECTED)?;
    match text.as_deref() {
        None => Ok(None),
        Some("refuse") => Ok(Some(WhenUnenforceable::Refuse)),
        Some("allow") => Ok(Some(WhenUnenforceable::Allow)),
        Some(other) => Err(json::invalid(
            "unenforceable",
            &format!("expected {EXPECTED}, got {}", quoted(other)),
        )),
    }
}

fn forged_checksums(entry: &JsonObject<'_>) -> Result<Option<guard::Mode>, CniError> {
    const KEY: &str = "forgedChecksums";
    let text: Option<String> = json::value(entry, KEY, KEY, guard::Mode::WORDS)?;
    let mode = |text: &String| {
        text.parse()
            .map_err(|e: guard::NoMode| json::invalid(KEY, &format!("{e}, got {}", quoted(text))))
    };
    text.as_ref().map(mode).transpose()
}

fn arp_probe(entry: &JsonObject<'_>) -> Result<Option<bool>, CniError> {
    const EXPECTED: &str = "on or off";
    let text: Option<String> = json::value(entry, "arpProbe", "arpProbe", EXPECTED)?;
    match text.as_deref() {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => Err(json::invalid(
            "arpProbe",
            &format!("expected {EXPECTED}, got {}", quoted(other)),
        )),
    }
}

fn prev_result(
    entry: &JsonObject<'_>,
    command: Command,
) -> Result<Option<Box<RawValue>>, CniError> {
    let raw = entry
        .get("prevResult")
        .copied()
        .filter(|raw| raw.get() != "null");
    if raw.is_none() && matches!(command, Command::Add | Command::Check) {
        return Err(CniError::invalid_config(format!(
            "{command} without prevResult: egressway must come after the primary plugin in the conflist's plugins"
        )));
    }
    Ok(raw.map(ToOwned::to_owned))
}

#[cfg(test)]
mod tests;
