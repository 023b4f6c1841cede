//! Many rules as a few lookups.
//!
//! ```text
//! pol-HASH-bN-KEY-WHAT     a set: who is in it, WHAT happens to (allow, deny, reject, pass, or rM: a
//!                          chain). Each element counts for the rule that its comment names.
//! pol-HASH-bN-KEY-log      a map: element -> chain, for many rules that log
//! KEY                      ports4, icmp4, proto4, addr4; 6 for IPv6: looked up in this order
//! ```
//! A verdict in a map makes the kernel walk to its chain with every transaction of the node; a set
//! does not. So what most rules do has one set each, and only rules that log share a map.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::nft::{
    Cell, Concat, DataType, Element, Family, Field, KeyType, Rule as KernelRule, Set, Statement,
    Value, Verdict,
};
use crate::plan::action::Action;
use crate::plan::lookup::{Area, Key};
use crate::plan::{base, ranges};

use super::{Compiler, Planned};

/// Rules that log get a set of their own from this many elements on, the largest of them first, up
/// to so many sets.
const OWN_SET: usize = 32;
const OWN_SETS: usize = 4;

/// What is looked up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ports,
    IcmpTypes,
    Protocols,
    Addresses,
}

impl Level {
    const ALL: [Self; 4] = [
        Level::Ports,
        Level::IcmpTypes,
        Level::Protocols,
        Level::Addresses,
    ];

    const fn of(key: Key) -> Self {
        match key {
            Key::Ports(..) => Level::Ports,
            Key::IcmpType(_) => Level::IcmpTypes,
            Key::Protocol(_) => Level::Protocols,
            Key::Any => Level::Addresses,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Level::Ports => "ports",
            Level::IcmpTypes => "icmp",
            Level::Protocols => "proto",
            Level::Addresses => "addr",
        }
    }

    /// `None`: the address alone.
    const fn concat(self, family: Family) -> Option<Concat> {
        match self {
            Level::Ports => Some(Concat::Ports(family)),
            Level::IcmpTypes => Some(Concat::IcmpTypes(family)),
            Level::Protocols => Some(Concat::Protocols(family)),
            Level::Addresses => None,
        }
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
    cells: Vec<Cell>,
}

impl Compiler {
    /// Puts areas behind what a chain has already.
    pub(super) fn block(&mut self, chain: usize, rules: &mut [Planned], areas: &[Area]) {
        self.blocks += 1;
        for family in [Family::V4, Family::V6] {
            for level in Level::ALL {
                let here: Vec<&Area> = areas
                    .iter()
                    .filter(|area| area.family == family && Level::of(area.key) == level)
                    .collect();
                for group in self.groups(rules, &here) {
                    let rule = self.lookup(family, level, group);
                    self.chains[chain].1.push(rule);
                }
            }
        }
    }

    /// Sorts areas by what happens there.
    fn groups(&mut self, rules: &mut [Planned], areas: &[&Area]) -> Vec<Group> {
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
                let verdict = rules[first.rule].action.verdict.clone();
                groups.push(Group {
                    what: what.to_owned(),
                    verdict: Some(verdict),
                    counts: true,
                    cells: cells(rules, &areas, None),
                });
            }
        }
        groups.extend(self.logged(rules, logged));
        groups
    }

    /// The areas of rules that log, each rule's with its number.
    fn logged(&mut self, rules: &mut [Planned], logged: BTreeMap<usize, Vec<&Area>>) -> Vec<Group> {
        let size = |areas: &[&Area]| -> usize { areas.iter().map(|a| a.addresses.len()).sum() };
        let alone = logged.len() == 1;
        let mut by_size: Vec<(usize, Vec<&Area>)> = logged.into_iter().collect();
        by_size.sort_by_key(|(_, areas)| Reverse(size(areas)));
        let mut groups = Vec::new();
        let mut shared: Vec<Cell> = Vec::new();
        for (rule, areas) in by_size {
            let Some(own) = self.own_chain(&mut rules[rule]) else {
                continue;
            };
            if alone || groups.len() < OWN_SETS && size(&areas) >= OWN_SET {
                groups.push(Group {
                    what: own.rsplit('-').next().unwrap_or_default().to_owned(),
                    verdict: Some(Verdict::Goto(own.to_string())),
                    counts: false,
                    cells: cells(rules, &areas, None),
                });
            } else {
                shared.extend(cells(rules, &areas, Some(own)));
            }
        }
        if !shared.is_empty() {
            shared.sort_unstable_by(|a, b| a.key.cmp(&b.key));
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
    fn lookup(&mut self, family: Family, level: Level, group: Group) -> KernelRule {
        let concat = level.concat(family);
        let (address_key, daddr, digit) = match family {
            Family::V4 => (KeyType::Ipv4, Field::IpDaddr, 4),
            Family::V6 => (KeyType::Ipv6, Field::Ip6Daddr, 6),
        };
        let elements: Vec<Element> = group.cells.into_iter().map(Element::Cell).collect();
        // The two chains of a policy that excepts DNS have most of their blocks in common.
        let key = concat.map_or(address_key, KeyType::Concat);
        let same = |(set, held): &&(Set, Vec<Element>)| set.key == key && *held == elements;
        let known = self.sets.iter().find(same).map(|(set, _)| set.name.clone());
        let name = known.unwrap_or_else(|| {
            let (level, what) = (level.as_str(), &group.what);
            let name = format!("{}-b{}-{level}{digit}-{what}", self.name, self.blocks);
            let set = Set {
                name: name.clone(),
                key,
                data: group.verdict.is_none().then_some(DataType::Verdict),
                interval: true,
                counter: group.counts,
                days: None,
            };
            self.sets.push((set, elements));
            name
        });
        let rule = KernelRule::new();
        match (concat, group.verdict) {
            (Some(concat), Some(verdict)) => {
                rule.then(Statement::Among(concat, name)).then(verdict)
            }
            (None, Some(verdict)) => rule.inside(daddr, &name).then(verdict),
            (Some(concat), None) => rule.then(Statement::ConcatVmap(concat, name)),
            (None, None) => rule.then(Statement::Vmap(daddr, name)),
        }
    }
}

/// Everything that is logged has the same number: it is looked up in common.
const LOGS: usize = 4;

/// The number of what an action does: actions of one number can be looked up together.
pub(super) fn effect(action: &Action) -> usize {
    match &action.verdict {
        _ if action.log.is_some() => LOGS,
        Verdict::Goto(chain) if chain == base::DENY => 1,
        Verdict::Goto(_) => 2,
        Verdict::Return => 3,
        _ => 0,
    }
}

/// The elements of areas, sorted.
fn cells(rules: &[Planned], areas: &[&Area], goto: Option<Arc<str>>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for area in areas {
        let comment = &rules[area.rule].action.label;
        for (first, last) in &area.addresses {
            let address = |number| ranges::address(area.family, number).into();
            let mut key = vec![(address(*first), address(*last))];
            key.extend(fields(area.key));
            cells.push(Cell {
                key,
                comment: comment.clone(),
                goto: goto.clone(),
            });
        }
    }
    cells.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    cells
}

/// What a key has beside the address.
fn fields(key: Key) -> Vec<(Value, Value)> {
    let one = |value| (value, value);
    match key {
        Key::Ports(protocol, from, to) => vec![
            one(Value::Protocol(protocol)),
            (Value::U16(from), Value::U16(to)),
        ],
        Key::IcmpType(kind) => vec![one(Value::U8(kind))],
        Key::Protocol(protocol) => vec![one(Value::Protocol(protocol))],
        Key::Any => Vec::new(),
    }
}
