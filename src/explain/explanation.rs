//! The answer as data: what `-o json` prints, and what the text is made of.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::plan::named::Group;
use crate::plan::veth::table;
use rules::effective::{Effective, Tier, TierRules};
use rules::evaluate::{Packet, Step, Trace};
use rules::inside::is_inside;
use rules::rule::{Rule, Verb};
use rules::verdict::{self, Verdict};

use super::destination;
use super::outcome::{Possibility, outcomes};
use super::question::Question;
use super::subject::Subject;
use super::traffic::{self, Sample, TrafficClass};
use super::ways::ELSEWHERE;

/// The answer to one call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whose packets.
    pub source: Source,
    /// Whether the packets go; `null`: some do.
    pub passes: Option<bool>,
    /// One for each destination and each way to decide.
    pub answers: Vec<Answer>,
    /// What is left after all rules: `allow` or `deny`.
    pub default_action: &'static str,
    /// That is only logged.
    pub default_audit: bool,
    /// The policy file's.
    #[serde(rename = "clusterCIDRs")]
    pub cluster_cidrs: Vec<IpNet>,
    /// The policy file's.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// What else whoever asks should know.
    pub notes: Vec<String>,
}

/// Whose packets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// For people.
    #[serde(skip)]
    pub title: String,
    /// `None`: not known.
    pub namespace: Option<String>,
    /// `None`: any pod of the namespace, or not known.
    pub pod: Option<String>,
    /// On a node, the attachment's id.
    pub attachment: Option<String>,
    /// Its namespace is exempt: no rule applies.
    pub exempt: bool,
}

/// What becomes of some traffic to one address.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Where the packets really go.
    pub destination: IpAddr,
    /// Before a Service's translation, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Where packets were sent for which it is; empty: that is known, or makes no difference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sent_to: Vec<String>,
    /// Destination and traffic as asked.
    #[serde(skip)]
    pub asked: String,
    /// `443/tcp`, `udp`, `other protocols`, ...
    pub traffic: Vec<String>,
    /// `allow`, `deny`, `reject`, `would-deny`, `would-reject`.
    pub verdict: &'static str,
    /// Whether the packets go, if only by audit mode.
    pub passes: bool,
    /// What decided, as in log lines: `pod:erp`, `default:deny`.
    pub rule: String,
    /// Whether there is a log line.
    pub logged: bool,
    /// What a log message begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_prefix: Option<String>,
    /// Addresses or networks, out of which the outside sees one address; empty: as the primary CNI decides.
    #[serde(rename = "egressIPs")]
    pub egress_ips: Vec<String>,
    /// The rules that were looked at, or all of the policy.
    pub steps: Vec<StepLine>,
}

/// One rule on the way.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepLine {
    /// As in log lines: `pod:erp`.
    pub rule: String,
    /// `pod`, `cluster-enforced`, ...
    pub tier: &'static str,
    /// Where the rule stands: `pod annotation egressway.dev/rules`.
    pub source: String,
    /// Its line there, from 1.
    pub line: usize,
    /// As it is written.
    pub text: String,
    /// Its tier is in audit mode.
    pub audit: bool,
    /// Whether it logs what it decides.
    pub logged: bool,
    /// `decides`, `passes on`, `not reached`, or why it does not match: `other port`.
    pub result: &'static str,
}

/// This rule decided.
pub const DECIDES: &str = "decides";
/// This rule says `pass`.
pub const PASSES_ON: &str = "passes on";
/// The rule was not looked at.
pub const NOT_REACHED: &str = "not reached";
/// What decided, where no rule of the policy did.
pub(super) const EGRESS_GUARD: &str = "built-in:egress-ip";

