//! When a rule matches, as lists of tests that nf_tables can make.

mod ports;

use std::borrow::Cow;
use std::ops::RangeInclusive;

use nft::{Element, Field, KeyType, Match, Test, Time, Value};
use rules::effective::Facts;
use rules::facts::{Endpoint, Word};
use rules::places::Places;
use rules::rule::{Rule, Transport, Verb};
use rules::set::{Addresses, Family, as_net};

use super::lookup::{Lookup, What};
use super::reach::{self, Reach, Words};
use super::{kernel_family, values};
use ports::{PortTest, dport};

/// A conjunction of tests: one kernel rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Empty if `lookup` says it all.
    tests: Vec<TestOrSet>,
    /// `Some(false)`: meant only for packets that are for no service of this word, which no test here
    /// makes sure of. `Some(true)`: the tests hold only for those that are.
    pub words: Words,
    /// The same for a lookup, if a set can hold it.
    pub lookup: Option<Lookup>,
    /// If there are any, one of these has to hold besides: tests that many conditions of a rule have in
    /// common are made once.
    pub inner: Vec<Condition>,
}

/// A test, or one that needs a set if there are several ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestOrSet {
    Plain(Match),
    Ranges(Field, KeyType, Vec<(Value, Value)>),
    /// Whether the routing table calls the destination this node's own: what is sent to everybody on one of
    /// its links arrives at it, too, and so does what is sent to an address that it has together with
    /// others.
    Node(bool),
}

const NODES_OWN: [Value; 3] = [Value::Local, Value::Broadcast, Value::Anycast];

impl TestOrSet {
    /// The match; `set` makes a set and gives its name.
    pub fn to_match(&self, set: impl FnOnce(KeyType, Vec<Element>) -> String) -> Match {
        match self {
            TestOrSet::Plain(m) => m.clone(),
            TestOrSet::Ranges(field, key, ranges) => {
                let elements = ranges.iter().map(|(a, b)| Element::range(*a, *b));
                Match {
                    field: *field,
                    test: Test::In(set(*key, elements.collect())),
                }
            }
            TestOrSet::Node(own) => {
                let types = set(KeyType::FibAddrtype, NODES_OWN.map(Element::of).into());
                Match {
                    field: Field::FibDaddrType,
                    test: if *own {
                        Test::In(types)
                    } else {
                        Test::NotIn(types)
                    },
                }
            }
        }
    }
}

/// The conditions under which a rule matches: any of them.
pub fn of_rule(rule: &Rule, facts: &Facts) -> Vec<Condition> {
    let ports = PortTest::of(&rule.ports);
    let shape = Shape {
        until: until(rule),
        // What `pass` returns from is the chain that it stands in: it can't stand in one of its own.
        nests: rule.verb != Verb::Pass,
    };
    let (mut conditions, mut places) = (Vec::new(), Vec::new());
    for piece in reach::of_rule(rule, facts) {
        match (piece.word(), &piece.asked) {
            (Some(word), _) => {
                let ends = facts.endpoints(word);
                shape.services(&piece, &ends, facts, &ports, &mut conditions);
            }
            (None, Some(services)) => {
                let ends = [Endpoint {
                    addresses: services.iter().copied().map(Into::into).collect(),
                    nat64: false,
                    ports: None,
                }];
                conditions.extend(asked(&piece, &ends, facts, &ports));
            }
            (None, None) => places.push(piece),
        }
    }
    shape.places(places, &ports, &mut conditions);
    if let Some(until) = shape.until {
        conditions.iter_mut().for_each(|one| one.end_at(until));
    }
    conditions
}

/// The conditions under which a rule matches at these places. None is put into another.
pub fn of_places(rule: &Rule, places: Vec<Reach>) -> Vec<Condition> {
    let shape = Shape {
        until: until(rule),
        nests: false,
    };
    let mut conditions = Vec::new();
    shape.places(places, &PortTest::of(&rule.ports), &mut conditions);
    if let Some(until) = shape.until {
        conditions.iter_mut().for_each(|one| one.end_at(until));
    }
    conditions
}

/// When a rule ends. In seconds since 1970: the kernel's clock counts nanoseconds in 63 bits.
pub fn until(rule: &Rule) -> Option<u64> {
    rule.until.map(|until| {
        let seconds = until.as_second().clamp(0, i64::MAX / 1_000_000_000);
        seconds.unsigned_abs()
    })
}

/// The conditions under which a packet is for a service that a word stands for.
pub fn of_word(word: Word, facts: &Facts) -> Vec<Condition> {
    let shape = Shape {
        until: None,
        nests: true,
    };
    let mut conditions = Vec::new();
    let (everywhere, ends) = (Reach::of_word(word), facts.endpoints(word));
    shape.services(&everywhere, &ends, facts, &[PortTest::Any], &mut conditions);
    conditions
}

/// What a rule's conditions have in common.
struct Shape {
    /// Seconds since 1970.
    until: Option<u64>,
    /// Whether conditions may be put into others.
    nests: bool,
}

