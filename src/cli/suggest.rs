//! `egressway suggest`: from what was logged as stopped to the rules that would allow it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ::rules::verdict::Verdict;
use clap::ValueEnum;

use super::output::{self, how_many};
use super::{log_files, logs, value};
use crate::verdicts::Line;

mod flow;
mod groups;
mod metadata;
mod print;
mod rules;
mod targets;
#[cfg(test)]
mod tests;

use groups::{LogGroups, Whose};
use print::OwnerRules;

/// Suggest rules that allow what was logged as denied.
///
/// Audit mode denies nothing, and logs what would have been denied. So, to make a policy:
///
///   egressway logs -o json --for 1h > shop.log
///   egressway suggest --namespace shop shop.log
///
/// or at once:
///
///   egressway logs -o json --for 1m | egressway suggest -
///
/// The rules allow exactly what was logged, but for ICMP codes: addresses are joined into networks
/// and ranges that hold no others. --generalise N widens them to the smallest network that holds N
/// or more of the addresses, but never beyond /16 or, for IPv6, /32. Above each rule stands how often
/// it was logged, which is less often than it was needed: a rule logs 10 packets a second. Read them
/// before you use them: a log shows what pods did, not what they should do.
///
/// Lines that are no JSON of `egressway logs` are counted and left out.
///
/// YAML: manifests that have only the annotation, egressway.dev/default-rules of a Namespace or
/// egressway.dev/rules of a Pod, to be merged into your own.
/// JSON: a list of namespace, pod, rules; of a rule: rule, count, last, pods, enforcedBy (rules that
/// deny it whatever a pod's or a default rule says), metadata (true: it would open a metadata
/// service, which hands out credentials of the node; in text and YAML such a rule is a comment).
///
/// Exit status: 0 there are suggestions; 1 there are none, or something failed; 2 wrong usage.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// What `egressway logs -o json` printed; - is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Whose rules
    #[arg(long, value_enum, value_name = "OWNER", default_value_t = By::Namespace)]
    by: By,
    /// Only pods of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Pods of all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only pods of this name
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Only what was logged with these verdicts, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = logs::verdicts(),
        default_values_t = [Verdict::Deny, Verdict::Reject, Verdict::WouldDeny, Verdict::WouldReject]
    )]
    verdict: Vec<Verdict>,
    /// Widen to the smallest network that holds at least N of the addresses
    #[arg(long, value_name = "N", value_parser = value::several)]
    generalise: Option<u64>,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Pod,
    Namespace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Rules, one a line
    Text,
    /// Annotations
    Yaml,
    Json,
}

impl Args {
    fn wants(&self, line: &Line) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.namespace, &line.namespace)
            && is(&self.pod, &line.pod)
            && self.verdict.contains(&line.verdict)
    }
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    output::run(|out| {
        let mut groups = LogGroups::default();
        let skipped = log_files::read(&args.files, |line| {
            if args.wants(&line) {
                groups.add(&line, args.by == By::Pod);
            }
        })?;
        log_files::tell(&skipped);
        let suggested = suggest(&groups, args);
        tell_left_out(&groups, &suggested, args);
        let text = match args.output {
            Format::Text => print::text(&suggested),
            Format::Yaml => print::yaml(&suggested),
            Format::Json => print::json(&suggested)?,
        };
        out.write_all(text.as_bytes())?;
        if suggested.is_empty() {
            tell("nothing to suggest: no such verdict was logged");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn suggest(groups: &LogGroups, args: &Args) -> Vec<OwnerRules> {
    let generalise = args
        .generalise
        .and_then(|least| usize::try_from(least).ok());
    groups
        .owners
        .iter()
        .map(|(owner, flows)| OwnerRules {
            owner: owner.clone(),
            rules: rules::rules(flows, generalise),
        })
        .collect()
}

/// Says what the result does not show.
fn tell_left_out(groups: &LogGroups, suggested: &[OwnerRules], args: &Args) {
    if groups.too_little > 0 {
        tell(&format!(
            "left out {} without a protocol, port or type that a rule could name (fragments, port 0)",
            how_many(groups.too_little, "line")
        ));
    }
    let unnamed = suggested.iter().any(|group| group.owner == Whose::Unknown);
    if unnamed && args.output == Format::Yaml {
        tell("left out pods that the log does not name: see them with -o text");
    }
}

/// To stderr. The result matters more: this may fail.
fn tell(message: &str) {
    let _ = writeln!(io::stderr(), "egressway: {message}");
}
