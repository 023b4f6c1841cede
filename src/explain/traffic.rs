//! The packets of a question: one for each kind of traffic that some rule could tell apart.
//!
//! A rule sees of a packet to a given address its protocol, its port and its ICMP type and code,
//! and compares them with numbers that it names. Between these numbers all packets are alike.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use rules::class::DNS_PORT;
use rules::effective::Effective;
use rules::evaluate::Packet;
use rules::protocol::{ICMP, ICMPV6};
use rules::rule::{Ports, Transport};

/// Where rules about `dns` begin and end.
const DNS: [u16; 2] = [DNS_PORT, DNS_PORT + 1];

const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

/// Traffic that no rule of a policy tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrafficClass {
    /// First and last port.
    Ports(Transport, u16, u16),
    /// Type and code; `None`: every one that has no entry of its own.
    Icmp(Option<u8>, Option<u8>),
    /// `None`: every one that has no entry of its own.
    Protocol(Option<u8>),
}

/// Some traffic and a packet that stands for all of it.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub traffic: TrafficClass,
    pub packet: Packet,
}

/// The samples of what is asked about. `base` is a packet without protocol and port.
pub(super) fn samples(policy: &Effective, asked: Option<&Ports>, base: &Packet) -> Vec<Sample> {
    let named: Vec<&Ports> = policy
        .tiers
        .iter()
        .flat_map(|tier| &tier.rules)
        .flat_map(|rule| &rule.ports)
        .collect();
    let icmp = if base.destination.is_ipv4() {
        ICMP
    } else {
        ICMPV6
    };
    let mut found = Vec::new();
    for transport in TRANSPORTS {
        let range = match asked {
            None => Some(1..=u16::MAX),
            Some(Ports::Transport(t, range)) if *t == transport => {
                Some((*range.start()).max(1)..=*range.end())
            }
            Some(Ports::Protocol(number)) if *number == transport.protocol() => Some(1..=u16::MAX),
            Some(_) => None,
        };
        for (first, last) in range.map_or(Vec::new(), |range| cut(&named, transport, &range, &DNS))
        {
            found.push(Sample {
                traffic: TrafficClass::Ports(transport, first, last),
                packet: Packet {
                    protocol: transport.protocol(),
                    port: Some(first),
                    ..base.clone()
                },
            });
        }
    }
    let kind_and_code = match asked {
        None => Some((None, None)),
        Some(Ports::Icmp { kind, code } | Ports::Icmpv6 { kind, code }) => Some((*kind, *code)),
        Some(Ports::Protocol(number)) if *number == icmp => Some((None, None)),
        Some(_) => None,
    };
    if let Some((kind, code)) = kind_and_code {
        found.extend(icmp_samples(&named, icmp, kind, code, base));
    }
    let protocols = match asked {
        None => other_protocols(&named, icmp),
        Some(Ports::Protocol(number)) if found.is_empty() => vec![(Some(*number), *number)],
        Some(_) => Vec::new(),
    };
    found.extend(protocols.into_iter().map(|(shown, protocol)| Sample {
        traffic: TrafficClass::Protocol(shown),
        packet: Packet {
            protocol,
            ..base.clone()
        },
    }));
    found
}

/// A range of ports, cut wherever some rule begins or ends, and before `also`.
pub(super) fn cut(
    named: &[&Ports],
    transport: Transport,
    range: &RangeInclusive<u16>,
    also: &[u16],
) -> Vec<(u16, u16)> {
    let mut starts = BTreeSet::from([*range.start()]);
    starts.extend(also);
    for ports in named {
        if let Ports::Transport(t, named) = ports
            && *t == transport
        {
            starts.insert(*named.start());
            starts.extend(named.end().checked_add(1));
        }
    }
    starts.retain(|start| range.contains(start));
    let ends = starts.iter().skip(1).map(|next| next - 1);
    let ends: Vec<u16> = ends.chain([*range.end()]).collect();
    starts.into_iter().zip(ends).collect()
}

