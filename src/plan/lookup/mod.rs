//! From an ordered list of rules, of which the first that matches decides, to disjoint pieces that
//! can be looked up: what a packet costs then no longer depends on how many rules there are.
//!
//! ```text
//! rules        list by list (divide)      what the rules say of an address, and of the ports there
//!              1 plain
//!  1 2 3 4 5   2 3 4 as a block     ─▶    2: 10.0.0.0-10.0.0.255 . tcp . 443
//!              5 plain                    3: 10.0.0.0-10.0.0.255, 10.9.0.0-10.9.255.255
//! ```
//! Rules that no set can hold (those that ask conntrack, the routing table, or the clock) stay plain
//! rules in their place, as do those in lists so short that sets cost more.
//!
//! [`sweep`] goes once over all addresses, [`pieces`] for each list of rules that apply to the same
//! addresses once over the ports.

mod pieces;
mod sweep;

use std::collections::HashSet;
use std::mem::discriminant;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use rules::limits::PAIRS_OF_ONE;
use rules::set::{Addresses, Family};

pub use pieces::Key;
pub use sweep::Area;

/// What a rule matches, if that is all that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    pub v4: Addresses,
    pub v6: Addresses,
    pub what: What,
}

/// Mostly one port, or one range.
pub type PortRanges = SmallVec<[RangeInclusive<u16>; 2]>;

/// Which packets to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Any,
    /// An IP protocol by its number, whatever follows.
    Protocol(u8),
    /// Ports of an IP protocol that has them where TCP has: sorted, disjoint.
    Ports(u8, PortRanges),
    /// A type of the family's ICMP.
    IcmpType(u8),
}

impl Lookup {
    pub const fn ranges(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Matches whatever the address, at least in the families that it is for.
    fn is_for_all_addresses(&self) -> bool {
        [&self.v4, &self.v6]
            .iter()
            .all(|ranges| ranges.is_all() || ranges.is_none())
    }

    /// How many elements it takes alone.
    fn size(&self) -> usize {
        let ports = match &self.what {
            What::Ports(_, ranges) => ranges.len(),
            _ => 1,
        };
        (self.v4.numbers().len() + self.v6.numbers().len()) * ports
    }

    /// Has so many ports for so many addresses that a set of each is better than one of all pairs.
    fn is_too_wide(&self) -> bool {
        match &self.what {
            What::Ports(_, ranges) => ranges.len() > 1 && self.size() > PAIRS_OF_ONE * FAMILIES,
            _ => false,
        }
    }
}

/// Of a destination that is of both.
const FAMILIES: usize = 2;

/// A condition in its place of the list.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Whose condition it is: conditions of one rule have the same effect.
    pub rule: usize,
    /// Rules of one effect can be looked up together.
    pub effect: usize,
    /// `None`: it can't be looked up.
    pub lookup: Option<&'a Lookup>,
}

/// A stretch of the list, in the list's order.
#[derive(Debug, PartialEq, Eq)]
pub enum Segment {
    /// The entry at this place stays a rule of its own.
    Plain(usize),
    /// Disjoint areas, of which at most one holds for a packet. Whatever is in none of them goes on.
    Block(Vec<Area>),
}

/// The shortest list that is looked up: a set costs a packet about as much as a plain rule, and from
/// five rules on the sets that stand for them cost less (`benches/run.sh packets`).
const SHORTEST: usize = 5;

/// Elements that a list may take for each that its rules would take alone, and for free. A list that
/// takes more (few wide rules before many narrow ones that others overlap) is cut in two.
const GROWTH: usize = 3;
const FREE: usize = 64;

/// Divides a list into blocks and what stays plain. Means the same: each part decides what it
/// matches, and leaves the rest to the next.
pub fn divide(entries: &[Entry<'_>]) -> Vec<Segment> {
    let mut parts = Vec::new();
    let mut run: Vec<Candidate<'_>> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        match entry.lookup.filter(|lookup| !lookup.is_too_wide()) {
            Some(lookup) => run.push(Candidate {
                place,
                rule: entry.rule,
                effect: entry.effect,
                lookup,
            }),
            None => {
                divide_run(&run, &mut parts);
                run.clear();
                parts.push(Segment::Plain(place));
            }
        }
    }
    divide_run(&run, &mut parts);
    parts
}

/// An entry that can be looked up.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    place: usize,
    rule: usize,
    effect: usize,
    lookup: &'a Lookup,
}

/// Rules for all addresses at either end would only be cut up by those between.
fn divide_run(run: &[Candidate<'_>], parts: &mut Vec<Segment>) {
    let wide = |candidate: &&Candidate<'_>| candidate.lookup.is_for_all_addresses();
    let head = run.iter().take_while(wide).count();
    let (head, rest) = run.split_at(head);
    let tail = rest.iter().rev().take_while(wide).count();
    let (middle, tail) = rest.split_at(rest.len() - tail);
    for list in [head, middle, tail] {
        look_up(list, parts);
    }
}

fn look_up(list: &[Candidate<'_>], parts: &mut Vec<Segment>) {
    if list.len() < SHORTEST {
        parts.extend(list.iter().map(|candidate| Segment::Plain(candidate.place)));
        return;
    }
    let size: usize = list.iter().map(|candidate| candidate.lookup.size()).sum();
    let limit = size.saturating_mul(GROWTH).saturating_add(FREE);
    let mut areas = Vec::new();
    for family in [Family::V4, Family::V6] {
        match sweep::sweep(list, family, limit) {
            Some(found) => areas.extend(found),
            None => {
                let (first, second) = list.split_at(list.len() / 2);
                look_up(first, parts);
                look_up(second, parts);
                return;
            }
        }
    }
    if lookups(list, &areas) > list.len() {
        parts.extend(list.iter().map(|candidate| Segment::Plain(candidate.place)));
    } else {
        parts.push(Segment::Block(areas));
    }
}

/// How many sets a packet is looked up in, in the family that has more.
fn lookups(list: &[Candidate<'_>], areas: &[Area]) -> usize {
    let most = list.iter().map(|candidate| candidate.rule).max();
    let mut effects = vec![None; most.map_or(0, |most| most + 1)];
    for candidate in list {
        effects[candidate.rule] = Some(candidate.effect);
    }
    let of = |family| {
        let own = areas.iter().filter(|area| area.family == family);
        let mut sets: Vec<_> = own
            .map(|area| (discriminant(&area.key), effects[area.rule]))
            .collect();
        sets.dedup(); // what comes one after the other is mostly alike
        sets.into_iter().collect::<HashSet<_>>().len()
    };
    of(Family::V4).max(of(Family::V6))
}

#[cfg(test)]
mod tests;
