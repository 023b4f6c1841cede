//! `egressway report`: a page about what was logged.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::log_files::{self, ReadError};
use super::output::shown;
use crate::attachment::records;

mod chart;
mod html;
mod page;
mod rules;
mod summary;
#[cfg(test)]
mod tests;

use rules::Rules;
use summary::Summary;

/// Make one HTML page of logs: who talks to what, and what was denied.
///
///   egressway logs -o json --for 1h > day.log
///   egressway report day.log --state-dir /run/egressway -w report.html
///
/// The page needs no network, no other file and no script, fits a phone, and follows the browser's
/// light or dark mode. It shows what was logged: rules without `log` leave no trace in it, an allow
/// logs a flow's first packet, a deny 10 packets a second. With --state-dir it also says which rules
/// of this node's pods were never logged. Names and addresses in it are as secret as the log.
///
/// Lines that are no JSON of `egressway logs` are counted and left out.
///
/// Exit status: 0 the page was written; 1 there was nothing to report, or something failed; 2 wrong
/// usage.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// What `egressway logs -o json` printed; - is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// The conflist's stateDir, which knows the rules of this node's pods: /run/egressway
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The page to write; - is stdout
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
}

/// What ends the command other than success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Records(#[from] records::Error),
    #[error("nothing to report: there is no log line; `egressway logs -o json` prints them")]
    Nothing,
    #[error("cannot write {}: {source}", shown(path))]
    Write { path: PathBuf, source: io::Error },
}

/// Runs the command.
pub(super) fn main(args: &Args) -> Result<ExitCode, Error> {
    let mut summary = Summary::default();
    let skipped = log_files::read(&args.files, |line| summary.add(&line))?;
    log_files::tell(&skipped);
    summary.skipped = skipped.count;
    summary.lost = log_files::lost(&skipped);
    if summary.lines == 0 {
        return Err(Error::Nothing);
    }
    let rules = match &args.state_dir {
        Some(dir) => Some(Rules::read(dir, &summary)?),
        None => None,
    };
    write(&args.write, &page::page(&summary, rules.as_ref())).map_err(|source| Error::Write {
        path: args.write.clone(),
        source,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, page: &str) -> io::Result<()> {
    if path != Path::new("-") {
        return fs::write(path, page);
    }
    match io::stdout().lock().write_all(page.as_bytes()) {
        // Nobody wants the rest.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
