//! Where a pod keeps its own source address, whatever egress IP it has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::class;

/// The networks that are inside for every pod, beside the cluster's and the node's own addresses.
pub const INSIDE: [IpNet; 7] = [
    v4([169, 254, 0, 0], 16), // RFC 3927, link-local
    v4([127, 0, 0, 0], 8),    // RFC 1122 section 3.2.1.3, loopback
    class::MULTICAST[0],
    class::MULTICAST[1],
    v6([0xfe80, 0], 10), // RFC 4291 section 2.5.6, link-local
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    class::MULTICAST[2],
];

/// Whether a packet to this address leaves with the pod's own address. `cluster` is the policy file's `clusterCIDRs`;
/// for the node's own addresses it is so, too.
pub fn is_inside(cluster: &[IpNet], address: IpAddr) -> bool {
    class::contains(&INSIDE, address) || class::contains(cluster, address)
}

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> IpNet {
    let address = Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0);
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_as_documented() {
        let all: Vec<String> = INSIDE.iter().map(ToString::to_string).collect();
        assert_eq!(
            all.join(" "),
            "169.254.0.0/16 127.0.0.0/8 224.0.0.0/4 255.255.255.255/32 fe80::/10 ::1/128 ff00::/8"
        );
        assert!(INSIDE.iter().all(|net| *net == net.trunc()));
    }

    #[test]
    fn the_cluster_is_inside_and_private_networks_are_not() {
        let cluster = ["10.244.0.0/16".parse().expect("a network")];
        for (address, inside) in [
            ("10.244.7.7", true),
            ("10.9.9.9", false),
            ("169.254.169.254", true),
            ("0.0.0.1", false),
            ("203.0.113.7", false),
            ("fe80::1", true),
            ("fd00::1", false),
            ("ff02::1", true),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(is_inside(&cluster, address), inside, "{address}");
        }
    }
}
