//! The operator's command line: one file, or folder, a subcommand.
//!
//! A subcommand writes its result to stdout and everything else to stderr. It ends with status 0
//! when the answer is good, 1 when it is not (a fault found, a packet denied, nothing there) or
//! when it failed, and 2 when it was called wrongly. One whose answer itself is a 1 says its own.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod explain;
mod log_files;
mod logs;
mod output;
mod report;
mod suggest;

/// Egress control for Kubernetes nodes: a CNI plugin chained after any primary CNI.
///
/// A container runtime starts it with CNI_COMMAND in the environment. By hand, it is a tool to
/// look at what the plugin does on this node.
#[derive(Debug, Parser)]
#[command(name = "egress-cni", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(explain::Args),
    Logs(logs::Args),
    Report(report::Args),
    Suggest(suggest::Args),
}

/// Reads the command line and carries it out.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Explain(args) => return explain::main(&args),
        Command::Report(args) => report::main(&args).map_err(Box::from),
        Command::Suggest(args) => return suggest::main(&args),
        Command::Logs(args) => logs::main(&args)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Box::<dyn std::error::Error>::from),
    };
    outcome.unwrap_or_else(|error| {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "egress-cni: {error}");
        ExitCode::FAILURE
    })
}
