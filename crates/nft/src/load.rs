//! Where a field's bytes are, and in which register they go.

use super::matching::Field;
use super::uapi::*;

/// Where a field's bytes come from.
pub enum Load {
    /// Header (0 link, 1 network, 2 transport), offset, length.
    Payload(u32, u32, u32),
    Meta(u32),
    Ct(u32),
    CtOriginal(u32),
    FibDaddrType,
}

/// Link, network and transport header (`enum nft_payload_bases`).
pub const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

pub fn load_of(field: Field) -> Load {
    use Load::*;
    match field {
        Field::Nfproto => Meta(NFT_META_NFPROTO),
        Field::L4proto => Meta(NFT_META_L4PROTO),
        Field::Time => Meta(NFT_META_TIME_NS),
        Field::EtherSaddr => Payload(LINK, 6, 6),
        Field::EtherType => Payload(LINK, 12, 2),
        Field::IpSaddr => Payload(NETWORK, 12, 4),
        Field::IpDaddr => Payload(NETWORK, 16, 4),
        Field::Ip6Length => Payload(NETWORK, 4, 2),
        Field::Ip6Nexthdr => Payload(NETWORK, 6, 1),
        Field::Ip6Hoplimit => Payload(NETWORK, 7, 1),
        Field::Ip6Saddr => Payload(NETWORK, 8, 16),
        Field::Ip6Daddr => Payload(NETWORK, 24, 16),
        Field::TcpDport | Field::UdpDport | Field::SctpDport | Field::ThDport => {
            Payload(TRANSPORT, 2, 2)
        }
        Field::IcmpType | Field::Icmpv6Type => Payload(TRANSPORT, 0, 1),
        Field::IcmpCode | Field::Icmpv6Code => Payload(TRANSPORT, 1, 1),
        Field::NdTarget => Payload(TRANSPORT, 8, 16),
        // behind 8 bytes of ICMP: 16 bytes into an IPv4 header, 24 into an IPv6 header
        Field::IcmpQuotedDaddr => Payload(TRANSPORT, 24, 4),
        Field::Icmpv6QuotedDaddr => Payload(TRANSPORT, 32, 16),
        // RFC 826 with Ethernet and IPv4 addresses
        Field::ArpHtype => Payload(NETWORK, 0, 2),
        Field::ArpPtype => Payload(NETWORK, 2, 2),
        Field::ArpHlen => Payload(NETWORK, 4, 1),
        Field::ArpPlen => Payload(NETWORK, 5, 1),
        Field::ArpOperation => Payload(NETWORK, 6, 2),
        Field::ArpSaddrEther => Payload(NETWORK, 8, 6),
        Field::ArpSaddrIp => Payload(NETWORK, 14, 4),
        Field::ArpDaddrIp => Payload(NETWORK, 24, 4),
        Field::CtState => Ct(NFT_CT_STATE),
        Field::CtDirection => Ct(NFT_CT_DIRECTION),
        Field::CtStatus => Ct(NFT_CT_STATUS),
        Field::CtOriginalSaddr => CtOriginal(NFT_CT_SRC_IP),
        Field::CtOriginalDaddr => CtOriginal(NFT_CT_DST_IP),
        Field::CtOriginalSaddr6 => CtOriginal(NFT_CT_SRC_IP6),
        Field::CtOriginalDaddr6 => CtOriginal(NFT_CT_DST_IP6),
        Field::CtOriginalDport => CtOriginal(NFT_CT_PROTO_DST),
        Field::FibDaddrType => Load::FibDaddrType,
    }
}

/// The number of the `place`th register of four bytes. Where one of sixteen begins, that one's: so
/// the kernel tells it back (`nft_dump_register`).
pub const fn register(place: u32) -> u32 {
    if place.is_multiple_of(4) {
        NFT_REG_1 + place / 4
    } else {
        NFT_REG32_00 + place
    }
}
