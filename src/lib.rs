//! Egress control for Kubernetes nodes, as a CNI plugin chained after any primary CNI.
//!
//! The data's way through an ADD, one type an arrow:
//!
//! ```text
//! environment, stdin ── cni::Invocation
//!        │ netns, links, addresses                     (net)
//!        ▼
//!   attachment::Attachment      who the pod is and which veth carries it
//!        │ policy file, annotations                    (source)
//!        ▼
//!   policy::Effective           every tier's rules, in order, with their sources
//!        │ pure                                        (plan)
//!        ▼
//!   Vec<nft::Op>                prints itself as nft text
//!        │ one netlink transaction                     (nft)
//!        ▼
//!   prevResult, byte for byte, on stdout
//! ```
//!
//! `policy` and `plan` do no I/O. Everything is validated before the first write.

pub mod agent;
pub mod attachment;
pub mod cli;
pub mod cluster;
pub mod cni;
pub mod conf;
pub mod defaults;
pub mod egress;
pub mod enforce;
pub mod guard;
pub(crate) mod hex;
pub mod json;
pub mod lifecycle;
pub mod logging;
pub mod plan;
pub mod refusal;
pub mod setup;
pub mod source;
pub mod store;
pub mod verdicts;
