//! Sets of addresses, and of numbers in general, as sorted ranges: what lists, `except`, `internet` and `private` come
//! to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use smallvec::{SmallVec, smallvec};

use super::nat64;
use super::protocol::{ICMP, ICMPV6};

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The one of an address.
    pub const fn of(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The IP protocol number of its ICMP (IANA): rules about `icmp` are about IPv4, those about `icmpv6` about IPv6.
    pub const fn icmp(self) -> u8 {
        match self {
            Family::V4 => ICMP,
            Family::V6 => ICMPV6,
        }
    }

    /// The number of its last address.
    pub const fn last(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }

    /// The address with this number. An IPv4 address is its 32 bits.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::from(number as u32).into(),
            Family::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

/// The number of an address.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Numbers {
    /// Sorted; neither overlapping nor adjacent; both ends included. Mostly there is just one.
    ranges: SmallVec<[(u128, u128); 1]>,
}

impl FromIterator<(u128, u128)> for Numbers {
    /// All that is in one of these ranges: first and last number, in any order.
    fn from_iter<I: IntoIterator<Item = (u128, u128)>>(ranges: I) -> Numbers {
        let mut ranges: SmallVec<[(u128, u128); 1]> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup_by(|(first, last), before| {
            let joins = *first <= before.1.saturating_add(1);
            if joins {
                before.1 = before.1.max(*last);
            }
            joins
        });
        Numbers { ranges }
    }
}

impl Numbers {
    /// First and last number of each range, in order. No two of them touch.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether both have a number. Asked often, so without making a set.
    pub fn overlaps(&self, other: &Numbers) -> bool {
        let mut theirs = &other.ranges[..];
        self.ranges.iter().any(|&(first, last)| {
            theirs = &theirs[theirs.partition_point(|range| range.1 < first)..];
            theirs.first().is_some_and(|range| range.0 <= last)
        })
    }

    /// What only this has.
    pub fn minus(&self, other: &Numbers) -> Numbers {
        let mut left = SmallVec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(mut first, last) in &self.ranges {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut ahead = holes.clone();
            loop {
                match ahead.next() {
                    Some(&(from, to)) if from <= last => {
                        if from > first {
                            left.push((first, from - 1));
                        }
                        if to >= last {
                            break;
                        }
                        first = first.max(to + 1);
                    }
                    _ => {
                        left.push((first, last));
                        break;
                    }
                }
            }
        }
        Numbers { ranges: left }
    }

    /// What both have.
    pub fn intersect(&self, other: &Numbers) -> Numbers {
        self.minus(&self.minus(other))
    }
}

/// A set of addresses of one IP version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Addresses {
    family: Family,
    numbers: Numbers,
}

impl Addresses {
    /// No address.
    pub fn none(family: Family) -> Addresses {
        Addresses {
            family,
            numbers: Numbers::default(),
        }
    }

    /// Every address.
    pub fn all(family: Family) -> Addresses {
        let ranges = smallvec![(0, family.last())];
        Addresses {
            family,
            numbers: Numbers { ranges },
        }
    }

    /// The range of both ends, if it is of this family.
    pub fn between(family: Family, first: IpAddr, last: IpAddr) -> Addresses {
        let both = Family::of(&first) == family && Family::of(&last) == family;
        let range = both.then(|| (number(first), number(last)));
        Addresses {
            family,
            numbers: range.into_iter().collect(),
        }
    }

