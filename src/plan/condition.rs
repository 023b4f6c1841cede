//! When a rule matches, as lists of tests that nf_tables can make.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use nft::{Element, Field, KeyType, Match, Test, Value};
use rules::class::DNS_PORT;
use rules::effective::Facts;
use rules::rule::{Ports, Rule, Transport};
use rules::set::{Addresses, Family, as_net};

use super::lookup::{Lookup, PortRanges, What};
use super::reach::{self, Reach};
use super::{kernel_family, values};

/// A conjunction of tests: one kernel rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Empty if `lookup` says it all.
    tests: Vec<Check>,
    /// `Some(false)`: meant only for packets that do not go to clusterDNS, which no test here
    /// makes sure of. `Some(true)`: the tests hold only for those that do.
    pub dns: Option<bool>,
    /// The same for a lookup, if a set can hold it.
    pub lookup: Option<Lookup>,
}

/// A test, or one that needs a set if there are several ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Plain(Match),
    Ranges(Field, KeyType, Vec<(Value, Value)>),
}

impl Check {
    /// The match; `set` makes a set and gives its name.
    pub fn to_match(&self, set: impl FnOnce(KeyType, Vec<Element>) -> String) -> Match {
        match self {
            Check::Plain(m) => m.clone(),
            Check::Ranges(field, key, ranges) => {
                let elements = ranges.iter().map(|(a, b)| Element::Range(*a, *b));
                Match {
                    field: *field,
                    test: Test::In(set(*key, elements.collect())),
                }
            }
        }
    }
}

/// The conditions under which a rule matches: any of them.
pub fn of_rule(rule: &Rule, facts: &Facts) -> Vec<Condition> {
    let ports = port_tests(&rule.ports);
    let pieces = reach::of_rule(rule, facts);
    // Mostly one each: room for more would be most of the compiler's memory.
    let mut conditions = Vec::with_capacity(pieces.len() * ports.len());
    for piece in pieces {
        match (piece.dns, &piece.asked) {
            (Some(true), _) => dns(&piece, facts, &dns_transports(&rule.ports), &mut conditions),
            (_, Some(services)) => {
                for port in &ports {
                    asked(&piece, services, port, &mut conditions);
                }
            }
            _ => {
                for port in &ports {
                    plain(&piece, port, &mut conditions);
                }
            }
        }
    }
    for condition in &mut conditions {
        if let Some(until) = rule.until {
            // the kernel's clock counts nanoseconds in 63 bits
            let seconds = until
                .as_second()
                .clamp(0, i64::MAX / 1_000_000_000)
                .unsigned_abs();
            condition.tests = condition.tests().into_owned();
            condition.lookup = None;
            condition.push(Field::Time, Test::Below(Value::Seconds(seconds)));
        }
    }
    conditions
}

/// The conditions under which a packet goes to clusterDNS, over UDP or TCP.
pub fn of_dns(facts: &Facts) -> Vec<Condition> {
    let everywhere = Reach {
        v4: Addresses::all(Family::V4),
        v6: Addresses::all(Family::V6),
        local: None,
        dns: Some(true),
        asked: None,
    };
    let mut conditions = Vec::new();
    dns(
        &everywhere,
        facts,
        &[Transport::Udp, Transport::Tcp],
        &mut conditions,
    );
    conditions
}

impl Condition {
    /// Without any test yet.
    const fn of(piece: &Reach) -> Self {
        Self {
            tests: Vec::new(),
            dns: piece.dns,
            lookup: None,
        }
    }

