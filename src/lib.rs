//! Egress control for Kubernetes nodes, as a CNI plugin chained after any primary CNI.
//!
//! The data's way through an ADD, one type an arrow:
//!
//! ```text
//! environment, stdin
//!        │ everything that the runtime says, checked   (cni, conf)
//!        ▼
//!   Invocation, Conf
//!        │ policy file, annotations                    (source)
//!        ▼
//!   lifecycle::policy::Policy   every tier's rules, in order, with their sources
//!        │ netns, links, addresses                     (attachment)
//!        ▼
//!   attachment::Attachment      who the pod is and which veth carries it
//!        │ egress addresses                            (egress)
//!        ▼
//!   store::Record               what the kernel shall hold, written first
//!        │ pure                                        (plan)
//!        ▼
//!   nft::Transaction            for the kernel as it is now; prints itself as nft text
//!        │ one netlink transaction                     (enforce)
//!        ▼
//!   prevResult, byte for byte, on stdout
//! ```
//!
//! `rules` and `plan` do no I/O. Everything is validated before the first write. ARCHITECTURE.md lists the
//! rooms from the ground up: each uses those before it only.

pub mod agent;
pub mod attachment;
pub mod cli;
pub mod cluster;
pub mod cni;
pub mod conf;
pub mod defaults;
pub mod egress;
pub mod enforce;
pub mod explain;
pub mod guard;
pub(crate) mod hex;
pub mod json;
pub mod lifecycle;
pub mod lint;
pub mod live;
pub mod logging;
pub mod names;
pub mod plan;
pub mod refusal;
pub mod setup;
pub mod source;
pub mod store;
pub mod verdicts;
