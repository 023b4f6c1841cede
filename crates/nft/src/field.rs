//! What rules look at: every field with its name in nft, where its bytes are, and what must hold
//! before they may be read.

use super::key::{self, Key};
use super::uapi::*;
use super::value::Family;

/// Where a field's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// A header and the offset in it (`nft_payload.c`).
    Payload(u32, u32),
    /// `nft_meta.c`
    Meta(u32),
    /// `nft_ct.c`
    Ct(u32),
    /// The same of the flow's original direction.
    CtOriginal(u32),
    /// `nft_fib.c`
    FibDaddrType,
    /// `nft_socket.c`
    Socket(u32),
    /// An IPv6 extension header's type, and the offset in it (`nft_exthdr.c`).
    Exthdr(u8, u32),
}

/// Link, network and transport header (`enum nft_payload_bases`).
pub(super) const LINK: u32 = 0;
const NETWORK: u32 = 1;
pub(super) const TRANSPORT: u32 = 2;

/// What must hold before a field may be read: the same checks as `nft` makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// The frame has an Ethernet header.
    Ethernet,
    /// It is a packet of this family.
    Family(Family),
    Arp,
    /// It is a packet of this IP protocol.
    Protocol(u8),
    /// It is ICMP of this family.
    Icmp(Family),
}

/// All that is to know of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    pub name: &'static str,
    pub load: Load,
    /// In bytes.
    pub length: u32,
    pub needs: Needs,
    /// What it is in the key of a set; fields without one can be in none.
    pub key: Option<Key>,
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $name:literal, $load:expr, $length:literal, $needs:expr, $key:expr;)*) => {
        /// What a rule looks at in a packet, or in what the kernel knows of it.
        ///
        /// Matches that `nft` puts before some of them by itself (`meta l4proto tcp` before
        /// `tcp dport`) are put there, too.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Field {
            $($(#[$doc])* #[doc = concat!("\n\nnft: `", $name, "`")] $field,)*
        }

        impl Field {
            /// Every field there is.
            pub const ALL: &[Field] = &[$(Field::$field),*];

            pub(super) const fn spec(self) -> Spec {
                match self {
                    $(Field::$field => Spec {
                        name: $name,
                        load: $load,
                        length: $length,
                        needs: $needs,
                        key: $key,
                    },)*
                }
            }
        }
    };
}

use Family::{V4, V6};
use Load::{Ct, CtOriginal, Exthdr, Meta, Payload};
use Needs::Nothing;

const TCP: Needs = Needs::Protocol(6);
const UDP: Needs = Needs::Protocol(17);
const SCTP: Needs = Needs::Protocol(132);
const IP: Needs = Needs::Family(V4);
const IP6: Needs = Needs::Family(V6);
const PORT: Option<Key> = Some(key::SERVICE);
const ADDRESS4: Option<Key> = Some(key::IPV4);
const ADDRESS6: Option<Key> = Some(key::IPV6);
const MAC: Option<Key> = Some(key::ETHER);

