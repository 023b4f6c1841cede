//! Anti-spoofing at the host's side of a veth.
//!
//! `if-ID` lets nothing through but what the pod may send: its own addresses from its own MAC. It
//! must be of family netdev, since an inet ingress chain lets ARP and unknown ethertypes pass
//! whatever its policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::nft::{ChainKind, Field, Hook, HookPoint, Rule, Test, Value, Verdict};

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
        let ether = |n| Rule::new().is(Field::EtherType, Value::EtherType(n));
        let mut rules = vec![
            Rule::new()
                .not(Field::EtherSaddr, own_mac)
                .counter()
                .then(Verdict::Drop),
            // through any extension headers: behind one, a lie about a neighbour is as good
            ether(0x86dd)
                .test(
                    Field::Icmpv6Type,
                    Test::Between(Value::U8(133), Value::U8(137)),
                )
                .then(Verdict::Goto(self.nd_chain())),
        ];
        for address in &self.addresses {
            let own = Value::from(*address);
            rules.push(
                self.pass(match address {
                    IpAddr::V4(_) => ether(0x0800)
                        .is(Field::IpSaddr, own)
                        .test(Field::IpDaddr, Test::Outside(LOOPBACK))
                        .test(Field::IpDaddr, Test::Outside(NOT_UNICAST)),
                    IpAddr::V6(_) => ether(0x86dd)
                        .is(Field::Ip6Saddr, own)
                        .test(Field::Ip6Daddr, Test::Outside(LOOPBACK6))
                        .test(Field::Ip6Daddr, Test::Outside(MULTICAST6)),
                }),
            );
        }
        for source in self.link_scope_sources() {
            // multicast listener reports (RFC 2710, RFC 3810): without them ND breaks on bridges
            for (first, last) in [(131, 132), (143, 143)] {
                rules.push(
                    ether(0x86dd)
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

fn one_or_between(first: u8, last: u8) -> Test {
    if first == last {
        Test::Is(Value::U8(first))
    } else {
        Test::Between(Value::U8(first), Value::U8(last))
    }
}
