//! Which rule decides a packet: the meaning of a policy, in as plain words as possible.
//!
//! What the compiler makes for the kernel must decide the same; tests compare the two.

use std::net::IpAddr;

use jiff::Timestamp;

use super::class::{self, DNS_PORT, METADATA, NOT_UNICAST, PRIVATE};
use super::effective::{DefaultAction, Effective, Facts, TierRules};
use super::protocol::{ICMP, ICMPV6};
use super::rule::{Ports, Rule, Target, Transport};

pub use super::verdict::Verdict;

/// A packet that a pod originates, as far as rules can tell packets apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it really goes, after Service translation.
    pub destination: IpAddr,
    /// The IP protocol number (IANA).
    pub protocol: u8,
    /// The destination port after translation, if the protocol has ports.
    pub port: Option<u16>,
    /// Type and code, if it is ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// Where the pod sent it, if connection tracking knows.
    pub original: Option<Original>,
    /// `destination` is an address of this node.
    pub local: bool,
    /// Now.
    pub time: Timestamp,
}

/// Where the pod sent a packet, before translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// The destination address.
    pub address: IpAddr,
    /// The destination port, if the protocol has ports.
    pub port: Option<u16>,
}

impl Packet {
    /// Where the pod sent it: address and port.
    fn asked(&self) -> (IpAddr, Option<u16>) {
        match self.original {
            Some(original) => (original.address, original.port),
            None => (self.destination, self.port),
        }
    }
}

/// What becomes of a packet, and by which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The rule that decided, in its tier; `None`: the default action did.
    pub rule: Option<(&'a TierRules, &'a Rule)>,
    /// Whether it is logged, apart from rate limits.
    pub logged: bool,
}

impl Decision<'_> {
    /// What decided, as in log lines: `pod:erp`, `cluster-enforced:2`, `default:deny`.
    pub fn label(&self) -> String {
        match (self.rule, self.verdict) {
            (Some((tier, rule)), _) => tier.label(rule),
            (None, Verdict::Allow) => DefaultAction::Allow.label().to_owned(),
            (None, _) => DefaultAction::Deny.label().to_owned(),
        }
    }
}

/// Why a rule does not match a packet. Where several reasons hold, the first in this order is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The rule's `until` is over.
    Expired,
    /// All its targets are addresses of the other IP version.
    Family,
    /// The packet goes to none of its targets.
    Address,
    /// None of its ports is of the packet's protocol.
    Protocol,
    /// The protocol is right, the port is not.
    Port,
    /// ICMP is right, its type or code is not.
    IcmpType,
    /// Its `except` takes the destination away.
    Except,
}

impl Mismatch {
    /// In a word or two, for people and programs: `other port`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mismatch::Expired => "expired",
            Mismatch::Family => "other family",
            Mismatch::Address => "other address",
            Mismatch::Protocol => "other protocol",
            Mismatch::Port => "other port",
            Mismatch::IcmpType => "other ICMP type",
            Mismatch::Except => "except",
        }
    }
}

/// One rule on the way to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// The rule's tier.
    pub tier: &'a TierRules,
    /// The rule that was looked at.
    pub rule: &'a Rule,
    /// Why it does not match; `None`: it matches, so that it decides or, if it says `pass`, ends its tier.
    pub mismatch: Option<Mismatch>,
}

/// A decision and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace<'a> {
    /// Every rule that was looked at, in that order.
    pub steps: Vec<Step<'a>>,
    /// What [`Effective::decide`] says.
    pub decision: Decision<'a>,
}

impl Effective {
    /// Decides a packet: the first rule that matches, tier by tier; `pass` goes on with the next tier.
    pub fn decide(&self, packet: &Packet) -> Decision<'_> {
        self.walk(packet, |_| {})
    }

    /// Decides a packet and tells which rules were looked at.
    pub fn trace(&self, packet: &Packet) -> Trace<'_> {
        let mut steps = Vec::new();
        let decision = self.walk(packet, |step| steps.push(step));
        Trace { steps, decision }
    }

    /// Decides a packet and shows `see` every rule that it looks at.
    fn walk<'a>(&'a self, packet: &Packet, mut see: impl FnMut(Step<'a>)) -> Decision<'a> {
        for tier in &self.tiers {
            let mut rules = tier.rules.iter();
            let Some(rule) = rules.find(|rule| {
                let mismatch = mismatch(rule, packet, &self.facts);
                see(Step {
                    tier,
                    rule,
                    mismatch,
                });
                mismatch.is_none()
            }) else {
                continue;
            };
            let Some(verdict) = Verdict::of(rule.verb, tier.audit) else {
                continue;
            };
            return Decision {
                verdict,
                rule: Some((tier, rule)),
                logged: rule.log.is_some() || verdict.is_audited(),
            };
        }
        let verdict = Verdict::by_default(self.default_action, self.default_audit);
        Decision {
            verdict,
            rule: None,
            logged: verdict != Verdict::Allow,
        }
    }
}

