//! What is put on a node, kept there, and taken off it again.
//!
//! ```text
//! kernel can do it ── program ── kubeconfig ── policy file ── conflist     in this order
//! conflist ── tables, egress addresses ── state, files                     uninstall
//! ```
//!
//! The conflist comes last and goes first: as long as a runtime may call the plugin, all that the
//! plugin needs is there.

pub mod check;
pub mod config;
pub mod configmap;
pub mod credentials;
pub mod resident;
pub mod uninstall;

mod confdir;
mod conflist;
mod coverage;
mod files;
mod follow;
mod keeper;
mod kernel;
mod policy;
mod watch;

use crate::cluster;
use crate::refusal::CniError;
use crate::source::SourceError;

/// Why an installation stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("this node's kernel cannot enforce egress rules: {0}")]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error("the conflist entry would be refused: {0}")]
    Entry(CniError),
    #[error(transparent)]
    Policy(#[from] SourceError),
    #[error("the policy of {configmap} cannot be used: {why}")]
    ConfigMap { configmap: String, why: String },
    #[error(transparent)]
    Api(#[from] cluster::Error),
    #[error(transparent)]
    Keep(#[from] keeper::Error),
    #[error("cannot watch {dir}: {source}")]
    Watch {
        dir: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start: {0}")]
    Start(#[source] std::io::Error),
    #[error(
        "{0} has no configuration that a runtime could use; install the primary CNI plugin first"
    )]
    NoConflist(String),
}
