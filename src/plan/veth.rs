//! Anti-spoofing at the host's side of a veth.
//!
//! `if-ID` lets nothing through but what the pod may send: its own addresses from its own MAC. It
//! must be of family netdev, since an inet ingress chain lets ARP and unknown ethertypes pass
//! whatever its policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use rules::{class, protocol};

use nft::{Family, Field, Limit, Rule, Statement, Test, Value, Verdict};

use super::attachment::AttachmentPlan;
use super::base::{LINK_SCOPE, OWN_TARGET};
use super::names;

const LOOPBACK: IpNet = v4([127, 0, 0, 0], 8);
const LOOPBACK6: IpNet = v6(Ipv6Addr::LOCALHOST, 128);
pub mod table;

const MULTICAST4: IpNet = class::MULTICAST[0];
const BROADCAST: IpNet = class::MULTICAST[1];
const MULTICAST6: IpNet = class::MULTICAST[2];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

impl AttachmentPlan {
    /// What becomes of a packet that may pass: to the bridge, or straight on.
    fn pass(&self, rule: Rule) -> Rule {
        match &self.bridge {
            Some(bridge) => rule.then(Verdict::goto(bridge.chain())),
            None => rule.then(Verdict::Accept),
        }
    }

    /// Few rules, and what is alike for all pods is in the base's chains: with every ADD the kernel
    /// looks at each rule of each veth of the node.
    ///
    /// `ether type` is checked in each rule: a bare `ip saddr` would match inside VLAN tags, too.
    pub fn veth_rules(&self) -> Vec<Rule> {
        let own_mac = Value::Mac(self.mac);
        let mut rules = vec![dropped(
            Rule::new().not(Field::EtherSaddr, own_mac),
            &table::MAC,
        )];
        // Nearly all packets are of this kind. No rule before the one that says the same of all
        // protocols is about them.
        for address in &self.addresses {
            let family = Family::of(address);
            let frame = frame_of(family).not(Field::L4proto, icmp(family));
            rules.push(self.pass(from_own(frame, address)));
        }
        rules.push(frame_of(Family::V6).then(Verdict::goto(self.nd_chain())));
        let own = self.own(Family::V4);
        if !own.is_empty() {
            rules.extend(self.about_own(&own));
            rules.push(dropped(error4(), &table::ICMP_ERROR));
            rules.extend(self.let_through(&own));
        }
        for address in &own {
            // What is left of an own address's goes to the pod itself or to many.
            let from = || frame_of(Family::V4).is(Field::IpSaddr, Value::from(*address));
            let loopback = from().test(Field::IpDaddr, Test::Within(LOOPBACK));
            rules.push(dropped(loopback, &table::LOOPBACK));
            rules.push(from().then(Verdict::goto(self.many_chain())));
        }
        for address in own {
            let own = Value::from(address);
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
        rules.push(dropped(frame_of(Family::V4), &table::SOURCE));
        rules.push(dropped(Rule::new(), &table::OTHER));
        rules
    }

    /// What the pod sends to many: a policy that says something of it, then none of it.
    pub fn many_rules(&self) -> Vec<Rule> {
        many_rules(&self.policy)
    }

    /// IPv6 beside the usual. On its link a pod solicits from any own address, and advertises own
    /// targets only (RFC 4861); the rest of what it may say there is alike for all pods.
    pub fn nd_rules(&self) -> Vec<Rule> {
        let own = self.own(Family::V6);
        let link_local = self.link_local.iter().copied().map(IpAddr::V6);
        let sources: Vec<IpAddr> = own.iter().copied().chain(link_local).collect();
        let unspecified = Rule::new().not(Field::Ip6Saddr, Value::V6(Ipv6Addr::UNSPECIFIED));
        let forged = sources.iter().fold(unspecified, |rule, own| {
            rule.not(Field::Ip6Saddr, Value::from(*own))
        });
        let mut rules = vec![dropped(forged, &table::SOURCE)];
        // What stands in a later fragment is no header. (Where kernels before 5.15 look for one, they find
        // the packet's first byte, which for all of the rules below is an unknown error's type.)
        rules.extend(own.iter().map(|address| {
            let later = frame_of(Family::V6).not(Field::Ip6FragOff, Value::U16(0));
            self.pass(from_own(later, address))
        }));
        let flood = link_message().then(Statement::LimitOver(TRICKLE));
        rules.push(dropped(flood, &table::FLOOD));
        rules.extend(sources.iter().map(|target| {
            let solicitation_or_advertisement = Test::Between(Value::U8(135), Value::U8(136));
            Rule::new()
                .test(Field::Icmpv6Type, solicitation_or_advertisement)
                .is(Field::NdTarget, hex(target))
                .then(Verdict::jump(OWN_TARGET))
        }));
        rules.push(Rule::new().then(Verdict::jump(LINK_SCOPE)));
        if !own.is_empty() {
            rules.extend(self.about_own(&own));
        }
        rules.push(dropped(
            frame_of(Family::V6).test(Field::Icmpv6Type, ICMPV6_ERRORS),
            &table::ICMP_ERROR,
        ));
        rules.push(dropped(discovery6(), &table::OTHER_DISCOVERY));
        rules.extend(self.let_through(&own));
        rules.push(dropped(
            Rule::new().test(Field::Ip6Daddr, Test::Within(LOOPBACK6)),
            &table::LOOPBACK,
        ));
        // A pod speaks to its link by its link-local address, too. ICMPv6 to many is no matter of rules.
        let many = || Rule::new().test(Field::Ip6Daddr, Test::Within(MULTICAST6));
        rules.push(
            many()
                .not(Field::L4proto, icmp(Family::V6))
                .not(Field::Ip6Saddr, Value::V6(Ipv6Addr::UNSPECIFIED))
                .then(Verdict::goto(self.many_chain())),
        );
        rules.push(dropped(many(), &table::MULTICAST));
        rules.push(dropped(Rule::new(), &table::SOURCE));
        rules
    }

    /// ICMP errors may only be about packets that the pod was sent. Conntrack relates an error to the
    /// flow that it quotes, whoever sends it, and such errors pass unjudged: a pod could cut and slow
    /// down the connections of others, or reach anybody with the error's data. What is too short to
    /// say what it is about, as a first fragment can be, is not let through here, either. (Another
    /// message of IPv4 that has the pod's address there by chance may pass anyhow. Of IPv6 a neighbour
    /// advertisement may not, which can have any option there.)
    fn about_own(&self, own: &[IpAddr]) -> Vec<Rule> {
        let pairs = own.iter().flat_map(|s| own.iter().map(move |a| (s, a)));
        let rule = |(source, about): (&IpAddr, &IpAddr)| {
            let family = Family::of(source);
            let message = match family {
                Family::V4 => frame_of(family)
                    .is(Field::L4proto, icmp(family))
                    .is(Field::IcmpQuotedDaddr, hex(about)),
                Family::V6 => frame_of(family)
                    .test(Field::Icmpv6Type, ICMPV6_ERRORS)
                    .is(Field::Icmpv6QuotedDaddr, hex(about)),
            };
            self.pass(from_own(message, source))
        };
        pairs.map(rule).collect()
    }

    /// Whatever comes from one of these.
    fn let_through(&self, own: &[IpAddr]) -> Vec<Rule> {
        let rule = |address: &IpAddr| self.pass(from_own(frame_of(Family::of(address)), address));
        own.iter().map(rule).collect()
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
}

const fn icmp(family: Family) -> Value {
    Value::Protocol(match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    })
}

/// Of the fragment's offset nothing is set (RFC 791, 3.1).
const FIRST_OR_WHOLE: Test = Test::Masked(Value::U16(0x1fff), Value::U16(0));

/// What of RFC 792 conntrack relates to the flow that it quotes: unreachable, quench, redirect (3 to
/// 5); time exceeded, parameter problem (11 and 12). A later fragment has no type: older kernels take its
/// data for one (until 5.15).
fn error4() -> Rule {
    frame_of(Family::V4)
        .test(Field::IpFragOff, FIRST_OR_WHOLE)
        .test(Field::IcmpType, Test::Between(Value::U8(3), Value::U8(12)))
        .test(
            Field::IcmpType,
            Test::NotBetween(Value::U8(6), Value::U8(10)),
        )
}

/// RFC 4443, 2.1.
const ICMPV6_ERRORS: Test = Test::Between(Value::U8(0), Value::U8(127));

/// Neighbour discovery (133 to 137) through any extension headers: behind one, a lie about a neighbour is as
/// good.
fn discovery6() -> Rule {
    frame_of(Family::V6).test(
        Field::Icmpv6Type,
        Test::Between(Value::U8(133), Value::U8(137)),
    )
}

/// Counts it in its row of the table.
fn dropped(rule: Rule, row: &table::Row) -> Rule {
    rule.counter().then(Verdict::Drop).comment(row.name)
}

/// The rules of `mc-ID` under this policy.
pub fn many_rules(policy: &str) -> Vec<Rule> {
    let asks = names::lets_multicast_out(policy).then(|| Rule::new().then(Verdict::jump(policy)));
    asks.into_iter()
        .chain([dropped(Rule::new(), &table::MULTICAST)])
        .collect()
}

/// What pods of a bridge may say to each other without being judged: neighbour discovery and listeners'
/// reports. No more than a pod needs whose neighbours are all new, and later ask again now and then: a
/// neighbour is asked every half minute at most (RFC 4861, 10).
const TRICKLE: Limit = Limit {
    rate: 50,
    burst: 250,
};

/// Whatever of ICMPv6 `link-scope` and `own-target` may let through (131 to 136, 143), and what nobody sends.
fn link_message() -> Rule {
    frame_of(Family::V6)
        .test(
            Field::Icmpv6Type,
            Test::Between(Value::U8(131), Value::U8(143)),
        )
        .test(
            Field::Icmpv6Type,
            Test::NotBetween(Value::U8(137), Value::U8(142)),
        )
}

/// An address that is compared with what nft has no name for.
fn hex(address: &IpAddr) -> Value {
    match address {
        IpAddr::V4(a) => Value::Hex4(*a),
        IpAddr::V6(a) => Value::Hex(*a),
    }
}

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
            .test(Field::IpDaddr, Test::Outside(MULTICAST4))
            .not(Field::IpDaddr, Value::from(BROADCAST.addr())),
        IpAddr::V6(_) => rule
            .is(Field::Ip6Saddr, own)
            .test(Field::Ip6Daddr, Test::Outside(LOOPBACK6))
            .test(Field::Ip6Daddr, Test::Outside(MULTICAST6)),
    }
}
