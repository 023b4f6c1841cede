//! One attachment's own objects: its chain, its veth's anti-spoofing, its elements.
//!
//! `pod-ID` leads to the shared policy. `if-ID` hangs at the host side of the veth and lets nothing
//! through but what the pod may send: its own addresses from its own MAC. It must be of family
//! netdev, since an inet ingress chain lets ARP and unknown ethertypes pass whatever its policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::nft::{
    ChainKind, Element, Family, Field, Hook, HookPoint, Op, Rule, Statement, Table, Test, Value,
    Verdict,
};

use super::base;

/// A bridge that is its pods' gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    pub name: String,
    pub index: u32,
    pub mac: [u8; 6],
}

impl Bridge {
    /// The chain that sends a pod's IP packets to the bridge itself, whatever neighbour they were
    /// for: then even those to a pod on the same bridge are routed, and judged.
    pub fn chain(&self) -> String {
        format!("bridge-{}", self.hash())
    }

    /// The chain of a port that is not ours (see [`cover_port`]).
    pub fn port_chain(&self, port: &str) -> String {
        let digest = Sha256::digest(port.as_bytes());
        format!("port-{}-{}", self.hash(), super::hex(&digest[..4]))
    }

    /// How the names of all [`Bridge::port_chain`]s begin.
    pub fn port_chain_prefix(&self) -> String {
        format!("port-{}-", self.hash())
    }

    fn hash(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.name.as_bytes());
        digest.update([0]);
        digest.update(self.index.to_be_bytes());
        digest.update(self.mac);
        super::hex(&digest.finalize()[..4])
    }

    /// The rules of [`Bridge::chain`].
    pub fn rules(&self) -> Vec<Rule> {
        vec![
            Rule::new()
                .then(Statement::SetEtherDaddr(self.mac))
                .then(Verdict::Accept),
        ]
    }

    /// The operations that make [`Bridge::chain`].
    pub fn add(&self) -> Vec<Op> {
        let chain = self.chain();
        let mut ops = vec![Op::AddChain(Table::Netdev, chain.clone(), None)];
        ops.extend(
            self.rules()
                .into_iter()
                .map(|r| Op::AddRule(Table::Netdev, chain.clone(), r)),
        );
        ops
    }

    /// A port that was there before us. Its frames to our pods, too, must go through the host:
    /// conntrack has to see both directions of a connection, or the answers look like new ones.
    pub fn cover_port(&self, port: &str) -> Vec<Op> {
        let chain = self.port_chain(port);
        let to_bridge = |rule: Rule| {
            let rewrite = Statement::SetEtherDaddr(self.mac);
            Op::AddRule(
                Table::Netdev,
                chain.clone(),
                rule.then(rewrite).then(Verdict::Accept),
            )
        };
        vec![
            Op::AddChain(
                Table::Netdev,
                chain.clone(),
                Some(ingress(port, -400, true)),
            ),
            to_bridge(
                Rule::new()
                    .is(Field::EtherType, Value::EtherType(0x0800))
                    .inside(Field::IpDaddr, base::bridged(Family::V4)),
            ),
            to_bridge(
                Rule::new()
                    .is(Field::EtherType, Value::EtherType(0x86dd))
                    .inside(Field::Ip6Daddr, base::bridged(Family::V6)),
            ),
        ]
    }
}

/// All that the kernel has to know of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentPlan {
    /// 16 hex digits.
    pub id: String,
    /// The host side's device.
    pub veth: String,
    /// The pod side's MAC.
    pub mac: [u8; 6],
    /// The pod's addresses, link-local ones apart.
    pub addresses: Vec<IpAddr>,
    pub link_local: Vec<Ipv6Addr>,
    pub bridge: Option<Bridge>,
    /// Where the policy starts: [`super::Compiled::name`].
    pub policy: String,
    /// What the outside sees, of each family at most one.
    pub egress: Vec<IpAddr>,
}

/// An element of one of the base's sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub table: Table,
    pub set: &'static str,
    pub element: Element,
}

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

fn ingress(device: &str, priority: i32, accept: bool) -> Hook {
    let point = HookPoint::Ingress(device.to_owned());
    Hook {
        kind: ChainKind::Filter,
        point,
        priority,
        accept,
    }
}

impl AttachmentPlan {
    pub fn pod_chain(&self) -> String {
        pod_chain(&self.id)
    }

    pub fn veth_chain(&self) -> String {
        veth_chain(&self.id)
    }

    pub fn nd_chain(&self) -> String {
        nd_chain(&self.id)
    }

    /// The hook of `if-ID`.
    pub fn veth_hook(&self) -> Hook {
        ingress(&self.veth, -500, false)
    }

    /// Chains, rules, then elements: the order in which the kernel wants them.
    pub fn add(&self) -> Vec<Op> {
        let (inet, netdev) = (Table::Inet, Table::Netdev);
        let mut ops = vec![
            Op::AddChain(netdev, self.nd_chain(), None),
            Op::AddChain(netdev, self.veth_chain(), Some(self.veth_hook())),
            Op::AddChain(inet, self.pod_chain(), None),
        ];
        let mut rules = |table, chain: String, rules: Vec<Rule>| {
            ops.extend(
                rules
                    .into_iter()
                    .map(|rule| Op::AddRule(table, chain.clone(), rule)),
            );
        };
        rules(netdev, self.nd_chain(), self.nd_rules());
        rules(netdev, self.veth_chain(), self.veth_rules());
        rules(inet, self.pod_chain(), self.pod_rules());
        for Entry {
            table,
            set,
            element,
        } in self.entries()
        {
            ops.push(Op::AddElements(table, set.to_owned(), vec![element]));
        }
        for address in &self.egress {
            let set = base::egress(Family::of(address)).to_owned();
            ops.push(Op::AddElements(inet, set, vec![Element::Address(*address)]));
        }
        ops
    }

    /// The elements that belong to this attachment alone.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for address in &self.addresses {
            let family = Family::of(address);
            let plain = Element::Address(*address);
            let mut inet = |set, element| {
                entries.push(Entry {
                    table: Table::Inet,
                    set,
                    element,
                })
            };
            inet(
                base::pods(family),
                Element::Goto(*address, self.pod_chain()),
            );
            inet(base::denied(family), plain.clone());
            if let Some(egress) = self.egress.iter().find(|e| Family::of(e) == family) {
                inet(base::snat(family), Element::Map(*address, *egress));
                inet(base::snatted(family), plain.clone());
            }
            if self.bridge.is_some() {
                let set = base::bridged(family);
                entries.push(Entry {
                    table: Table::Netdev,
                    set,
                    element: plain,
                });
            }
        }
        entries
    }

    pub fn pod_rules(&self) -> Vec<Rule> {
        vec![Rule::new().then(Verdict::Goto(self.policy.clone()))]
    }

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
            ether(0x86dd)
                .is(Field::Ip6Nexthdr, Value::Protocol(58))
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

/// The chain that a pod's address leads to.
pub fn pod_chain(id: &str) -> String {
    format!("pod-{id}")
}

/// The ingress chain of a veth.
pub fn veth_chain(id: &str) -> String {
    format!("if-{id}")
}

/// The neighbour discovery of a veth.
pub fn nd_chain(id: &str) -> String {
    format!("nd-{id}")
}
