//! `egressway lint`: what is wrong with manifests and policy files, before a cluster sees them.
//!
//! ```text
//! files ── input::Input ── yaml::Document      nodes that know their places
//!              │ objects                        which of them carry rules
//!              ▼
//!         text::Text                            an annotation's value, mapped to the file
//!              │ annotations, policy, rules, coverage
//!              ▼
//!         finding::Finding ── print
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use ipnet::IpNet;
use jiff::Timestamp;

use super::output;
use super::progress::Progress;
use crate::source::{PolicyFile, annotation};
use ::rules::builtin;
use ::rules::effective::{Facts, TierRules};
use ::rules::fault::Complaint;
use ::rules::grammar::targets;
use ::rules::limits::Limits;

mod annotations;
mod finding;
mod forged;
mod input;
mod items;
mod kind;
mod objects;
mod policy;
mod print;
mod rules;
mod services;
#[cfg(test)]
mod tests;
mod text;
mod yaml;

use finding::{Finding, Report};
use input::Input;
use kind::Kind;
use print::Summary;
use rules::Surroundings;
use services::Services;
use text::Text;
use yaml::Documents;

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
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
    /// Report on stderr what was skipped and how much was checked
    #[arg(short, long)]
    verbose: bool,
    /// Print all checks and exit
    #[arg(long, alias = "list-rules")]
    list_checks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
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
    kind::by_id(text)
        .ok_or_else(|| "no such check: `egressway lint --list-checks` has them all".to_owned())
}

/// What all files are checked against.
#[derive(Debug)]
struct Context {
    policy: Option<PolicyFile>,
    /// The cluster's enforced rules.
    enforced: Option<TierRules>,
    /// What the policy says of the cluster, if one is given.
    facts: Option<Facts>,
    /// What namespaces enforce, by their names.
    namespaces: BTreeMap<String, TierRules>,
    /// What applies to every pod although nobody has written it.
    built_in: Vec<TierRules>,
    service_cidrs: Vec<IpNet>,
    /// Those among the files.
    services: Services,
    /// What the policy file says, or would without saying anything.
    limits: Limits,
    /// The nodes ask no API.
    no_api: bool,
    /// The file with a conflist that ignores forged checksums.
    ignoring: Option<String>,
    now: Timestamp,
}

/// Without a policy file, as if all were known.
fn built_in(facts: Option<&Facts>) -> Vec<TierRules> {
    let tiers = [builtin::dns(), builtin::no_tunnels(facts)];
    tiers.into_iter().flatten().collect()
}

impl Context {
    fn new(policy: Option<PolicyFile>, service_cidrs: Vec<IpNet>, now: Timestamp) -> Self {
        let mut namespaces = BTreeMap::new();
        for (name, annotations) in policy.iter().flat_map(|policy| &policy.namespaces) {
            let rules = annotations.enforced_rules.iter().flatten();
            namespaces.extend(rules.map(|rules| (name.clone(), rules.clone())));
        }
        Self {
            enforced: policy.as_ref().map(|policy| policy.enforced.clone()),
            facts: policy.as_ref().map(|policy| policy.facts.clone()),
            limits: policy
                .as_ref()
                .map(|policy| policy.limits)
                .unwrap_or_default(),
            built_in: built_in(policy.as_ref().map(|policy| &policy.facts)),
            policy,
            namespaces,
            service_cidrs,
            services: Services::default(),
            no_api: false,
            ignoring: None,
            now,
        }
    }

    /// Of a text that no tier is asked before.
    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            above: Vec::new(),
            facts: self.facts.as_ref(),
            service_cidrs: &self.service_cidrs,
            services: &self.services,
            limits: self.limits,
            no_api: self.no_api,
            now: self.now,
        }
    }
}

/// Checks what the arguments say, and prints what is found.
pub(super) fn main(args: &Args) -> ExitCode {
    output::run(|out| lint(args, out))
}

fn lint(args: &Args, out: &mut dyn Write) -> Result<ExitCode, Box<dyn Error>> {
    if args.list_checks {
        print::kinds(out, args.output != Format::Text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut inputs, mut errors) = input::read_all(&args.paths);
    let mut policy = None;
    let mut unusable = None;
    match args.policy.as_deref().map(input::read) {
        Some(Ok(given)) => {
            policy = policy::find(&given);
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
    let (mut findings, notes) = check_all(&inputs, context);
    if let Some(name) = unusable
        && !findings.iter().any(|finding| finding.fault.source == name)
    {
        errors.push(input::Error::NoPolicy { name });
    }
    findings.retain(|finding| !args.ignore.contains(&finding.kind));
    let summary = Summary::of(inputs.len(), &findings);
    let printed = match args.output {
        Format::Text => print::text(out, &findings, summary, output::colour()),
        Format::Json => print::json(out, &findings, summary),
        Format::Sarif => print::sarif(out, &findings),
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

/// Checks all texts together: a namespace in one of them may enforce rules for a pod in another, and these name a
/// Service in a third. Findings, and what was skipped.
fn check_all(inputs: &[Input], mut context: Context) -> (Vec<Finding>, Vec<String>) {
    // By bytes: one file may be as long as all the others.
    let total: usize = inputs.iter().map(|input| input.text.len()).sum();
    let mut progress = Progress::new("checking", 2 * total as u64);
    let mut done = 0;
    let mut pass = |input: &Input| {
        done += input.text.len() as u64;
        progress.at(done);
    };
    let mut read: Vec<(&Input, Documents)> = Vec::new();
    for input in inputs {
        read.push((input, yaml::read(&input.text)));
        pass(input);
    }
    for (input, documents) in &read {
        let file = Text::file(input.text.clone());
        for document in &documents.documents {
            let enforced = objects::enforced(&input.name, document);
            context.namespaces.extend(enforced);
            context.services.learn(document);
            if context.ignoring.is_none() && forged::is_ignored(&file, document) {
                context.ignoring = Some(input.name.clone());
            }
        }
    }
    let mut findings = Vec::new();
    let mut notes = Vec::new();
    for (input, documents) in &read {
        findings.extend(check(input, documents, &context, &mut notes));
        pass(input);
    }
    (findings, notes)
}

fn check(
    input: &Input,
    documents: &Documents,
    context: &Context,
    notes: &mut Vec<String>,
) -> Vec<Finding> {
    let file = Text::file(input.text.clone());
    let mut report = Report::new(&input.name, &file);
    for (index, document) in documents.documents.iter().enumerate() {
        forged::check(&mut report, &file, document);
        let is_object = objects::check(&mut report, context, &file, document);
        if !is_object && !forged::is_conflist(document) {
            notes.push(format!(
                "{}: document {} has no Kubernetes object: skipped",
                input.name,
                index + 1
            ));
        }
    }
    if let Some(error) = &documents.error {
        // At the file's end there is nothing to point at: behind the last character is.
        let at = error.byte.min(input.text.trim_end().len());
        // Other files, such as JSON with comments, are not ours to judge.
        if !["apiVersion", annotation::PREFIX]
            .iter()
            .any(|word| input.text.contains(word))
        {
            notes.push(format!("{}: neither YAML nor JSON: skipped", input.name));
        } else if input.text.contains("{{") {
            let complaint =
                Complaint::new("this is a template, not YAML: nothing from here on was checked")
                    .help("check what comes out: `helm template . | egressway lint -`");
            report.add(&kind::TEMPLATE, (at, at), complaint);
        } else {
            let complaint = Complaint::new(error.message.clone());
            report.add(&kind::YAML_SYNTAX, (at, at), complaint);
        }
    }
    report.finish()
}
