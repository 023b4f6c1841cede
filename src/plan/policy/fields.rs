//! Sets of several fields, in such a form that every kernel finds in them what is there, and nothing else.
//!
//! The kernel keeps the ranges of each field as prefixes, those of all elements side by side (`nft_set_pipapo.c`). Two
//! faults of its search make packets match that are in no element. Both are mended upstream, and both are in kernels
//! that nodes run for years:
//!
//! - With AVX2 it passes over the sixth octet of an IPv6 address (until 6.14: commit e042ed950d4e). So crate `nft` has
//!   it search an address as four numbers of 32 bits, which is the same for networks only. So ranges become networks.
//! - Where a later field has more prefixes than the first one, what packets have matched is left over for the next ones
//!   (until 6.10: commit 791a615b7ad2; with AVX2 until 6.15: commit ea77c397bff8). So the field that has most is
//!   the first.

use nft::{Concat, Element, Value};
use rules::set::networks;

/// The kernel's tables grow by so many prefixes.
const WORD: usize = 64;

/// Key and elements with the field that has the most prefixes ahead of the others, if it matters.
pub(super) fn ordered(key: Concat, elements: Vec<Element>) -> (Concat, Vec<Element>) {
    let fields = key.fields();
    let prefixes = |field: usize| -> usize {
        let ends = elements.iter().filter_map(|one| one.key().get(field));
        ends.map(|(low, high)| networks((number(low), number(high))).count())
            .sum()
    };
    let words = |field: usize| prefixes(field).div_ceil(WORD);
    let first = words(0);
    let most = (1..fields.len()).map(|field| (words(field), field)).max();
    let Some((_, ahead)) = most.filter(|(words, _)| *words > first) else {
        return (key, elements);
    };
    let mut reordered = fields.to_vec();
    reordered[..=ahead].rotate_right(1);
    let Some(key) = Concat::try_of(&reordered) else {
        return (key, elements);
    };
    let turned = |element: Element| {
        let mut ends = element.key().to_vec();
        ends[..=ahead].rotate_right(1);
        element.with_key(ends)
    };
    (key, elements.into_iter().map(turned).collect())
}

/// A field's value as the number that the kernel divides into prefixes.
fn number(value: &Value) -> u128 {
    match value {
        Value::V4(address) => u32::from(*address).into(),
        Value::V6(address) => (*address).into(),
        Value::Protocol(number) | Value::U8(number) => (*number).into(),
        Value::U16(number) => (*number).into(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
