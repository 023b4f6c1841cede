//! The operator's command line: one file, or folder, a subcommand.
//!
//! A subcommand writes its result to stdout and everything else to stderr. It ends with status 0
//! when the answer is good, 1 when it is not (a fault found, a packet denied, nothing there) or
//! when it failed, and 2 when it was called wrongly. One whose answer itself is a 1 says its own.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::setup::options::AgentArgs;
use output::ColourWhen;

mod capture;
mod explain;
mod feed;
mod install;
mod lint;
mod log_files;
mod logs;
mod manual;
mod output;
mod progress;
mod report;
mod show;
mod stream;
mod suggest;
mod sync;
mod value;

/// How long a line of help may be.
const WIDTH: usize = 100;

/// Egress control for Kubernetes nodes: a CNI plugin chained after any primary CNI.
///
/// A container runtime starts it with CNI_COMMAND in the environment. By hand, it is a tool to
/// look at what the plugin does on this node.
#[derive(Debug, Parser)]
#[command(
    name = "egressway",
    version,
    verbatim_doc_comment,
    max_term_width = WIDTH
)]
struct Cli {
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t = ColourWhen::Auto,
        hide_possible_values = true,
        help = "When to colour: auto, always, never"
    )]
    color: ColourWhen,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Args),
    Explain(explain::Args),
    Lint(lint::Args),
    Logs(logs::Args),
    Suggest(suggest::Args),
    Report(report::Args),
    Capture(capture::Args),
    Agent(AgentArgs),
    Install(install::InstallArgs),
    Uninstall(install::UninstallArgs),
    Sync(sync::Args),
    Gc(sync::GcArgs),
    Completions(manual::Completions),
    Man(manual::Man),
}

/// Reads the command line and carries it out. `agent` is what `agent` does: it stays, and knows nothing of
/// the other commands, nor they of it.
pub fn main(agent: impl FnOnce(&AgentArgs) -> ExitCode) -> ExitCode {
    let cli = Cli::parse();
    output::choose_colour(cli.color);
    let outcome: Result<ExitCode, Box<dyn Error>> = match cli.command {
        Command::Show(args) => return show::main(&args),
        Command::Explain(args) => return explain::main(&args),
        Command::Lint(args) => Ok(lint::main(&args)),
        Command::Logs(args) => done(logs::main(&args)),
        Command::Suggest(args) => return suggest::main(&args),
        Command::Report(args) => report::main(&args).map_err(Box::from),
        Command::Capture(args) => return capture::main(&args),
        Command::Install(args) => return install::install(&args),
        Command::Uninstall(args) => return install::uninstall(&args),
        Command::Agent(args) => return agent(&args),
        Command::Sync(args) => return sync::main(&args),
        Command::Gc(args) => return sync::gc(&args),
        Command::Completions(args) => done(manual::completions(&args)),
        Command::Man(args) => done(manual::man(&args)),
    };
    outcome.unwrap_or_else(|error| {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "egressway: {error}");
        ExitCode::FAILURE
    })
}

fn done(outcome: Result<(), impl Error + 'static>) -> Result<ExitCode, Box<dyn Error>> {
    outcome.map(|()| ExitCode::SUCCESS).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A longer one is broken near its end, and leaves a line of one word.
    #[test]
    fn no_line_of_help_is_longer_than_the_help() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_long_about().or(command.get_about());
            let help = help.expect("is documented").to_string();
            let long: Vec<&str> = help.lines().filter(|l| l.chars().count() > WIDTH).collect();
            assert!(long.is_empty(), "{name}: {long:#?}");
        }
    }
}
