//! Many rules as a few lookups.
//!
//! ```text
//! pol-HASH-bN-KEY-WHAT     a set: who is in it, WHAT happens to (allow, deny, reject, pass, or rM: a
//!                          chain). Each element counts for the rule that its comment names.
//! pol-HASH-bN-KEY-log      a map: element -> chain, for many rules that log
//! KEY                      ports4, icmp4, tcp-addr4 or proto4, addr4; 6 for IPv6: in this order
//!
//! pol-HASH-bN-where4, ...  if there are very many elements with ports, see `together`
//! pol-HASH-bN-tcp          in place of ports4 and ports6, if rules name few ports: a map, port -> the
//!                          chain below; for udp and sctp, too
//! pol-HASH-bN-tcp-443      for this port, and maybe others: lookups with tcp-443-addr4 as KEY
//! ```
//! A verdict in a map makes the kernel walk to its chain with every transaction of the node; a set
//! does not. So what most rules do has one set each, and only rules that log share a map.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::plan::action::{Action, Outcome};
use crate::plan::lookup::{Area, Key};
use crate::plan::names;
use nft::{
    Concat, DataType, Element, Field, KeyType, Rule as KernelRule, Set, Statement, Value, Verdict,
};
use rules::set::{Family, networks};

use super::services::{self, Protocol};
use super::{Compiler, Planned, fields};

/// Rules that log get a set of their own from this many elements on, the largest of them first, up
/// to so many sets.
const OWN_SET: usize = 32;
const OWN_SETS: usize = 4;

/// Up to so many protocols have sets of their own.
const FEW_PROTOCOLS: usize = 3;

/// Destination address, IP protocol, destination port.
pub(super) const fn ports(family: Family) -> Concat {
    Concat::of([destination(family), Field::L4proto, Field::ThDport])
}

/// Destination address, ICMP or ICMPv6 type.
const fn icmp_types(family: Family) -> Concat {
    let kind = match family {
        Family::V4 => Field::IcmpType,
        Family::V6 => Field::Icmpv6Type,
    };
    Concat::of([destination(family), kind])
}

/// Destination address, IP protocol.
const fn protocols(family: Family) -> Concat {
    Concat::of([destination(family), Field::L4proto])
}

/// What is looked up.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookedUp {
    /// The destination.
    Address(Family),
    /// It and more.
    Together(Concat),
}

impl LookedUp {
    pub(super) const fn key_type(self) -> KeyType {
        match self {
            LookedUp::Address(Family::V4) => KeyType::Ipv4,
            LookedUp::Address(Family::V6) => KeyType::Ipv6,
            LookedUp::Together(concat) => KeyType::Concat(concat),
        }
    }
}

/// A stretch of a chain to be.
pub(super) struct Stretch {
    /// Where the names of its sets end, but for what happens: `b1-addr4`.
    name: String,
    key: LookedUp,
    /// What must hold before anything is looked up.
    head: KernelRule,
}

impl Stretch {
    pub(super) fn new(name: String, key: LookedUp) -> Self {
        let head = KernelRule::new();
        Self { name, key, head }
    }
}

/// One lookup to be.
struct Group {
    /// Ends its name: `allow`, `r7`, `log`.
    what: String,
    /// `None`: the elements say where to go.
    verdict: Option<Verdict>,
    /// The elements count: no chain behind them does.
    counts: bool,
    cells: Vec<Element>,
}

