//! Random packets at the borders of a policy's rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::sample::Index;
use rules::class::{METADATA, NOT_UNICAST, PRIVATE};
use rules::effective::Effective;
use rules::evaluate::{Original, Packet};
use rules::rule::{Ports, Target};

/// A packet, before it is known which borders there are.
#[derive(Debug, Clone)]
pub struct Seed {
    destination: Place,
    local: bool,
    protocol: Index,
    icmp: Index,
    asked: Asked,
    time: Index,
    /// The packet ends before its port: conntrack tracks no such thing.
    cut: bool,
}

#[derive(Debug, Clone)]
struct Place {
    address: Index,
    port: Index,
    /// To clusterDNS, if there is one.
    dns: bool,
}

/// What conntrack knows.
#[derive(Debug, Clone)]
enum Asked {
    Untracked,
    AsItGoes,
    Translated(Place),
}

pub fn seed() -> impl Strategy<Value = Seed> {
    let place =
        || {
            let index = any::<Index>();
            (index, any::<Index>(), prop::bool::weighted(0.2))
                .prop_map(|(address, port, dns)| Place { address, port, dns })
        };
    let asked = prop_oneof![
        1 => Just(Asked::Untracked),
        2 => Just(Asked::AsItGoes),
        2 => place().prop_map(Asked::Translated),
    ];
    let (protocol, icmp, time) = (any::<Index>(), any::<Index>(), any::<Index>());
    (
        place(),
        prop::bool::weighted(0.2),
        protocol,
        icmp,
        asked,
        time,
        prop::bool::weighted(0.05),
    )
        .prop_map(
            |(destination, local, protocol, icmp, asked, time, cut)| Seed {
                destination,
                local,
                protocol,
                icmp,
                asked,
                time,
                cut,
            },
        )
}

/// The values at which some rule of a policy may change its mind, and their neighbours.
pub struct Pool {
    addresses: Vec<IpAddr>,
    dns: Vec<IpAddr>,
    ports: Vec<u16>,
    protocols: Vec<u8>,
    icmp: Vec<(u8, u8)>,
    times: Vec<Timestamp>,
}

impl Pool {
    pub fn of(policy: &Effective) -> Self {
        let mut addresses: BTreeSet<IpAddr> = ["0.0.0.0", "255.255.255.255", "::"]
            .iter()
            .chain(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "198.51.100.77"])
            .map(|text| text.parse().expect("an address"))
            .collect();
        let mut ports = BTreeSet::from([1, 52, 53, 54, 65535]);
        // TCP, UDP and SCTP twice: they have most of the rules
        let mut protocols = vec![6, 17, 132, 6, 17, 132, 1, 58, 0, 2, 47, 255];
        let mut icmp = BTreeSet::from([(0, 0), (255, 255)]);
        let mut times = BTreeSet::from(["2026-06-01T12:00:00Z".parse().expect("a time")]);

        // Of the keywords' own networks only those that matter here, or they would be most of all.
        let rules = || policy.tiers.iter().flat_map(|tier| &tier.rules);
        let targets = || rules().flat_map(|rule| rule.to.iter().chain(&rule.except));
        for target in targets() {
            match target {
                Target::Net(net) => around(&mut addresses, net.network(), net.broadcast()),
                Target::Range(first, last) => around(&mut addresses, *first, *last),
                Target::Metadata => METADATA.iter().for_each(|net| ends(&mut addresses, net)),
                Target::Private | Target::Internet => {
                    let nets = PRIVATE.iter().chain(&METADATA).chain(&NOT_UNICAST);
                    nets.for_each(|net| ends(&mut addresses, net));
                }
                Target::Any
                | Target::Cluster
                | Target::Node
                | Target::Dns
                | Target::ApiServer
                | Target::Service(_) => {}
            }
        }
        for net in &policy.facts.cluster {
            ends(&mut addresses, net);
        }
        addresses.extend(&policy.facts.dns);
        for entry in rules().flat_map(|rule| &rule.ports) {
            match entry {
                Ports::Transport(_, range) => {
                    let (first, last) = (*range.start(), *range.end());
                    ports.extend([first.max(2) - 1, first.max(1), last.max(1)]);
                    ports.insert(last.saturating_add(1));
                }
                Ports::Icmp { kind, code } | Ports::Icmpv6 { kind, code } => {
                    let (kind, code) = (kind.unwrap_or(7), code.unwrap_or(3));
                    icmp.extend([(kind, code), (kind ^ 1, code), (kind, code ^ 1)]);
                    protocols.extend([1, 58]);
                }
                Ports::Protocol(number) => {
                    protocols.extend([*number, number.wrapping_add(1)]);
                }
            }
        }
        for until in rules().filter_map(|rule| rule.until) {
            for time in [
                until.checked_sub(1.nanosecond()),
                Ok(until),
                until.checked_add(1.nanosecond()),
            ] {
                times.extend(
                    time.ok()
                        .filter(|t| KERNEL_TIME.contains(&t.as_nanosecond())),
                );
            }
        }
        Self {
            addresses: addresses.into_iter().collect(),
            dns: policy.facts.dns.clone(),
            ports: ports.into_iter().collect(),
            protocols,
            icmp: icmp.into_iter().collect(),
            times: times.into_iter().collect(),
        }
    }

    pub fn packet(&self, seed: &Seed) -> Packet {
        let protocol = *seed.protocol.get(&self.protocols);
        let (address, port) = self.place(&seed.destination, &self.addresses, &self.dns);
        let has_ports = !seed.cut && [6, 17, 132].contains(&protocol);
        let port_of = |port: u16| has_ports.then_some(port);
        let original = match &seed.asked {
            Asked::Untracked => None,
            _ if seed.cut => None,
            Asked::AsItGoes => Some((address, port)),
            Asked::Translated(place) => {
                // NAT stays in its family
                let same = |of: &[IpAddr]| -> Vec<IpAddr> {
                    let alike = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
                    of.iter().filter(alike).copied().collect()
                };
                Some(self.place(place, &same(&self.addresses), &same(&self.dns)))
            }
        };
        Packet {
            destination: address,
            protocol,
            port: port_of(port),
            icmp: [1, 58]
                .contains(&protocol)
                .then_some(())
                .filter(|()| !seed.cut)
                .map(|()| *seed.icmp.get(&self.icmp)),
            original: original.map(|(address, port)| Original {
                address,
                port: port_of(port),
            }),
            local: seed.local,
            time: *seed.time.get(&self.times),
        }
    }

    fn place(&self, place: &Place, addresses: &[IpAddr], dns: &[IpAddr]) -> (IpAddr, u16) {
        if place.dns && !dns.is_empty() {
            return (*place.address.get(dns), 53);
        }
        (*place.address.get(addresses), *place.port.get(&self.ports))
    }
}

/// What the kernel's clock can show: nanoseconds since 1970 in 63 bits.
const KERNEL_TIME: std::ops::Range<i128> = 0..(i64::MAX - 1_000_000_000) as i128;

fn ends(addresses: &mut BTreeSet<IpAddr>, net: &IpNet) {
    around(addresses, net.network(), net.broadcast());
}

/// Both ends of a range, and what lies next to them outside.
fn around(addresses: &mut BTreeSet<IpAddr>, first: IpAddr, last: IpAddr) {
    addresses.extend([first, last]);
    let step = |address: IpAddr, by: i8| -> Option<IpAddr> {
        Some(match address {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).checked_add_signed(by.into())?.into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).checked_add_signed(by.into())?.into()),
        })
    };
    addresses.extend(step(first, -1));
    addresses.extend(step(last, 1));
}
