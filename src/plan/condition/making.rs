//! The tests of a condition, one by one as nf_tables can make them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use nft::{Element, Field, KeyType, Match, Test, Time, Value};
use rules::rule::Transport;
use rules::set::{Addresses, Family, as_net};

use super::Condition;
use super::ports::{PortTest, dport};
use crate::plan::lookup::{Lookup, What};
use crate::plan::reach::Words;
use crate::plan::{kernel_family, values};

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

impl Condition {
    /// Without any test yet.
    pub(super) const fn of(words: Words) -> Self {
        Self {
            tests: Vec::new(),
            words,
            lookup: None,
            inner: Vec::new(),
            named: None,
        }
    }

    /// What must hold. Most conditions are looked up, and never ask for it.
    pub fn tests(&self) -> Cow<'_, [TestOrSet]> {
        match &self.lookup {
            Some(lookup) => Cow::Owned(of_lookup(lookup)),
            None => Cow::Borrowed(&self.tests),
        }
    }

    pub(super) fn push(&mut self, field: Field, test: Test) {
        self.tests.push(TestOrSet::Plain(Match { field, test }));
    }

    /// Holds only before this second.
    pub(super) fn end_at(&mut self, seconds: u64) {
        self.tests = self.tests().into_owned();
        self.lookup = None;
        self.push(
            Field::Time,
            Test::Below(Value::Time(Time::from_seconds(seconds))),
        );
    }

    /// The destination is one of these, of this family.
    pub(super) fn destination(&mut self, family: Family, ranges: &Addresses) {
        if ranges.is_all() {
            self.push(
                Field::Nfproto,
                Test::Is(Value::Nfproto(kernel_family(family))),
            );
        }
        self.addresses(daddr(family), ranges);
    }

    /// The destination is one of these; nothing if it may be any.
    pub(super) fn addresses(&mut self, field: Field, ranges: &Addresses) {
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

    pub(super) fn local(&mut self, local: Option<bool>) {
        self.tests.extend(local.map(TestOrSet::Node));
    }

    pub(super) fn port(&mut self, port: &PortTest) {
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

    pub(super) fn protocol(&mut self, number: u8) {
        self.push(Field::L4proto, Test::Is(Value::Protocol(number)));
    }

    pub(super) fn ports(&mut self, field: Field, ranges: &[RangeInclusive<u16>]) {
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

    pub(super) fn icmp(
        &mut self,
        protocol: u8,
        fields: [Field; 2],
        kind: Option<u8>,
        code: Option<u8>,
    ) {
        match kind {
            Some(kind) => self.push(fields[0], Test::Is(Value::U8(kind))),
            None => self.protocol(protocol),
        }
        if let Some(code) = code {
            self.push(fields[1], Test::Is(Value::U8(code)));
        }
    }
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

pub(super) const fn daddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDaddr,
        Family::V6 => Field::Ip6Daddr,
    }
}

pub(super) const fn original_daddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::CtOriginalDaddr,
        Family::V6 => Field::CtOriginalDaddr6,
    }
}