impl Shape {
    /// Where a packet goes.
    fn places(&self, pieces: Vec<Reach>, ports: &[PortTest], conditions: &mut Vec<Condition>) {
        // With the same ports, they differ in where they are.
        let mut by_ports: Vec<(Vec<PortTest>, Vec<Reach>)> = Vec::new();
        for mut piece in pieces {
            let own: Vec<PortTest> = ports
                .iter()
                .flat_map(|port| port.within(&piece.traffic))
                .collect();
            piece.traffic = super::traffic::Traffic::ALL;
            let same = |(other, all): &&mut (Vec<PortTest>, Vec<Reach>)| {
                *other == own && all[0].words == piece.words
            };
            match by_ports.iter_mut().find(same) {
                Some((_, all)) => all.push(piece),
                None => by_ports.push((own, vec![piece])),
            }
        }
        for (ports, pieces) in by_ports {
            let pieces = reach::join(pieces.into_iter());
            self.place(&pieces, &ports, conditions);
        }
    }

    /// Each place with each port; where that is more, and none of it is to be looked up in a set with
    /// others, the ports first and then the place.
    fn place(&self, pieces: &[Reach], ports: &[PortTest], conditions: &mut Vec<Condition>) {
        let each = |ports: &[PortTest]| -> Vec<Condition> {
            let pairs = pieces
                .iter()
                .flat_map(|piece| ports.iter().map(move |port| (piece, port)));
            pairs.flat_map(|(piece, port)| plain(piece, port)).collect()
        };
        let all = each(ports);
        let looked_up = self.until.is_none() && all.iter().all(|one| one.lookup.is_some());
        let places = each(&[PortTest::Any]);
        if looked_up || !self.nests || all.len() <= ports.len() + places.len() {
            conditions.extend(all);
            return;
        }
        conditions.extend(ports.iter().map(|port| {
            let mut condition = Condition::of(pieces[0].words);
            if let Some(family) = port.family() {
                condition.destination(family, &Addresses::all(family));
            }
            condition.port(port);
            condition.inner.clone_from(&places);
            condition
        }));
    }

    /// To services: where the packet really goes, or where the pod sent it (conntrack's original
    /// destination). What is not tracked is not translated, either.
    fn services(
        &self,
        piece: &Reach,
        ends: &[Endpoint],
        facts: &Facts,
        ports: &[PortTest],
        conditions: &mut Vec<Condition>,
    ) {
        for port in ports {
            let there = ends.iter().flat_map(|end| {
                let Places { v4, v6 } = places(end, facts);
                let there = Reach {
                    v4: v4.intersect(&piece.v4),
                    v6: v6.intersect(&piece.v6),
                    ..piece.clone()
                };
                port.at(end)
                    .into_iter()
                    .flat_map(|port| port.within(&piece.traffic))
                    .map(move |port| (there.clone(), port))
            });
            conditions.extend(there.flat_map(|(there, port)| plain(&there, &port)));
        }
        let asked = asked(piece, ends, facts, ports);
        if !self.nests || asked.len() < 2 {
            conditions.extend(asked);
            return;
        }
        // Of most packets it need not be asked.
        let mut translated = Condition::of(piece.words);
        translated.push(Field::CtStatus, Test::Dnat);
        translated.inner = asked;
        conditions.push(translated);
    }
}

/// The addresses of an endpoint.
fn places(end: &Endpoint, facts: &Facts) -> Places {
    let prefixes = if end.nat64 { &facts.nat64[..] } else { &[] };
    Places::of(prefixes, &end.addresses)
}

impl Condition {
    /// Without any test yet.
    const fn of(words: Words) -> Self {
        Self {
            tests: Vec::new(),
            words,
            lookup: None,
            inner: Vec::new(),
        }
    }

