//! Sets of numbers as sorted ranges.
//!
//! The compiler's `plan::ranges` has the same for addresses of one family, as the kernel takes them.
//! Here ports are a set as well, and no family is known.

/// Sorted; neither overlapping nor adjacent; both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intervals(Vec<(u128, u128)>);

impl Intervals {
    pub fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last number of each range, in order.
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether both have a number. Asked often, so without making a set.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut theirs = &other.0[..];
        self.0.iter().any(|&(first, last)| {
            theirs = &theirs[theirs.partition_point(|range| range.1 < first)..];
            theirs.first().is_some_and(|range| range.0 <= last)
        })
    }

    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = &other.0[..];
        for &(first, last) in &self.0 {
            holes = &holes[holes.partition_point(|hole| hole.1 < first)..];
            let mut from = Some(first);
            for &(start, end) in holes.iter().take_while(|hole| hole.0 <= last) {
                if let Some(from) = from.filter(|from| *from < start) {
                    left.push((from, start - 1));
                }
                from = end.checked_add(1).filter(|next| *next <= last);
            }
            left.extend(from.map(|from| (from, last)));
        }
        Self(left)
    }

    pub fn intersect(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(pairs: &[(u8, u8)]) -> Intervals {
        let sorted = |&(a, b): &(u8, u8)| (u128::from(a.min(b)), u128::from(a.max(b)));
        Intervals::new(pairs.iter().map(sorted).collect())
    }

    fn members(set: &Intervals) -> Vec<bool> {
        let holds = |n: u128| set.0.iter().any(|&(first, last)| first <= n && n <= last);
        (0..256).map(holds).collect()
    }

    #[test]
    fn the_last_number_is_no_edge() {
        let all = Intervals::new(vec![(0, u128::MAX)]);
        assert!(all.minus(&all).is_empty());
        let most = Intervals::new(vec![(1, u128::MAX)]);
        assert_eq!(all.minus(&most), Intervals::new(vec![(0, 0)]));
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_plain_sets(
            a in prop::collection::vec(any::<(u8, u8)>(), 0..8),
            b in prop::collection::vec(any::<(u8, u8)>(), 0..8),
        ) {
            let (a, b) = (set(&a), set(&b));
            let each = |f: fn(bool, bool) -> bool| -> Vec<bool> {
                members(&a).iter().zip(members(&b)).map(|(a, b)| f(*a, b)).collect()
            };
            prop_assert_eq!(members(&a.minus(&b)), each(|a, b| a && !b));
            prop_assert_eq!(members(&a.intersect(&b)), each(|a, b| a && b));
            prop_assert_eq!(a.overlaps(&b), !a.intersect(&b).is_empty());
            prop_assert!(a.0.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