    /// What must hold. Most conditions are looked up, and never ask for it.
    pub fn tests(&self) -> Cow<'_, [Check]> {
        match &self.lookup {
            Some(lookup) => Cow::Owned(of_lookup(lookup)),
            None => Cow::Borrowed(&self.tests),
        }
    }

    fn push(&mut self, field: Field, test: Test) {
        self.tests.push(Check::Plain(Match { field, test }));
    }

    /// The destination is one of these, of this family.
    fn destination(&mut self, family: Family, ranges: &Addresses) {
        if ranges.is_all() {
            self.push(
                Field::Nfproto,
                Test::Is(Value::Nfproto(kernel_family(family))),
            );
        }
        self.addresses(daddr(family), ranges);
    }

    /// The destination is one of these; nothing if it may be any.
    fn addresses(&mut self, field: Field, ranges: &Addresses) {
        if ranges.is_all() {
            return;
        }
        match ranges.single() {
            Some((a, b)) if a == b => self.push(field, Test::Is(a.into())),
            Some((a, b)) => match as_net(a, b) {
                Some(net) => self.push(field, Test::Within(net)),
                None => self.push(field, Test::Between(a.into(), b.into())),
            },
            None => {
                let key = match field {
                    Field::IpDaddr | Field::CtOriginalDaddr => KeyType::Ipv4,
                    _ => KeyType::Ipv6,
                };
                let ends = ranges.iter().map(values).collect();
                self.tests.push(Check::Ranges(field, key, ends));
            }
        }
    }

    fn local(&mut self, local: Option<bool>) {
        match local {
            Some(true) => self.push(Field::FibDaddrType, Test::Is(Value::Local)),
            Some(false) => self.push(Field::FibDaddrType, Test::Not(Value::Local)),
            None => {}
        }
    }
}

/// One entry of a rule's ports, those of one transport protocol together.
enum PortTest {
    Any,
    Protocol(u8),
    Ports(Transport, PortRanges),
    Icmp(Option<u8>, Option<u8>),
    Icmpv6(Option<u8>, Option<u8>),
}

impl PortTest {
    /// The only family in which this can match.
    const fn family(&self) -> Option<Family> {
        match self {
            PortTest::Icmp(..) => Some(Family::V4),
            PortTest::Icmpv6(..) => Some(Family::V6),
            _ => None,
        }
    }
}

fn port_tests(ports: &[Ports]) -> Vec<PortTest> {
    if ports.is_empty() {
        return vec![PortTest::Any];
    }
    let mut tests = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
        let ranges = ports.iter().filter_map(|p| match p {
            Ports::Transport(t, range) if *t == transport => Some(range.clone()),
            _ => None,
        });
        match join(ranges.collect()) {
            ranges if ranges.is_empty() => {}
            ranges if ranges[..] == [0..=u16::MAX] => {
                tests.push(PortTest::Protocol(transport.protocol()));
            }
            ranges => tests.push(PortTest::Ports(transport, ranges)),
        }
    }
    for port in ports {
        match *port {
            Ports::Transport(..) => {}
            Ports::Icmp { kind, code } => tests.push(PortTest::Icmp(kind, code)),
            Ports::Icmpv6 { kind, code } => tests.push(PortTest::Icmpv6(kind, code)),
            Ports::Protocol(number) => tests.push(PortTest::Protocol(number)),
        }
    }
    tests
}

/// Sorted, overlapping and adjacent ones joined.
fn join(mut ranges: PortRanges) -> PortRanges {
    ranges.sort_by_key(|range| *range.start());
    ranges.dedup_by(|range, last| {
        let joins = *range.start() <= last.end().saturating_add(1);
        if joins {
            *last = *last.start()..=*last.end().max(range.end());
        }
        joins
    });
    ranges
}

fn plain(piece: &Reach, port: &PortTest, conditions: &mut Vec<Condition>) {
    let everywhere = piece.v4.is_all() && piece.v6.is_all();
    if everywhere && port.family().is_none() {
        conditions.push(of_family(piece, None, port));
        return;
    }
    for family in [Family::V4, Family::V6] {
        let other_family = port.family().is_some_and(|only| only != family);
        if !piece.ranges(family).is_none() && !other_family {
            conditions.push(of_family(piece, Some(family), port));
        }
    }
}

