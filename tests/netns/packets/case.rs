//! One case: a policy as its owners write it, and packets to try on it. Cases are kept as JSON.

use std::net::IpAddr;

use rules::builtin;
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use serde::{Deserialize, Serialize};

/// The networks of the cluster under test.
pub const CLUSTER: [&str; 4] = ["10.244.0.0/16", "10.96.0.0/12", "fd44::/16", "fd96::/112"];
/// Its DNS Services.
pub const DNS: [&str; 2] = ["10.96.0.10", "fd96::a"];

/// Which primary plugin made the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Under {
    Bridge,
    Ptp,
    Calico,
}

/// A policy and packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Case {
    pub under: Under,
    #[serde(default)]
    pub cluster_enforced: Vec<String>,
    #[serde(default)]
    pub namespace_enforced: Vec<String>,
    #[serde(default)]
    pub pod: Vec<String>,
    #[serde(default)]
    pub namespace_defaults: Vec<String>,
    #[serde(default)]
    pub cluster_defaults: Vec<String>,
    pub default_action: DefaultAction,
    #[serde(default)]
    pub cluster_audit: bool,
    #[serde(default)]
    pub namespace_audit: bool,
    /// Whether `clusterDNS` is in the policy file.
    #[serde(default)]
    pub dns: bool,
    pub packets: Vec<Sent>,
}

/// A packet as the pod sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    pub to: IpAddr,
    /// IANA's number.
    pub protocol: u8,
    /// TCP, UDP, SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Type and code, of ICMP and ICMPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
}

impl Case {
    /// The texts with their tiers, in the order of asking.
    pub fn tiers(&self) -> [(Tier, String); 5] {
        [
            (Tier::ClusterEnforced, &self.cluster_enforced),
            (Tier::NamespaceEnforced, &self.namespace_enforced),
            (Tier::Pod, &self.pod),
            (Tier::NamespaceDefaults, &self.namespace_defaults),
            (Tier::ClusterDefaults, &self.cluster_defaults),
        ]
        .map(|(tier, lines)| (tier, lines.join("\n")))
    }

    pub fn facts(&self) -> Facts {
        facts(self.dns)
    }

    /// What the design says of these texts, put together without the plugin's sources.
    pub fn effective(&self) -> Effective {
        let softened = |tier| match tier {
            Tier::ClusterEnforced => self.cluster_audit,
            _ => self.cluster_audit || self.namespace_audit,
        };
        let mut tiers: Vec<TierRules> = self
            .tiers()
            .iter()
            .map(|(tier, text)| {
                TierRules::parse(*tier, "case", text, softened(*tier))
                    .unwrap_or_else(|faults| panic!("{tier}: {faults}"))
            })
            .collect();
        if self.dns {
            let allowance = TierRules::parse(Tier::Dns, "built-in", "allow to dns", false);
            tiers.push(allowance.expect("a rule"));
        }
        let mut tunnels = builtin::no_tunnels(Some(&self.facts())).expect("a rule");
        tunnels.audit = self.cluster_audit;
        tiers.push(tunnels);
        let audit = self.cluster_audit || self.namespace_audit;
        Effective::new(tiers, self.default_action, audit, self.facts())
            .unwrap_or_else(|faults| panic!("{faults}"))
    }
}

/// What the policy file tells of the cluster.
pub fn facts(dns: bool) -> Facts {
    let nets = CLUSTER.iter().map(|net| net.parse().expect("a network"));
    let servers = DNS.iter().map(|a| a.parse().expect("an address"));
    Facts {
        cluster: nets.collect(),
        dns: servers.filter(|_| dns).collect(),
        ..Facts::default()
    }
}
