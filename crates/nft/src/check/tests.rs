//! What is refused before any kernel is asked, and with which words.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::{
    Chain, ChainKind, Element, Elements, Field, Hook, HookPoint, KeyType, Nat, Object, PlacedRule,
    Reject, Rule, Set, Statement, Table, TableFamily, Test, Time, Transaction, Value,
};

const INET: Table = Table::new(TableFamily::Inet, "t");
const HTTP: Value = Value::U16(80);

fn in_table(family: TableFamily, object: impl Into<Object>) -> Option<String> {
    let mut transaction = Transaction::new();
    transaction.add(&Table::new(family, "t"), object);
    transaction.fault().map(|fault| fault.why.clone())
}

fn rule(rule: Rule) -> PlacedRule {
    rule.in_chain("c")
}

#[test]
fn rules_that_match_nothing() {
    let four = Value::V4(Ipv4Addr::LOCALHOST);
    for (family, wrong, why) in [
        (
            TableFamily::Inet,
            Rule::new()
                .is(Field::TcpDport, HTTP)
                .is(Field::IcmpType, Value::U8(8)),
            "`icmp type` cannot match any more: it is for icmp packets, the rule's others are tcp",
        ),
        (
            TableFamily::Inet,
            Rule::new()
                .is(Field::Ip6Nexthdr, Value::Protocol(17))
                .is(Field::Icmpv6Type, Value::U8(131)),
            "`icmpv6 type` cannot match any more: it is for ipv6-icmp packets, the rule's others are udp",
        ),
        (
            TableFamily::Inet,
            Rule::new()
                .is(Field::IpSaddr, four)
                .inside(Field::Ip6Daddr, "six"),
            "`ip6 daddr` cannot match any more: it is for ipv6 packets, the rule's others are ipv4",
        ),
        (
            TableFamily::Netdev,
            Rule::new()
                .is(Field::EtherType, Value::EtherType(0x0806))
                .is(Field::IpSaddr, four),
            "`ip saddr` cannot match any more: it is for ip packets, the rule's others are arp",
        ),
        (
            TableFamily::Ip,
            Rule::new()
                .is(Field::L4proto, Value::Protocol(17))
                .then(Statement::Reject(Reject::TcpReset)),
            "`tcp reset` cannot match any more: it is for tcp packets, the rule's others are udp",
        ),
        (
            TableFamily::Ip6,
            Rule::new().is(Field::IpSaddr, four),
            "packets in tables of family ip6 have no `ip saddr`",
        ),
        (
            TableFamily::Netdev,
            Rule::new().state(&[crate::CtState::New]),
            "packets in tables of family netdev have no `ct state`",
        ),
    ] {
        assert_eq!(in_table(family, rule(wrong)).as_deref(), Some(why));
    }
}

/// Hop-by-hop options come before the message, and are not its protocol.
#[test]
fn an_extension_header_is_no_packets_protocol() {
    let kind = |rule: Rule| rule.is(Field::Icmpv6Type, Value::U8(131));
    for number in [0, 43, 44, 60] {
        let next = |rule: Rule| rule.is(Field::Ip6Nexthdr, Value::Protocol(number));
        for one in [kind(next(Rule::new())), next(kind(Rule::new()))] {
            let text = one.to_string();
            assert_eq!(in_table(TableFamily::Netdev, rule(one)), None, "{text}");
        }
    }
    let next = Rule::new().is(Field::Ip6Nexthdr, Value::Protocol(0));
    let port = next
        .is(Field::UdpDport, HTTP)
        .is(Field::Ip6Nexthdr, Value::Protocol(0));
    let message = rule(port.is(Field::Icmpv6Type, Value::U8(131)));
    assert!(in_table(TableFamily::Netdev, message).is_some());
}