impl Explanation {
    /// Asks the subject's policy about these addresses.
    pub fn new(mut subject: Subject, addresses: &[IpAddr], question: &Question) -> Explanation {
        let mut answers = Vec::new();
        for address in addresses {
            let (found, mut notes) = answers_for(&subject, *address, question);
            answers.extend(found);
            notes.extend(notes_for(&subject, *address));
            subject.notes.extend(notes);
        }
        if answers.iter().any(|answer| !answer.sent_to.is_empty()) {
            subject.notes.push(
                "files do not tell which Service has the address behind --via: name it, as in --via \
                 svc/NAMESPACE/NAME:PORT"
                    .to_owned(),
            );
        }
        let passing = answers.iter().filter(|answer| answer.passes).count();
        let passes = match passing {
            0 => Some(false),
            all if all == answers.len() => Some(true),
            _ => None,
        };
        let policy = subject.policy;
        Explanation {
            source: Source {
                title: subject.name,
                namespace: subject.namespace,
                pod: subject.pod,
                attachment: subject.attachment,
                exempt: subject.exempt,
            },
            passes,
            answers,
            default_action: policy.default_action.as_str(),
            default_audit: policy.default_audit,
            cluster_cidrs: policy.facts.cluster,
            cluster_dns: policy.facts.dns,
            notes: subject.notes,
        }
    }
}

/// What else should be known of packets to this address.
fn notes_for(subject: &Subject, to: IpAddr) -> Vec<String> {
    let own = &subject.addresses;
    let mut notes = Vec::new();
    if to.is_loopback() || own.contains(&to) {
        notes.push(format!(
            "{to} is the pod itself: what it sends there never leaves it"
        ));
    } else if !own.is_empty() && !own.iter().any(|own| own.is_ipv4() == to.is_ipv4()) {
        let version = if to.is_ipv4() { "IPv4" } else { "IPv6" };
        notes.push(format!(
            "the pod has no {version} address: it cannot send to {to}"
        ));
    }
    notes
}

/// Samples with the same outcome.
struct Alike<'a> {
    outcome: Possibility<'a>,
    traffic: Vec<TrafficClass>,
}

/// The answers, and what else should be known.
fn answers_for(subject: &Subject, to: IpAddr, question: &Question) -> (Vec<Answer>, Vec<String>) {
    let base = Packet {
        destination: to,
        protocol: 0,
        port: None,
        icmp: None,
        original: None,
        local: question.node || subject.local.contains(&to),
        time: question.time,
        names: Vec::new(),
    };
    let samples = traffic::samples(&subject.policy, question.traffic.as_ref(), &base);
    // Whatever port is asked about would be the API server's.
    let mut with_api_server = subject.policy.clone();
    let ports = samples.iter().filter_map(|sample| sample.packet.port);
    let sockets = ports.map(|port| SocketAddr::new(to, port));
    with_api_server.facts.api_server = sockets.collect();
    let all: Vec<TrafficClass> = samples.iter().map(|sample| sample.traffic).collect();
    let mut groups: Vec<Alike<'_>> = Vec::new();
    let mut notes = Vec::new();
    for Sample { traffic, packet } in samples {
        notes.extend(by_names(&subject.policy, &packet));
        let mut outcomes = outcomes(subject, &with_api_server, question, &packet);
        if question.via.is_none() {
            // Without --via it was sent to no Service.
            notes.extend(outcomes.drain(1..).map(|other| other.note(to)));
        } else if let [first, _, ..] = &mut outcomes[..] {
            first.sent_to = vec![ELSEWHERE.to_owned()];
        }
        for outcome in outcomes {
            let same = |group: &&mut Alike<'_>| {
                group.outcome.sent_to == outcome.sent_to && group.outcome.is_like(&outcome)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.traffic.push(traffic),
                None => groups.push(Alike {
                    outcome,
                    traffic: vec![traffic],
                }),
            }
        }
    }
    let one = groups.iter().all(|group| group.traffic == all);
    notes.sort();
    notes.dedup();
    let answers = groups
        .into_iter()
        .map(|group| {
            let traffic = match (&question.traffic, one) {
                (Some(asked), true) => vec![asked.to_string()],
                (None, true) => vec!["everything".to_owned()],
                _ => traffic::describe(&group.traffic, &all, to.is_ipv4()),
            };
            let Possibility { policy, trace, .. } = &group.outcome;
            let steps = steps(policy, trace, question.all);
            let egress = egress(subject, &base);
            answer(group.outcome, traffic, egress, steps, to, question)
        })
        .collect();
    (answers, notes)
}

