//! What is known of names, for people and tools. docs/agent-socket.md has it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// All of it. The fields' JSON names are a promise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToldNames {
    /// The version.
    pub v: u32,
    /// Where questions are taken; empty: they go to the cluster's DNS directly.
    pub listening: Vec<String>,
    /// Groups of names.
    pub groups: Vec<ToldGroup>,
    /// Pods whose rules have names.
    pub pods: Vec<ToldPod>,
}

/// The names of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToldGroup {
    /// As documents and sets call it.
    pub group: String,
    /// As the rule has them.
    pub patterns: Vec<String>,
    /// What they stand for now.
    pub addresses: Vec<ToldAddress>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldAddress {
    /// It.
    pub address: IpAddr,
    /// What it was an answer for, the latest last.
    pub names: Vec<String>,
    /// Until when new connections to it are allowed, if nobody asks again.
    pub until: Timestamp,
    /// The pod that asked last.
    pub asked_by: String,
}

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToldPod {
    /// What people call it.
    pub pod: String,
    /// Its UID, as the runtime knows it.
    #[serde(rename = "podUID")]
    pub uid: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The groups that its rules have.
    pub groups: Vec<String>,
    /// It may ask for no other names.
    pub only_allowed: bool,
    /// What it asked for and no rule of it has.
    pub asked: Vec<ToldAsked>,
}

/// A name that no rule has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldAsked {
    /// It.
    pub name: String,
    /// How often it was asked for.
    pub count: u64,
    /// When, last.
    pub last: Timestamp,
    /// What the answers had.
    pub addresses: Vec<IpAddr>,
}

/// What an address is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// The name by which a rule of the pod has it.
    pub name: Option<String>,
    /// The name that the pod had asked for, and no rule of it has.
    pub asked: Option<String>,
}