/// Of one family, or of both.
fn of_family(piece: &Reach, family: Option<Family>, port: &PortTest) -> Condition {
    let mut condition = Condition::of(piece);
    condition.lookup = lookup(piece, family, port);
    if condition.lookup.is_none() {
        if let Some(family) = family {
            condition.destination(family, piece.ranges(family));
        }
        port_checks(&mut condition, port);
        condition.local(piece.local);
    }
    condition
}

/// The tests that are the same as a lookup.
fn of_lookup(lookup: &Lookup) -> Vec<Check> {
    let mut condition = Condition {
        tests: Vec::new(),
        dns: None,
        lookup: None,
    };
    let of = [Family::V4, Family::V6].map(|family| (family, lookup.ranges(family)));
    let mut icmp = None;
    if !of.iter().all(|(_, ranges)| ranges.is_all()) {
        for (family, ranges) in of.iter().filter(|(_, ranges)| !ranges.is_none()) {
            condition.destination(*family, ranges);
            icmp = Some(*family);
        }
    }
    match &lookup.what {
        What::Any => {}
        What::Protocol(number) => {
            condition.push(Field::L4proto, Test::Is(Value::Protocol(*number)));
        }
        What::Ports(number, ranges) => {
            let transport = Transport::of(*number);
            port_ranges(
                &mut condition,
                transport.map_or(Field::ThDport, dport),
                ranges,
            );
        }
        What::IcmpType(kind) => {
            let field = match icmp {
                Some(Family::V6) => Field::Icmpv6Type,
                _ => Field::IcmpType,
            };
            condition.push(field, Test::Is(Value::U8(*kind)));
        }
    }
    condition.tests
}

/// The condition of one family, or of both, if neither the routing table must be asked nor an ICMP
/// code: a lookup of type and code would miss what is cut off between them.
fn lookup(piece: &Reach, family: Option<Family>, port: &PortTest) -> Option<Lookup> {
    if piece.local.is_some() {
        return None;
    }
    let what = match port {
        PortTest::Any => What::Any,
        PortTest::Protocol(number) => What::Protocol(*number),
        PortTest::Ports(transport, ranges) => What::Ports(transport.protocol(), ranges.clone()),
        PortTest::Icmp(None, _) => What::Protocol(1),
        PortTest::Icmpv6(None, _) => What::Protocol(58),
        PortTest::Icmp(Some(kind), None) | PortTest::Icmpv6(Some(kind), None) => {
            What::IcmpType(*kind)
        }
        PortTest::Icmp(Some(_), Some(_)) | PortTest::Icmpv6(Some(_), Some(_)) => return None,
    };
    let of = |wanted| match family {
        Some(only) if only != wanted => Addresses::none(wanted),
        _ => piece.ranges(wanted).clone(),
    };
    Some(Lookup {
        v4: of(Family::V4),
        v6: of(Family::V6),
        what,
    })
}

fn port_checks(condition: &mut Condition, port: &PortTest) {
    match port {
        PortTest::Any => {}
        PortTest::Protocol(number) => {
            condition.push(Field::L4proto, Test::Is(Value::Protocol(*number)));
        }
        PortTest::Ports(transport, ranges) => {
            port_ranges(condition, dport(*transport), ranges);
        }
        PortTest::Icmp(kind, code) => {
            icmp(condition, 1, Field::IcmpType, *kind, Field::IcmpCode, *code);
        }
        PortTest::Icmpv6(kind, code) => {
            icmp(
                condition,
                58,
                Field::Icmpv6Type,
                *kind,
                Field::Icmpv6Code,
                *code,
            );
        }
    }
}

fn port_ranges(condition: &mut Condition, field: Field, ranges: &[RangeInclusive<u16>]) {
    match ranges {
        [one] if one.start() == one.end() => {
            condition.push(field, Test::Is(Value::U16(*one.start())));
        }
        [one] => condition.push(
            field,
            Test::Between(Value::U16(*one.start()), Value::U16(*one.end())),
        ),
        several => {
            let ends = several
                .iter()
                .map(|r| (Value::U16(*r.start()), Value::U16(*r.end())))
                .collect();
            condition
                .tests
                .push(Check::Ranges(field, KeyType::Service, ends));
        }
    }
}