/// What would be, did the address belong to names that rules have: what these stand for is not known here.
fn by_names(policy: &Effective, packet: &Packet) -> Vec<String> {
    let without = policy.decide(packet);
    let to = packet.destination;
    let groups = Group::all(policy).into_iter();
    let notes = groups.filter_map(|group| {
        let called: Vec<String> = group.patterns.iter().map(ToString::to_string).collect();
        let named = Packet {
            names: group.patterns,
            ..packet.clone()
        };
        let with = policy.decide(&named);
        let (verdict, rule) = (with.verdict.as_str(), with.label());
        let names = called.join(" or ");
        (with != without).then(|| format!("if {to} is an address of {names}: {verdict}, by {rule}"))
    });
    notes.collect()
}

fn answer(
    outcome: Possibility<'_>,
    traffic: Vec<String>,
    egress_ips: Vec<String>,
    steps: Vec<StepLine>,
    to: IpAddr,
    question: &Question,
) -> Answer {
    let decision = &outcome.trace.decision;
    let never = table::never(to).map(table::label);
    let logged = decision.logged && never.is_none();
    let verdict = match outcome.guarded || never.is_some() {
        true => Verdict::Deny,
        false => decision.verdict,
    };
    let label = never.unwrap_or_else(|| decision.label());
    Answer {
        destination: to,
        via: question.via.as_ref().map(|via| via.to_string()),
        asked: destination::shown(to, question.traffic.as_ref()),
        traffic,
        verdict: verdict.as_str(),
        passes: verdict.passes(),
        log_prefix: logged.then(|| verdict::prefix(&label, decision.verdict)),
        rule: if outcome.guarded {
            EGRESS_GUARD.to_owned()
        } else {
            label
        },
        logged,
        egress_ips,
        steps,
        sent_to: outcome.sent_to,
    }
}

/// Out of which the outside sees one address.
fn egress(subject: &Subject, packet: &Packet) -> Vec<String> {
    let to = packet.destination;
    if packet.local || is_inside(&subject.policy.facts.cluster, to) {
        return Vec::new();
    }
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == to.is_ipv4();
    let shown = |net: &IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    subject.egress.iter().filter(of_family).map(shown).collect()
}

/// The rules that were looked at, or all of the policy.
fn steps(policy: &Effective, trace: &Trace<'_>, all: bool) -> Vec<StepLine> {
    if !all {
        let line = |step: &Step<'_>| step_line(step.tier, step.rule, result(step));
        // What is built in is told where it matters.
        let is_told = |step: &&Step<'_>| step.tier.tier != Tier::BuiltIn || step.mismatch.is_none();
        return trace.steps.iter().filter(is_told).map(line).collect();
    }
    // Steps and rules come in the same order; behind a `pass`, rules are left out.
    let mut steps = trace.steps.iter().peekable();
    let mut lines = Vec::new();
    for tier in &policy.tiers {
        for rule in &tier.rules {
            let step = steps.next_if(|step| std::ptr::eq(step.rule, rule));
            lines.push(step_line(tier, rule, step.map_or(NOT_REACHED, result)));
        }
    }
    lines
}

fn result(step: &Step<'_>) -> &'static str {
    match step.mismatch {
        Some(mismatch) => mismatch.as_str(),
        None if step.rule.verb == Verb::Pass => PASSES_ON,
        None => DECIDES,
    }
}

fn step_line(tier: &TierRules, rule: &Rule, result: &'static str) -> StepLine {
    let audited = Verdict::of(rule.verb, tier.audit).is_some_and(Verdict::is_audited);
    StepLine {
        rule: tier.label(rule),
        tier: tier.tier.as_str(),
        source: tier.source.clone(),
        line: rule.line,
        text: rule.text.clone(),
        audit: tier.audit,
        logged: rule.log.is_some() || audited,
        result,
    }
}
