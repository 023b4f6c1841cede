//! The shortest list of targets for a set of addresses.

use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use super::metadata;
use rules::rule::Target;
use rules::set::{Addresses, Family};

/// What `--generalise` makes is never wider than this: two addresses that have nothing to do with
/// each other would open half the Internet. /16 and /32 are what a large site and a provider have.
const WIDEST_V4: u8 = 16;
const WIDEST_V6: u8 = 32;

/// Targets that hold the addresses: exactly these, or, where a network that is not too wide holds
/// at least `generalise` of them, the smallest such network.
pub(super) fn targets(addresses: &[IpAddr], generalise: Option<usize>) -> Vec<Target> {
    let mut all = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut nets: Vec<IpNet> = addresses
            .iter()
            .filter(|address| Family::of(address) == family)
            .map(|address| IpNet::from(*address))
            .collect();
        nets.sort_unstable();
        nets.dedup();
        if let Some(least) = generalise {
            nets = generalised(&nets, least);
        }
        for (first, last) in Addresses::of(family, &nets).iter() {
            all.extend(shortest(first, last));
        }
    }
    all
}

/// The networks that are exactly this range, or the range itself where that is shorter to write.
fn shortest(first: IpAddr, last: IpAddr) -> Vec<Target> {
    let subnets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        // A range of both families: there is none.
        _ => return Vec::new(),
    };
    let nets: Vec<Target> = subnets.map(Target::Net).collect();
    let range = Target::Range(first, last);
    let commas = nets.len().saturating_sub(1);
    let length: usize = nets.iter().map(|net| net.to_string().len()).sum();
    if range.to_string().len() < length + commas {
        vec![range]
    } else {
        nets
    }
}

/// The smallest networks that hold at least `least` of the sorted single addresses, and the
/// addresses that are in none of them. Never one that holds a metadata service.
fn generalised(sorted: &[IpNet], least: usize) -> Vec<IpNet> {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return Vec::new();
    };
    if sorted.len() < least.max(2) {
        return sorted.to_vec();
    }
    let common = common(*first, *last);
    // Its lower half ends where the next bit is one. One address has no halves, but `sorted` has two.
    let Ok(halves) = common.subnets(common.prefix_len() + 1) else {
        return sorted.to_vec();
    };
    let Some(upper) = halves.last() else {
        return sorted.to_vec();
    };
    let (low, high) = sorted.split_at(sorted.partition_point(|net| net.addr() < upper.addr()));
    let widest = if common.addr().is_ipv4() {
        WIDEST_V4
    } else {
        WIDEST_V6
    };
    let narrow = common.prefix_len() >= widest && !metadata::is_in(&common);
    if low.len() < least && high.len() < least && narrow {
        return vec![common];
    }
    let mut all = generalised(low, least);
    all.extend(generalised(high, least));
    all
}

/// The smallest network that holds both.
fn common(one: IpNet, other: IpNet) -> IpNet {
    let mut net = one;
    while !net.contains(&other) {
        match net.supernet() {
            Some(wider) => net = wider,
            None => break,
        }
    }
    net
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(addresses: &str, generalise: Option<usize>) -> String {
        let addresses: Vec<IpAddr> = addresses
            .split_whitespace()
            .map(|address| address.parse().unwrap())
            .collect();
        let all: Vec<String> = targets(&addresses, generalise)
            .iter()
            .map(ToString::to_string)
            .collect();
        all.join(",")
    }

    #[test]
    fn neighbours_join_exactly() {
        for (addresses, wanted) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7 203.0.113.6", "203.0.113.6/31"),
            ("203.0.113.7 203.0.113.8", "203.0.113.7,203.0.113.8"),
            ("10.0.0.7 10.0.0.8 10.0.0.9", "10.0.0.7-10.0.0.9"),
            ("10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6", "10.0.0.3-10.0.0.6"),
            ("10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3", "10.0.0.0/30"),
            ("255.255.255.255 ::", "255.255.255.255,::"),
            ("2001:db8::1 10.0.0.1 2001:db8::", "10.0.0.1,2001:db8::/127"),
            ("fe80::1 fe80::1", "fe80::1"),
        ] {
            assert_eq!(text(addresses, None), wanted);
        }
    }

    #[test]
    fn generalised_is_the_smallest_network_of_that_many() {
        for (addresses, least, wanted) in [
            ("10.0.0.1 10.0.0.9 10.0.0.14", 3, "10.0.0.0/28"),
            ("10.0.0.1 10.0.0.9 10.0.0.14", 2, "10.0.0.1,10.0.0.8/29"),
            (
                "10.0.0.1 10.0.0.9 10.0.0.14",
                4,
                "10.0.0.1,10.0.0.9,10.0.0.14",
            ),
            (
                "10.0.0.1 10.0.1.1 10.0.1.2 10.0.1.3",
                3,
                "10.0.0.1,10.0.1.0/30",
            ),
            ("10.0.0.1 10.0.0.2", 1, "10.0.0.1,10.0.0.2"),
            // Nothing in common.
            (
                "8.8.8.8 203.0.113.7 203.0.113.200",
                3,
                "8.8.8.8,203.0.113.7,203.0.113.200",
            ),
            ("10.0.0.1 10.0.255.1", 2, "10.0.0.0/16"),
            ("10.0.0.1 10.1.0.1", 2, "10.0.0.1,10.1.0.1"),
            ("2001:db8::1 2001:db8:ffff::1", 2, "2001:db8::/32"),
            ("2001:db8::1 2001:db9::1", 2, "2001:db8::1,2001:db9::1"),
        ] {
            assert_eq!(text(addresses, Some(least)), wanted);
        }
    }

    proptest! {
        #[test]
        fn exact_is_exact_and_general_holds_all(
            hosts in prop::collection::btree_set(0_u16..400, 1..60),
            least in 1_usize..6,
        ) {
            let address = |host: &u16| {
                let [high, low] = host.to_be_bytes();
                IpAddr::from([10, 0, high, low])
            };
            let addresses: Vec<IpAddr> = hosts.iter().map(address).collect();
            let holds = |targets: &[Target], host: u16| {
                targets.iter().any(|target| match target {
                    Target::Net(net) => net.contains(&address(&host)),
                    Target::Range(first, last) => (*first..=*last).contains(&address(&host)),
                    _ => false,
                })
            };
            let exact = targets(&addresses, None);
            let general = targets(&addresses, Some(least));
            for host in 0..=450 {
                prop_assert_eq!(holds(&exact, host), hosts.contains(&host));
                prop_assert!(holds(&general, host) || !hosts.contains(&host));
            }
        }
    }
}