fn icmp(
    condition: &mut Condition,
    protocol: u8,
    type_field: Field,
    kind: Option<u8>,
    code_field: Field,
    code: Option<u8>,
) {
    match kind {
        Some(kind) => condition.push(type_field, Test::Is(Value::U8(kind))),
        None => condition.push(Field::L4proto, Test::Is(Value::Protocol(protocol))),
    }
    if let Some(code) = code {
        condition.push(code_field, Test::Is(Value::U8(code)));
    }
}

/// The transports over which a rule with these ports speaks of DNS: those with port 53 among them.
fn dns_transports(ports: &[Ports]) -> Vec<Transport> {
    let speaks = |transport: Transport| {
        ports.is_empty()
            || ports.iter().any(|p| match p {
                Ports::Transport(t, range) => *t == transport && range.contains(&DNS_PORT),
                Ports::Protocol(number) => *number == transport.protocol(),
                _ => false,
            })
    };
    [Transport::Udp, Transport::Tcp]
        .into_iter()
        .filter(|t| speaks(*t))
        .collect()
}

/// To clusterDNS on port 53: where the packet really goes, or where the pod sent it (conntrack's
/// original destination). NodeLocal DNS is not tracked, so the first must do for it.
fn dns(piece: &Reach, facts: &Facts, transports: &[Transport], conditions: &mut Vec<Condition>) {
    for family in [Family::V4, Family::V6] {
        let servers = Addresses::of_addresses(family, &facts.dns);
        let ranges = piece.ranges(family);
        if servers.is_none() || ranges.is_none() {
            continue;
        }
        for transport in transports {
            let translated = ranges.intersect(&servers);
            if !translated.is_none() {
                let mut condition = Condition::of(piece);
                condition.addresses(daddr(family), &translated);
                condition.push(dport(*transport), Test::Is(Value::U16(DNS_PORT)));
                condition.local(piece.local);
                conditions.push(condition);
            }
            let mut condition = Condition::of(piece);
            condition.addresses(daddr(family), ranges);
            condition.push(
                Field::L4proto,
                Test::Is(Value::Protocol(transport.protocol())),
            );
            condition.addresses(original_daddr(family), &servers);
            condition.push(Field::CtOriginalDport, Test::Is(Value::U16(DNS_PORT)));
            condition.local(piece.local);
            conditions.push(condition);
        }
    }
}

/// To a Service: where the pod sent the packet, and to which port, by conntrack's original direction.
fn asked(piece: &Reach, services: &[IpAddr], port: &PortTest, conditions: &mut Vec<Condition>) {
    for family in [Family::V4, Family::V6] {
        let services = Addresses::of_addresses(family, services);
        let ranges = piece.ranges(family);
        let other_family = port.family().is_some_and(|only| only != family);
        if services.is_none() || ranges.is_none() || other_family {
            continue;
        }
        let mut condition = Condition::of(piece);
        condition.addresses(daddr(family), ranges);
        let transport = match port {
            PortTest::Ports(transport, _) => Some(*transport),
            _ => None,
        };
        if let Some(transport) = transport {
            condition.push(
                Field::L4proto,
                Test::Is(Value::Protocol(transport.protocol())),
            );
        }
        condition.addresses(original_daddr(family), &services);
        match port {
            PortTest::Ports(_, ranges) => {
                port_ranges(&mut condition, Field::CtOriginalDport, ranges);
            }
            other => port_checks(&mut condition, other),
        }
        condition.local(piece.local);
        conditions.push(condition);
    }
}

const fn daddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDaddr,
        Family::V6 => Field::Ip6Daddr,
    }
}

const fn original_daddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::CtOriginalDaddr,
        Family::V6 => Field::CtOriginalDaddr6,
    }
}

const fn dport(transport: Transport) -> Field {
    match transport {
        Transport::Tcp => Field::TcpDport,
        Transport::Udp => Field::UdpDport,
        Transport::Sctp => Field::SctpDport,
    }
}
