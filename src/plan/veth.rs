//! Anti-spoofing at the host's side of a veth.
//!
//! `if-ID` lets nothing through but what the pod may send: its own addresses from its own MAC. It
//! must be of family netdev, since an inet ingress chain lets ARP and unknown ethertypes pass
//! whatever its policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::nft::{ChainKind, Family, Field, Hook, HookPoint, Rule, Test, Value, Verdict};

use super::attachment::AttachmentPlan;

const LOOPBACK: IpNet = v4([127, 0, 0, 0], 8);
/// Multicast, reserved and broadcast.
const NOT_UNICAST: IpNet = v4([224, 0, 0, 0], 3);
const LOOPBACK6: IpNet = v6(Ipv6Addr::LOCALHOST, 128);
const MULTICAST6: IpNet = v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
const LINK_MULTICAST6: IpNet = v6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// A hook at a device's ingress.
pub(super) fn ingress(device: &str, priority: i32, accept: bool) -> Hook {
    let point = HookPoint::Ingress(device.to_owned());
    Hook {
        kind: ChainKind::Filter,
        point,
        priority,
        accept,
    }
}

impl AttachmentPlan {
    /// What becomes of a packet that may pass: to the bridge, or straight on.
    fn pass(&self, rule: Rule) -> Rule {
        match &self.bridge {
            Some(bridge) => rule.then(Verdict::Goto(bridge.chain())),
            None => rule.then(Verdict::Accept),
        }
    }

    /// `ether type` is checked in each rule: a bare `ip saddr` would match inside VLAN tags, too.
    pub fn veth_rules(&self) -> Vec<Rule> {
        let own_mac = Value::Mac(self.mac);
        let ipv6 = || frame_of(Family::V6);
        let mut rules = vec![
            Rule::new()
                .not(Field::EtherSaddr, own_mac)
                .counter()
                .then(Verdict::Drop),
        ];
        // Nearly all packets are of this kind. No rule before the one that says the same of all
        // protocols is about them.
        for address in &self.addresses {
            let family = Family::of(address);
            let icmp = Value::Protocol(match family {
                Family::V4 => 1,
                Family::V6 => 58,
            });
            let frame = frame_of(family).not(Field::L4proto, icmp);
            rules.push(self.pass(from_own(frame, address)));
        }
        rules.push(
            // through any extension headers: behind one, a lie about a neighbour is as good
            ipv6()
                .test(
                    Field::Icmpv6Type,
                    Test::Between(Value::U8(133), Value::U8(137)),
                )
                .then(Verdict::Goto(self.nd_chain())),
        );
        rules.extend(self.icmp_errors());
        for address in &self.addresses {
            let frame = frame_of(Family::of(address));
            rules.push(self.pass(from_own(frame, address)));
        }
        for source in self.link_scope_sources() {
            // multicast listener reports (RFC 2710, RFC 3810): without them ND breaks on bridges
            for (first, last) in [(131, 132), (143, 143)] {
                rules.push(
                    ipv6()
                        .is(Field::Ip6Saddr, Value::V6(source))
                        .test(Field::Ip6Daddr, Test::Within(LINK_MULTICAST6))
                        .test(Field::Icmpv6Type, one_or_between(first, last))
                        .then(Verdict::Accept),
                );
            }
        }
        for address in self.addresses.iter().filter(|a| a.is_ipv4()) {
            let own = Value::from(*address);
            rules.push(
                self.arp()
                    .test(
                        Field::ArpOperation,
                        Test::Between(Value::U16(1), Value::U16(2)),
                    )
                    .is(Field::ArpSaddrEther, own_mac)
                    .is(Field::ArpSaddrIp, own)
                    .then(Verdict::Accept),
            );
            // a probe for one's own address (RFC 5227, 2.1.1)
            rules.push(
                self.arp()
                    .is(Field::ArpOperation, Value::U16(1))
                    .is(Field::ArpSaddrEther, own_mac)
                    .is(Field::ArpSaddrIp, Value::V4([0, 0, 0, 0].into()))
                    .is(Field::ArpDaddrIp, own)
                    .then(Verdict::Accept),
            );
        }
        rules.push(Rule::new().counter().then(Verdict::Drop));
        rules
    }

    /// ICMP errors, only about packets that the pod was sent. Conntrack relates an error to the flow
    /// that it quotes, whoever sends it, and such errors pass unjudged: a pod could cut and slow down
    /// the connections of others, or reach anybody with the error's data. What is too short to say
    /// what it is about, as a first fragment can be, is dropped, too.
    fn icmp_errors(&self) -> Vec<Rule> {
        let v4 = ICMP_ERRORS.map(|types| (Family::V4, Field::IcmpType, types));
        let v6 = (Family::V6, Field::Icmpv6Type, ICMPV6_ERRORS);
        let mut rules = Vec::new();
        for (family, field, (first, last)) in v4.into_iter().chain([v6]) {
            let own = self.own(family);
            let error = || frame_of(family).test(field, one_or_between(first, last));
            for (source, about) in own.iter().flat_map(|s| own.iter().map(move |a| (s, a))) {
                let rule = match about {
                    IpAddr::V4(a) => error().is(Field::IcmpQuotedDaddr, Value::Hex4(*a)),
                    IpAddr::V6(a) => error().is(Field::Icmpv6QuotedDaddr, Value::Hex(*a)),
                };
                rules.push(self.pass(from_own(rule, source)));
            }
            if !own.is_empty() {
                rules.push(error().counter().then(Verdict::Drop));
            }
        }
        rules
    }

