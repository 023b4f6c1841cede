//! All that applies to one pod: the tiers in order, each rule with the place it comes from.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::rule::Rule;

/// The tiers, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    ClusterEnforced,
    NamespaceEnforced,
    /// The built-in allowance that lets every pod ask clusterDNS.
    Dns,
    Pod,
    NamespaceDefaults,
    ClusterDefaults,
}

impl Tier {
    /// As in log lines: `pod`, `cluster-enforced`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::ClusterEnforced => "cluster-enforced",
            Tier::NamespaceEnforced => "namespace-enforced",
            Tier::Dns => "dns",
            Tier::Pod => "pod",
            Tier::NamespaceDefaults => "namespace-defaults",
            Tier::ClusterDefaults => "cluster-defaults",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is left when no rule decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    #[default]
    Allow,
    Deny,
}

/// One tier's rules, sorted by priority, then as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRules {
    pub tier: Tier,
    /// Where the text stands, for people: `pod annotation egress-cni.dev/rules`, `/etc/egress-cni/policy.yaml: enforced`.
    pub source: String,
    /// The text as it was read.
    pub text: String,
    pub rules: Vec<Rule>,
    /// Denies and rejects are only logged and counted; the packet goes.
    pub audit: bool,
}

/// What the keywords `cluster` and `dns` stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub cluster: Vec<IpNet>,
    pub dns: Vec<IpAddr>,
}

/// The policy of one pod, ready to be compiled or asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// In the order of [`Tier`]; tiers without rules are left out.
    pub tiers: Vec<TierRules>,
    pub default_action: DefaultAction,
    /// The default action, too, is only logged and counted.
    pub default_audit: bool,
    pub facts: Facts,
}
