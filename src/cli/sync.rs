//! `egressway sync` and `egressway gc`: brings records, links and the kernel together again.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::output::{self, Format, Table, Tone, toned};
use crate::defaults;
use crate::lifecycle::ByLeases;
use crate::lifecycle::reconcile::{self, Change, Did, ReconcileOptions, Report};
use crate::store::StateDir;

/// Restore what is missing of this node's attachments, and remove stale objects.
///
///   egressway sync              after `nft flush ruleset`, or when `show` says damaged
///   egressway sync --dry-run    what it would do
///
/// Compares the attachments' records with the node as it is now: interfaces, their names, bridges
/// and MACs; rules, sets, hooks; egress IPs, on the device by which packets leave. What is missing
/// or out of sync is repaired from the record. Stale objects, with neither record nor interface, are
/// removed. It may run at any time beside the runtime's ADD and DEL. Pods that the plugin has never
/// seen stay as they are.
///
/// One line for each change. DID: repaired, removed; would-repair and would-remove with --dry-run;
/// left, what cannot be decided safely; and failed.
///
/// Exit status: 0 everything is in sync; 1 something was left or failed, with --dry-run also if
/// there is anything to do; 2 wrong usage.
///
/// JSON: compared (how many attachments), changes (a list of did, what, why).
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// The conflist's policyFile, which knows the cluster's networks if no attachment does
    #[arg(
        long,
        value_name = "FILE",
        default_value = defaults::POLICY_FILE
    )]
    policy_file: PathBuf,
}

/// Remove stale objects: attachments without an interface, and what has no record.
///
/// Like `egressway sync`, but nothing is repaired. Runtimes do it by CNI's GC; this is for those that
/// do not, and for the time after a crash.
///
/// Exit status and JSON are those of `egressway sync`.
///
/// Example: egressway gc
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct GcArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Change nothing; print what would be done
    #[arg(long)]
    dry_run: bool,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
    /// The conflist's stateDir, which knows the pods
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,
}

/// Runs `sync`.
pub(super) fn main(args: &Args) -> ExitCode {
    run(&args.common, Some(args.policy_file.clone()))
}

/// Runs `gc`.
pub(super) fn gc(args: &GcArgs) -> ExitCode {
    run(&args.common, None)
}

/// With a policy file it is `sync`, without one `gc`.
fn run(args: &Common, policy_file: Option<PathBuf>) -> ExitCode {
    output::run(|out| {
        let report = reconcile::run(&ReconcileOptions {
            state: &StateDir::new(&args.state_dir),
            registry: &ByLeases,
            repair: policy_file.is_some(),
            policy_file: policy_file.as_deref(),
            dry_run: args.dry_run,
        })?;
        match args.output {
            Format::Text => out.write_all(text(&report, output::colour()).as_bytes())?,
            Format::Json => json(&report, out)?,
        }
        Ok(if report.is_good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

fn json(report: &impl Serialize, out: &mut dyn Write) -> Result<(), std::io::Error> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

fn text(report: &Report, colour: bool) -> String {
    let attachments = match report.compared {
        1 => "1 attachment".to_owned(),
        n => format!("{n} attachments"),
    };
    if report.changes.is_empty() {
        return format!("{attachments}: nothing to do\n");
    }
    let mut table = Table::new(&["DID", "WHAT", "WHY"]);
    for Change { did, what, why, .. } in &report.changes {
        // Padding counts characters: colour comes after it.
        let cells = [did.as_str(), what, why].map(|cell| cell.replace('\n', " "));
        table.row(cells.into());
    }
    let mut text = String::new();
    for (n, line) in table.to_string().lines().enumerate() {
        let did = n.checked_sub(1).and_then(|n| report.changes.get(n));
        let tone = match did.map(|change| change.did) {
            None => Tone::Faint,
            Some(Did::Left | Did::Failed) => Tone::Bad,
            Some(Did::WouldRepair | Did::WouldRemove) => Tone::Warning,
            Some(Did::Repaired | Did::Removed) => Tone::Good,
        };
        text.push_str(&toned(line, tone, colour));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::reconcile::Area;

    #[test]
    fn a_line_each() {
        let mut report = Report {
            compared: 1,
            ..Report::default()
        };
        assert_eq!(text(&report, false), "1 attachment: nothing to do\n");
        assert!(report.is_good());
        let change = |did, what: &str, why: &str| Change {
            part: Area::Rules,
            did,
            what: what.to_owned(),
            why: why.to_owned(),
        };
        report.changes.push(change(
            Did::Repaired,
            "attachment shop/a (0)",
            "set pod4 is missing",
        ));
        assert!(report.is_good());
        report
            .changes
            .push(change(Did::Left, "chain x", "whose?\nnobody's"));
        assert_eq!(
            text(&report, false),
            "DID        WHAT                    WHY\n\
             repaired   attachment shop/a (0)   set pod4 is missing\n\
             left       chain x                 whose? nobody's\n"
        );
        assert!(!report.is_good());
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["compared"], 1);
        assert_eq!(json["changes"][1]["did"], "left");
    }

    #[test]
    fn what_only_would_be_done_is_not_good_yet() {
        for did in [Did::WouldRepair, Did::WouldRemove, Did::Failed] {
            let mut report = Report::default();
            report.note(did, "x", "y");
            assert!(!report.is_good(), "{did:?}");
        }
    }
}
