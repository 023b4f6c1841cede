//! Many areas of many ports: address and port are looked up together.
//!
//! ```text
//! pol-HASH-bN-where4       a set: the addresses about which a rule names ports. No other packet is
//!                          looked up by its port.
//! pol-HASH-bN-ports4       a chain: the lookups, or the map below
//! pol-HASH-bN-part4        a map: address -> chain, if there are very many elements
//! pol-HASH-bN-part4-M      one of these chains
//! ```
//! The kernel goes through all elements of such a set, 256 at once, and keeps a table of 128 bytes for
//! each prefix of an element's addresses and 64 for each of its ports (`nft_set_pipapo.c`). So few and
//! simple elements matter: what lies between two ranges and is never looked up is taken in, and what
//! holds for TCP and UDP alike is one element.

use std::collections::BTreeMap;

use super::block::{LookedUp, Stretch, destination, digit, ports};
use super::{Compiler, Planned};
use crate::plan::lookup::{Area, Key};
use nft::{Element, Field, KeyType, Rule as KernelRule, Value, Verdict};
use rules::set::Family;

/// Fewer elements are looked up at once.
pub const MANY: usize = 1024;
/// How many elements a part may have, up to so many parts. In less the kernel's tables, which it rounds
/// up, take more memory again.
pub const PART: usize = 2048;
const PARTS: usize = 8;

type Range = (u128, u128);

impl Compiler {
    /// The rules that look up areas of ports of one family.
    pub(super) fn together(
        &mut self,
        block: &str,
        rules: &mut [Planned],
        family: Family,
        areas: &[&Area],
    ) -> Vec<KernelRule> {
        let digit = digit(family);
        let looked_up = LookedUp::Together(ports(family));
        let size: usize = areas.iter().map(|area| area.addresses.len()).sum();
        // `pass` leaves the chain that it stands in: that must be the block's.
        let passes = areas.iter().any(|area| rules[area.rule].passes);
        if size < self.shape.many || passes {
            let place = Stretch::new(format!("{block}-ports{digit}"), looked_up);
            return self.lookups(rules, &place, areas);
        }
        let gate = gate(areas);
        let borders = borders(areas, size, self.shape.part, family);
        let mut chains = Vec::new();
        for (number, part) in borders.iter().enumerate() {
            let own = alike(family, areas, *part, &gate);
            let own: Vec<&Area> = own.iter().collect();
            let name = match borders.len() {
                1 => format!("{block}-ports{digit}"),
                _ => format!("{block}-part{digit}-{}", number + 1),
            };
            let place = Stretch::new(name.clone(), looked_up);
            let lookups = self.lookups(rules, &place, &own);
            let chain = self.add_chain(name, lookups);
            chains.push((*part, chain));
        }
        let target = match chains.as_slice() {
            [(_, only)] => *only,
            several => {
                let jump = |((first, last), chain): &(Range, usize)| {
                    let address = |number| family.address(number);
                    let chain = self.chains[*chain].0.as_str();
                    Element::range(address(*first), address(*last)).jump(chain)
                };
                let elements = several.iter().map(jump).collect();
                let name = format!("{block}-part{digit}");
                let key = LookedUp::Address(family).key_type();
                let map = self.lookup_set(name, key, true, false, elements);
                let vmap = KernelRule::new().vmap(destination(family), map);
                self.add_chain(format!("{block}-ports{digit}"), vec![vmap])
            }
        };
        let jump = Verdict::jump(&*self.chains[target].0);
        let set = self.gate_set(block, family, &gate);
        let lead = |number| {
            let rule = KernelRule::new().is(Field::L4proto, Value::Protocol(number));
            rule.inside(destination(family), &set).then(jump.clone())
        };
        protocols(areas).into_iter().map(lead).collect()
    }

    fn gate_set(&mut self, block: &str, family: Family, gate: &[Range]) -> String {
        let address = |number| Value::from(family.address(number));
        let elements = gate
            .iter()
            .map(|(first, last)| Element::range(address(*first), address(*last)));
        let key: KeyType = LookedUp::Address(family).key_type();
        let name = format!("{block}-where{}", digit(family));
        self.lookup_set(name, key, false, false, elements.collect())
    }
}