/// Why the rule does not match; `None`: it does.
fn mismatch(rule: &Rule, packet: &Packet, facts: &Facts) -> Option<Mismatch> {
    if rule.until.is_some_and(|until| packet.time >= until) {
        return Some(Mismatch::Expired);
    }
    let goes_to = |target: &&Target| target_matches(target, packet, facts);
    let mut reached = rule.to.iter().filter(goes_to).peekable();
    if reached.peek().is_none() {
        let other = |target: &Target| is_of_other_family(target, packet.destination);
        return Some(if rule.to.iter().all(other) {
            Mismatch::Family
        } else {
            Mismatch::Address
        });
    }
    if !reached.any(|target| ports_match(rule, target, packet)) {
        return Some(ports_mismatch(&rule.ports, packet));
    }
    rule.except
        .iter()
        .any(|target| target_matches(target, packet, facts))
        .then_some(Mismatch::Except)
}

/// Whether the target holds addresses of the other IP version only.
fn is_of_other_family(target: &Target, to: IpAddr) -> bool {
    match target {
        Target::Net(net) => net.addr().is_ipv4() != to.is_ipv4(),
        Target::Range(first, _) => first.is_ipv4() != to.is_ipv4(),
        _ => false,
    }
}

/// What is wrong with ports that do not take the packet.
fn ports_mismatch(ports: &[Ports], packet: &Packet) -> Mismatch {
    let ipv4 = packet.destination.is_ipv4();
    let reasons = ports.iter().map(|ports| match ports {
        Ports::Transport(transport, _) if transport.protocol() == packet.protocol => Mismatch::Port,
        Ports::Icmp { .. } if packet.protocol == ICMP && ipv4 => Mismatch::IcmpType,
        Ports::Icmpv6 { .. } if packet.protocol == ICMPV6 && !ipv4 => Mismatch::IcmpType,
        _ => Mismatch::Protocol,
    });
    // A packet has one protocol: what is not `Protocol` is the same for all.
    reasons
        .reduce(|one, other| match one {
            Mismatch::Protocol => other,
            _ => one,
        })
        .unwrap_or(Mismatch::Protocol)
}

/// Whether the packet goes to the target. `except dns` takes DNS away whatever the rule's ports are.
fn target_matches(target: &Target, packet: &Packet, facts: &Facts) -> bool {
    let to = packet.destination;
    let cluster = || class::contains(&facts.cluster, to);
    let metadata = || class::contains(&METADATA, to);
    let elsewhere = || !cluster() && !packet.local && !metadata();
    match target {
        Target::Any => true,
        Target::Net(net) => net.contains(&to),
        // The order of `IpAddr` puts all of IPv4 before all of IPv6: a range of one family holds no address of the other.
        Target::Range(first, last) => (*first..=*last).contains(&to),
        Target::Cluster => cluster(),
        Target::Node => packet.local,
        Target::Metadata => metadata(),
        Target::Dns => is_dns(packet, facts),
        Target::ApiServer => facts.api_server.contains(&to),
        Target::Service(service) => facts.service(service).contains(&packet.asked().0),
        Target::Private => class::contains(&PRIVATE, to) && elsewhere(),
        Target::Internet => {
            !class::contains(&PRIVATE, to) && !class::contains(&NOT_UNICAST, to) && elsewhere()
        }
    }
}

/// DNS to clusterDNS, as translated or as asked.
fn is_dns(packet: &Packet, facts: &Facts) -> bool {
    let transport = [Transport::Tcp, Transport::Udp]
        .iter()
        .any(|transport| transport.protocol() == packet.protocol);
    let asks =
        |address: IpAddr, port: Option<u16>| facts.dns.contains(&address) && port == Some(DNS_PORT);
    let translated = asks(packet.destination, packet.port);
    let asked = packet
        .original
        .is_some_and(|original| asks(original.address, original.port));
    transport && (translated || asked)
}

/// Whether the rule's ports take the packet on its way to `target`. For `dns` the port is 53, as it was asked, even
/// when the server behind the Service listens on another; for a Service it is the Service's port.
fn ports_match(rule: &Rule, target: &Target, packet: &Packet) -> bool {
    let port = match target {
        Target::Dns => Some(DNS_PORT),
        Target::Service(_) => packet.asked().1,
        _ => packet.port,
    };
    rule.ports.is_empty()
        || rule
            .ports
            .iter()
            .any(|ports| port_matches(ports, packet, port))
}

fn port_matches(ports: &Ports, packet: &Packet, port: Option<u16>) -> bool {
    match ports {
        Ports::Transport(transport, range) => {
            let every = *range == (0..=u16::MAX);
            packet.protocol == transport.protocol()
                && (every || port.is_some_and(|port| range.contains(&port)))
        }
        Ports::Icmp { kind, code } => {
            packet.protocol == ICMP
                && packet.destination.is_ipv4()
                && icmp_matches(*kind, *code, packet.icmp)
        }
        Ports::Icmpv6 { kind, code } => {
            packet.protocol == ICMPV6
                && packet.destination.is_ipv6()
                && icmp_matches(*kind, *code, packet.icmp)
        }
        Ports::Protocol(number) => packet.protocol == *number,
    }
}

/// `None` in the rule is "any".
fn icmp_matches(kind: Option<u8>, code: Option<u8>, packet: Option<(u8, u8)>) -> bool {
    let equal = |wanted: Option<u8>, is: Option<u8>| wanted.is_none() || wanted == is;
    equal(kind, packet.map(|(kind, _)| kind)) && equal(code, packet.map(|(_, code)| code))
}

#[cfg(test)]
mod tests;
