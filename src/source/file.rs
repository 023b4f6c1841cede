//! The policy file on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use jiff::SignedDuration;
use serde_saphyr::Spanned;

use super::mode::Mode;
use super::yaml::{self, RawFile, RawLimits, RawNames};
use super::{NamespaceAnnotations, SourceError};
use rules::effective::{ApiAnswers, DefaultAction, Facts, Tier, TierRules};
use rules::fault::{Collector, Complaint, Faults, quoted, shown};
use rules::grammar::{label, targets};
use rules::lexer::{self, Place};
use rules::limits::Limits;
use rules::nat64;
use rules::nearest::nearest;

/// Bytes that a policy file may have. A ConfigMap has at most 1 MiB.
const LARGEST: u64 = 4 << 20;

/// How many lines a second a pod's own rule may log, if the file does not say.
const LOG_PER_SECOND: u32 = 50;

const API_VERSION: &str = "egressway.dev/v1alpha1";
/// The `kind` of a policy file.
pub const KIND: &str = "ClusterEgressPolicy";

/// The policy file, with all its texts checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// What nobody can override.
    pub enforced: TierRules,
    /// For what no other rule decided.
    pub defaults: TierRules,
    /// What is left after that.
    pub default_action: DefaultAction,
    /// The cluster's mode.
    pub mode: Mode,
    /// `clusterCIDRs`, `clusterDNS`, `nodeCIDRs`, `nat64Prefixes` and `tunnelPorts`.
    pub facts: Facts,
    /// How much the text of a pod and each of a namespace may ask for.
    pub limits: Limits,
    /// How many lines a second a pod's own rule may log.
    pub log_per_second: u32,
    /// How domain names are resolved.
    pub names: NamesOptions,
    /// Namespaces whose pods have no rules.
    pub exempt_namespaces: BTreeSet<String>,
    /// What namespaces may ask for as egress addresses.
    pub egress_ips: Vec<IpNet>,
    /// What the API would say of namespaces.
    pub namespaces: BTreeMap<String, NamespaceAnnotations>,
    /// What namespaces list as egress addresses: those above, until the API has been asked.
    pub egress_lists: BTreeMap<String, Vec<IpNet>>,
}

/// The policy file's `names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamesOptions {
    /// How long an address is known at least, whatever the answer says.
    pub min_ttl: Duration,
    /// Pods with domain names start although the agent does not run.
    pub start_without_agent: bool,
}

impl Default for NamesOptions {
    fn default() -> Self {
        Self {
            min_ttl: Duration::from_secs(60),
            start_without_agent: false,
        }
    }
}

impl PolicyFile {
    /// Reads and checks a policy file, all of it: a fault in one namespace's text is found before it matters.
    ///
    /// # Errors
    /// The file is missing, unreadable, no text, or says something invalid.
    pub fn load(path: &Path) -> Result<PolicyFile, SourceError> {
        let text = PolicyFile::read(path)?;
        PolicyFile::parse(&shown(path), &text)
    }

    /// Reads a policy file's text, for [`PolicyFile::parse`].
    ///
    /// # Errors
    /// The file is missing, unreadable, or no text.
    pub fn read(path: &Path) -> Result<String, SourceError> {
        read(path)
    }

    /// Checks the text of a policy file. `source` is the file's name, for people.
    ///
    /// # Errors
    /// The text says something invalid.
    pub fn parse(source: &str, text: &str) -> Result<PolicyFile, SourceError> {
        let raw = yaml::read(source, text)?;
        let mut reader = PolicyReader {
            source,
            text,
            faults: Collector::default(),
        };
        reader.header(&raw);
        let dns = reader.each(&raw.cluster_dns, targets::address);
        let facts = Facts {
            cluster: reader.each(&raw.cluster_cidrs, targets::network),
            resolvers: dns.clone(),
            dns,
            nodes: reader.each(&raw.node_cidrs, targets::network),
            nat64: match &raw.nat64_prefixes {
                Some(prefixes) => reader.prefixes(prefixes),
                None => vec![nat64::WELL_KNOWN],
            },
            tunnel_ports: raw
                .tunnel_ports
                .iter()
                .filter_map(|port| reader.number(port, "a UDP port from 1 to 65535"))
                .collect(),
            ..Facts::default()
        };
        let (limits, log_per_second) = reader.limits(&raw.limits);
        let names = reader.names_options(&raw.names);
        let mut file = PolicyFile {
            enforced: reader.tier(Tier::ClusterEnforced, "enforced", raw.enforced),
            defaults: reader.tier(Tier::ClusterDefaults, "defaults", raw.defaults),
            default_action: reader.value(raw.default_action.as_ref(), default_action),
            mode: reader.value(raw.mode.as_ref(), Mode::parse),
            exempt_namespaces: reader
                .each(&raw.exempt_namespaces, namespace_name)
                .into_iter()
                .collect(),
            egress_ips: reader.each(&raw.egress_ips, targets::network),
            namespaces: BTreeMap::new(),
            egress_lists: BTreeMap::new(),
            limits,
            names,
            log_per_second,
            facts,
        };
        for (name, namespace) in raw.namespaces.0 {
            reader.each(std::slice::from_ref(&name), namespace_name);
            let place = format!("{source}: namespaces.{}.annotations", name.value);
            let annotations = namespace.annotations.0.into_iter();
            let annotations = annotations.map(|(key, text)| (key.value, text)).collect();
            let annotations = NamespaceAnnotations::from_map(&place, &annotations)?;
            if let Some(list) = reader.take(annotations.egress()) {
                file.egress_lists.insert(name.value.clone(), list);
            }
            reader.take(annotations.mode());
            if let Some(tiers) = reader.take(annotations.tiers()) {
                reader.names(tiers, &file.facts);
            }
            file.namespaces.insert(name.value, annotations);
        }
        reader.names([&file.enforced, &file.defaults], &file.facts);
        Ok(reader.faults.finish(file)?)
    }

