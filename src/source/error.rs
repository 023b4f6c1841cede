//! What can be wrong with policy from the outside.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::cluster;
use crate::refusal::code;
use rules::fault::{Faults, shown};

/// Why no policy could be made for a pod. Meant to be read in the pod's events: says what to change.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No policy file: an empty policy would be an open door.
    #[error(
        "there is no policy file {path}, and without one no pod is started. The smallest, which allows everything:
  apiVersion: egressway.dev/v1alpha1
  kind: ClusterEgressPolicy
  defaultAction: allow",
        path = shown(path)
    )]
    FileMissing {
        /// The file looked for.
        path: PathBuf,
    },
    /// The policy file is there and cannot be read.
    #[error("cannot read the policy file {path}: {cause}", path = shown(path))]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why the system refuses.
        #[source]
        cause: io::Error,
    },
    /// The policy file is no text at all.
    #[error("the policy file {path} {reason}", path = shown(path))]
    FileUnusable {
        /// The file.
        path: PathBuf,
        /// What it is instead, as the sentence's end.
        reason: String,
    },
    /// The policy file's YAML, or a text in it or in an annotation, is invalid.
    #[error(transparent)]
    Text(#[from] Faults),
    /// An annotation of ours that does not exist, or stands on the wrong object.
    #[error("{place}: {problem}")]
    Annotation {
        /// On what it stands.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The Kubernetes API did not say what the policy is.
    #[error(transparent)]
    Api(#[from] cluster::Error),
    /// A rule names a Service that does not exist.
    #[error(
        "a rule names `svc/{service}`, and the API has no such Service: create it, or correct the rule"
    )]
    NoService {
        /// `NAMESPACE/NAME`
        service: String,
    },
    /// A rule names a Service to which nothing can be sent.
    #[error(
        "a rule names `{name}`, which has no address of its own, being headless or an ExternalName: write the addresses of what is behind it"
    )]
    NoAddress {
        /// As rules name it.
        name: String,
    },
    /// The API has a pod of that name, but another one.
    #[error(
        "the pod {pod} in the API has the UID {found}, and the one that starts here {started}: it was replaced, and its annotations are not this pod's"
    )]
    OtherPod {
        /// `NAMESPACE/NAME`
        pod: String,
        /// In the API.
        found: String,
        /// By the runtime.
        started: String,
    },
    /// A namespace asks for what can't be an egress address.
    #[error(
        "{place}: {reason}, and can't be an egress address: take one that is routed to the nodes and not in use"
    )]
    EgressImpossible {
        /// Where the namespace asks.
        place: String,
        /// What it asks for, and what that is.
        reason: String,
    },
    /// A namespace asks for an egress address that the policy file does not offer.
    #[error(
        "{place}: {entry} is not inside `egressIPs` of the policy file ({offered}): \
         ask the cluster's operators for an address, or take one of those"
    )]
    EgressNotOffered {
        /// Where the namespace asks.
        place: String,
        /// What it asks for.
        entry: IpNet,
        /// What may be asked for, for people.
        offered: String,
    },
    /// A namespace asks for an egress address that another namespace has.
    #[error(
        "{place}: {entry} belongs to the namespace {owner}, which lists {owned}: take another address"
    )]
    EgressTaken {
        /// Where the namespace asks.
        place: String,
        /// What it asks for.
        entry: IpNet,
        /// The other namespace.
        owner: String,
        /// The other's entry.
        owned: IpNet,
    },
}

impl SourceError {
    /// The CNI error code: 102 for refused egress addresses, 11 for what can heal by itself, 7 for
    /// what is wrong with the way to the API, else 100.
    pub fn code(&self) -> u32 {
        match self {
            SourceError::EgressImpossible { .. }
            | SourceError::EgressNotOffered { .. }
            | SourceError::EgressTaken { .. } => 102,
            SourceError::Api(error) => error.cni().code,
            SourceError::OtherPod { .. } | SourceError::NoService { .. } => code::TRY_AGAIN,
            SourceError::FileMissing { .. }
            | SourceError::FileUnreadable { .. }
            | SourceError::FileUnusable { .. }
            | SourceError::Text(_)
            | SourceError::NoAddress { .. }
            | SourceError::Annotation { .. } => 100,
        }
    }
}