impl Compiler {
    /// Puts areas behind what a chain has already.
    pub(super) fn block(&mut self, chain: usize, rules: &mut [Planned], areas: &[Area]) {
        self.blocks += 1;
        let block = format!("b{}", self.blocks);
        let ports = areas.iter().filter(|a| matches!(a.key, Key::Ports(..)));
        let ports: Vec<&Area> = ports.collect();
        // `pass` leaves the chain that it stands in: that must be this one.
        let passes = ports.iter().any(|area| rules[area.rule].passes);
        let by_port = match passes {
            true => None,
            false => services::of(&ports, self.shape.services),
        };
        for protocol in by_port.iter().flatten() {
            let rule = self.services(&block, rules, protocol);
            self.chains[chain].1.push(rule);
        }
        for family in FAMILIES {
            let of_family = |wanted: fn(Key) -> bool| -> Vec<&Area> {
                let own = areas.iter().filter(|area| area.family == family);
                own.filter(|area| wanted(area.key)).collect()
            };
            let place = |key: &str, looked_up| {
                Stretch::new(format!("{block}-{key}{}", digit(family)), looked_up)
            };
            let together = |key, concat| place(key, LookedUp::Together(concat));
            let mut lookups = Vec::new();
            if by_port.is_none() {
                let ports = of_family(|key| matches!(key, Key::Ports(..)));
                lookups.extend(self.together(&block, rules, family, &ports));
            }
            let icmp = of_family(|key| matches!(key, Key::IcmpType(_)));
            let place_of_icmp = together("icmp", icmp_types(family));
            lookups.extend(self.lookups(rules, &place_of_icmp, &icmp));

            let whole = of_family(|key| matches!(key, Key::Protocol(_)));
            let by_protocol = by_protocol(&whole);
            if by_protocol.len() > FEW_PROTOCOLS {
                let place = together("proto", protocols(family));
                lookups.extend(self.lookups(rules, &place, &whole));
            } else {
                for (number, areas) in by_protocol {
                    let protocol = Value::Protocol(number);
                    let mut place = place(&format!("{protocol}-addr"), LookedUp::Address(family));
                    place.head = KernelRule::new().is(Field::L4proto, protocol);
                    lookups.extend(self.lookups(rules, &place, &areas));
                }
            }
            let any = of_family(|key| matches!(key, Key::Any));
            let place_of_any = place("addr", LookedUp::Address(family));
            lookups.extend(self.lookups(rules, &place_of_any, &any));
            self.chains[chain].1.extend(lookups);
        }
    }

    /// By the port to a chain of its own, in which only the address is looked up.
    fn services(
        &mut self,
        block: &str,
        rules: &mut [Planned],
        protocol: &Protocol<'_>,
    ) -> KernelRule {
        let mut elements: BTreeMap<(u16, u16), Arc<str>> = BTreeMap::new();
        for service in &protocol.services {
            let first = service.ports.first().map_or(0, |(first, _)| *first);
            let own = format!("{block}-{}-{first}", protocol.name);
            let mut lookups = Vec::new();
            for family in FAMILIES {
                let name = format!("{own}-addr{}", digit(family));
                let place = Stretch::new(name, LookedUp::Address(family));
                let areas = service.areas.iter().copied();
                let areas: Vec<&Area> = areas.filter(|area| area.family == family).collect();
                lookups.extend(self.lookups(rules, &place, &areas));
            }
            let chain = self.service_chain(own, lookups);
            elements.extend(service.ports.iter().map(|ports| (*ports, chain.clone())));
        }
        let elements = elements
            .into_iter()
            .map(|((from, to), chain)| Element::range(Value::U16(from), Value::U16(to)).jump(chain))
            .collect();
        let name = format!("{block}-{}", protocol.name);
        let map = self.lookup_set(name, KeyType::Service, true, false, elements);
        KernelRule::new().vmap(protocol.port, map)
    }

    /// A chain for these lookups. The two chains of a policy that excepts DNS have most in common.
    fn service_chain(&mut self, name: String, lookups: Vec<KernelRule>) -> Arc<str> {
        if let Some(known) = self.services.get(&lookups) {
            return known.clone();
        }
        let chain = self.add_chain(name, lookups.clone());
        let chain: Arc<str> = self.chains[chain].0.as_str().into();
        self.services.insert(lookups, chain.clone());
        chain
    }

