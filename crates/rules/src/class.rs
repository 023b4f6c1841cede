//! The address tables behind the keywords.
//!
//! | keyword | meaning |
//! |---|---|
//! | `any` | every address |
//! | `cluster` | [`Facts::cluster`](super::facts::Facts) |
//! | `node` | addresses of this node, which only the kernel knows |
//! | `nodes` | these and [`Facts::nodes`](super::facts::Facts) |
//! | `metadata` | [`METADATA`] and [`WIRESERVER`], as asked or as translated |
//! | `dns` | [`Facts::dns`](super::facts::Facts), port 53 over TCP and UDP, as asked or as translated |
//! | `apiserver` | [`Facts::api_server`](super::facts::Facts) with their ports, as asked or as translated |
//! | `multicast` | [`MULTICAST`]; only a rule lets it out |
//! | `private` | [`PRIVATE`], less cluster, nodes and metadata |
//! | `internet` | all but [`NOT_INTERNET`], [`PRIVATE`], cluster, nodes and metadata |
//!
//! An IPv4 address also means the same address behind a NAT64 prefix: see [`super::nat64`].

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

/// What of [`PRIVATE`] is of one link: no domain name stands for it.
pub const LINK_LOCAL: [IpNet; 2] = [PRIVATE[4], PRIVATE[6]];

/// A cloud's metadata service, which hands out credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataService {
    /// Its only address.
    pub address: IpNet,
    /// Whose it is.
    pub owner: &'static str,
    /// The public page or source that says so.
    pub source: &'static str,
}

/// Every metadata service that has an address of its own.
pub const METADATA: [MetadataService; 15] = [
    service(
        v4([169, 254, 169, 254], 32),
        "AWS, Azure, Google Cloud, Oracle, OpenStack, DigitalOcean, Hetzner, Akamai and most others",
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html",
    ),
    service(
        v4([169, 254, 170, 2], 32),
        "AWS, credentials of ECS tasks",
        "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html",
    ),
    service(
        v4([169, 254, 170, 23], 32),
        "AWS, EKS Pod Identity",
        "https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html",
    ),
    service(
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
        "AWS",
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html",
    ),
    service(
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128),
        "AWS, EKS Pod Identity",
        "https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html",
    ),
    service(
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
        "Google Cloud",
        "https://cloud.google.com/compute/docs/metadata/querying-metadata",
    ),
    service(
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        "Oracle Cloud",
        "https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm",
    ),
    service(
        v4([192, 0, 0, 192], 32),
        "Oracle Cloud Classic",
        "https://docs.oracle.com/en/cloud/iaas-classic/compute-iaas-cloud/stcsg/retrieving-instance-metadata.html",
    ),
    service(
        v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        "OpenStack, Akamai",
        "https://docs.openstack.org/nova/latest/admin/metadata-service.html",
    ),
    service(
        v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128),
        "Akamai (Linode)",
        "https://techdocs.akamai.com/cloud-computing/docs/metadata-service-api",
    ),
    service(
        v4([100, 100, 100, 200], 32),
        "Alibaba Cloud",
        "https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata",
    ),
    service(
        v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128),
        "Alibaba Cloud",
        "https://github.com/canonical/cloud-init/blob/main/cloudinit/sources/DataSourceAliYun.py",
    ),
    service(
        v4([169, 254, 0, 23], 32),
        "Tencent Cloud",
        "https://github.com/DataDog/datadog-agent/blob/main/pkg/util/cloudproviders/tencent/tencent.go",
    ),
    service(
        v4([169, 254, 42, 42], 32),
        "Scaleway",
        "https://docs.cloud-init.io/en/latest/reference/datasources/scaleway.html",
    ),
    service(
        v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128),
        "Scaleway",
        "https://docs.cloud-init.io/en/latest/reference/datasources/scaleway.html",
    ),
];

/// Azure's WireServer: it hands out a node's certificates on two of its TCP ports. On port 53 it is the
/// DNS server of virtual networks, and that is no metadata.
pub const WIRESERVER: MetadataService = service(
    v4([168, 63, 129, 16], 32),
    "Azure, WireServer, TCP ports 80 and 32526 only",
    "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16",
);

/// The TCP ports of [`WIRESERVER`] that are meant.
pub const WIRESERVER_PORTS: [u16; 2] = [80, 32526];

/// Where a packet goes to many at once.
pub const MULTICAST: [IpNet; 3] = [
    v4([224, 0, 0, 0], 4),                // RFC 1112
    v4([255, 255, 255, 255], 32),         // RFC 919, everybody on the link
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // RFC 4291 section 2.7
];

/// What is of the Internet as little as [`PRIVATE`] is. What is between 240.0.0.0 and 255.255.255.254 is
/// not among it: some clouds give these addresses to pods and nodes.
pub const NOT_INTERNET: [IpNet; 13] = [
    v4([0, 0, 0, 0], 8),   // RFC 791 section 3.2, "this network"
    v4([127, 0, 0, 0], 8), // RFC 1122 section 3.2.1.3, loopback
    MULTICAST[0],
    MULTICAST[1],
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96), // RFC 4291: unspecified, loopback, "IPv4-compatible" (deprecated)
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), // RFC 4291 section 2.5.5.2, IPv4-mapped
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), // RFC 7915, IPv4-translated
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), // RFC 6052, NAT64: see `nat64`
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // RFC 8215, NAT64 inside one network
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), // RFC 6666, discarded
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), // RFC 4380, Teredo: IPv4 inside
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // RFC 3056, 6to4: IPv4 inside
    MULTICAST[2],
];

/// The port of DNS, over TCP and UDP (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// Whether one of the networks holds the address.
pub fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

const fn service(address: IpNet, owner: &'static str, source: &'static str) -> MetadataService {
    MetadataService {
        address,
        owner,
        source,
    }
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

    fn metadata() -> Vec<IpNet> {
        METADATA.iter().map(|service| service.address).collect()
    }

    #[test]
    fn tables_have_no_host_bits() {
        let all = PRIVATE.iter().chain(&MULTICAST).chain(&NOT_INTERNET);
        for net in all.chain(&metadata()) {
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
            text(&metadata()),
            "169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 fd00:ec2::254/128 fd00:ec2::23/128 \
             fd20:ce::254/128 fd00:c1::a9fe:a9fe/128 192.0.0.192/32 fe80::a9fe:a9fe/128 \
             fd00:a9fe:a9fe::1/128 100.100.100.200/32 fd00:100::100:200/128 169.254.0.23/32 \
             169.254.42.42/32 fd00:42::42/128"
        );
        assert_eq!(text(&[WIRESERVER.address]), "168.63.129.16/32");
        assert_eq!(
            text(&NOT_INTERNET),
            "0.0.0.0/8 127.0.0.0/8 224.0.0.0/4 255.255.255.255/32 ::/96 ::ffff:0.0.0.0/96 ::ffff:0:0:0/96 \
             64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/32 2002::/16 ff00::/8"
        );
    }

    /// Each row says where everybody can read it.
    #[test]
    fn each_metadata_service_has_its_source() {
        for service in METADATA.iter().chain([&WIRESERVER]) {
            assert!(service.source.starts_with("https://"), "{service:?}");
            assert_eq!(
                service.address.prefix_len(),
                service.address.max_prefix_len()
            );
        }
    }
}
