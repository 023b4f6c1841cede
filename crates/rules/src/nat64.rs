//! IPv4 addresses behind a NAT64 prefix (RFC 6052): where a packet to `64:ff9b::a09:909` really goes is
//! 10.9.9.9.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::Ipv6Net;

use super::fault::{Complaint, quoted};

/// The lengths that a prefix may have (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The prefix that every NAT64 has unless it is configured otherwise (RFC 6052 section 2.1).
pub const WELL_KNOWN: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Reads a prefix, as it stands in the policy file.
///
/// # Errors
/// It is no IPv6 network of a length that NAT64 has.
pub fn prefix(text: &str) -> Result<Ipv6Net, Complaint> {
    let expected = || {
        Complaint::new(format!(
            "expected a NAT64 prefix, found {}",
            quoted(text)
        ))
        .help("it is an IPv6 network of /32, /40, /48, /56, /64 or /96 (RFC 6052), such as `64:ff9b::/96`")
    };
    let prefix = text.parse::<Ipv6Net>().map_err(|_| expected())?;
    if !LENGTHS.contains(&prefix.prefix_len()) {
        return Err(expected());
    }
    if prefix.trunc() != prefix {
        let complaint = Complaint::new(format!("{} has host bits set", quoted(text)));
        return Err(complaint.meant(prefix.trunc()));
    }
    Ok(prefix)
}

/// Where an IPv4 address's bits are behind a prefix: `low` of them behind the octet that is zero (bits 64
/// to 71), the others before it.
#[derive(Debug, Clone, Copy)]
struct Layout {
    low: u32,
}

impl Layout {
    /// Of a prefix that ends before the zero octet.
    const fn of(length: u8) -> Self {
        Self {
            low: (length as u32).saturating_sub(32),
        }
    }

    /// The greatest number of `low` bits.
    const fn mask(self) -> u32 {
        match self.low {
            32 => u32::MAX,
            low => (1 << low) - 1,
        }
    }

    /// Its bits before the zero octet, and those behind it.
    fn split(self, address: u32) -> (u128, u128) {
        let high = u64::from(address) >> self.low;
        (u128::from(high), u128::from(address & self.mask()))
    }
}

/// The address behind this prefix.
pub fn embed(prefix: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    let (net, address) = (u128::from(prefix.network()), u32::from(address));
    if prefix.prefix_len() == 96 {
        return (net | u128::from(address)).into();
    }
    let layout = Layout::of(prefix.prefix_len());
    let (high, low) = layout.split(address);
    (net | high << 64 | low << (56 - layout.low)).into()
}

/// What an address behind one of these prefixes stands for, both ends included; `None`: it is behind none.
///
/// It is one address. Only where the octet is not zero that has to be, it may be any with the same bits
/// before that octet: translators differ in what they make of it.
pub fn behind(prefixes: &[Ipv6Net], address: Ipv6Addr) -> Option<RangeInclusive<u32>> {
    let prefix = prefixes.iter().find(|prefix| prefix.contains(&address))?;
    let bits = u128::from(address) & u128::from(prefix.hostmask());
    if prefix.prefix_len() == 96 {
        return Some(bits as u32..=bits as u32);
    }
    let layout = Layout::of(prefix.prefix_len());
    let first = (((bits >> 64) as u64) << layout.low) as u32;
    let low = (bits >> (56 - layout.low)) as u32 & layout.mask();
    let zero = (bits >> 56) as u8 == 0;
    Some(match zero {
        true => first | low..=first | low,
        false => first..=first | layout.mask(),
    })
}