    /// Those of the networks that are of this family.
    pub fn of<'a>(family: Family, nets: impl IntoIterator<Item = &'a IpNet>) -> Addresses {
        let own = nets
            .into_iter()
            .filter(|net| Family::of(&net.addr()) == family);
        let ranges = own.map(|net| (number(net.network()), number(net.broadcast())));
        Addresses {
            family,
            numbers: ranges.collect(),
        }
    }

    /// All of them together.
    pub fn union_of<'a>(family: Family, all: impl IntoIterator<Item = &'a Addresses>) -> Addresses {
        let ranges = all.into_iter().flat_map(|some| some.numbers.ranges());
        Addresses {
            family,
            numbers: ranges.copied().collect(),
        }
    }

    /// What of IPv6 stands for some of these IPv4 addresses, and for no others, behind NAT64 prefixes.
    pub fn behind(&self, prefixes: &[Ipv6Net]) -> Addresses {
        let mut behind = Addresses::none(Family::V6);
        if self.family == Family::V4 {
            let ranges = self.numbers.ranges().iter();
            let ranges = ranges.flat_map(|(first, last)| {
                let all = |prefix: &Ipv6Net| nat64::ranges(*prefix, *first as u32, *last as u32);
                prefixes.iter().flat_map(all)
            });
            behind.numbers = ranges.collect();
        }
        behind
    }

    /// Whether there is nothing in it.
    pub fn is_none(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether nothing is missing.
    pub fn is_all(&self) -> bool {
        self.numbers.ranges() == [(0, self.family.last())]
    }

    /// Whether both have an address.
    pub fn overlaps(&self, other: &Addresses) -> bool {
        self.family == other.family && self.numbers.overlaps(&other.numbers)
    }

    /// What only this has.
    pub fn minus(&self, other: &Addresses) -> Addresses {
        Addresses {
            family: self.family,
            numbers: self.numbers.minus(&other.numbers),
        }
    }

    /// What both have.
    pub fn intersect(&self, other: &Addresses) -> Addresses {
        Addresses {
            family: self.family,
            numbers: self.numbers.intersect(&other.numbers),
        }
    }

    /// The only range, if there is just one.
    pub fn single(&self) -> Option<(IpAddr, IpAddr)> {
        match self.numbers.ranges() {
            [(first, last)] => Some((self.family.address(*first), self.family.address(*last))),
            _ => None,
        }
    }

    /// Each range's ends, in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let ranges = self.numbers.ranges().iter();
        ranges.map(|&(first, last)| (self.family.address(first), self.family.address(last)))
    }

    /// The addresses as numbers.
    pub fn numbers(&self) -> &[(u128, u128)] {
        self.numbers.ranges()
    }
}

