//! In which order a node tries the addresses of a list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nft::Family;
use sha2::{Digest, Sha256};

/// The addresses of one family, beginning at a place that follows from the node's name: nodes that
/// start at the same time seldom try the same one.
pub fn order(list: &[IpNet], family: Family, node: &str) -> impl Iterator<Item = IpAddr> {
    let nets: Vec<IpNet> = list
        .iter()
        .filter(|net| Family::of(&net.addr()) == family)
        .map(IpNet::trunc)
        .collect();
    let total = nets
        .iter()
        .fold(0u128, |sum, net| sum.saturating_add(size(net)));
    let start = hash(node).checked_rem(total).unwrap_or(0);
    (0..total).filter_map(move |n| {
        // Both are less than 2^127, since a network counts for 2^64 at most.
        nth(&nets, (start + n) % total)
    })
}

/// How many addresses of a network are tried. Nobody takes 2^64.
fn size(net: &IpNet) -> u128 {
    let bits = net.max_prefix_len() - net.prefix_len();
    1 << bits.min(64)
}

fn nth(nets: &[IpNet], mut n: u128) -> Option<IpAddr> {
    for net in nets {
        if n < size(net) {
            return Some(match net.addr() {
                IpAddr::V4(first) => {
                    Ipv4Addr::from(u32::from(first) + u32::try_from(n).ok()?).into()
                }
                IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + n).into(),
            });
        }
        n -= size(net);
    }
    None
}

fn hash(node: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(node.as_bytes()).into();
    u128::from(u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn every_address_of_the_family_once_from_a_place_of_the_nodes_own() {
        let list = nets(&["203.0.113.8/29", "2001:db8::/126", "198.51.100.1/32"]);
        let all = |node: &str| order(&list, Family::V4, node).collect::<Vec<_>>();
        for node in ["node-1", "node-2", ""] {
            let (addresses, set) = (all(node), BTreeSet::from_iter(all(node)));
            assert_eq!((addresses.len(), set.len()), (9, 9), "{addresses:?}");
            assert!(set.iter().all(|a| list.iter().any(|net| net.contains(a))));
        }
        assert_eq!(all("node-1"), all("node-1"));
        assert_eq!(order(&list, Family::V6, "node-1").count(), 4);
        assert_eq!(order(&[], Family::V4, "node-1").count(), 0);
    }

    #[test]
    fn nodes_are_spread() {
        let list = nets(&["203.0.113.0/24"]);
        let first = |n: u32| {
            order(&list, Family::V4, &format!("node-{n}"))
                .next()
                .unwrap()
        };
        let firsts: BTreeSet<_> = (0..50).map(first).collect();
        assert!(firsts.len() > 35, "{} different of 50", firsts.len());
    }

    #[test]
    fn huge_networks_are_no_work() {
        let list = nets(&["::/0", "2001:db8::/32", "0.0.0.0/0"]);
        assert_eq!(order(&list, Family::V6, "node-1").take(1000).count(), 1000);
        assert_eq!(order(&list, Family::V4, "node-1").take(1000).count(), 1000);
    }
}