/// Types and codes that rules name, and one of each kind that they do not.
fn icmp_samples(
    named: &[&Ports],
    protocol: u8,
    kind: Option<u8>,
    code: Option<u8>,
    base: &Packet,
) -> Vec<Sample> {
    let named: BTreeSet<(u8, Option<u8>)> = named
        .iter()
        .filter_map(|ports| match ports {
            Ports::Icmp { kind, code } if protocol == ICMP => kind.map(|kind| (kind, *code)),
            Ports::Icmpv6 { kind, code } if protocol == ICMPV6 => kind.map(|kind| (kind, *code)),
            _ => None,
        })
        .chain([(echo_request(protocol), None)])
        .chain(kind.map(|kind| (kind, code)))
        .collect();
    let kinds: BTreeSet<u8> = named.iter().map(|(kind, _)| *kind).collect();
    let sample = |traffic, kind, code| Sample {
        traffic,
        packet: Packet {
            protocol,
            icmp: Some((kind, code)),
            ..base.clone()
        },
    };
    let mut found = Vec::new();
    for of_kind in kinds
        .iter()
        .copied()
        .filter(|k| kind.is_none_or(|kind| kind == *k))
    {
        let codes: BTreeSet<u8> = named
            .iter()
            .filter_map(|(kind, code)| code.filter(|_| *kind == of_kind))
            .collect();
        for of_code in codes
            .iter()
            .copied()
            .filter(|c| code.is_none_or(|code| code == *c))
        {
            let traffic = TrafficClass::Icmp(Some(of_kind), Some(of_code));
            found.push(sample(traffic, of_kind, of_code));
        }
        if let (None, Some(other)) = (code, unnamed(&codes)) {
            found.push(sample(
                TrafficClass::Icmp(Some(of_kind), None),
                of_kind,
                other,
            ));
        }
    }
    if let (None, Some(other)) = (kind, unnamed(&kinds)) {
        found.push(sample(TrafficClass::Icmp(None, None), other, 0));
    }
    found
}

/// The type of a ping (RFC 792, RFC 4443).
pub(super) fn echo_request(protocol: u8) -> u8 {
    if protocol == ICMP { 8 } else { 128 }
}

/// Whether a packet is a ping.
pub(super) fn is_echo_request(packet: &Packet) -> bool {
    let own = if packet.destination.is_ipv4() {
        ICMP
    } else {
        ICMPV6
    };
    let kind = packet.icmp.map(|(kind, _)| kind);
    packet.protocol == own && kind == Some(echo_request(own))
}

/// Protocols that rules name, and one that they do not, apart from those with ports and the family's ICMP.
fn other_protocols(named: &[&Ports], icmp: u8) -> Vec<(Option<u8>, u8)> {
    let mut numbers: BTreeSet<u8> = named
        .iter()
        .filter_map(|ports| match ports {
            Ports::Protocol(number) => Some(*number),
            _ => None,
        })
        .collect();
    let known = TRANSPORTS.map(Transport::protocol);
    numbers.retain(|number| !known.contains(number) && *number != icmp);
    let mut found: Vec<(Option<u8>, u8)> = numbers.iter().map(|n| (Some(*n), *n)).collect();
    numbers.extend(known);
    numbers.insert(icmp);
    found.extend(unnamed(&numbers).map(|number| (None, number)));
    found
}

/// The highest number that is not named: for protocols and ICMP, one that nobody uses.
fn unnamed(numbers: &BTreeSet<u8>) -> Option<u8> {
    (0..=u8::MAX).rev().find(|number| !numbers.contains(number))
}

/// Some of `all` traffic in as few words as possible: `443/tcp`, `udp`, `icmp/8`, `other protocols`.
pub(super) fn describe(some: &[TrafficClass], all: &[TrafficClass], ipv4: bool) -> Vec<String> {
    let mut words = Vec::new();
    for transport in TRANSPORTS {
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for traffic in some {
            match (*traffic, merged.last_mut()) {
                (TrafficClass::Ports(t, ..), _) if t != transport => {}
                (TrafficClass::Ports(_, first, last), Some(before))
                    if before.1.checked_add(1) == Some(first) =>
                {
                    before.1 = last;
                }
                (TrafficClass::Ports(_, first, last), _) => merged.push((first, last)),
                _ => {}
            }
        }
        words.extend(merged.into_iter().map(|(first, last)| {
            let first = if (first, last) == (1, u16::MAX) {
                0
            } else {
                first
            };
            Ports::Transport(transport, first..=last).to_string()
        }));
    }
    words.extend(describe_icmp(some, all, ipv4));
    words.extend(some.iter().filter_map(|traffic| match traffic {
        TrafficClass::Protocol(Some(number)) => Some(format!("proto/{number}")),
        TrafficClass::Protocol(None) => Some("other protocols".to_owned()),
        _ => None,
    }));
    words
}

