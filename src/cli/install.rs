//! `egressway install` and `egressway uninstall`.

use std::io::{self, Write};
use std::process::ExitCode;

use tracing::Level;

use super::output::{self, Tone};
use crate::logging;
use crate::setup::check::{self, Rating};
use crate::setup::config::Config;
use crate::setup::options::{EntryKeys, Paths};
use crate::setup::{install, uninstall};

/// Install the plugin on this node.
///
/// Checks that the kernel has the features it needs, then installs this program beside the CNI
/// plugins and its entry in the conflist that the runtime uses. It does not keep running: if the
/// primary plugin rewrites its conflist, the entry is lost. `egressway agent` maintains it.
///
/// Examples:
///
///   egressway install --check
///   egressway install
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    keys: EntryKeys,

    /// Change nothing; list what is installed and what would change. Exit status 1 if something is missing
    #[arg(long, conflicts_with = "once")]
    check: bool,

    /// Accepted for compatibility; `install` always ends when everything is in place
    #[arg(long, hide = true)]
    once: bool,
}

/// Remove from this node what `install` or `agent` installed.
///
/// The conflist's entry is removed first, then the rules in the kernel, the egress IPs, the state
/// directory and the files. The program stays, since runtimes may still call it for pods that were
/// started with it; it then reports success.
///
/// Running pods keep running, without any policy.
///
/// Example:
///   egressway uninstall
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct UninstallArgs {
    #[command(flatten)]
    paths: Paths,
}

pub(super) fn install(args: &InstallArgs) -> ExitCode {
    let config = args.paths.config(Some(&args.keys), None);
    if args.check {
        return print_check(&config);
    }
    logging::init(Level::INFO, None);
    match install::install(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "egressway: {e}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn uninstall(args: &UninstallArgs) -> ExitCode {
    logging::init(Level::INFO, None);
    let failures = uninstall::uninstall(&args.paths.config(None, None));
    for failure in &failures {
        let _ = writeln!(io::stderr(), "egressway: {failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_check(config: &Config) -> ExitCode {
    output::run(|out| {
        let colour = output::colour();
        let items = check::check(config);
        for item in &items {
            let tone = match item.status {
                Rating::Good => Tone::Good,
                Rating::Change | Rating::Note => Tone::Warning,
                Rating::Bad => Tone::Bad,
            };
            let status = output::toned(&format!("{:6}", item.status), tone, colour);
            writeln!(out, "{status}  {:10}  {}", item.what, item.seen)?;
        }
        let bad = items.iter().any(|item| item.status == Rating::Bad);
        Ok(if bad {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })
}