    /// What must hold. Most conditions are looked up, and never ask for it.
    pub fn tests(&self) -> Cow<'_, [TestOrSet]> {
        match &self.lookup {
            Some(lookup) => Cow::Owned(of_lookup(lookup)),
            None => Cow::Borrowed(&self.tests),
        }
    }

    fn push(&mut self, field: Field, test: Test) {
        self.tests.push(TestOrSet::Plain(Match { field, test }));
    }

    /// Holds only before this second.
    fn end_at(&mut self, seconds: u64) {
        self.tests = self.tests().into_owned();
        self.lookup = None;
        self.push(
            Field::Time,
            Test::Below(Value::Time(Time::from_seconds(seconds))),
        );
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
                // Of conntrack's addresses nft compares the beginnings otherwise than of a packet's.
                Some(net) if field == daddr(Family::of(&a)) => {
                    self.push(field, Test::Within(net));
                }
                _ => self.push(field, Test::Between(a.into(), b.into())),
            },
            None => {
                let key = match field {
                    Field::IpDaddr | Field::CtOriginalDaddr => KeyType::Ipv4,
                    _ => KeyType::Ipv6,
                };
                let ends = ranges.iter().map(values).collect();
                self.tests.push(TestOrSet::Ranges(field, key, ends));
            }
        }
    }

    fn local(&mut self, local: Option<bool>) {
        self.tests.extend(local.map(TestOrSet::Node));
    }

    fn port(&mut self, port: &PortTest) {
        match port {
            PortTest::Any => {}
            PortTest::Protocol(number) => self.protocol(*number),
            PortTest::NotTcp => {
                let tcp = Transport::Tcp.protocol();
                self.push(Field::L4proto, Test::Not(Value::Protocol(tcp)));
            }
            PortTest::Ports(transport, ranges) => self.ports(dport(*transport), ranges),
            PortTest::Icmp(kind, code) => {
                self.icmp(1, [Field::IcmpType, Field::IcmpCode], *kind, *code);
            }
            PortTest::Icmpv6(kind, code) => {
                self.icmp(58, [Field::Icmpv6Type, Field::Icmpv6Code], *kind, *code);
            }
        }
    }

    fn protocol(&mut self, number: u8) {
        self.push(Field::L4proto, Test::Is(Value::Protocol(number)));
    }

    fn ports(&mut self, field: Field, ranges: &[RangeInclusive<u16>]) {
        match ranges {
            [one] if one.start() == one.end() => {
                self.push(field, Test::Is(Value::U16(*one.start())));
            }
            [one] => self.push(
                field,
                Test::Between(Value::U16(*one.start()), Value::U16(*one.end())),
            ),
            several => {
                let ends = several
                    .iter()
                    .map(|r| (Value::U16(*r.start()), Value::U16(*r.end())))
                    .collect();
                self.tests
                    .push(TestOrSet::Ranges(field, KeyType::Service, ends));
            }
        }
    }

    fn icmp(&mut self, protocol: u8, fields: [Field; 2], kind: Option<u8>, code: Option<u8>) {
        match kind {
            Some(kind) => self.push(fields[0], Test::Is(Value::U8(kind))),
            None => self.protocol(protocol),
        }
        if let Some(code) = code {
            self.push(fields[1], Test::Is(Value::U8(code)));
        }
    }
}

fn plain(piece: &Reach, port: &PortTest) -> Vec<Condition> {
    let everywhere = piece.v4.is_all() && piece.v6.is_all();
    if everywhere && port.family().is_none() {
        return vec![of_family(piece, None, port)];
    }
    let has = |family: &Family| {
        let other_family = port.family().is_some_and(|only| only != *family);
        !piece.ranges(*family).is_none() && !other_family
    };
    let families = [Family::V4, Family::V6].into_iter().filter(has);
    families
        .map(|family| of_family(piece, Some(family), port))
        .collect()
}

/// Of one family, or of both.
fn of_family(piece: &Reach, family: Option<Family>, port: &PortTest) -> Condition {
    let mut condition = Condition::of(piece.words);
    condition.lookup = lookup(piece, family, port);
    if condition.lookup.is_none() {
        if let Some(family) = family {
            condition.destination(family, piece.ranges(family));
        }
        condition.port(port);
        condition.local(piece.local);
    }
    condition
}

/// The tests that are the same as a lookup.
fn of_lookup(lookup: &Lookup) -> Vec<TestOrSet> {
    let mut condition = Condition::of(Words::default());
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
        What::Protocol(number) => condition.protocol(*number),
        What::Ports(number, ranges) => {
            let transport = Transport::of(*number);
            condition.ports(transport.map_or(Field::ThDport, dport), ranges);
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
        PortTest::NotTcp
        | PortTest::Icmp(Some(_), Some(_))
        | PortTest::Icmpv6(Some(_), Some(_)) => return None,
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

/// Where the pod sent the packet, and to which port, by conntrack's original direction. Where it really
/// goes, to which port, is asked besides if the piece is not about all traffic there.
fn asked(piece: &Reach, ends: &[Endpoint], facts: &Facts, ports: &[PortTest]) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let arriving = PortTest::Any.within(&piece.traffic);
    for end in ends {
        let Places { v4, v6 } = places(end, facts);
        for (family, sent_to) in [(Family::V4, v4), (Family::V6, v6)] {
            let ranges = piece.ranges(family);
            if sent_to.is_none() || ranges.is_none() {
                continue;
            }
            for port in ports.iter().flat_map(|port| port.at(end)) {
                if port.family().is_some_and(|only| only != family) {
                    continue;
                }
                let possible = arriving.iter().filter(|one| !one.excludes(&port));
                conditions.extend(possible.map(|arriving| {
                    let mut condition = Condition::of(piece.words);
                    condition.addresses(daddr(family), ranges);
                    condition.port(arriving);
                    if let PortTest::Ports(transport, _) = port {
                        condition.protocol(transport.protocol());
                    }
                    condition.addresses(original_daddr(family), &sent_to);
                    match &port {
                        PortTest::Ports(_, ranges) => {
                            condition.ports(Field::CtOriginalDport, ranges);
                        }
                        other => condition.port(other),
                    }
                    condition.local(piece.local);
                    condition
                }));
            }
        }
    }
    conditions
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