fn describe_icmp(some: &[TrafficClass], all: &[TrafficClass], ipv4: bool) -> Vec<String> {
    let name = if ipv4 { "icmp" } else { "icmpv6" };
    let is_icmp = |traffic: &&TrafficClass| matches!(traffic, TrafficClass::Icmp(..));
    let here = |traffic: &TrafficClass| some.contains(traffic);
    // `icmp` alone was asked about, or everything.
    let whole = all.contains(&TrafficClass::Icmp(None, None));
    if whole && all.iter().filter(is_icmp).all(here) {
        return vec![name.to_owned()];
    }
    let all_of = |kind: u8| {
        let of_kind = |t: &&TrafficClass| matches!(t, TrafficClass::Icmp(Some(k), _) if *k == kind);
        all.contains(&TrafficClass::Icmp(Some(kind), None)) && all.iter().filter(of_kind).all(here)
    };
    some.iter()
        .filter_map(|traffic| match *traffic {
            TrafficClass::Icmp(Some(kind), None) if all_of(kind) => Some(format!("{name}/{kind}")),
            TrafficClass::Icmp(Some(kind), Some(_)) if all_of(kind) => None,
            TrafficClass::Icmp(Some(kind), Some(code)) => Some(format!("{name}/{kind}/{code}")),
            TrafficClass::Icmp(Some(kind), None) => Some(format!("{name}/{kind} with other codes")),
            TrafficClass::Icmp(None, _) => Some(format!("other {name}")),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rules::effective::{DefaultAction, Facts, Tier, TierRules};

    use super::*;

    /// Every port, type and protocol is in exactly one answer, and that is what the evaluator says.
    #[test]
    fn samples_stand_for_all_traffic() {
        let text = "deny 1/tcp,65535/tcp\nallow 10-20/udp; deny 15/udp; pass proto/47\nallow icmp/3/4; deny icmp/3; reject proto/1";
        let tier = TierRules::parse(Tier::Pod, "the pod text", text, false).unwrap();
        let policy =
            Effective::new(vec![tier], DefaultAction::Allow, false, Facts::default()).unwrap();
        let base = Packet {
            destination: "198.51.100.7".parse().unwrap(),
            protocol: 0,
            port: None,
            icmp: None,
            original: None,
            local: false,
            time: "2026-05-01T00:00:00Z".parse().unwrap(),
            names: Vec::new(),
        };
        let samples = samples(&policy, None, &base);
        let decide = |protocol, port, icmp| {
            let packet = Packet {
                protocol,
                port,
                icmp,
                ..base.clone()
            };
            policy.decide(&packet)
        };
        for transport in [6u8, 17, 132] {
            for port in 1..=u16::MAX {
                let mut holding = samples.iter().filter(|sample| {
                    matches!(sample.traffic, TrafficClass::Ports(t, first, last)
                        if t.protocol() == transport && (first..=last).contains(&port))
                });
                let sample = holding.next().unwrap();
                assert!(holding.next().is_none());
                let said = policy.decide(&sample.packet);
                assert_eq!(
                    said,
                    decide(transport, Some(port), None),
                    "{transport} {port}"
                );
            }
        }
        for (kind, code) in (0..=255).flat_map(|kind| [0, 3, 4, 255].map(|code| (kind, code))) {
            let of = |kind, code| {
                let traffic = TrafficClass::Icmp(kind, code);
                samples.iter().find(|sample| sample.traffic == traffic)
            };
            let sample = of(Some(kind), Some(code))
                .or(of(Some(kind), None))
                .or(of(None, None))
                .unwrap();
            let said = policy.decide(&sample.packet);
            assert_eq!(said, decide(1, None, Some((kind, code))), "{kind}/{code}");
        }
        for protocol in (0..=255).filter(|number| ![1, 6, 17, 132].contains(number)) {
            let of = |number| {
                let traffic = TrafficClass::Protocol(number);
                samples.iter().find(|sample| sample.traffic == traffic)
            };
            let sample = of(Some(protocol)).or(of(None)).unwrap();
            let said = policy.decide(&sample.packet);
            assert_eq!(said, decide(protocol, None, None), "{protocol}");
        }
    }
}
