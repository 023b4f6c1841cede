//! The address tables behind the keywords.
//!
//! | keyword | meaning |
//! |---|---|
//! | `any` | every address |
//! | `cluster` | [`Facts::cluster`](super::effective::Facts) |
//! | `node` | addresses of this node, which only the kernel knows |
//! | `metadata` | [`METADATA`] |
//! | `dns` | [`Facts::dns`](super::effective::Facts), port 53 over TCP and UDP |
//! | `private` | [`PRIVATE`], less cluster, node and metadata |
//! | `internet` | all but [`NOT_UNICAST`], [`PRIVATE`], cluster, node and metadata |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that are not of the Internet.
pub const PRIVATE: [IpNet; 7] = [
    v4([10, 0, 0, 0], 8),                  // RFC 1918
    v4([172, 16, 0, 0], 12),               // RFC 1918
    v4([192, 168, 0, 0], 16),              // RFC 1918
    v4([100, 64, 0, 0], 10),               // RFC 6598, carrier-grade NAT
    v4([169, 254, 0, 0], 16),              // RFC 3927, link-local
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),  // RFC 4193, unique local
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // RFC 4291 section 2.5.6, link-local
];

/// Metadata services of clouds, which hand out credentials.
pub const METADATA: [IpNet; 7] = [
    v4([169, 254, 169, 254], 32), // AWS, Azure, Google Cloud, OpenStack and most others
    v4([169, 254, 170, 2], 32),   // AWS ECS task credentials
    v4([169, 254, 170, 23], 32),  // AWS EKS Pod Identity
    v4([169, 254, 0, 23], 32),    // Tencent Cloud
    v4([100, 100, 100, 200], 32), // Alibaba Cloud
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), // AWS
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), // AWS EKS Pod Identity
];

/// What is never the destination of a unicast packet on a wire.
pub const NOT_UNICAST: [IpNet; 6] = [
    v4([0, 0, 0, 0], 8),                  // RFC 791 section 3.2, "this network"
    v4([127, 0, 0, 0], 8),                // RFC 1122 section 3.2.1.3, loopback
    v4([224, 0, 0, 0], 3),                // RFC 1112, multicast, reserved and broadcast
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128),    // RFC 4291 section 2.5.2, unspecified
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128),    // RFC 4291 section 2.5.3, loopback
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // RFC 4291 section 2.7, multicast
];

/// The port of DNS, over TCP and UDP (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// Whether one of the networks holds the address.
pub fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(a, b, c, d, e, f, g, h),
        prefix,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_no_host_bits() {
        for net in PRIVATE.iter().chain(&METADATA).chain(&NOT_UNICAST) {
            assert_eq!(*net, net.trunc());
        }
    }

    #[test]
    fn tables_read_as_documented() {
        let text = |nets: &[IpNet]| {
            let all: Vec<String> = nets.iter().map(ToString::to_string).collect();
            all.join(" ")
        };
        assert_eq!(
            text(&PRIVATE),
            "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16 fc00::/7 fe80::/10"
        );
        assert_eq!(
            text(&METADATA),
            "169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 169.254.0.23/32 \
             100.100.100.200/32 fd00:ec2::254/128 fd00:ec2::23/128"
        );
        assert_eq!(
            text(&NOT_UNICAST),
            "0.0.0.0/8 127.0.0.0/8 224.0.0.0/3 ::/128 ::1/128 ff00::/8"
        );
    }
}
