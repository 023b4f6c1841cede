//! The operator's command line: one file, or folder, a subcommand.
//!
//! A subcommand writes its result to stdout and everything else to stderr. It ends with status 0
//! when the answer is good, 1 when it is not (a fault found, a packet denied, nothing there) or
//! when it failed, and 2 when it was called wrongly.

pub mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Egress control for Kubernetes nodes: a CNI plugin chained after any primary CNI.
///
/// A container runtime starts it with CNI_COMMAND in the environment. By hand, it explains itself.
#[derive(Debug, Parser)]
#[command(name = "egress-cni", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Reads the command line and carries it out.
pub fn main() -> ExitCode {
    match Cli::parse().command {}
}
