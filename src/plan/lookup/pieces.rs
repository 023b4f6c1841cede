//! One sweep over the ports: what rules that apply to the same addresses, in their order, come to.

use std::ops::RangeInclusive;

use smallvec::SmallVec;

use rules::set::Family;

use super::What;

/// What is looked up beside the address. The more that is given, the earlier it is looked up: a
/// packet to a port is first looked for by its port, then by its protocol, then by its address alone.
/// Each of these is disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An IP protocol and both ends of a range of its ports.
    Ports(u8, u16, u16),
    /// A range of ports of TCP and of UDP, where nothing else is looked up.
    TcpAndUdp(u16, u16),
    /// A type of the family's ICMP.
    IcmpType(u8),
    /// An IP protocol: those of its packets that are in neither of the above, among them such whose
    /// header is cut off before the port.
    Protocol(u8),
    /// Everything else.
    Any,
}

impl Key {
    /// Another number for each key: hashed at once.
    pub fn packed(self) -> u64 {
        let (kind, a, b, c) = match self {
            Key::Ports(protocol, from, to) => (0, protocol, from, to),
            Key::TcpAndUdp(from, to) => (1, 0, from, to),
            Key::IcmpType(kind) => (2, kind, 0, 0),
            Key::Protocol(protocol) => (3, protocol, 0, 0),
            Key::Any => (4, 0, 0, 0),
        };
        kind << 40 | u64::from(a) << 32 | u64::from(b) << 16 | u64::from(c)
    }
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
    let mut ports: SmallVec<[(u8, Taken); 3]> = SmallVec::new();
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
                    let known = ports.iter().position(|(number, _)| number == protocol);
                    let place = known.unwrap_or_else(|| {
                        ports.push((*protocol, Taken::default()));
                        ports.len() - 1
                    });
                    let taken = &mut ports[place].1;
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

/// Ports that earlier rules have taken: sorted, disjoint ranges with gaps between them.
#[derive(Default)]
struct Taken(SmallVec<[(u16, u16); 2]>);

impl Taken {
    /// Takes a range; `free` gets each part of it that nobody had.
    fn take(&mut self, range: RangeInclusive<u16>, mut free: impl FnMut(u16, u16)) {
        let (from, to) = (*range.start(), *range.end());
        // those that it meets, and those that end or begin right beside it
        let before = |(_, last): &(u16, u16)| last.checked_add(1).is_some_and(|next| next < from);
        let first = self.0.partition_point(before);
        let behind = to.saturating_add(1);
        let met = self.0[first..]
            .iter()
            .take_while(|(start, _)| *start <= behind);
        let (mut start, mut end, mut count) = (from, to, 0);
        let mut next = Some(from);
        for (a, b) in met {
            if let Some(at) = next
                && *a > at
                && at <= to
            {
                free(at, to.min(a - 1));
            }
            next = b
                .checked_add(1)
                .map(|behind| behind.max(next.unwrap_or(behind)));
            (start, end, count) = (start.min(*a), end.max(*b), count + 1);
        }
        if let Some(at) = next.filter(|at| *at <= to) {
            free(at, to);
        }
        self.0.drain(first..first + count);
        self.0.insert(first, (start, end));
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
            let whats: Vec<What> = ranges.iter().map(|(a, b)| What::Ports(6, smallvec::smallvec![*a..=*b])).collect();
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
            What::Ports(6, smallvec::smallvec![443..=443]),
            What::IcmpType(8),
            What::Protocol(6),
            What::Ports(6, smallvec::smallvec![80..=80]),
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