#[test]
fn comparisons_of_unlike_things() {
    for (field, test) in [
        (Field::TcpDport, Test::Is(Value::EtherType(0x0800))),
        (Field::Mark, Test::Below(Value::Mark(7))),
        (Field::CtMark, Test::Is(Value::V4(Ipv4Addr::LOCALHOST))),
        (Field::Nfproto, Test::In("set".to_owned())),
        (Field::Time, Test::Is(Value::Time(Time::from_seconds(1)))),
        (Field::CtState, Test::Dnat),
        (Field::Mark, Test::State(&[])),
    ] {
        let why = in_table(TableFamily::Inet, rule(Rule::new().test(field, test)));
        let wanted = format!("`{}` is not compared so", field.as_str());
        assert_eq!(why, Some(wanted));
    }
    // Its set has a type that no other field has.
    let own = Rule::new().inside(Field::FibDaddrType, "types");
    assert_eq!(in_table(TableFamily::Inet, rule(own)), None);
    let backwards = Test::Between(Value::U16(9), Value::U16(1));
    let why = in_table(
        TableFamily::Inet,
        rule(Rule::new().test(Field::TcpDport, backwards)),
    );
    assert_eq!(
        why.as_deref(),
        Some("`tcp dport 9-1` ends before it begins")
    );
}

#[test]
fn translations_that_cannot_be() {
    let to = |port| Statement::Dnat(Nat::To(Ipv4Addr::LOCALHOST.into(), port));
    let why = in_table(TableFamily::Ip, rule(Rule::new().then(to(Some(80)))));
    assert!(why.is_some_and(|why| why.contains("needs a match of its protocol")));
    let with = Rule::new().is(Field::TcpDport, HTTP).then(to(Some(80)));
    assert_eq!(in_table(TableFamily::Ip, rule(with)), None);
    assert!(in_table(TableFamily::Ip6, rule(Rule::new().then(to(None)))).is_some());
    let hook = |priority| Hook {
        kind: ChainKind::Nat,
        point: HookPoint::Prerouting,
        priority,
        accept: true,
    };
    let too_early = in_table(TableFamily::Ip, Chain::base("c", hook(-200)));
    assert_eq!(
        too_early.as_deref(),
        Some("type nat needs a priority above -200")
    );
    assert_eq!(
        in_table(TableFamily::Ip, Chain::base("c", hook(-199))),
        None
    );
}

/// Whether elements fit is known where the transaction makes their set.
#[test]
fn elements_that_do_not_fit_their_set() {
    let plain = || Set::new("s", KeyType::Ipv4);
    let ranges = || Set {
        interval: true,
        ..plain()
    };
    let map = || Set::vmap("s", KeyType::Ipv4);
    let one = || Element::of(Ipv4Addr::LOCALHOST);
    let both = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
    let why = |set: Set, element: Element| {
        let mut transaction = Transaction::new();
        transaction.add(&INET, set);
        transaction.add(&INET, Elements::new("s", vec![element]));
        transaction.fault().map(|fault| fault.why.clone())
    };
    let hour = Duration::from_secs(3600);
    for (set, element, wanted) in [
        (
            plain(),
            Element::of(HTTP),
            "its keys are of type `ipv4_addr`",
        ),
        (plain(), one().timeout(hour), "the set has no timeout"),
        (plain(), one().goto("c"), "it is no map"),
        (map(), one(), "it maps to verdicts"),
        (ranges(), one(), "it holds ranges"),
        (
            plain(),
            Element::range(both.0, both.1),
            "it holds single keys",
        ),
    ] {
        let why = why(set, element).unwrap_or_default();
        assert!(why.ends_with(wanted), "{why}");
    }
    let lasting = Set {
        timeout: Some(hour),
        ..plain()
    };
    assert_eq!(why(lasting, one().timeout(hour)), None);
    assert!(why(plain(), one().timeout(Duration::ZERO)).is_some());
    assert_eq!(why(map(), one().goto("c")), None);
    assert_eq!(why(ranges(), Element::range(both.0, both.1)), None);
}
