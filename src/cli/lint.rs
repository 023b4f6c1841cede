//! `egressway lint`: what is wrong with manifests and policy files, before a cluster sees them.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use ipnet::IpNet;
use jiff::Timestamp;

use super::output;
use super::progress::Progress;
use crate::lint::{self, Context, InputError, Kind};
use rules::grammar::targets;

mod print;

use print::Counts;

/// Something could not be read.
const UNREAD: u8 = 3;

/// Find errors in manifests and policy files before a cluster sees them.
///
/// Reads Pods, workloads with a template of pods, Namespaces, Lists, policy files
/// (ClusterEgressPolicy) and ConfigMaps that hold one, as YAML or JSON, several documents in a
/// file; of CNI conflists, alone, in a ConfigMap or in a NetworkAttachmentDefinition, what they say of
/// forged checksums. In a folder, every *.yaml, *.yml and *.json below it. Other objects and files that
/// are no Kubernetes objects are left alone.
///
/// Each finding is shown with its file, line and column. All checks: --list-checks.
///
/// Examples:
///   egressway lint deploy/
///   egressway lint --policy policy.yaml --service-cidr 10.96.0.0/12 --strict deploy/ pod.json
///   helm template . | egressway lint -
///   egressway lint -o sarif . > lint.sarif
///
/// Exit status: 0 nothing found (or only warnings, without --strict); 1 errors found; 2 wrong usage;
/// 3 something could not be read or a folder has no manifests, whatever else was found.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Files, folders, or - for stdin
    #[arg(value_name = "FILE|DIR|-", required_unless_present = "list_checks")]
    paths: Vec<PathBuf>,
    /// A node's policy file, to find what its rules decide before
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The cluster's Service range, to find addresses that rules never see; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = cidr, value_delimiter = ',')]
    service_cidr: Vec<IpNet>,
    /// The nodes' conflist has no `kubernetes`: find what only the Kubernetes API could say
    #[arg(long)]
    no_api: bool,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Checks whose findings are left out; may be repeated
    #[arg(long, value_name = "CHECK", value_parser = kind_by_id, value_delimiter = ',')]
    ignore: Vec<&'static Kind>,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = LintFormat::Text)]
    output: LintFormat,
    /// Report on stderr what was skipped and how much was checked
    #[arg(short, long)]
    verbose: bool,
    /// Print all checks and exit
    #[arg(long, alias = "list-rules")]
    list_checks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LintFormat {
    /// For people
    Text,
    /// JSON with stable field names
    Json,
    /// SARIF 2.1.0, for code hosts
    Sarif,
}

fn cidr(text: &str) -> Result<IpNet, String> {
    targets::network(text).map_err(|complaint| match complaint.help {
        Some(help) => format!("{}; {help}", complaint.message),
        None => complaint.message,
    })
}

fn kind_by_id(text: &str) -> Result<&'static Kind, String> {
    lint::by_id(text)
        .ok_or_else(|| "no such check: `egressway lint --list-checks` has them all".to_owned())
}

/// Checks what the arguments say, and prints what is found.
pub(super) fn main(args: &Args) -> ExitCode {
    output::run(|out| run(args, out))
}

fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode, Box<dyn Error>> {
    if args.list_checks {
        print::kinds(out, args.output != LintFormat::Text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut inputs, mut errors) = lint::read_all(&args.paths);
    let mut policy = None;
    let mut unusable = None;
    match args.policy.as_deref().map(lint::read) {
        Some(Ok(given)) => {
            policy = lint::policy_in(&given);
            if policy.is_none() {
                // It is checked like the others, and what is wrong with it told.
                unusable = Some(given.name.clone());
                if inputs.iter().all(|input| input.name != given.name) {
                    inputs.insert(0, given);
                }
            }
        }
        Some(Err(error)) => errors.push(error),
        None => {}
    }
    let mut context = Context::new(policy, args.service_cidr.clone(), Timestamp::now());
    context.no_api = args.no_api;
    // By bytes: one file may be as long as all the others. Each is read, and then checked.
    let total: usize = inputs.iter().map(|input| input.text.len()).sum();
    let mut progress = Progress::new("checking", 2 * total as u64);
    let (mut findings, notes) = lint::check_all(&inputs, context, |done| progress.at(done));
    drop(progress);
    if let Some(name) = unusable
        && !findings.iter().any(|finding| finding.fault.source == name)
    {
        errors.push(InputError::NoPolicy { name });
    }
    findings.retain(|finding| !args.ignore.contains(&finding.kind));
    let summary = Counts::of(inputs.len(), &findings);
    let printed = match args.output {
        LintFormat::Text => print::text(out, &findings, summary, output::colour()),
        LintFormat::Json => print::json(out, &findings, summary),
        LintFormat::Sarif => print::sarif(out, &findings),
    };
    output::as_far_as_read(printed)?;
    let mut told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if args.verbose {
        told.extend(notes);
        told.push(summary.sentence());
    }
    for line in told {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "egressway: {}", output::printable(&line));
    }
    let fails = summary.errors > 0 || (args.strict && summary.warnings > 0);
    Ok(match (errors.is_empty(), fails) {
        (false, _) => ExitCode::from(UNREAD),
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::SUCCESS,
    })
}
