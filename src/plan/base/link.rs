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

/// What is for one link only (RFC 4291, 2.7).
const LINK_MULTICAST6: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0),
    16,
));
/// RFC 4291, 2.7.1.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

pub(super) fn chains() -> [BaseChain; 2] {
    [(LINK_SCOPE, link_scope()), (OWN_TARGET, own_target())].map(|(name, rules)| BaseChain {
        table: &NETDEV,
        name,
        hook: None,
        rules,
    })
}

/// Neighbour discovery (RFC 4861, 4): nobody who is honest puts an extension header before it, or
/// lets it be forwarded. One option of eight bytes at most: the sender's own link-layer address, or a
/// nonce. (`> 254`: nft makes one comparison of two fields that are neighbours and each equal to
/// something.)
fn honest(kind: u8) -> Rule {
    Rule::new()
        .is(Field::Ip6Nexthdr, Value::Protocol(ICMPV6))
        .is(Field::Icmpv6Type, Value::U8(kind))
        .test(Field::Ip6Hoplimit, Test::Above(Value::U8(254)))
        .test(Field::Ip6Length, Test::Below(Value::U16(33)))
}

fn from_somebody(rule: Rule) -> Rule {
    rule.not(Field::Ip6Saddr, Value::V6(Ipv6Addr::UNSPECIFIED))
}

fn link_scope() -> Vec<Rule> {
    // Listeners' reports (RFC 2710, RFC 3810): without them ND breaks on bridges.
    let report = |types| {
        Rule::new()
            .test(Field::Ip6Daddr, Test::Within(LINK_MULTICAST6))
            .test(Field::Icmpv6Type, types)
            .then(Verdict::Accept)
    };
    vec![
        from_somebody(honest(NEIGHBOUR_SOLICITATION)).then(Verdict::Accept),
        honest(ROUTER_SOLICITATION)
            .is(Field::Ip6Daddr, Value::V6(ALL_ROUTERS))
            .then(Verdict::Accept),
        report(Test::Between(Value::U8(131), Value::U8(132))),
        report(Test::Is(Value::U8(143))),
    ]
}

fn own_target() -> Vec<Rule> {
    vec![
        honest(NEIGHBOUR_SOLICITATION).then(Verdict::Accept),
        from_somebody(honest(NEIGHBOUR_ADVERTISEMENT)).then(Verdict::Accept),
    ]
}