    /// The pod's addresses of one family.
    fn own(&self, family: Family) -> Vec<IpAddr> {
        let addresses = self.addresses.iter().copied();
        addresses.filter(|a| Family::of(a) == family).collect()
    }

    fn arp(&self) -> Rule {
        Rule::new()
            .is(Field::EtherType, Value::EtherType(0x0806))
            .is(Field::ArpHtype, Value::U16(1))
            .is(Field::ArpPtype, Value::EtherType(0x0800))
            .is(Field::ArpHlen, Value::U8(6))
            .is(Field::ArpPlen, Value::U8(4))
    }

    /// Neighbour discovery (RFC 4861): solicit from any own address, advertise own targets only.
    pub fn nd_rules(&self) -> Vec<Rule> {
        let icmp = |n| Rule::new().is(Field::Icmpv6Type, Value::U8(n));
        let own: Vec<Ipv6Addr> = self
            .addresses
            .iter()
            .filter_map(|a| match a {
                IpAddr::V6(a) => Some(*a),
                IpAddr::V4(_) => None,
            })
            .chain(self.link_local.iter().copied())
            .collect();
        let unspecified = Value::V6(Ipv6Addr::UNSPECIFIED);
        let mut rules = vec![
            // nobody who is honest puts an extension header before it
            Rule::new()
                .not(Field::Ip6Nexthdr, Value::Protocol(58))
                .counter()
                .then(Verdict::Drop),
            Rule::new()
                .not(Field::Ip6Hoplimit, Value::U8(255))
                .counter()
                .then(Verdict::Drop),
            // one option of eight bytes at most: the sender's own link-layer address, or a nonce
            Rule::new()
                .test(Field::Ip6Length, Test::Above(Value::U16(32)))
                .counter()
                .then(Verdict::Drop),
        ];
        for source in self.link_scope_sources() {
            rules.push(
                icmp(133)
                    .is(Field::Ip6Saddr, Value::V6(source))
                    .is(Field::Ip6Daddr, Value::V6(ALL_ROUTERS))
                    .then(Verdict::Accept),
            );
        }
        for target in &own {
            rules.push(
                icmp(135)
                    .is(Field::Ip6Saddr, unspecified)
                    .is(Field::NdTarget, Value::Hex(*target))
                    .then(Verdict::Accept),
            );
        }
        for source in &own {
            rules.push(
                icmp(135)
                    .is(Field::Ip6Saddr, Value::V6(*source))
                    .then(Verdict::Accept),
            );
            for target in &own {
                rules.push(
                    icmp(136)
                        .is(Field::Ip6Saddr, Value::V6(*source))
                        .is(Field::NdTarget, Value::Hex(*target))
                        .then(Verdict::Accept),
                );
            }
        }
        rules.push(Rule::new().counter().then(Verdict::Drop));
        rules
    }

    /// From where a pod may speak to its link before it has an address, and after.
    fn link_scope_sources(&self) -> impl Iterator<Item = Ipv6Addr> {
        std::iter::once(Ipv6Addr::UNSPECIFIED).chain(self.link_local.iter().copied())
    }
}

/// RFC 4291, 2.7.1.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Unreachable, quench, redirect; time exceeded, parameter problem (RFC 792): what conntrack relates
/// to the flow that it quotes.
const ICMP_ERRORS: [(u8, u8); 2] = [(3, 5), (11, 12)];
/// All that RFC 4443, 2.1 calls an error.
const ICMPV6_ERRORS: (u8, u8) = (0, 127);

fn frame_of(family: Family) -> Rule {
    let ethertype = match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    };
    Rule::new().is(Field::EtherType, Value::EtherType(ethertype))
}

/// From this address, to somebody who is neither the pod itself nor many.
fn from_own(rule: Rule, address: &IpAddr) -> Rule {
    let own = Value::from(*address);
    match address {
        IpAddr::V4(_) => rule
            .is(Field::IpSaddr, own)
            .test(Field::IpDaddr, Test::Outside(LOOPBACK))
            .test(Field::IpDaddr, Test::Outside(NOT_UNICAST)),
        IpAddr::V6(_) => rule
            .is(Field::Ip6Saddr, own)
            .test(Field::Ip6Daddr, Test::Outside(LOOPBACK6))
            .test(Field::Ip6Daddr, Test::Outside(MULTICAST6)),
    }
}

fn one_or_between(first: u8, last: u8) -> Test {
    if first == last {
        Test::Is(Value::U8(first))
    } else {
        Test::Between(Value::U8(first), Value::U8(last))
    }
}