    /// Areas that differ in nothing but their addresses and what happens there, or have all of their
    /// fields looked up: a set for each thing that happens, and the rules that ask them.
    pub(super) fn lookups(
        &mut self,
        rules: &mut [Planned],
        place: &Stretch,
        areas: &[&Area],
    ) -> Vec<KernelRule> {
        let groups = self.groups(rules, areas, place.key);
        groups
            .into_iter()
            .map(|group| self.lookup(place, group))
            .collect()
    }

    /// Sorts areas by what happens there.
    fn groups(&mut self, rules: &mut [Planned], areas: &[&Area], key: LookedUp) -> Vec<Group> {
        let mut plain: [(&str, Vec<&Area>); 4] =
            ["allow", "deny", "reject", "pass"].map(|what| (what, Vec::new()));
        let mut logged: BTreeMap<usize, Vec<&Area>> = BTreeMap::new();
        for area in areas {
            let action = &rules[area.rule].action;
            if effect(action) == LOGS {
                logged.entry(area.rule).or_default().push(area);
                continue;
            }
            plain[effect(action)].1.push(area);
        }
        let mut groups = Vec::new();
        for (what, areas) in plain {
            if let Some(first) = areas.first() {
                let verdict = rules[first.rule].action.outcome.verdict();
                groups.push(Group {
                    what: what.to_owned(),
                    verdict: Some(verdict),
                    counts: true,
                    cells: cells(rules, &areas, key, None),
                });
            }
        }
        groups.extend(self.logged(rules, logged, key));
        groups
    }

    /// The areas of rules that log, each rule's with its number.
    fn logged(
        &mut self,
        rules: &mut [Planned],
        logged: BTreeMap<usize, Vec<&Area>>,
        key: LookedUp,
    ) -> Vec<Group> {
        let size = |areas: &[&Area]| -> usize { areas.iter().map(|a| a.addresses.len()).sum() };
        let alone = logged.len() == 1;
        let mut by_size: Vec<(usize, Vec<&Area>)> = logged.into_iter().collect();
        by_size.sort_by_key(|(_, areas)| Reverse(size(areas)));
        let mut groups = Vec::new();
        let mut shared: Vec<Element> = Vec::new();
        for (rule, areas) in by_size {
            let Some(own) = self.own_chain(&mut rules[rule]) else {
                continue;
            };
            if alone || groups.len() < OWN_SETS && size(&areas) >= OWN_SET {
                groups.push(Group {
                    what: own.rsplit('-').next().unwrap_or_default().to_owned(),
                    verdict: Some(Verdict::Goto(own)),
                    counts: false,
                    cells: cells(rules, &areas, key, None),
                });
            } else {
                shared.extend(cells(rules, &areas, key, Some(own)));
            }
        }
        if !shared.is_empty() {
            shared.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            groups.push(Group {
                what: "log".to_owned(),
                verdict: None,
                counts: false,
                cells: shared,
            });
        }
        groups
    }

    /// The set or map, and the rule that asks it.
    fn lookup(&mut self, place: &Stretch, group: Group) -> KernelRule {
        let name = format!("{}-{}", place.name, group.what);
        let map = group.verdict.is_none();
        let (key, cells) = match place.key {
            LookedUp::Together(concat) => {
                let (concat, cells) = fields::ordered(concat, group.cells);
                (LookedUp::Together(concat), cells)
            }
            LookedUp::Address(_) => (place.key, group.cells),
        };
        let name = self.lookup_set(name, key.key_type(), map, group.counts, cells);
        let rule = place.head.clone();
        match (key, group.verdict) {
            (LookedUp::Together(concat), Some(verdict)) => {
                rule.then(Statement::Among(concat, name)).then(verdict)
            }
            (LookedUp::Together(concat), None) => rule.vmap(concat, name),
            (LookedUp::Address(family), Some(verdict)) => {
                rule.inside(destination(family), &name).then(verdict)
            }
            (LookedUp::Address(family), None) => rule.vmap(destination(family), name),
        }
    }

