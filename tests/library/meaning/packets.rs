//! Random packets at the borders of a policy's rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::sample::Index;
use rules::class::{METADATA, MULTICAST, NOT_INTERNET, PRIVATE, WIRESERVER, WIRESERVER_PORTS};
use rules::effective::{Effective, Facts};
use rules::evaluate::{Original, Packet};
use rules::nat64;
use rules::rule::{Ports, Target};

use super::policies::NAMES;

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
    /// Which names stand for its destination.
    names: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Place {
    address: Index,
    port: Index,
    /// To a service that a word of rules stands for.
    service: bool,
}

/// What conntrack knows.
#[derive(Debug, Clone)]
enum Asked {
    Untracked,
    AsItGoes,
    Translated(Place),
}

pub fn seed() -> impl Strategy<Value = Seed> {
    let place = || {
        let index = any::<Index>();
        (index, any::<Index>(), prop::bool::weighted(0.2)).prop_map(|(address, port, service)| {
            Place {
                address,
                port,
                service,
            }
        })
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
        prop::sample::subsequence(&NAMES[..], 0..=NAMES.len()),
    )
        .prop_map(
            |(destination, local, protocol, icmp, asked, time, cut, names)| Seed {
                destination,
                local,
                protocol,
                icmp,
                asked,
                time,
                cut,
                names,
            },
        )
}

/// The values at which some rule of a policy may change its mind, and their neighbours.
pub struct Pool {
    addresses: Vec<IpAddr>,
    services: Vec<(IpAddr, u16)>,
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
                Target::Metadata => metadata().for_each(|net| ends(&mut addresses, net)),
                Target::Private | Target::Internet | Target::Name(_) => {
                    let nets = PRIVATE.iter().chain(&NOT_INTERNET).chain(&MULTICAST);
                    let nets = nets.chain(metadata());
                    nets.for_each(|net| ends(&mut addresses, net));
                }
                Target::Multicast => {
                    MULTICAST.iter().for_each(|net| ends(&mut addresses, net));
                }
                Target::Any
                | Target::Cluster
                | Target::Node
                | Target::Nodes
                | Target::Dns
                | Target::ApiServer
                | Target::Service(_) => {}
            }
        }
        let facts = &policy.facts;
        for net in facts.cluster.iter().chain(&facts.nodes) {
            ends(&mut addresses, net);
        }
        let services = services(facts);
        addresses.extend(services.iter().map(|(address, _)| *address));
        behind_nat64(&mut addresses, facts);
        ports.extend(services.iter().map(|(_, port)| *port));
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
            services,
            ports: ports.into_iter().collect(),
            protocols,
            icmp: icmp.into_iter().collect(),
            times: times.into_iter().collect(),
        }
    }

    pub fn packet(&self, seed: &Seed) -> Packet {
        let protocol = *seed.protocol.get(&self.protocols);
        let (address, port) = self.place(&seed.destination, |_| true);
        let has_ports = !seed.cut && [6, 17, 132].contains(&protocol);
        let port_of = |port: u16| has_ports.then_some(port);
        let original = match &seed.asked {
            Asked::Untracked => None,
            _ if seed.cut => None,
            Asked::AsItGoes => Some((address, port)),
            Asked::Translated(place) => {
                // NAT stays in its family
                Some(self.place(place, |other| other.is_ipv4() == address.is_ipv4()))
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
            names: seed
                .names
                .iter()
                .map(|name| name.parse().expect("a name"))
                .collect(),
        }
    }

    fn place(&self, place: &Place, may_be: impl Fn(&IpAddr) -> bool) -> (IpAddr, u16) {
        let services = self.services.iter().filter(|(address, _)| may_be(address));
        let services: Vec<_> = services.collect();
        if place.service && !services.is_empty() {
            return **place.address.get(&services);
        }
        let addresses = self.addresses.iter().filter(|address| may_be(address));
        let addresses: Vec<_> = addresses.collect();
        (
            **place.address.get(&addresses),
            *place.port.get(&self.ports),
        )
    }
}

fn metadata() -> impl Iterator<Item = &'static IpNet> {
    let services = METADATA.iter().chain([&WIRESERVER]);
    services.map(|service| &service.address)
}

/// What the words stand for that stand for services.
fn services(facts: &Facts) -> Vec<(IpAddr, u16)> {
    let mut services: Vec<(IpAddr, u16)> = facts.dns.iter().map(|dns| (*dns, 53)).collect();
    let sockets = facts.api_server.iter();
    services.extend(sockets.map(|socket| (socket.ip(), socket.port())));
    for port in WIRESERVER_PORTS {
        services.push((WIRESERVER.address.addr(), port));
    }
    services.push((METADATA[0].address.addr(), 80));
    services.push((METADATA[3].address.addr(), 80));
    for addresses in facts.services.values() {
        services.extend(addresses.iter().map(|address| (*address, 443)));
    }
    services
}

/// IPv4 addresses behind the NAT64 prefixes: as they are written, and with what should be zero.
fn behind_nat64(addresses: &mut BTreeSet<IpAddr>, facts: &Facts) {
    let v4: Vec<_> = addresses.iter().copied().collect();
    for prefix in &facts.nat64 {
        ends(addresses, &IpNet::V6(*prefix));
        for address in &v4 {
            let IpAddr::V4(address) = address else {
                continue;
            };
            let embedded = nat64::embed(*prefix, *address);
            addresses.insert(embedded.into());
            if prefix.prefix_len() < 96 {
                let odd = u128::from(embedded) | 0xff << 56;
                addresses.extend([IpAddr::V6(odd.into()), IpAddr::V6((odd | 1).into())]);
            }
        }
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