/// The numbers of the areas' protocols.
fn protocols(areas: &[&Area]) -> Vec<u8> {
    let mut numbers: Vec<u8> = Vec::new();
    for area in areas {
        if let Key::Ports(number, ..) = area.key
            && !numbers.contains(&number)
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    numbers
}

/// All addresses of the areas: sorted, disjoint, not adjacent.
fn gate(areas: &[&Area]) -> Vec<Range> {
    let all = areas.iter().flat_map(|area| &area.addresses);
    let mut gate: Vec<Range> = all.copied().collect();
    gate.sort_unstable();
    gate.dedup_by(|next, before| {
        let joins = next.0 <= before.1.saturating_add(1);
        if joins {
            before.1 = before.1.max(next.1);
        }
        joins
    });
    gate
}

/// Divides the family's addresses so that each part has about as many elements.
fn borders(areas: &[&Area], size: usize, most: usize, family: Family) -> Vec<Range> {
    let firsts = areas.iter().flat_map(|area| &area.addresses);
    let mut firsts: Vec<u128> = firsts.map(|(first, _)| *first).collect();
    firsts.sort_unstable();
    let count = size.div_ceil(most).clamp(1, PARTS);
    let mut begins: Vec<u128> = (1..count).map(|n| firsts[size * n / count]).collect();
    begins.insert(0, 0);
    begins.dedup();
    let ends = begins[1..].iter().map(|begin| begin - 1);
    let ends: Vec<u128> = ends.chain([family.last()]).collect();
    begins.into_iter().zip(ends).collect()
}

/// The same areas for what comes through the gate to one part, in fewer and simpler elements.
fn alike(family: Family, areas: &[&Area], part: Range, gate: &[Range]) -> Vec<Area> {
    // Rule, ports and addresses, and then the protocol: those that differ in it only are neighbours.
    let mut places: Vec<(usize, u16, u16, Range, u8)> = Vec::new();
    for area in areas {
        let Key::Ports(protocol, from, to) = area.key else {
            continue;
        };
        let own = area.addresses.iter();
        let own = own.filter(|(first, last)| *first <= part.1 && part.0 <= *last);
        let own = own.map(|(first, last)| (part.0.max(*first), part.1.min(*last)));
        let bridged = bridged(own, gate);
        places.extend(bridged.map(|range| (area.rule, from, to, range, protocol)));
    }
    places.sort_unstable();
    let mut found: BTreeMap<(usize, Key), Area> = BTreeMap::new();
    let mut rest = places.into_iter().peekable();
    while let Some((rule, from, to, range, protocol)) = rest.next() {
        let udp = (rule, from, to, range, UDP);
        let both = protocol == TCP && rest.next_if_eq(&udp).is_some();
        let key = if both {
            Key::TcpAndUdp(from, to)
        } else {
            Key::Ports(protocol, from, to)
        };
        let area = found.entry((rule, key)).or_insert_with(|| Area {
            family,
            key,
            rule,
            addresses: Default::default(),
        });
        area.addresses.push(range);
    }
    found.into_values().collect()
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Ranges of addresses, joined where nothing between two of them comes through the gate.
fn bridged(own: impl Iterator<Item = Range>, gate: &[Range]) -> impl Iterator<Item = Range> {
    let mut joined: Vec<Range> = Vec::new();
    for (first, last) in own {
        match joined.last_mut() {
            Some(before) if is_free(before.1, first, gate) => before.1 = last,
            _ => joined.push((first, last)),
        }
    }
    joined.into_iter()
}

/// Whether no address between these two, which both come through the gate, does so, too.
fn is_free(before: u128, behind: u128, gate: &[Range]) -> bool {
    let place = gate.partition_point(|(_, last)| *last < before);
    let ends = gate.get(place).is_some_and(|(_, last)| *last == before);
    ends && gate
        .get(place + 1)
        .is_some_and(|(first, _)| *first == behind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: u128 = 40;

    /// Disjoint by address, protocol and port: the first that comes has a place.
    fn areas(boxes: &[(u128, u128, bool, u16, u16, usize)]) -> Vec<Area> {
        let mut taken = std::collections::HashSet::new();
        let mut areas = Vec::new();
        for (a, b, tcp, from, to, rule) in boxes {
            let protocol = if *tcp { TCP } else { UDP };
            let (from, to) = (*from.min(to), *from.max(to));
            let free = |address: &u128| {
                (from..=to).all(|port| !taken.contains(&(*address, protocol, port)))
            };
            let own: Vec<u128> = (*a.min(b)..=*a.max(b)).filter(free).collect();
            for address in &own {
                taken.extend((from..=to).map(|port| (*address, protocol, port)));
            }
            let addresses = gate(&[&Area {
                family: Family::V4,
                key: Key::Any,
                rule: 0,
                addresses: own.into_iter().map(|address| (address, address)).collect(),
            }]);
            areas.push(Area {
                family: Family::V4,
                key: Key::Ports(protocol, from, to),
                rule: *rule,
                addresses: addresses.into(),
            });
        }
        areas.retain(|area| !area.addresses.is_empty());
        areas
    }

    fn found(areas: &[Area], address: u128, protocol: u8, port: u16) -> Vec<usize> {
        let is_here = |area: &&Area| {
            let ports = match area.key {
                Key::Ports(number, from, to) => number == protocol && (from..=to).contains(&port),
                Key::TcpAndUdp(from, to) => (from..=to).contains(&port),
                _ => false,
            };
            let mut ranges = area.addresses.iter();
            ports && ranges.any(|(first, last)| (*first..=*last).contains(&address))
        };
        areas.iter().filter(is_here).map(|area| area.rule).collect()
    }

    proptest! {
        /// Whatever comes through the gate finds the same rule in its part, and no other.
        #[test]
        fn parts_say_the_same(
            boxes in prop::collection::vec(
                (0..SPAN, 0..SPAN, any::<bool>(), 0u16..5, 0u16..5, 0usize..6), 0..14),
            most in 1usize..12,
        ) {
            let areas = areas(&boxes);
            let all: Vec<&Area> = areas.iter().collect();
            let gate = gate(&all);
            let size = areas.iter().map(|area| area.addresses.len()).sum();
            let parts = borders(&all, size, most, Family::V4);
            prop_assert_eq!((parts[0].0, parts[parts.len() - 1].1), (0, u128::from(u32::MAX)));
            prop_assert!(parts.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
            for part in parts {
                let own = alike(Family::V4, &all, part, &gate);
                let through = (part.0..=part.1.min(SPAN)).filter(|address| {
                    gate.iter().any(|(first, last)| (*first..=*last).contains(address))
                });
                for address in through {
                    for (protocol, port) in (0..5).flat_map(|port| [(TCP, port), (UDP, port)]) {
                        let wanted = found(&areas, address, protocol, port);
                        prop_assert_eq!(found(&own, address, protocol, port), wanted);
                    }
                }
            }
        }
    }

    #[test]
    fn what_never_comes_through_is_no_border() {
        let area = |protocol, from, rule, addresses: &[Range]| Area {
            family: Family::V4,
            key: Key::Ports(protocol, from, from),
            rule,
            addresses: addresses.iter().copied().collect(),
        };
        let areas = [
            area(TCP, 80, 0, &[(0, 9), (20, 29), (40, 49)]),
            area(UDP, 80, 0, &[(0, 9), (20, 29), (40, 49)]),
            area(TCP, 443, 1, &[(20, 29), (31, 35)]),
        ];
        let all: Vec<&Area> = areas.iter().collect();
        let own = alike(Family::V4, &all, (0, 99), &gate(&all));
        let own: Vec<_> = own
            .iter()
            .map(|a| (a.rule, a.key, a.addresses.to_vec()))
            .collect();
        let wanted = [
            (0, Key::TcpAndUdp(80, 80), vec![(0, 29), (40, 49)]),
            (1, Key::Ports(TCP, 443, 443), vec![(20, 35)]),
        ];
        assert_eq!(own, wanted);
    }
}
