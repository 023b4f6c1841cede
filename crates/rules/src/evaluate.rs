//! Which rule decides a packet: the meaning of a policy, in as plain words as possible.
//!
//! What the compiler makes for the kernel must decide the same; tests compare the two.

use std::net::IpAddr;

use jiff::Timestamp;

use super::class::{
    self, LINK_LOCAL, METADATA, NOT_INTERNET, PRIVATE, WIRESERVER, WIRESERVER_PORTS,
};
use super::effective::{DefaultAction, Effective, Facts, TierRules};
use super::facts::Word;
use super::pattern::Pattern;
use super::protocol::{ICMP, ICMPV6, TCP};
use super::rule::{Ports, Rule, Target};

pub use super::verdict::Verdict;

use destination::Destination;

mod destination;

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
    /// Which names in rules `destination` stands for, by what the node's resolver was told: their addresses now, and
    /// those of connections that are open.
    pub names: Vec<Pattern>,
}

/// Where the pod sent a packet, before translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// The destination address.
    pub address: IpAddr,
    /// The destination port, if the protocol has ports.
    pub port: Option<u16>,
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
    /// It does not get as far as the rules: multicast that none of them allows is dropped at the pod's own
    /// interface.
    pub at_veth: bool,
}

/// What decides where [`Decision::at_veth`].
pub const VETH_MULTICAST: &str = "veth:multicast";

