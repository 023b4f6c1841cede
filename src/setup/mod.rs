//! What is put on a node, and taken off it again.
//!
//! ```text
//! kernel can do it ── program ── kubeconfig ── policy file ── conflist     in this order
//! conflist ── tables, egress addresses ── state, files                     uninstall
//! ```
//!
//! The conflist comes last and goes first: as long as a runtime may call the plugin, all that the
//! plugin needs is there.

pub mod check;
pub mod confdir;
pub mod config;
pub mod conflist;
pub mod coverage;
pub mod credentials;
pub mod files;
pub mod guard;
pub mod install;
pub mod kernel;
pub mod options;
pub mod policy;
pub mod program;
pub mod uninstall;
