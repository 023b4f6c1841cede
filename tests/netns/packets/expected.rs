//! What the evaluator says of a packet, in terms of what can be seen.

use std::net::IpAddr;

use jiff::Timestamp;
use rules::effective::{Effective, Tier};
use rules::evaluate::{Original, Packet, Verdict};
use rules::rule::{Log, Verb};

use super::case::Sent;
use super::world::{LOCAL, translated};

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Arrived,
    Reset,
    Prohibited,
    /// Neither arrived nor refused.
    Silence,
}

/// All that a packet should cause.
#[derive(Debug, Clone)]
pub struct Expected {
    pub fate: Fate,
    /// Where it goes, behind Services.
    pub destination: IpAddr,
    pub port: Option<u16>,
    pub verdict: Verdict,
    /// What decides, as logs and `explain` call it.
    pub label: String,
    /// Whose counters move.
    pub counted: Vec<String>,
    /// A log line, and how many of them a second are let through.
    pub logged: Option<(String, Option<u32>)>,
}

/// How often a second a deny or reject is logged if it does not say (README).
const DEFAULT_RATE: u32 = 10;
/// And how often a pod's own at most, if the policy file does not say.
const MOST_OF_A_POD: u32 = 50;

impl Expected {
    pub fn of(policy: &Effective, sent: &Sent) -> Self {
        let (destination, port) = translated(sent);
        let packet = Packet {
            destination,
            protocol: sent.protocol,
            port,
            icmp: sent.icmp,
            original: is_tracked(sent).then_some(Original {
                address: sent.to,
                port: sent.port,
            }),
            local: LOCAL.iter().any(|a| a.parse() == Ok(destination)),
            time: Timestamp::now(),
            names: Vec::new(),
        };
        let trace = policy.trace(&packet);
        let decision = trace.decision;
        let matched = trace.steps.iter().filter(|step| step.mismatch.is_none());
        let mut counted: Vec<String> = matched
            .map(|step| format!("{}:{}", step.tier.tier, step.rule.label()))
            .collect();
        if decision.rule.is_none() {
            counted.push(decision.label());
        }
        let rate = match decision.rule.map(|(_, rule)| (rule.verb, rule.log)) {
            Some((_, Some(Log::PerSecond(rate)))) => Some(rate),
            Some((Verb::Allow, _)) if is_tracked(sent) => None,
            _ => Some(DEFAULT_RATE),
        };
        let is_pods = decision
            .rule
            .is_some_and(|(tier, _)| tier.tier == Tier::Pod);
        let rate = match is_pods {
            true => Some(rate.unwrap_or(MOST_OF_A_POD).min(MOST_OF_A_POD)),
            false => rate,
        };
        let prefix = format!(
            "egressway {} {}",
            decision.label(),
            decision.verdict.as_str()
        );
        Self {
            fate: match decision.verdict {
                Verdict::Deny => Fate::Silence,
                Verdict::Reject if sent.protocol == 6 => Fate::Reset,
                // RFC 1122, 3.2.2: no error about an error.
                Verdict::Reject if is_error(sent) => Fate::Silence,
                Verdict::Reject => Fate::Prohibited,
                _ => Fate::Arrived,
            },
            destination,
            port,
            verdict: decision.verdict,
            label: decision.label(),
            counted,
            // An allow logs a flow's first packet, and of what is of no flow some.
            logged: decision.logged.then_some((prefix, rate)),
        }
    }
}

fn is_error(sent: &Sent) -> bool {
    match (sent.to, sent.icmp) {
        (IpAddr::V4(_), Some((kind, _))) => [3, 4, 5, 11, 12].contains(&kind),
        (IpAddr::V6(_), Some((kind, _))) => kind < 128,
        (_, None) => false,
    }
}

/// Conntrack takes requests for a flow's beginning, and no errors or answers to nothing
/// (`nf_conntrack_proto_icmp.c`, `nf_conntrack_proto_icmpv6.c`), nor one family's ICMP in the other.
fn is_tracked(sent: &Sent) -> bool {
    match (sent.protocol, sent.to, sent.icmp) {
        (1, IpAddr::V4(_), Some((kind, _))) => [8, 13, 15, 17].contains(&kind),
        (58, IpAddr::V6(_), Some((kind, _))) => kind == 128,
        (1 | 58, ..) => false,
        _ => true,
    }
}
