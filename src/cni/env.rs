//! What the runtime says in the environment: which verb, for which container's interface.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::attachment::Who;
use crate::conf::names::{MAX_IDENTIFIER, ifname_problem, is_identifier};
use crate::conf::{Command, Conf};
use crate::refusal::{CniError, quoted};

/// What `CNI_ARGS` says about the pod. Every part may be missing: not every runtime is Kubernetes',
/// and old ones send no UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodArgs {
    /// `K8S_POD_NAMESPACE`
    pub namespace: Option<String>,
    /// `K8S_POD_NAME`
    pub name: Option<String>,
    /// `K8S_POD_UID`. A static pod's is a hash of its manifest, not the API's UID.
    pub uid: Option<String>,
}

/// One call of the plugin, as far as the environment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `CNI_COMMAND`
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC, STATUS and VERSION.
    pub container_id: String,
    /// `CNI_IFNAME`; empty for GC, STATUS and VERSION.
    pub ifname: String,
    /// `CNI_NETNS`; empty for GC, STATUS and VERSION, and on DEL if it is gone or not usable. On DEL
    /// it may by now belong to another pod: never enter it there.
    pub netns: PathBuf,
    /// `CNI_ARGS`
    pub args: PodArgs,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own network namespace is allowed as the container's.
    pub netns_override: bool,
}

impl Invocation {
    /// Reads the call from an environment, given as a function from a variable's name to its value.
    ///
    /// DEL takes what it can get: it must not fail for something that it doesn't need, since that
    /// would keep the primary plugin from releasing the pod's address.
    ///
    /// # Errors
    /// Code 4: a variable is missing (all missing ones are named), or its value is invalid.
    pub fn from_env(get: impl Fn(&str) -> Option<OsString>) -> Result<Invocation, CniError> {
        let var = |name: &str| get(name).unwrap_or_default();

        let command = var("CNI_COMMAND");
        if command.is_empty() {
            return Err(missing(&["CNI_COMMAND"]));
        }
        let command = Command::ALL
            .into_iter()
            .find(|c| command == c.as_str())
            .ok_or_else(|| {
                CniError::environment(format!("unknown CNI_COMMAND: {}", quoted(&command)))
            })?;

        let required = [
            ("CNI_CONTAINERID", command.needs_attachment()),
            ("CNI_NETNS", command.needs_netns()),
            ("CNI_IFNAME", command.needs_attachment()),
            ("CNI_PATH", command.needs_path()),
        ];
        let absent: Vec<&str> = required
            .into_iter()
            .filter(|(name, needed)| *needed && var(name).is_empty())
            .map(|(name, _)| name)
            .collect();
        if !absent.is_empty() {
            return Err(missing(&absent));
        }

        let mut call = Invocation {
            command,
            container_id: String::new(),
            ifname: String::new(),
            netns: PathBuf::new(),
            args: PodArgs::default(),
            netns_override: false,
        };
        if !command.needs_attachment() {
            return Ok(call);
        }
        call.container_id = container_id(&var("CNI_CONTAINERID"))?;
        call.ifname = ifname(&var("CNI_IFNAME"))?;
        let netns = netns(var("CNI_NETNS"));
        let args = pod_args(&var("CNI_ARGS"));
        (call.netns, call.args) = match command {
            Command::Del => (netns.unwrap_or_default(), args.unwrap_or_default()),
            _ => (netns?, args?),
        };
        let switch = var("CNI_NETNS_OVERRIDE");
        call.netns_override = switch == "1" || switch.eq_ignore_ascii_case("true");
        Ok(call)
    }

    /// Whose interface the call is about.
    pub fn who<'a>(&'a self, conf: &'a Conf) -> Who<'a> {
        Who {
            network: &conf.name,
            container_id: &self.container_id,
            ifname: &self.ifname,
            namespace: self.args.namespace.as_deref(),
            pod: self.args.name.as_deref(),
            uid: self.args.uid.as_deref(),
        }
    }
}

fn missing(names: &[&str]) -> CniError {
    // The reference implementation's words: its tests, and people's searches, know them.
    CniError::environment(format!(
        "required env variables [{}] missing",
        names.join(",")
    ))
}

fn container_id(value: &OsStr) -> Result<String, CniError> {
    match value.to_str() {
        Some(text) if is_identifier(text) => Ok(text.to_owned()),
        _ => Err(CniError::environment(format!(
            "CNI_CONTAINERID {}: invalid characters in containerID",
            quoted(value)
        ))
        .with_details(format!(
            "a container ID starts with a letter or digit, then come letters, digits, '_', '.' and '-', up to {MAX_IDENTIFIER}"
        ))),
    }
}

fn ifname(value: &OsStr) -> Result<String, CniError> {
    let problem = match value.to_str() {
        Some(text) => match ifname_problem(text) {
            None => return Ok(text.to_owned()),
            Some(problem) => problem,
        },
        None => "interface name is not UTF-8",
    };
    Err(CniError::environment(format!(
        "CNI_IFNAME {}: {problem}",
        quoted(value)
    )))
}

fn netns(value: OsString) -> Result<PathBuf, CniError> {
    let problem = match value.to_str() {
        None => "is not UTF-8",
        Some(text) if text.len() >= libc::PATH_MAX as usize => "is too long for a path",
        Some(text) if text.contains(|c: char| c.is_control()) => "contains control characters",
        Some(_) => return Ok(value.into()),
    };
    Err(CniError::environment(format!(
        "CNI_NETNS {} {problem}",
        quoted(&value)
    )))
}

/// Kubernetes' limit for the names of pods (RFC 1123 subdomain).
const MAX_POD_NAME: usize = 253;

/// `KEY=VALUE;KEY=VALUE`, in any order. Of a repeated key the last one counts, as in libcni. Keys
/// that we don't know, and what is no pair at all, are other plugins' business.
fn pod_args(value: &OsStr) -> Result<PodArgs, CniError> {
    let text = value
        .to_str()
        .ok_or_else(|| CniError::environment(format!("CNI_ARGS {} is not UTF-8", quoted(value))))?;
    let mut args = PodArgs::default();
    for pair in text.split(';') {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (pair, None),
        };
        let field = match key {
            "K8S_POD_NAMESPACE" => &mut args.namespace,
            "K8S_POD_NAME" => &mut args.name,
            "K8S_POD_UID" => &mut args.uid,
            _ => continue,
        };
        let value =
            value.ok_or_else(|| CniError::environment(format!("CNI_ARGS: {key} has no value")))?;
        // These names go into file names and into the paths of API requests.
        *field = match value {
            "" => None,
            _ if is_identifier(value) && value.len() <= MAX_POD_NAME => Some(value.to_owned()),
            _ => {
                return Err(CniError::environment(format!(
                    "CNI_ARGS: {key} {} is not a Kubernetes name",
                    quoted(OsStr::from_bytes(value.as_bytes()))
                )));
            }
        };
    }
    Ok(args)
}

#[cfg(test)]
mod tests;
