//! When a rule matches, as lists of tests that nf_tables can make.

mod making;
mod ports;

use nft::{CtState, Field, Test};
use rules::effective::Facts;
use rules::facts::{Endpoint, Word};
use rules::places::Places;
use rules::rule::{Rule, Verb};
use rules::set::{Addresses, Family};

use super::lookup::{Lookup, What};
use super::names;
use super::reach::{self, Reach, Words};
pub use making::TestOrSet;
use making::{daddr, original_daddr};
use ports::PortTest;

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
    /// The group of names for which the destination stands: the connection is to be known as one of theirs.
    pub named: Option<String>,
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
            _ if piece.named.is_some() => shape.named(&piece, &ports, &mut conditions),
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

    /// Where a name stands for the destination: now, or when an open connection began.
    fn named(&self, piece: &Reach, ports: &[PortTest], conditions: &mut Vec<Condition>) {
        let Some(group) = &piece.named else {
            return;
        };
        let established = Test::State(&[CtState::Established]);
        let open = (Some(established), names::open as fn(_, &str) -> String);
        for (state, set) in [open, (None, names::now)] {
            for family in [Family::V4, Family::V6] {
                let others = |port: &&PortTest| port.family().is_none_or(|only| only == family);
                let ports: Vec<&PortTest> = ports.iter().filter(others).collect();
                let ranges = piece.ranges(family);
                if ports.is_empty() || ranges.is_none() {
                    continue;
                }
                let mut there = Condition::of(piece.words);
                there.named = Some(group.clone());
                if let Some(state) = &state {
                    there.push(Field::CtState, state.clone());
                }
                let set = set(super::kernel_family(family), group);
                there.push(daddr(family), Test::In(set));
                let rest = |mut condition: Condition, port: &PortTest| {
                    condition.port(port);
                    condition.addresses(daddr(family), ranges);
                    condition.local(piece.local);
                    condition
                };
                if self.nests && ports.len() > 1 {
                    let of = |port: &&PortTest| rest(Condition::of(piece.words), port);
                    there.inner = ports.iter().map(of).collect();
                    conditions.push(there);
                } else {
                    conditions.extend(ports.iter().map(|port| rest(there.clone(), port)));
                }
            }
        }
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
