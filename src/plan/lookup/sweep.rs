//! One sweep over the addresses: which rules apply from where to where.

use std::collections::HashMap;
use std::ops::Range;

use smallvec::SmallVec;

use rules::set::Family;

use super::pieces::{Key, pieces};
use super::{Candidate, What};

/// Where one rule decides about one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Area {
    pub family: Family,
    pub key: Key,
    /// The rule's number.
    pub rule: usize,
    /// Sorted, disjoint, not adjacent; both ends included. An IPv4 address is its 32-bit number.
    pub addresses: SmallVec<[(u128, u128); 1]>,
}

/// Steps for each element that is allowed: many rules may apply to the same addresses.
const STEPS: usize = 64;

/// The areas of a list's rules in one family. `None`: that would take more than `limit` elements, or
/// too long.
pub fn sweep(list: &[Candidate<'_>], family: Family, limit: usize) -> Option<Vec<Area>> {
    let mut areas = Areas {
        family,
        found: Vec::new(),
        index: HashMap::with_capacity(list.len()),
        elements: 0,
    };
    let mut classes = Classes::new(list.len());
    let borders = borders(list, family);
    let takes_all = list
        .iter()
        .map(|candidate| matches!(candidate.lookup.what, What::Any));
    let takes_all: Vec<bool> = takes_all.collect();
    // By their numbers, sorted: those that begin and are not over yet, and what they leave to whom.
    let mut active: Vec<u32> = Vec::new();
    let mut steps = 0;
    let mut rest = borders.iter().peekable();
    while let Some(&&(from, ..)) = rest.peek() {
        while let Some(&(_, begins, number)) = rest.next_if(|border| border.0 == from) {
            match (active.binary_search(&number), begins) {
                (Err(place), true) => active.insert(place, number),
                (Ok(place), false) => drop(active.remove(place)),
                _ => {}
            }
        }
        let to = rest.peek().map_or(family.last(), |border| border.0 - 1);
        let end = active.iter().position(|number| takes_all[*number as usize]);
        let applying = &active[..end.map_or(active.len(), |place| place + 1)];
        if applying.is_empty() {
            continue;
        }
        let class = classes.of(applying, || {
            let rules = applying.iter().map(|number| &list[*number as usize]);
            let whats = rules.map(|candidate| (candidate.rule, &candidate.lookup.what));
            let class = pieces(whats, family);
            class.into_iter().map(|(key, rule)| areas.place(key, rule))
        });
        for place in class {
            areas.add(*place, from, to);
        }
        steps += applying.len() + class.len();
        if areas.elements > limit || steps > limit.saturating_mul(STEPS) {
            return None;
        }
    }
    Some(areas.found)
}

/// What different addresses come to to which the same rules apply: the places of their areas.
struct Classes {
    /// Of all classes, one after the other.
    places: Vec<usize>,
    /// Where in `places` those are to which only one rule applies, by its number: these are most.
    alone: Vec<Option<Range<usize>>>,
    others: HashMap<Vec<u32>, Range<usize>>,
}

impl Classes {
    fn new(rules: usize) -> Self {
        Self {
            places: Vec::with_capacity(rules),
            alone: vec![None; rules],
            others: HashMap::with_capacity(rules),
        }
    }

    /// The class of these rules; `made` finds it for the first of them.
    fn of<P: Iterator<Item = usize>>(
        &mut self,
        rules: &[u32],
        made: impl FnOnce() -> P,
    ) -> &[usize] {
        let known = match rules {
            [one] => self.alone[*one as usize].clone(),
            several => self.others.get(several).cloned(),
        };
        let class = known.unwrap_or_else(|| {
            let first = self.places.len();
            self.places.extend(made());
            let class = first..self.places.len();
            match rules {
                [one] => self.alone[*one as usize] = Some(class.clone()),
                several => drop(self.others.insert(several.to_vec(), class.clone())),
            }
            class
        });
        &self.places[class]
    }
}

/// Where each rule's addresses begin (`true`) and where they are over, in the order of addresses.
fn borders(list: &[Candidate<'_>], family: Family) -> Vec<(u128, bool, u32)> {
    let mut borders = Vec::with_capacity(2 * list.len());
    for (number, candidate) in (0..).zip(list) {
        for (first, end) in candidate.lookup.ranges(family).numbers() {
            borders.push((*first, true, number));
            if *end < family.last() {
                borders.push((end + 1, false, number));
            }
        }
    }
    borders.sort_unstable();
    borders
}

struct Areas {
    family: Family,
    found: Vec<Area>,
    /// Where in `found` a key and a rule are.
    index: HashMap<(u64, usize), usize>,
    elements: usize,
}

impl Areas {
    /// Where the area of a key and a rule is; a new one has no addresses yet.
    fn place(&mut self, key: Key, rule: usize) -> usize {
        *self.index.entry((key.packed(), rule)).or_insert_with(|| {
            self.found.push(Area {
                family: self.family,
                key,
                rule,
                addresses: SmallVec::new(),
            });
            self.found.len() - 1
        })
    }

    /// Addresses come in their order; neighbours become one.
    fn add(&mut self, place: usize, from: u128, to: u128) {
        let addresses = &mut self.found[place].addresses;
        match addresses.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(from) => *end = to,
            _ => {
                addresses.push((from, to));
                self.elements += 1;
            }
        }
    }
}