    /// The name of an interval set, or verdict map, with these elements: one that is there already has
    /// the same name still.
    pub(super) fn lookup_set(
        &mut self,
        name: String,
        key: KeyType,
        map: bool,
        counter: bool,
        elements: Vec<Element>,
    ) -> String {
        let same = |(set, held): &&(Set, Vec<Element>)| set.key == key && *held == elements;
        if let Some((known, _)) = self.sets.iter().find(same) {
            return known.name.clone();
        }
        let name = names::policy_part(&self.name, &name);
        let set = Set {
            data: map.then_some(DataType::Verdict),
            interval: true,
            counter,
            ..Set::new(&name, key)
        };
        self.sets.push((set, elements));
        name
    }
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(super) const fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

pub(super) const fn destination(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDaddr,
        Family::V6 => Field::Ip6Daddr,
    }
}

/// Areas of whole protocols by their numbers.
fn by_protocol<'a>(areas: &[&'a Area]) -> BTreeMap<u8, Vec<&'a Area>> {
    let mut by_number: BTreeMap<u8, Vec<&Area>> = BTreeMap::new();
    for area in areas {
        if let Key::Protocol(number) = area.key {
            by_number.entry(number).or_default().push(area);
        }
    }
    by_number
}

/// Everything that is logged has the same number: it is looked up in common.
const LOGS: usize = 4;

/// The number of what an action does: actions of one number can be looked up together.
pub(super) fn effect(action: &Action) -> usize {
    match action.outcome {
        // What audit mode lets go is always logged.
        _ if !action.log.is_empty() => LOGS,
        Outcome::Audit => LOGS,
        Outcome::Allow => 0,
        Outcome::Deny => 1,
        Outcome::Reject => 2,
        Outcome::Pass => 3,
    }
}

/// The elements of areas, sorted.
fn cells(
    rules: &[Planned],
    areas: &[&Area],
    key: LookedUp,
    goto: Option<Arc<str>>,
) -> Vec<Element> {
    let size = areas.iter().map(|area| area.addresses.len()).sum();
    let mut places = Vec::with_capacity(size);
    for area in areas {
        for ends in &area.addresses {
            match key {
                LookedUp::Together(_) if area.family == Family::V6 => {
                    places.extend(networks(*ends).map(|ends| (ends, *area)));
                }
                _ => places.push((*ends, *area)),
            }
        }
    }
    places.sort_unstable_by_key(|(ends, area)| (*ends, area.key));
    let cell = |((first, last), area): ((u128, u128), &Area)| {
        let address = |number| area.family.address(number).into();
        let mut fields: SmallVec<[(Value, Value); 3]> = SmallVec::new();
        fields.push((address(first), address(last)));
        if let LookedUp::Together(_) = key {
            more_fields(area.key, &mut fields);
        }
        let cell = Element::ranges(fields).comment(rules[area.rule].action.label.clone());
        match &goto {
            Some(chain) => cell.goto(chain.clone()),
            None => cell,
        }
    };
    places.into_iter().map(cell).collect()
}

/// What a key has beside the address.
fn more_fields(key: Key, fields: &mut SmallVec<[(Value, Value); 3]>) {
    let one = |value| (value, value);
    match key {
        Key::Ports(protocol, from, to) => {
            fields.push(one(Value::Protocol(protocol)));
            fields.push((Value::U16(from), Value::U16(to)));
        }
        Key::TcpAndUdp(from, to) => {
            fields.push((Value::Protocol(6), Value::Protocol(17)));
            fields.push((Value::U16(from), Value::U16(to)));
        }
        Key::IcmpType(kind) => fields.push(one(Value::U8(kind))),
        Key::Protocol(protocol) => fields.push(one(Value::Protocol(protocol))),
        Key::Any => {}
    }
}
