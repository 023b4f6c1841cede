//! One sweep over the addresses: which rules apply from where to where.

use std::collections::{BTreeSet, HashMap};

use crate::nft::Family;

use super::pieces::{Key, pieces};
use super::{Candidate, What};
use crate::plan::ranges;

/// Where one rule decides about one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Area {
    pub family: Family,
    pub key: Key,
    /// The rule's number.
    pub rule: usize,
    /// Sorted, disjoint, not adjacent; both ends included. An IPv4 address is its 32-bit number.
    pub addresses: Vec<(u128, u128)>,
}

/// Steps for each element that is allowed: many rules may apply to the same addresses.
const STEPS: usize = 64;

/// The areas of a list's rules in one family. `None`: that would take more than `limit` elements, or
/// too long.
pub fn sweep(list: &[Candidate<'_>], family: Family, limit: usize) -> Option<Vec<Area>> {
    let mut areas = Areas {
        family,
        found: Vec::new(),
        index: HashMap::new(),
        elements: 0,
    };
    // Different addresses to which the same rules apply come to the same.
    let mut classes: HashMap<Vec<usize>, Vec<(Key, usize)>> = HashMap::new();
    let borders = borders(list, family);
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut applying = Vec::new();
    let mut steps = 0;
    let mut rest = borders.iter().peekable();
    while let Some(&&(from, ..)) = rest.peek() {
        while let Some((_, begins, number)) = rest.next_if(|border| border.0 == from) {
            if *begins {
                active.insert(*number);
            } else {
                active.remove(number);
            }
        }
        let to = rest
            .peek()
            .map_or(ranges::last(family), |border| border.0 - 1);
        applying.clear();
        for number in &active {
            applying.push(*number);
            if list[*number].lookup.what == What::Any {
                break;
            }
        }
        if applying.is_empty() {
            continue;
        }
        if !classes.contains_key(&applying) {
            let rules = applying.iter().map(|number| &list[*number]);
            let whats = rules.map(|candidate| (candidate.rule, &candidate.lookup.what));
            classes.insert(applying.clone(), pieces(whats, family));
        }
        let class = classes.get(&applying).map_or(&[][..], Vec::as_slice);
        for (key, rule) in class {
            areas.add(*key, *rule, from, to);
        }
        steps += applying.len() + class.len();
        if areas.elements > limit || steps > limit.saturating_mul(STEPS) {
            return None;
        }
    }
    Some(areas.found)
}

/// Where each rule's addresses begin (`true`) and where they are over, in the order of addresses.
fn borders(list: &[Candidate<'_>], family: Family) -> Vec<(u128, bool, usize)> {
    let mut borders = Vec::new();
    for (number, candidate) in list.iter().enumerate() {
        for (first, end) in candidate.lookup.ranges(family).numbers() {
            borders.push((*first, true, number));
            if *end < ranges::last(family) {
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
    index: HashMap<(Key, usize), usize>,
    elements: usize,
}

impl Areas {
    /// Addresses come in their order; neighbours become one.
    fn add(&mut self, key: Key, rule: usize, from: u128, to: u128) {
        let place = *self.index.entry((key, rule)).or_insert_with(|| {
            self.found.push(Area {
                family: self.family,
                key,
                rule,
                addresses: Vec::new(),
            });
            self.found.len() - 1
        });
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
