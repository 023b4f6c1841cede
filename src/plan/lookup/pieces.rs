//! One sweep over the ports: what rules that apply to the same addresses, in their order, come to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::nft::Family;

use super::What;

/// What is looked up beside the address. The more that is given, the earlier it is looked up: a
/// packet to a port is first looked for by its port, then by its protocol, then by its address alone.
/// Each of these is disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An IP protocol and both ends of a range of its ports.
    Ports(u8, u16, u16),
    /// A type of the family's ICMP.
    IcmpType(u8),
    /// An IP protocol: those of its packets that are in neither of the above, among them such whose
    /// header is cut off before the port.
    Protocol(u8),
    /// Everything else.
    Any,
}

/// The keys that are left to each rule by those before it, with the rule's number.
pub fn pieces<'a>(
    rules: impl Iterator<Item = (usize, &'a What)>,
    family: Family,
) -> Vec<(Key, usize)> {
    let icmp = match family {
        Family::V4 => 1,
        Family::V6 => 58,
    };
    let mut pieces = Vec::new();
    let mut ports: BTreeMap<u8, Taken> = BTreeMap::new();
    // What a rule takes whole leaves nothing more special to those behind it.
    let mut protocols = [false; 256];
    let mut icmp_types = [false; 256];
    for (rule, what) in rules {
        match what {
            What::Any => {
                pieces.push((Key::Any, rule));
                break;
            }
            What::Protocol(protocol) => {
                if !std::mem::replace(&mut protocols[usize::from(*protocol)], true) {
                    pieces.push((Key::Protocol(*protocol), rule));
                }
            }
            What::Ports(protocol, ranges) => {
                if !protocols[usize::from(*protocol)] {
                    let taken = ports.entry(*protocol).or_default();
                    for range in ranges {
                        taken.take(range.clone(), |from, to| {
                            pieces.push((Key::Ports(*protocol, from, to), rule));
                        });
                    }
                }
            }
            What::IcmpType(kind) => {
                if !protocols[icmp] && !std::mem::replace(&mut icmp_types[usize::from(*kind)], true)
                {
                    pieces.push((Key::IcmpType(*kind), rule));
                }
            }
        }
    }
    pieces
}

/// Ports that earlier rules have taken: disjoint ranges, from start to end, with gaps between them.
#[derive(Default)]
struct Taken(BTreeMap<u16, u16>);

impl Taken {
    /// Takes a range; `free` gets each part of it that nobody had.
    fn take(&mut self, range: RangeInclusive<u16>, mut free: impl FnMut(u16, u16)) {
        let (from, to) = (*range.start(), *range.end());
        let (mut start, mut end) = (from, to);
        // the one before may reach into this one, or end right where it begins
        if let Some((&first, &last)) = self.0.range(..from).next_back()
            && last >= from - 1
        {
            start = first;
        }
        let mut next = Some(from);
        let met: Vec<(u16, u16)> = self
            .0
            .range(start..=to)
            .map(|(first, last)| (*first, *last))
            .collect();
        for (first, last) in met {
            if let Some(at) = next.filter(|at| *at <= to) {
                if first > at {
                    free(at, first - 1);
                }
                next = last.checked_add(1).map(|behind| behind.max(at));
            }
            end = end.max(last);
            self.0.remove(&first);
        }
        if let Some(at) = next.filter(|at| *at <= to) {
            free(at, to);
        }
        // the one behind may begin right where this one ends
        if let Some(behind) = end.checked_add(1)
            && let Some(last) = self.0.remove(&behind)
        {
            end = last;
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Port by port: the first range that has it gets it, and nobody else.
        #[test]
        fn the_first_range_takes_a_port(
            ranges in prop::collection::vec((0u16..40, 0u16..40), 1..12),
            high in any::<bool>(),
        ) {
            let base = if high { u16::MAX - 39 } else { 0 };
            let ranges: Vec<(u16, u16)> = ranges
                .iter()
                .map(|(a, b)| (base + a.min(b), base + a.max(b)))
                .collect();
            let whats: Vec<What> = ranges.iter().map(|(a, b)| What::Ports(6, vec![*a..=*b])).collect();
            let pieces = pieces(whats.iter().enumerate(), Family::V4);
            for port in base..=base + 39 {
                let wanted: Vec<usize> = ranges.iter().position(|(a, b)| *a <= port && port <= *b).into_iter().collect();
                let found: Vec<usize> = pieces
                    .iter()
                    .filter(|(key, _)| matches!(key, Key::Ports(6, a, b) if *a <= port && port <= *b))
                    .map(|(_, rule)| *rule)
                    .collect();
                prop_assert_eq!(found, wanted, "port {}", port);
            }
        }
    }

    #[test]
    fn what_a_rule_takes_whole_leaves_nothing_more_special() {
        let whats = [
            What::Ports(6, vec![443..=443]),
            What::IcmpType(8),
            What::Protocol(6),
            What::Ports(6, vec![80..=80]),
            What::Protocol(58),
            What::IcmpType(8),
            What::IcmpType(3),
            What::Any,
            What::Protocol(17),
        ];
        let v4 = pieces(whats.iter().enumerate(), Family::V4);
        let common = [(Key::Ports(6, 443, 443), 0), (Key::IcmpType(8), 1)];
        let mut wanted = common.to_vec();
        wanted.extend([(Key::Protocol(6), 2), (Key::Protocol(58), 4)]);
        let mut with_type = wanted.clone();
        with_type.extend([(Key::IcmpType(3), 6), (Key::Any, 7)]);
        assert_eq!(v4, with_type);
        // there, protocol 58 is ICMP itself
        wanted.push((Key::Any, 7));
        assert_eq!(pieces(whats.iter().enumerate(), Family::V6), wanted);
    }
}
