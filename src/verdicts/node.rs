//! What the agent knows of its node's pods beyond what the state directory and the kernel say.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// All of it. The fields' JSON names are a promise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// The version.
    pub v: u32,
    /// In which cluster node.
    pub node: Option<String>,
    /// Why running pods may have older rules than what is written; none: they have what is written.
    pub pending: Option<String>,
    /// Attached pods.
    pub pods: Vec<Pod>,
    /// Pods of the node that no rule holds; none: the agent does not know, since it asks no API.
    pub uncovered: Option<Vec<Uncovered>>,
}

/// An attached pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// The attachment's id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID, as the runtime knows it.
    #[serde(rename = "podUID")]
    pub uid: Option<String>,
    /// What is written for it and not in force, since something is wrong with it.
    pub invalid: Vec<String>,
    /// The last packet of it that a rule denied and logged.
    pub last_deny: Option<Deny>,
}

/// A denied packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deny {
    /// When.
    pub time: Timestamp,
    /// The rule.
    pub rule: String,
    /// What became of it: `deny`, `would-reject`.
    pub verdict: rules::verdict::Verdict,
    /// `tcp`
    pub protocol: Option<String>,
    /// Where it went.
    pub destination: IpAddr,
    /// The port there.
    pub destination_port: Option<u16>,
}

impl Deny {
    /// Of a line, whatever its verdict.
    pub fn of(line: &super::Line) -> Deny {
        Deny {
            time: line.time,
            rule: line.rule.clone(),
            verdict: line.verdict,
            protocol: line.protocol.clone(),
            destination: line.destination,
            destination_port: line.destination_port,
        }
    }

    /// `169.254.169.254:80/tcp`
    pub fn to(&self) -> String {
        let end = super::line::end(self.destination, self.destination_port);
        match &self.protocol {
            Some(protocol) => format!("{end}/{protocol}"),
            None => end,
        }
    }
}

/// A pod that no rule holds: it is in the node's own network, or started when the plugin was not called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uncovered {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// It is in the node's own network.
    pub host_network: bool,
}
