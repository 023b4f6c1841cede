//! What the Kubernetes API is asked for, and keeps a [`Snapshot`](super::Snapshot) of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An answer of the API, of one kind.
pub trait ApiAnswer: Serialize + DeserializeOwned {
    /// The directory of its snapshots.
    const FOLDER: &'static str;
}

/// A namespace's annotations, by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceAnswer(pub BTreeMap<String, String>);

/// What a name in rules stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceAnswer {
    /// Of a Service.
    Addresses(Vec<IpAddr>),
    /// Of the API server, with its TCP ports.
    Sockets(Vec<SocketAddr>),
    /// Of nodes.
    Networks(Vec<IpNet>),
}

impl ServiceAnswer {
    /// Whether nothing is behind the name.
    pub fn is_empty(&self) -> bool {
        match self {
            ServiceAnswer::Addresses(all) => all.is_empty(),
            ServiceAnswer::Sockets(all) => all.is_empty(),
            ServiceAnswer::Networks(all) => all.is_empty(),
        }
    }
}

/// Of a pod, by the UID that its runtime knows: which pod it is, and its annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAnswer {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// By their keys.
    pub annotations: BTreeMap<String, String>,
}

/// The text with egress addresses of each namespace that has one, by the namespaces' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EgressLists(pub BTreeMap<String, String>);

impl ApiAnswer for NamespaceAnswer {
    const FOLDER: &'static str = "namespaces";
}

impl ApiAnswer for ServiceAnswer {
    const FOLDER: &'static str = "services";
}

/// Kept of pods only in the agent's view.
impl ApiAnswer for PodAnswer {
    const FOLDER: &'static str = "pods";
}

impl ApiAnswer for EgressLists {
    const FOLDER: &'static str = "egress-lists";
}

/// The directories of all of them.
pub(super) const FOLDERS: [&str; 3] = [
    NamespaceAnswer::FOLDER,
    ServiceAnswer::FOLDER,
    EgressLists::FOLDER,
];
