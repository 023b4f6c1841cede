//! The chains of [`NETDEV`] to which all pods' [`nd_rules`] lead: what does not depend on the
//! pod. What they do not accept goes back to the pod's own chain, which drops it and counts it there.
//!
//! [`nd_rules`]: crate::plan::AttachmentPlan::nd_rules

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use nft::{Field, Rule, Test, Value, Verdict};

use rules::protocol::ICMPV6;

use super::BaseChain;
use crate::plan::NETDEV;

/// What a pod says to its link from a source that is known to be its own or unspecified.
pub(in crate::plan) const LINK_SCOPE: &str = "link-scope";
/// The same about an address that is known to be its own.
pub(in crate::plan) const OWN_TARGET: &str = "own-target";

const fn group(last: [u16; 3], length: u8) -> IpNet {
    let [a, b, c] = last;
    let address = Ipv6Addr::new(0xff02, 0, 0, 0, 0, a, b, c);
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

const MULTICAST6: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
    8,
));
/// The groups of those who might have an address that is asked for (RFC 4291, 2.7.1).
const SOLICITED_NODE: IpNet = group([1, 0xff00, 0], 104);
/// RFC 4291, 2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The same.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Where reports of version 2 go (RFC 3810, 5.2.14).
const REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// RFC 8200, 4.3.
const HOP_BY_HOP: u8 = 0;

const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_2: u8 = 143;

/// Behind the fixed header: a solicitation or an advertisement with one option of eight bytes, the
/// sender's own link-layer address or a nonce; a report of version 1 behind its hop-by-hop options.
const ONE_MESSAGE: u16 = 32;
/// The same of a report of version 2 about twelve groups. A pod has two or three: more would be
/// a message.
const TWELVE_GROUPS: u16 = 8 + 8 + 12 * 20;

pub(super) fn chains() -> [BaseChain; 2] {
    [(LINK_SCOPE, link_scope()), (OWN_TARGET, own_target())].map(|(name, rules)| BaseChain {
        table: &NETDEV,
        name,
        hook: None,
        rules,
    })
}

/// ICMPv6 of this type, no longer than that.
fn message(kind: u8, length: u16) -> Rule {
    Rule::new()
        .is(Field::Icmpv6Type, Value::U8(kind))
        .test(Field::Ip6Length, Test::Below(Value::U16(length + 1)))
}

/// Neighbour discovery (RFC 4861, 4): nobody who is honest puts an extension header before it, or
/// lets it be forwarded. (`> 254`: nft makes one comparison of two fields that are neighbours and each
/// equal to something.)
fn discovery(kind: u8) -> Rule {
    message(kind, ONE_MESSAGE)
        .is(Field::Ip6Nexthdr, Value::Protocol(ICMPV6))
        .test(Field::Ip6Hoplimit, Test::Above(Value::U8(254)))
}

/// Listeners' reports (RFC 2710, 3; RFC 3810, 5): without them neighbour discovery breaks on bridges. They
/// do not leave the link, and have hop-by-hop options, by which routers notice them. (`< 2`: as above.)
fn report(kind: u8, length: u16) -> Rule {
    message(kind, length)
        .is(Field::Ip6Nexthdr, Value::Protocol(HOP_BY_HOP))
        .test(Field::Ip6Hoplimit, Test::Below(Value::U8(2)))
}

fn from_somebody(rule: Rule) -> Rule {
    rule.not(Field::Ip6Saddr, Value::V6(Ipv6Addr::UNSPECIFIED))
}

fn to(rule: Rule, group: Ipv6Addr) -> Rule {
    rule.is(Field::Ip6Daddr, Value::V6(group))
        .then(Verdict::Accept)
}

fn to_solicited(rule: Rule) -> Rule {
    rule.test(Field::Ip6Daddr, Test::Within(SOLICITED_NODE))
        .then(Verdict::Accept)
}

fn to_one(rule: Rule) -> Rule {
    rule.test(Field::Ip6Daddr, Test::Outside(MULTICAST6))
        .then(Verdict::Accept)
}

fn link_scope() -> Vec<Rule> {
    vec![
        to_solicited(from_somebody(discovery(NEIGHBOUR_SOLICITATION))),
        to_one(from_somebody(discovery(NEIGHBOUR_SOLICITATION))),
        to(discovery(ROUTER_SOLICITATION), ALL_ROUTERS),
        // Of what a pod joins, others have to know those groups only: all else that is for many is
        // dropped.
        to_solicited(report(LISTENER_REPORT, ONE_MESSAGE)),
        to(report(LISTENER_DONE, ONE_MESSAGE), ALL_ROUTERS),
        to(report(LISTENER_REPORT_2, TWELVE_GROUPS), REPORTS),
    ]
}

fn own_target() -> Vec<Rule> {
    let advertisement = || from_somebody(discovery(NEIGHBOUR_ADVERTISEMENT));
    vec![
        to_solicited(discovery(NEIGHBOUR_SOLICITATION)),
        to(advertisement(), ALL_NODES),
        to_one(advertisement()),
    ]
}