fields! {
    /// IPv4 or IPv6.
    Nfproto: "meta nfproto", Meta(NFT_META_NFPROTO), 1, Nothing, None;
    /// The IP protocol, behind all extension headers of IPv6.
    L4proto: "meta l4proto", Meta(NFT_META_L4PROTO), 1, Nothing, Some(key::PROTOCOL);
    /// The index of the device by which the packet came in, in this host's byte order.
    Iif: "iif", Meta(NFT_META_IIF), 4, Nothing, None;
    /// The device by which the packet came in.
    Iifname: "iifname", Meta(NFT_META_IIFNAME), 16, Nothing, Some(key::INTERFACE);
    /// The device by which the packet goes out.
    Oifname: "oifname", Meta(NFT_META_OIFNAME), 16, Nothing, Some(key::INTERFACE);
    /// The packet's mark, in this host's byte order.
    Mark: "meta mark", Meta(NFT_META_MARK), 4, Nothing, Some(key::MARK);
    /// The wall clock: nanoseconds since 1970.
    Time: "meta time", Meta(NFT_META_TIME_NS), 8, Nothing, None;
    /// The frame's destination.
    EtherDaddr: "ether daddr", Payload(LINK, 0), 6, Needs::Ethernet, MAC;
    /// The frame's source.
    EtherSaddr: "ether saddr", Payload(LINK, 6), 6, Needs::Ethernet, MAC;
    /// What the frame carries, ahead of any VLAN tag.
    EtherType: "ether type", Payload(LINK, 12), 2, Needs::Ethernet, None;
    /// 1 Ethernet (RFC 826).
    ArpHtype: "arp htype", Payload(NETWORK, 0), 2, Needs::Arp, None;
    /// The protocol whose address is asked for.
    ArpPtype: "arp ptype", Payload(NETWORK, 2), 2, Needs::Arp, None;
    /// How long link-layer addresses are.
    ArpHlen: "arp hlen", Payload(NETWORK, 4), 1, Needs::Arp, None;
    /// How long protocol addresses are.
    ArpPlen: "arp plen", Payload(NETWORK, 5), 1, Needs::Arp, None;
    /// 1 request, 2 reply.
    ArpOperation: "arp operation", Payload(NETWORK, 6), 2, Needs::Arp, None;
    /// Who says it is there, if addresses are Ethernet's and IPv4's.
    ArpSaddrEther: "arp saddr ether", Payload(NETWORK, 8), 6, Needs::Arp, MAC;
    /// Which address it says is its own, if addresses are Ethernet's and IPv4's.
    ArpSaddrIp: "arp saddr ip", Payload(NETWORK, 14), 4, Needs::Arp, ADDRESS4;
    /// Which address is asked for, if addresses are Ethernet's and IPv4's.
    ArpDaddrIp: "arp daddr ip", Payload(NETWORK, 24), 4, Needs::Arp, ADDRESS4;
    /// Three flags, then the fragment's offset in units of eight bytes (RFC 791).
    IpFragOff: "ip frag-off", Payload(NETWORK, 6), 2, IP, None;
    /// The source.
    IpSaddr: "ip saddr", Payload(NETWORK, 12), 4, IP, ADDRESS4;
    /// The destination.
    IpDaddr: "ip daddr", Payload(NETWORK, 16), 4, IP, ADDRESS4;
    /// Bytes behind the fixed header (RFC 8200).
    Ip6Length: "ip6 length", Payload(NETWORK, 4), 2, IP6, None;
    /// What follows the fixed header: a protocol, or an extension header.
    Ip6Nexthdr: "ip6 nexthdr", Payload(NETWORK, 6), 1, IP6, None;
    /// How many routers it may still meet.
    Ip6Hoplimit: "ip6 hoplimit", Payload(NETWORK, 7), 1, IP6, None;
    /// The source.
    Ip6Saddr: "ip6 saddr", Payload(NETWORK, 8), 16, IP6, ADDRESS6;
    /// The destination.
    Ip6Daddr: "ip6 daddr", Payload(NETWORK, 24), 16, IP6, ADDRESS6;
    /// A fragment's offset in units of eight bytes. A packet without fragment header has none: no
    /// test of this field holds for it.
    Ip6FragOff: "frag frag-off", Exthdr(44, 2), 2, IP6, None;
    /// The source port.
    TcpSport: "tcp sport", Payload(TRANSPORT, 0), 2, TCP, PORT;
    /// The destination port.
    TcpDport: "tcp dport", Payload(TRANSPORT, 2), 2, TCP, PORT;
    /// From the lowest bit on: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    TcpFlags: "tcp flags", Payload(TRANSPORT, 13), 1, TCP, None;
    /// The source port.
    UdpSport: "udp sport", Payload(TRANSPORT, 0), 2, UDP, PORT;
    /// The destination port.
    UdpDport: "udp dport", Payload(TRANSPORT, 2), 2, UDP, PORT;
    /// The destination port.
    SctpDport: "sctp dport", Payload(TRANSPORT, 2), 2, SCTP, PORT;
    /// The source port of any protocol that has it where TCP has.
    ThSport: "th sport", Payload(TRANSPORT, 0), 2, Nothing, PORT;
    /// The destination port of any protocol that has it where TCP has.
    ThDport: "th dport", Payload(TRANSPORT, 2), 2, Nothing, PORT;
    /// RFC 792. As with all of a transport header: in a chain ahead of defragmentation, in family
    /// netdev always, the kernel may take a later fragment's data for it.
    IcmpType: "icmp type", Payload(TRANSPORT, 0), 1, Needs::Icmp(V4), Some(key::ICMP_TYPE);
    /// RFC 792
    IcmpCode: "icmp code", Payload(TRANSPORT, 1), 1, Needs::Icmp(V4), None;
    /// The destination of the packet that an ICMP error is about (RFC 792).
    IcmpQuotedDaddr: "@th,192,32", Payload(TRANSPORT, 24), 4, Nothing, None;
    /// RFC 4443
    Icmpv6Type: "icmpv6 type", Payload(TRANSPORT, 0), 1, Needs::Icmp(V6), Some(key::ICMPV6_TYPE);
    /// RFC 4443
    Icmpv6Code: "icmpv6 code", Payload(TRANSPORT, 1), 1, Needs::Icmp(V6), None;
    /// The destination of the packet that an ICMPv6 error is about (RFC 4443).
    Icmpv6QuotedDaddr: "@th,256,128", Payload(TRANSPORT, 32), 16, Nothing, None;
    /// The target address of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4).
    NdTarget: "@th,64,128", Payload(TRANSPORT, 8), 16, Nothing, None;
    /// The first sixteen bytes behind UDP's header, as a set of IPv6 addresses holds them: nft knows no field there.
    UdpPayload: "@th,64,128", Payload(TRANSPORT, 8), 16, Nothing, ADDRESS6;
    /// Whether the socket that takes the packet has `IP_TRANSPARENT`. Of a packet without a socket, nothing is known.
    SocketTransparent: "socket transparent", Load::Socket(NFT_SOCKET_TRANSPARENT), 1, Nothing, None;
    /// What conntrack says of the packet; see [`CtState`](super::CtState).
    CtState: "ct state", Ct(NFT_CT_STATE), 4, Nothing, None;
    /// Whether the packet goes the way of its flow's first one, or back.
    CtDirection: "ct direction", Ct(NFT_CT_DIRECTION), 1, Nothing, None;
    /// What has been done with its flow (`enum ip_conntrack_status`), in this host's byte order.
    CtStatus: "ct status", Ct(NFT_CT_STATUS), 4, Nothing, None;
    /// Its flow's mark, in this host's byte order.
    CtMark: "ct mark", Ct(NFT_CT_MARK), 4, Nothing, Some(key::MARK);
    /// Its flow's labels, 128 bits: see [`Test::Labelled`](super::Test::Labelled).
    CtLabel: "ct label", Ct(NFT_CT_LABELS), 16, Nothing, None;
    /// Where the flow's first packet came from, before any translation.
    CtOriginalSaddr: "ct original ip saddr", CtOriginal(NFT_CT_SRC_IP), 4, Nothing, ADDRESS4;
    /// Where the flow's first packet came from, before any translation.
    CtOriginalSaddr6: "ct original ip6 saddr", CtOriginal(NFT_CT_SRC_IP6), 16, Nothing, ADDRESS6;
    /// Where the flow's first packet was sent, before any translation.
    CtOriginalDaddr: "ct original ip daddr", CtOriginal(NFT_CT_DST_IP), 4, Nothing, ADDRESS4;
    /// Where the flow's first packet was sent, before any translation.
    CtOriginalDaddr6: "ct original ip6 daddr", CtOriginal(NFT_CT_DST_IP6), 16, Nothing, ADDRESS6;
    /// To which port the flow's first packet was sent, before any translation.
    CtOriginalDport: "ct original proto-dst", CtOriginal(NFT_CT_PROTO_DST), 2, Nothing, PORT;
    /// What kind of address the destination is to this host, in its byte order
    /// (`RTN_*` in `include/uapi/linux/rtnetlink.h`).
    FibDaddrType: "fib daddr type", Load::FibDaddrType, 4, Nothing, None;
}

impl Field {
    /// As nft spells it.
    pub const fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// The bits that are the field's own, where it does not fill its bytes, and how far they are
    /// from the lowest one.
    pub(super) const fn bits(self) -> Option<([u8; 2], u32)> {
        match self {
            Field::Ip6FragOff => Some(([0xff, 0xf8], 3)),
            _ => None,
        }
    }
}