impl Decision<'_> {
    /// What decided, as in log lines: `pod:erp`, `cluster-enforced:2`, `default:deny`.
    pub fn label(&self) -> String {
        match (self.rule, self.verdict) {
            _ if self.at_veth => VETH_MULTICAST.to_owned(),
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
    ///
    /// What goes to many at once goes only if a rule says so. ICMPv6 to many is neighbours' and listeners', and
    /// no matter of rules.
    fn walk<'a>(&'a self, packet: &Packet, see: impl FnMut(Step<'a>)) -> Decision<'a> {
        let decision = self.by_rules(packet, see);
        let is_allowed =
            self.exempt || decision.rule.is_some() && decision.verdict == Verdict::Allow;
        let is_neighbours = packet.protocol == ICMPV6 && packet.destination.is_ipv6();
        if !is_multicast(packet) || is_allowed && !is_neighbours {
            return decision;
        }
        Decision {
            verdict: Verdict::Deny,
            rule: None,
            logged: false,
            at_veth: true,
        }
    }

    fn by_rules<'a>(&'a self, packet: &Packet, mut see: impl FnMut(Step<'a>)) -> Decision<'a> {
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
                at_veth: false,
            };
        }
        let verdict = Verdict::by_default(self.default_action, self.default_audit);
        Decision {
            verdict,
            rule: None,
            logged: verdict != Verdict::Allow,
            at_veth: false,
        }
    }
}

/// Whether the rule matches the packet, by itself.
pub fn matches(rule: &Rule, packet: &Packet, facts: &Facts) -> bool {
    mismatch(rule, packet, facts).is_none()
}

/// Why the rule does not match; `None`: it does.
fn mismatch(rule: &Rule, packet: &Packet, facts: &Facts) -> Option<Mismatch> {
    if rule.until.is_some_and(|until| packet.time >= until) {
        return Some(Mismatch::Expired);
    }
    let goes_to = |target: &&Target| goes_to(target, packet, facts) == Some(true);
    let mut reached = rule.to.iter().filter(goes_to).peekable();
    if reached.peek().is_none() {
        let other = |target: &Target| is_of_other_family(target, packet.destination, facts);
        return Some(if rule.to.iter().all(other) {
            Mismatch::Family
        } else {
            Mismatch::Address
        });
    }
    if !reached.any(|target| ports_match(rule, target, packet, facts)) {
        return Some(ports_mismatch(&rule.ports, packet));
    }
    let excepted = |target: &Target| self::goes_to(target, packet, facts) != Some(false);
    rule.except.iter().any(excepted).then_some(Mismatch::Except)
}

/// Whether the target holds addresses of the other IP version only.
fn is_of_other_family(target: &Target, to: IpAddr, facts: &Facts) -> bool {
    let ipv4 = match target {
        Target::Net(net) => net.addr().is_ipv4(),
        Target::Range(first, _) => first.is_ipv4(),
        _ => return false,
    };
    ipv4 != to.is_ipv4() && Destination::of(to, facts).behind.is_none()
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

/// Whether the packet goes to the target; `None`: that can't be told. `except dns` takes DNS away whatever
/// the rule's ports are.
fn goes_to(target: &Target, packet: &Packet, facts: &Facts) -> Option<bool> {
    let place = Destination::of(packet.destination, facts);
    Some(match target {
        Target::Any => true,
        Target::Net(net) => place.is_in([net]),
        // The order of `IpAddr` puts all of IPv4 before all of IPv6: a range of one family holds no address of the other.
        Target::Range(first, last) => {
            let behind = match (first, last) {
                (IpAddr::V4(a), IpAddr::V4(b)) => place.stands_in((*a).into(), (*b).into()),
                _ => false,
            };
            behind || (*first..=*last).contains(&packet.destination)
        }
        Target::Cluster => place.is_in(&facts.cluster),
        Target::Node => is_local(packet),
        Target::Nodes => is_local(packet) || place.is_in(&facts.nodes),
        Target::Multicast => is_multicast(packet),
        Target::Dns => sent(packet).any(|sent| is_for(Word::Dns, sent, packet, facts)),
        Target::Metadata => sent(packet).any(|sent| is_for(Word::Metadata, sent, packet, facts)),
        Target::ApiServer => sent(packet).any(|sent| is_for(Word::ApiServer, sent, packet, facts)),
        Target::Service(service) => {
            let asked = packet.original.map(|original| original.address);
            asked.is_some_and(|asked| facts.service(service).contains(&asked))
        }
        Target::Name(pattern) => packet.names.contains(pattern) && is_nameable(packet, facts),
        Target::Private => {
            let place = place.classed();
            place.is_in(&PRIVATE) && is_elsewhere(&place, packet, facts)
        }
        Target::Internet => return is_internet(place, packet, facts),
    })
}

/// What is sent to everybody on a link arrives at the node, too.
fn is_local(packet: &Packet) -> bool {
    let [_, broadcast, _] = class::MULTICAST;
    packet.local || broadcast.contains(&packet.destination)
}

fn is_multicast(packet: &Packet) -> bool {
    class::contains(&class::MULTICAST, packet.destination)
}

/// Neither the cluster, nor a node, nor a metadata service that has an address of its own.
fn is_elsewhere(place: &Destination, packet: &Packet, facts: &Facts) -> bool {
    // What the address itself is, and what it stands for.
    let own = Destination::of(packet.destination, facts);
    !is_local(packet) && is_apart(place, &own, facts)
}

fn is_apart(place: &Destination, own: &Destination, facts: &Facts) -> bool {
    let metadata = METADATA.iter().map(|service| &service.address);
    let others = facts.cluster.iter().chain(&facts.nodes).chain(metadata);
    !place.touches(others.clone()) && !own.touches(others)
}

/// Whoever answers for a name does not open everything.
fn is_nameable(packet: &Packet, facts: &Facts) -> bool {
    !is_local(packet) && may_be_named(packet.destination, facts)
}

/// Whether a domain name may stand for an address: nothing of the cluster, its nodes, or a metadata service, and nothing
/// that is no address of one host. (That this node has it, only the kernel knows.)
pub fn may_be_named(address: IpAddr, facts: &Facts) -> bool {
    let own = Destination::of(address, facts);
    let place = own.clone().classed();
    !place.touches(&NOT_INTERNET)
        && !place.touches(&LINK_LOCAL)
        && !place.touches([&WIRESERVER.address])
        && is_apart(&place, &own, facts)
}

fn is_internet(place: Destination, packet: &Packet, facts: &Facts) -> Option<bool> {
    let place = place.classed();
    let elsewhere = !place.touches(&PRIVATE)
        && !place.touches(&NOT_INTERNET)
        && is_elsewhere(&place, packet, facts);
    if !elsewhere || !place.touches([&WIRESERVER.address]) {
        return Some(elsewhere);
    }
    if packet.protocol != TCP || !place.is_in([&WIRESERVER.address]) {
        return Some(place.is_in([&WIRESERVER.address]));
    }
    // Two of its ports are metadata; a packet that ends before its port may be for either.
    packet.port.map(|port| !WIRESERVER_PORTS.contains(&port))
}

/// Where a packet goes, and where the pod sent it, if that is known.
fn sent(packet: &Packet) -> impl Iterator<Item = Original> {
    let translated = Original {
        address: packet.destination,
        port: packet.port,
    };
    [Some(translated), packet.original].into_iter().flatten()
}

/// Whether what was sent there is for a service that the word stands for.
fn is_for(word: Word, sent: Original, packet: &Packet, facts: &Facts) -> bool {
    facts.endpoints(word).iter().any(|endpoint| {
        let place = match endpoint.nat64 {
            true => Destination::of(sent.address, facts),
            false => Destination {
                address: Some(sent.address),
                behind: None,
            },
        };
        endpoint.takes(packet.protocol, sent.port) && place.is_in(&endpoint.addresses)
    })
}

/// Whether the rule's ports take the packet on its way to `target`. For words that stand for services they
/// are the ports there, as the pod sent it or after translation; for a Service they are the Service's ports.
fn ports_match(rule: &Rule, target: &Target, packet: &Packet, facts: &Facts) -> bool {
    let take = |port: Option<u16>| {
        rule.ports.is_empty()
            || rule
                .ports
                .iter()
                .any(|ports| port_matches(ports, packet, port))
    };
    let word = match target {
        Target::Dns => Word::Dns,
        Target::Metadata => Word::Metadata,
        Target::ApiServer => Word::ApiServer,
        Target::Service(_) => return take(packet.original.and_then(|original| original.port)),
        _ => return take(packet.port),
    };
    sent(packet).any(|sent| is_for(word, sent, packet, facts) && take(sent.port))
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