    /// Checks that every name in the file stands for something without the API.
    ///
    /// # Errors
    /// Names that only the API knows.
    pub fn check_names(&self) -> Result<(), SourceError> {
        let mut faults = Collector::default();
        let mut tiers = vec![&self.enforced, &self.defaults];
        for namespace in self.namespaces.values() {
            tiers.extend(namespace.tiers()?);
        }
        for tier in tiers {
            tier.note_unknown_names(&mut faults, &self.facts, ApiAnswers::Asked);
        }
        Ok(faults.finish(())?)
    }

    /// What the file says of a namespace.
    pub fn namespace(&self, name: &str) -> NamespaceAnnotations {
        self.namespaces.get(name).cloned().unwrap_or_default()
    }
}

/// `60s`, `5m`: from one second to a day.
fn seconds(text: &str) -> Result<Duration, Complaint> {
    let length = text.parse::<SignedDuration>().ok();
    let length = length.and_then(|length| Duration::try_from(length).ok());
    let day = Duration::from_secs(24 * 3600);
    let length = length.filter(|length| (Duration::from_secs(1)..=day).contains(length));
    length.ok_or_else(|| {
        Complaint::new(format!(
            "expected a time from `1s` to `24h`, such as `60s`, found {}",
            quoted(text)
        ))
    })
}

/// Turns raw values into checked ones, and gathers what is wrong.
struct PolicyReader<'a> {
    source: &'a str,
    text: &'a str,
    faults: Collector,
}

