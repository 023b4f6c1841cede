//! Addresses that no name opens, whatever an answer says: who may answer for a name must not decide what pods may do
//! inside the cluster.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use rules::class::{METADATA, NOT_INTERNET, WIRESERVER, contains};
use rules::effective::Facts;
use rules::nat64;

/// What is of one link only.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Never {
    networks: Vec<IpNet>,
    nat64: Vec<ipnet::Ipv6Net>,
    own: HashSet<IpAddr>,
}

impl Never {
    /// By what a policy file and the API say, and this host's own addresses.
    pub fn new(facts: &Facts, own: impl IntoIterator<Item = IpAddr>) -> Never {
        // What is behind a NAT64 prefix is judged by where it really goes.
        let of_nobody = NOT_INTERNET.into_iter().filter(|net| {
            let prefixes = facts.nat64.iter().copied().map(IpNet::V6);
            !prefixes.into_iter().any(|prefix| prefix == *net)
        });
        let metadata = METADATA.iter().map(|service| service.address);
        let link_local = LINK_LOCAL.iter().filter_map(|net| net.parse().ok());
        let networks = of_nobody
            .chain(metadata)
            .chain([WIRESERVER.address])
            .chain(link_local)
            .chain(facts.cluster.iter().copied())
            .chain(facts.nodes.iter().copied())
            .chain(facts.dns.iter().copied().map(IpNet::from));
        Never {
            networks: networks.collect(),
            nat64: facts.nat64.clone(),
            own: own.into_iter().collect(),
        }
    }

    /// Whether it is one.
    pub fn is(&self, address: IpAddr) -> bool {
        if self.own.contains(&address) || contains(&self.networks, address) {
            return true;
        }
        let IpAddr::V6(v6) = address else {
            return false;
        };
        // What is behind a NAT64 prefix is the IPv4 address there.
        let behind = nat64::behind(&self.nat64, v6);
        behind.is_some_and(|all: RangeInclusive<u32>| {
            let ends = [*all.start(), *all.end()];
            ends.into_iter().any(|end| self.is(IpAddr::V4(end.into())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_open() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let facts = Facts {
            cluster: vec![net("10.244.0.0/16"), net("10.96.0.0/12"), net("fd44::/48")],
            nodes: vec![net("172.30.0.7/32")],
            dns: vec!["10.1.1.1".parse().expect("an address")],
            nat64: vec![nat64::WELL_KNOWN],
            ..Facts::default()
        };
        let own = ["203.0.113.200", "2001:db8::200"].map(|ip| ip.parse().expect("an address"));
        let never = Never::new(&facts, own);
        for address in [
            "203.0.113.7",
            "10.9.9.9",
            "192.168.1.1",
            "100.64.0.1",
            "172.30.0.8",
            "240.0.0.1",
            "2001:db8::7",
            "fd00::7",
            "64:ff9b::cb00:7107",
            "1.1.1.1",
        ] {
            assert!(!never.is(address.parse().expect("an address")), "{address}");
        }
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "169.254.20.11",
            "224.0.0.1",
            "255.255.255.255",
            "10.244.3.4",
            "10.96.0.10",
            "172.30.0.7",
            "10.1.1.1",
            "203.0.113.200",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd44::1",
            "2001:db8::200",
            "::ffff:203.0.113.7",
            "::203.0.113.7",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::af4:304",
            "64:ff9b::7f00:1",
            "fd00:ec2::254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(never.is(address.parse().expect("an address")), "{address}");
        }
    }
}
