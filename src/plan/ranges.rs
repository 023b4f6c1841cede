//! Sets of addresses as sorted, disjoint ranges: what `except`, `internet` and `private` come to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use smallvec::{SmallVec, smallvec};

use nft::{Family, Value};

/// Addresses of one family. An IPv4 address is its 32-bit number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ranges {
    family: Family,
    /// Sorted; neither overlapping nor adjacent; both ends included. Mostly there is just one.
    ranges: SmallVec<[(u128, u128); 1]>,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

impl Ranges {
    pub fn none(family: Family) -> Self {
        Self {
            family,
            ranges: SmallVec::new(),
        }
    }

    pub fn all(family: Family) -> Self {
        Self {
            family,
            ranges: smallvec![(0, last(family))],
        }
    }

    /// The range of both ends, if it is of this family.
    pub fn between(family: Family, first: IpAddr, end: IpAddr) -> Self {
        let mut ranges = Self::none(family);
        if Family::of(&first) == family && Family::of(&end) == family {
            ranges.ranges.push((number(first), number(end)));
        }
        ranges
    }

    /// Those of the networks that are of this family.
    pub fn of<'a>(family: Family, nets: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let ranges = nets
            .into_iter()
            .filter(|net| Family::of(&net.addr()) == family)
            .map(|net| (number(net.network()), number(net.broadcast())))
            .collect();
        Self { family, ranges }.normal()
    }

    /// Those of the addresses that are of this family.
    pub fn of_addresses<'a>(family: Family, all: impl IntoIterator<Item = &'a IpAddr>) -> Self {
        let nets: Vec<IpNet> = all.into_iter().map(|a| IpNet::from(*a)).collect();
        Self::of(family, &nets)
    }

    pub fn is_none(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn is_all(&self) -> bool {
        self.ranges[..] == [(0, last(self.family))]
    }

    /// All of them together.
    pub fn union_of<'a>(family: Family, all: impl Iterator<Item = &'a Self>) -> Self {
        let ranges = all.flat_map(|some| &some.ranges).copied().collect();
        Self { family, ranges }.normal()
    }

    pub fn minus(&self, other: &Self) -> Self {
        let mut left = SmallVec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(mut first, end) in &self.ranges {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut ahead = holes.clone();
            loop {
                match ahead.next() {
                    Some(&(from, to)) if from <= end => {
                        if from > first {
                            left.push((first, from - 1));
                        }
                        if to >= end {
                            break;
                        }
                        first = first.max(to + 1);
                    }
                    _ => {
                        left.push((first, end));
                        break;
                    }
                }
            }
        }
        Self {
            family: self.family,
            ranges: left,
        }
    }

    pub fn intersect(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// The only range, if there is just one.
    pub fn single(&self) -> Option<(IpAddr, IpAddr)> {
        match self.ranges[..] {
            [(first, end)] => Some((self.address(first), self.address(end))),
            _ => None,
        }
    }

    /// Each range's ends.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.ranges
            .iter()
            .map(|&(first, end)| (self.address(first), self.address(end)))
    }

    /// Each range's ends as numbers.
    pub fn numbers(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    fn address(&self, number: u128) -> IpAddr {
        address(self.family, number)
    }

    fn normal(mut self) -> Self {
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|(first, end), before| {
            let joins = *first <= before.1.saturating_add(1);
            if joins {
                before.1 = before.1.max(*end);
            }
            joins
        });
        self
    }
}

/// The address with this number.
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(number as u32).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

/// The number of a family's last address.
pub const fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX as u128,
        Family::V6 => u128::MAX,
    }
}

/// The network that is exactly this range, if there is one.
pub fn as_net(first: IpAddr, end: IpAddr) -> Option<IpNet> {
    let width = match Family::of(&first) {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let differing = 128 - (number(first) ^ number(end)).leading_zeros();
    let net = IpNet::new(first, width - differing as u8).ok()?;
    (net.network() == first && net.broadcast() == end).then_some(net)
}

/// Both ends as values to compare with.
pub fn values((first, end): (IpAddr, IpAddr)) -> (Value, Value) {
    (first.into(), end.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(text: &str) -> Ranges {
        let nets: Vec<IpNet> = text
            .split_whitespace()
            .map(|n| n.parse().expect("net"))
            .collect();
        Ranges::of(Family::V4, &nets)
    }

    #[test]
    fn neighbours_join_and_holes_split() {
        assert_eq!(nets("10.0.0.0/25 10.0.0.128/25"), nets("10.0.0.0/24"));
        let rest = nets("10.0.0.0/24").minus(&nets("10.0.0.8/29"));
        let ends: Vec<_> = rest.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        assert_eq!(ends, ["10.0.0.0-10.0.0.7", "10.0.0.16-10.0.0.255"]);
        assert!(
            Ranges::all(Family::V6)
                .minus(&Ranges::all(Family::V6))
                .is_none()
        );
    }

    #[test]
    fn a_range_that_is_a_network_is_found() {
        let net = |a: &str, b: &str| as_net(a.parse().expect("a"), b.parse().expect("b"));
        assert_eq!(net("10.0.0.0", "10.0.0.255"), "10.0.0.0/24".parse().ok());
        assert_eq!(net("10.0.0.1", "10.0.0.1"), "10.0.0.1/32".parse().ok());
        assert_eq!(net("0.0.0.0", "255.255.255.255"), "0.0.0.0/0".parse().ok());
        assert_eq!(net("10.0.0.1", "10.0.0.2"), None);
        assert_eq!(net("::", "::ffff"), "::/112".parse().ok());
    }

    fn small() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((any::<u8>(), any::<u8>()), 0..8)
    }

    /// A 256-address world, as ranges and as plain booleans.
    fn world(pairs: &[(u8, u8)]) -> (Ranges, Vec<bool>) {
        let mut flags = vec![false; 256];
        let mut ranges = Ranges::none(Family::V4);
        for &(a, b) in pairs {
            let (a, b) = (a.min(b), a.max(b));
            (a..=b).for_each(|n| flags[usize::from(n)] = true);
            let ip = |n| IpAddr::from([0, 0, 0, n]);
            ranges = union(&ranges, &Ranges::between(Family::V4, ip(a), ip(b)));
        }
        (ranges, flags)
    }

    fn union(a: &Ranges, b: &Ranges) -> Ranges {
        Ranges::union_of(Family::V4, [a, b].into_iter())
    }

    fn members(ranges: &Ranges) -> Vec<bool> {
        let holds = |n: u128| ranges.ranges.iter().any(|&(a, b)| a <= n && n <= b);
        (0..256).map(holds).collect()
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_plain_sets(a in small(), b in small()) {
            let ((a, in_a), (b, in_b)) = (world(&a), world(&b));
            let each = |f: fn(bool, bool) -> bool| -> Vec<bool> {
                in_a.iter().zip(&in_b).map(|(a, b)| f(*a, *b)).collect()
            };
            prop_assert_eq!(members(&union(&a, &b)), each(|a, b| a || b));
            prop_assert_eq!(members(&a.minus(&b)), each(|a, b| a && !b));
            prop_assert_eq!(members(&a.intersect(&b)), each(|a, b| a && b));
            let sorted = union(&a, &b).ranges;
            prop_assert!(sorted.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
