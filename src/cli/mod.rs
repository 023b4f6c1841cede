//! The operator's command-line tool: one file a subcommand.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod logs;

/// Egress control for Kubernetes nodes: a CNI plugin chained after any primary CNI.
///
/// A container runtime starts it with CNI_COMMAND in the environment. By hand, it is a tool to
/// look at what the plugin does on this node.
#[derive(Debug, Parser)]
#[command(name = "egress-cni", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Logs(logs::Args),
}

/// Runs what the command line asks for: 0 is success, 1 an error, told on stderr. Wrong usage,
/// and questions for help, end the process here, with 2 and 0.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Logs(args) => logs::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "egress-cni: {error}");
            ExitCode::FAILURE
        }
    }
}