/// The network that is exactly this range, if there is one.
pub fn as_net(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    let width = match Family::of(&first) {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let differing = 128 - (number(first) ^ number(last)).leading_zeros();
    let net = IpNet::new(first, width - differing as u8).ok()?;
    (net.network() == first && net.broadcast() == last).then_some(net)
}

/// The networks that make up a range of addresses, both ends included; of other numbers, the prefixes.
pub fn networks((first, last): (u128, u128)) -> impl Iterator<Item = (u128, u128)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let from = next.filter(|from| *from <= last)?;
        // As much as fits: the lowest bits that are 0, and no more than is left.
        let left = last - from;
        let free = from.trailing_zeros();
        let room = left.checked_add(1).map_or(128, u128::ilog2);
        let bits = free.min(room);
        let to = from | 1u128.checked_shl(bits).map_or(u128::MAX, |size| size - 1);
        next = to.checked_add(1);
        Some((from, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(text: &str) -> Addresses {
        let nets: Vec<IpNet> = text
            .split_whitespace()
            .map(|n| n.parse().expect("net"))
            .collect();
        Addresses::of(Family::V4, &nets)
    }

    #[test]
    fn neighbours_join_and_holes_split() {
        assert_eq!(nets("10.0.0.0/25 10.0.0.128/25"), nets("10.0.0.0/24"));
        let rest = nets("10.0.0.0/24").minus(&nets("10.0.0.8/29"));
        let ends: Vec<_> = rest.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        assert_eq!(ends, ["10.0.0.0-10.0.0.7", "10.0.0.16-10.0.0.255"]);
        assert!(
            Addresses::all(Family::V6)
                .minus(&Addresses::all(Family::V6))
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

    #[test]
    fn a_range_is_its_networks() {
        let of = |first, last| networks((first, last)).collect::<Vec<_>>();
        for first in 0..40 {
            for last in first..40 {
                let parts = of(first, last);
                let numbers: Vec<u128> = parts.iter().flat_map(|(a, b)| *a..=*b).collect();
                assert_eq!(numbers, (first..=last).collect::<Vec<_>>());
                for (a, b) in parts {
                    let size = b - a + 1;
                    assert!(size.is_power_of_two() && a % size == 0, "{a}-{b}");
                }
            }
        }
        assert_eq!(of(0, u128::MAX), [(0, u128::MAX)]);
        assert_eq!(of(u128::MAX, u128::MAX), [(u128::MAX, u128::MAX)]);
        assert_eq!(of(1, u128::MAX).len(), 128);
        assert_eq!(of(1, u128::MAX - 1).len(), 254);
        assert_eq!(of(0x40, 0x7f), [(0x40, 0x7f)]);
    }

    #[test]
    fn families_are_kept_apart() {
        let both: [IpNet; 2] =
            ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        for family in Family::ALL {
            let own = Addresses::of(family, &both);
            let (first, last) = own.single().expect("one range");
            assert_eq!((Family::of(&first), Family::of(&last)), (family, family));
            for other in Family::ALL {
                let others = Addresses::all(other);
                assert_eq!(own.overlaps(&others), family == other);
            }
            assert!(Addresses::between(family, both[0].addr(), both[1].addr()).is_none());
        }
    }

    #[test]
    fn the_last_number_is_no_edge() {
        let set = |first| Numbers::from_iter([(first, u128::MAX)]);
        assert!(set(0).minus(&set(0)).is_empty());
        assert_eq!(set(0).minus(&set(1)), Numbers::from_iter([(0, 0)]));
    }

    fn small() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((any::<u8>(), any::<u8>()), 0..8)
    }

    /// A world of 256 numbers, as ranges and as plain booleans.
    fn world(pairs: &[(u8, u8)]) -> (Numbers, Vec<bool>) {
        let mut flags = vec![false; 256];
        let mut ranges = Vec::new();
        for &(a, b) in pairs {
            let (a, b) = (a.min(b), a.max(b));
            (a..=b).for_each(|n| flags[usize::from(n)] = true);
            ranges.push((a.into(), b.into()));
        }
        (ranges.into_iter().collect(), flags)
    }

    fn union(a: &Numbers, b: &Numbers) -> Numbers {
        a.ranges().iter().chain(b.ranges()).copied().collect()
    }

    fn members(set: &Numbers) -> Vec<bool> {
        let holds = |n: u128| set.ranges().iter().any(|&(a, b)| a <= n && n <= b);
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
            prop_assert_eq!(a.overlaps(&b), !a.intersect(&b).is_empty());
            for set in [union(&a, &b), a.minus(&b), a.intersect(&b)] {
                prop_assert!(set.ranges().windows(2).all(|w| w[0].1 + 1 < w[1].0));
            }
        }

        #[test]
        fn addresses_are_the_same_sets(a in small(), b in small()) {
            let own = |pairs: &[(u8, u8)]| {
                let all: Vec<Addresses> = pairs
                    .iter()
                    .map(|&(a, b)| (IpAddr::from([0, 0, 0, a.min(b)]), IpAddr::from([0, 0, 0, a.max(b)])))
                    .map(|(first, last)| Addresses::between(Family::V4, first, last))
                    .collect();
                Addresses::union_of(Family::V4, &all)
            };
            let (one, other) = (own(&a), own(&b));
            let (a, b) = (world(&a).0, world(&b).0);
            prop_assert_eq!(one.minus(&other).numbers, a.minus(&b));
            prop_assert_eq!(one.intersect(&other).numbers, a.intersect(&b));
            prop_assert_eq!(one.overlaps(&other), a.overlaps(&b));
            prop_assert_eq!(one.is_none(), a.is_empty());
        }
    }
}