/// All addresses behind this prefix that stand for some of these and for no others: at most three ranges,
/// both ends included, sorted.
pub fn ranges(prefix: Ipv6Net, first: u32, last: u32) -> Vec<(u128, u128)> {
    let net = u128::from(prefix.network());
    if prefix.prefix_len() == 96 {
        return vec![(net | u128::from(first), net | u128::from(last))];
    }
    let layout = Layout::of(prefix.prefix_len());
    let rest = (1u128 << (56 - layout.low)) - 1;
    let ((high, from), (end, to)) = (layout.split(first), layout.split(last));
    let all = u128::from(layout.mask());
    let some = |high: u128, from: u128, to: u128| {
        let place = |low: u128| net | high << 64 | low << (56 - layout.low);
        (place(from), place(to) | rest)
    };
    // Whatever follows the bits before the zero octet.
    let whole = |from: u128, to: u128| (net | from << 64, net | to << 64 | u128::from(u64::MAX));
    if high == end {
        return vec![match (from, to) {
            (0, to) if to == all => whole(high, high),
            _ => some(high, from, to),
        }];
    }
    let mut found = Vec::with_capacity(3);
    let (mut start, mut stop) = (high, Some(end));
    if from > 0 {
        found.push(some(high, from, all));
        start += 1;
    }
    if to < all {
        stop = end.checked_sub(1);
    }
    if let Some(stop) = stop.filter(|stop| start <= *stop) {
        found.push(whole(start, stop));
    }
    if to < all {
        found.push(some(end, 0, to));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().expect("a network")
    }

    /// The table of RFC 6052 section 2.4.
    #[test]
    fn addresses_are_put_where_rfc_6052_puts_them() {
        for (prefix, embedded) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
            ("64:ff9b::/96", "64:ff9b::c000:221"),
        ] {
            let v4 = Ipv4Addr::new(192, 0, 2, 33);
            let found = embed(net(prefix), v4);
            assert_eq!(Ok(found), embedded.parse());
            assert_eq!(
                behind(&[net(prefix)], found),
                Some(u32::from(v4)..=u32::from(v4))
            );
            let elsewhere = "2001:db9::1".parse().expect("an address");
            assert_eq!(behind(&[net(prefix)], elsewhere), None);
        }
    }

    #[test]
    fn an_octet_that_is_not_zero_leaves_open_what_is_meant() {
        let odd = |text: &str| text.parse().expect("an address");
        let slash40 = [net("2001:db8:100::/40")];
        let some = u32::from(Ipv4Addr::new(192, 0, 2, 0));
        assert_eq!(
            behind(&slash40, odd("2001:db8:1c0:2:ff21::")),
            Some(some..=some + 255)
        );
        // Here it is behind all of the address.
        let slash32 = [net("2001:db8::/32")];
        assert_eq!(
            behind(&slash32, odd("2001:db8:c000:221:ff00::")),
            Some(some + 33..=some + 33)
        );
        assert_eq!(
            behind(
                &[net("2001:db8:122:344::/64")],
                odd("2001:db8:122:344:1c0::")
            ),
            Some(0..=u32::MAX)
        );
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for (text, help) in [
            ("64:ff9b::/95", "it is an IPv6 network of /32"),
            ("10.0.0.0/8", "it is an IPv6 network of /32"),
            ("64:ff9b::1/96", "did you mean `64:ff9b::/96`?"),
        ] {
            let complaint = prefix(text).expect_err("no prefix");
            assert!(
                complaint.help.unwrap_or_default().starts_with(help),
                "{text}"
            );
        }
        assert_eq!(prefix("64:ff9b::/96"), Ok(WELL_KNOWN));
    }

    fn prefixes() -> impl Strategy<Value = Ipv6Net> {
        prop::sample::select(vec![
            net("2001:db8::/32"),
            net("2001:db8:100::/40"),
            net("2001:db8:122::/48"),
            net("2001:db8:122:300::/56"),
            net("2001:db8:122:344::/64"),
            net("64:ff9b::/96"),
        ])
    }

    /// Addresses at the borders of octets, where ranges end, and others.
    fn v4() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            (any::<u32>(), 0u32..32).prop_map(|(n, bits)| n & (u32::MAX << bits)),
            (any::<u32>(), 0u32..32).prop_map(|(n, bits)| n | !(u32::MAX << bits)),
        ]
    }

    proptest! {
        #[test]
        fn ranges_hold_what_stands_for_their_addresses(
            prefix in prefixes(),
            (a, b) in (v4(), v4()),
            probe in prop_oneof![v4(), Just(0), Just(u32::MAX)],
            end in 0..3usize,
            octet in prop_oneof![Just(0u8), any::<u8>()],
            suffix in any::<u64>(),
        ) {
            let (first, last) = (a.min(b), a.max(b));
            let ranges = ranges(prefix, first, last);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let v4 = [probe, first, last][end];
            let mut bits = u128::from(embed(prefix, v4.into()));
            if prefix.prefix_len() < 96 {
                let low = Layout::of(prefix.prefix_len()).low;
                bits |= u128::from(octet) << 56;
                bits |= u128::from(suffix) & ((1 << (56 - low)) - 1);
            }
            let stands_for = behind(&[prefix], bits.into()).expect("is behind it");
            let wanted = first <= *stands_for.start() && *stands_for.end() <= last;
            let found = ranges.iter().any(|(a, b)| (*a..=*b).contains(&bits));
            prop_assert_eq!(found, wanted);
        }
    }
}