impl PolicyReader<'_> {
    fn fault(&mut self, value: &Spanned<String>, complaint: Complaint) {
        let place = yaml::place(self.text, &value.referenced);
        self.faults.add(self.source, place, complaint);
    }

    /// `apiVersion` and `kind`: without them, this may be any file.
    fn header(&mut self, raw: &RawFile) {
        for (key, found, wanted) in [
            ("apiVersion", &raw.api_version, API_VERSION),
            ("kind", &raw.kind, KIND),
        ] {
            let complaint = Complaint::new(format!("expected `{key}: {wanted}`"));
            match found {
                Some(value) if value.value == wanted => {}
                Some(value) => {
                    let message = format!("{}, found {}", complaint.message, quoted(&value.value));
                    self.fault(value, Complaint::new(message));
                }
                None => {
                    let (line, first) = lexer::lines(self.text).next().unwrap_or((1, ""));
                    let place = Place {
                        width: 0,
                        end: 0,
                        ..lexer::whole_line(line, first)
                    };
                    self.faults.add(self.source, place, complaint);
                }
            }
        }
    }

    fn each<T>(
        &mut self,
        values: &[Spanned<String>],
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for value in values {
            match parse(&value.value) {
                Ok(parsed) => all.push(parsed),
                Err(complaint) => self.fault(value, complaint),
            }
        }
        all
    }

    fn value<T: Default>(
        &mut self,
        value: Option<&Spanned<String>>,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> T {
        let values = value.map(std::slice::from_ref).unwrap_or_default();
        self.each(values, parse).pop().unwrap_or_default()
    }

    /// No NAT64 prefix may hold another: what is behind both would stand for two addresses.
    fn prefixes(&mut self, values: &[Spanned<String>]) -> Vec<Ipv6Net> {
        let mut all: Vec<Ipv6Net> = Vec::new();
        for value in values {
            let prefix = nat64::prefix(&value.value).and_then(|prefix| {
                let overlaps = |other: &&Ipv6Net| {
                    other.contains(&prefix.network()) || prefix.contains(&other.network())
                };
                match all.iter().find(overlaps) {
                    Some(other) => Err(Complaint::new(format!(
                        "{} and `{other}` have addresses in common",
                        quoted(&value.value)
                    ))),
                    None => Ok(prefix),
                }
            });
            match prefix {
                Ok(prefix) => all.push(prefix),
                Err(complaint) => self.fault(value, complaint),
            }
        }
        all
    }

    /// A number from one on; `what`: what it counts.
    fn number<T: TryFrom<u64>>(&mut self, value: &Spanned<u64>, what: &str) -> Option<T> {
        let number = Some(value.value).filter(|number| *number > 0);
        let number = number.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let complaint = Complaint::new(format!("expected {what}, found {}", value.value));
            let place = yaml::place(self.text, &value.referenced);
            self.faults.add(self.source, place, complaint);
        }
        number
    }

    fn limits(&mut self, raw: &RawLimits) -> (Limits, u32) {
        let usual = Limits::default();
        let mut count = |value: &Option<Spanned<u64>>, what, usual| {
            let given = value.as_ref();
            let given = given.and_then(|value| self.number(value, what));
            given.unwrap_or(usual)
        };
        let rules = "a number of rules from 1 on";
        let limits = Limits {
            rules: count(&raw.rules, rules, usual.rules),
            plain_rules: count(&raw.plain_rules, rules, usual.plain_rules),
            pairs: count(&raw.pairs, "a number of pairs from 1 on", usual.pairs),
        };
        let rate = raw.log_per_second.as_ref();
        let rate = rate.and_then(|value| self.number(value, "a number of log lines from 1 on"));
        (limits, rate.unwrap_or(LOG_PER_SECOND))
    }

    fn names_options(&mut self, raw: &RawNames) -> NamesOptions {
        let usual = NamesOptions::default();
        let min_ttl = raw.min_ttl.as_ref().and_then(|value| {
            let parsed = seconds(&value.value);
            parsed
                .map_err(|complaint| self.fault(value, complaint))
                .ok()
        });
        let without = raw.without_agent.as_ref().and_then(|value| {
            let parsed = match &*value.value {
                "refuse" => Ok(false),
                "start" => Ok(true),
                other => Err(Complaint::new(format!(
                    "expected `refuse` or `start`, found {}",
                    quoted(other)
                ))),
            };
            parsed
                .map_err(|complaint| self.fault(value, complaint))
                .ok()
        });
        NamesOptions {
            min_ttl: min_ttl.unwrap_or(usual.min_ttl),
            start_without_agent: without.unwrap_or(usual.start_without_agent),
        }
    }

    fn tier(&mut self, tier: Tier, key: &str, text: Option<String>) -> TierRules {
        let source = format!("{}: {key}", self.source);
        let text = text.unwrap_or_default();
        let rules = self.take(TierRules::parse(tier, &source, &text, false));
        rules.unwrap_or(TierRules {
            tier,
            source,
            text,
            rules: Vec::new(),
            audit: false,
        })
    }

    fn take<T>(&mut self, checked: Result<T, Faults>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(found) => {
                self.faults.extend(found);
                None
            }
        }
    }

    /// Checks that the names in these tiers stand for something, or that the API can say for what.
    fn names<'a>(&mut self, tiers: impl IntoIterator<Item = &'a TierRules>, facts: &Facts) {
        for tier in tiers {
            tier.note_unknown_names(&mut self.faults, facts, ApiAnswers::ToBeAsked);
        }
    }
}

fn default_action(text: &str) -> Result<DefaultAction, Complaint> {
    match text {
        "allow" => Ok(DefaultAction::Allow),
        "deny" => Ok(DefaultAction::Deny),
        _ => Err(Complaint::new(format!(
            "expected `allow` or `deny`, found {}",
            quoted(text)
        ))
        .maybe_meant(nearest(text, &["allow", "deny"]))),
    }
}

fn namespace_name(text: &str) -> Result<String, Complaint> {
    if label::is_label(text) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!(
        "expected a namespace's name, found {}",
        quoted(text)
    )))
}

/// Reads the file's text.
fn read(path: &Path) -> Result<String, SourceError> {
    let unreadable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => SourceError::FileMissing {
            path: path.to_owned(),
        },
        _ => SourceError::FileUnreadable {
            path: path.to_owned(),
            cause,
        },
    };
    let unusable = |reason: String| SourceError::FileUnusable {
        path: path.to_owned(),
        reason,
    };
    // Asked before it is opened: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(unusable("is a directory".to_owned()));
    }
    if !kind.is_file() {
        return Err(unusable("is not a regular file".to_owned()));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(LARGEST) as usize + 1);
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(unusable(format!("has more than {} MiB", LARGEST >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("is not UTF-8, first in line {line}"))
    })?;
    if text.trim().is_empty() {
        return Err(unusable(format!(
            "is empty; it starts with `apiVersion: {API_VERSION}` and `kind: {KIND}`"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
