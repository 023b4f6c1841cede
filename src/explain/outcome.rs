//! What becomes of a packet, on each way on which it may have come.

use std::net::IpAddr;

use rules::effective::{Effective, Tier};
use rules::evaluate::{Packet, Trace};

use super::question::Question;
use super::subject::Subject;
use super::traffic;
use super::ways::{API_SERVER_WAY, Way};

/// What becomes of a sample on one way, or several with the same end.
pub(super) struct Possibility<'a> {
    pub policy: &'a Effective,
    pub trace: Trace<'a>,
    pub guarded: bool,
    /// Ways by their names; empty: the one that was asked about.
    pub sent_to: Vec<String>,
}

impl Possibility<'_> {
    /// Whether the same rules matched.
    pub fn is_like(&self, other: &Self) -> bool {
        self.guarded == other.guarded
            && self.trace.decision.at_veth == other.trace.decision.at_veth
            && matched(&self.trace).eq(matched(&other.trace))
    }

    /// What would be, had the packet gone another way.
    pub fn note(&self, to: IpAddr) -> String {
        let decision = &self.trace.decision;
        let (verdict, rule) = (decision.verdict.as_str(), decision.label());
        let (ways, options) = match &self.sent_to[..] {
            [way] if way == API_SERVER_WAY => (format!("{to} is the API server"), way.clone()),
            services => (
                format!("the pod sent it to {}", services.join(", ")),
                "--via".to_owned(),
            ),
        };
        format!("if {ways}: {verdict}, by {rule}; ask with {options}")
    }
}

/// What may become of a packet, on all of its ways; never empty.
pub(super) fn outcomes<'a>(
    subject: &'a Subject,
    with_api_server: &'a Effective,
    question: &Question,
    packet: &Packet,
) -> Vec<Possibility<'a>> {
    let ways = subject.unknown.ways(&subject.policy, question, packet);
    let mut found: Vec<Possibility<'_>> = Vec::new();
    for Way {
        name,
        original,
        api_server,
    } in ways
    {
        let policy = if api_server {
            with_api_server
        } else {
            &subject.policy
        };
        let packet = Packet {
            original,
            ..packet.clone()
        };
        let trace = policy.trace(&packet);
        let asked = original.map_or(packet.destination, |original| original.address);
        let outcome = Possibility {
            policy,
            guarded: trace.decision.verdict.passes()
                && subject.guarded.contains(&asked)
                && !traffic::is_echo_request(&packet),
            trace,
            sent_to: name.into_iter().collect(),
        };
        match found.iter().position(|known| known.is_like(&outcome)) {
            // As the first: no difference.
            Some(0) => {}
            Some(known) => found[known].sent_to.extend(outcome.sent_to),
            None => found.push(outcome),
        }
    }
    found
}

/// The rules that matched, by their places. The last one decided, if one did.
fn matched<'t>(trace: &'t Trace<'_>) -> impl Iterator<Item = (Tier, usize, &'t str)> {
    let matched = trace.steps.iter().filter(|step| step.mismatch.is_none());
    matched.map(|step| (step.tier.tier, step.rule.line, step.rule.text.as_str()))
}
