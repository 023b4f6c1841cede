//! What a rule compares: a field of the packet (or of its conntrack entry) with a value.
//!
//! Each prints itself in nft's syntax. How it becomes expressions is in [`super::encode`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // they are what nft calls so: see `as_str`
pub enum Field {
    Nfproto,
    L4proto,
    EtherSaddr,
    EtherType,
    IpSaddr,
    IpDaddr,
    Ip6Saddr,
    Ip6Daddr,
    Ip6Nexthdr,
    Ip6Hoplimit,
    Ip6Length,
    TcpDport,
    UdpDport,
    SctpDport,
    IcmpType,
    IcmpCode,
    Icmpv6Type,
    Icmpv6Code,
    /// The target address of a neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4).
    NdTarget,
    /// The destination of the packet that an ICMP error is about (RFC 792).
    IcmpQuotedDaddr,
    /// The destination of the packet that an ICMPv6 error is about (RFC 4443).
    Icmpv6QuotedDaddr,
    ArpHtype,
    ArpPtype,
    ArpHlen,
    ArpPlen,
    ArpOperation,
    ArpSaddrEther,
    ArpSaddrIp,
    ArpDaddrIp,
    CtState,
    CtDirection,
    /// What has been done with its flow.
    CtStatus,
    CtOriginalSaddr,
    CtOriginalSaddr6,
    CtOriginalDaddr,
    CtOriginalDaddr6,
    CtOriginalDport,
    /// `fib daddr type`: what kind of address the destination is to this node.
    FibDaddrType,
    /// The wall clock.
    Time,
    /// The destination port of any protocol that has it where TCP has.
    ThDport,
}

impl Field {
    /// As nft spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Field::Nfproto => "meta nfproto",
            Field::L4proto => "meta l4proto",
            Field::EtherSaddr => "ether saddr",
            Field::EtherType => "ether type",
            Field::IpSaddr => "ip saddr",
            Field::IpDaddr => "ip daddr",
            Field::Ip6Saddr => "ip6 saddr",
            Field::Ip6Daddr => "ip6 daddr",
            Field::Ip6Nexthdr => "ip6 nexthdr",
            Field::Ip6Hoplimit => "ip6 hoplimit",
            Field::Ip6Length => "ip6 length",
            Field::TcpDport => "tcp dport",
            Field::UdpDport => "udp dport",
            Field::SctpDport => "sctp dport",
            Field::IcmpType => "icmp type",
            Field::IcmpCode => "icmp code",
            Field::Icmpv6Type => "icmpv6 type",
            Field::Icmpv6Code => "icmpv6 code",
            Field::NdTarget => "@th,64,128",
            Field::IcmpQuotedDaddr => "@th,192,32",
            Field::Icmpv6QuotedDaddr => "@th,256,128",
            Field::ArpHtype => "arp htype",
            Field::ArpPtype => "arp ptype",
            Field::ArpHlen => "arp hlen",
            Field::ArpPlen => "arp plen",
            Field::ArpOperation => "arp operation",
            Field::ArpSaddrEther => "arp saddr ether",
            Field::ArpSaddrIp => "arp saddr ip",
            Field::ArpDaddrIp => "arp daddr ip",
            Field::CtState => "ct state",
            Field::CtDirection => "ct direction",
            Field::CtStatus => "ct status",
            Field::CtOriginalSaddr => "ct original ip saddr",
            Field::CtOriginalSaddr6 => "ct original ip6 saddr",
            Field::CtOriginalDaddr => "ct original ip daddr",
            Field::CtOriginalDaddr6 => "ct original ip6 daddr",
            Field::CtOriginalDport => "ct original proto-dst",
            Field::FibDaddrType => "fib daddr type",
            Field::Time => "meta time",
            Field::ThDport => "th dport",
        }
    }
}

/// Several fields that are looked up together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Concat {
    /// Destination address, IP protocol, destination port.
    Ports(Family),
    /// Destination address, ICMP or ICMPv6 type.
    IcmpTypes(Family),
    /// Destination address, IP protocol.
    Protocols(Family),
}

impl Concat {
    /// The fields in their order.
    pub const fn fields(self) -> &'static [Field] {
        use Field::{IcmpType, Icmpv6Type, Ip6Daddr, IpDaddr, L4proto, ThDport};
        match self {
            Concat::Ports(Family::V4) => &[IpDaddr, L4proto, ThDport],
            Concat::Ports(Family::V6) => &[Ip6Daddr, L4proto, ThDport],
            Concat::IcmpTypes(Family::V4) => &[IpDaddr, IcmpType],
            Concat::IcmpTypes(Family::V6) => &[Ip6Daddr, Icmpv6Type],
            Concat::Protocols(Family::V4) => &[IpDaddr, L4proto],
            Concat::Protocols(Family::V6) => &[Ip6Daddr, L4proto],
        }
    }
}

impl fmt::Display for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, field) in self.fields().iter().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            write!(f, "{dot}{}", field.as_str())?;
        }
        Ok(())
    }
}

/// A value that a field is compared with, in the byte order of that field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// A number of one byte.
    U8(u8),
    /// Big-endian, as in packets.
    U16(u16),
    /// `ipv4` or `ipv6`.
    Nfproto(Family),
    /// An IP protocol number (IANA).
    Protocol(u8),
    /// An Ethernet type (IANA).
    EtherType(u16),
    /// `ct direction`.
    Reply,
    /// `fib daddr type local`.
    Local,
    /// Seconds since 1970.
    Seconds(u64),
    /// A 128-bit number printed in hex: an address where nft knows no field.
    Hex(Ipv6Addr),
    /// The same of 32 bits.
    Hex4(Ipv4Addr),
}

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family that an address belongs to.
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Value::V4(a),
            IpAddr::V6(a) => Value::V6(a),
        }
    }
}

impl Value {
    /// The bytes that the kernel compares a register with.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Value::V4(a) | Value::Hex4(a) => a.octets().to_vec(),
            Value::V6(a) | Value::Hex(a) => a.octets().to_vec(),
            Value::Mac(mac) => mac.to_vec(),
            Value::U8(n) | Value::Protocol(n) => vec![n],
            Value::U16(n) | Value::EtherType(n) => n.to_be_bytes().to_vec(),
            Value::Nfproto(Family::V4) => vec![super::uapi::NFPROTO_IPV4],
            Value::Nfproto(Family::V6) => vec![super::uapi::NFPROTO_IPV6],
            Value::Reply => vec![1], // IP_CT_DIR_REPLY
            Value::Local => super::uapi::RTN_LOCAL.to_ne_bytes().to_vec(),
            Value::Seconds(s) => s.saturating_mul(1_000_000_000).to_be_bytes().to_vec(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::V4(a) => write!(f, "{a}"),
            Value::V6(a) => write!(f, "{a}"),
            Value::Hex(a) => write!(f, "{:#034x}", u128::from(*a)),
            Value::Hex4(a) => write!(f, "{:#010x}", u32::from(*a)),
            Value::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Value::U8(n) => write!(f, "{n}"),
            Value::U16(n) => write!(f, "{n}"),
            Value::Nfproto(Family::V4) => f.write_str("ipv4"),
            Value::Nfproto(Family::V6) => f.write_str("ipv6"),
            Value::Protocol(1) => f.write_str("icmp"),
            Value::Protocol(6) => f.write_str("tcp"),
            Value::Protocol(17) => f.write_str("udp"),
            Value::Protocol(58) => f.write_str("ipv6-icmp"),
            Value::Protocol(132) => f.write_str("sctp"),
            Value::Protocol(n) => write!(f, "{n}"),
            Value::EtherType(0x0800) => f.write_str("ip"),
            Value::EtherType(0x0806) => f.write_str("arp"),
            Value::EtherType(0x86dd) => f.write_str("ip6"),
            Value::EtherType(n) => write!(f, "{n:#06x}"),
            Value::Reply => f.write_str("reply"),
            Value::Local => f.write_str("local"),
            Value::Seconds(s) => write!(f, "{s}"),
        }
    }
}

/// How a field is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// Equal.
    Is(Value),
    /// Different.
    Not(Value),
    /// Less.
    Below(Value),
    /// Greater.
    Above(Value),
    /// Both ends included.
    Between(Value, Value),
    /// Neither of both ends, nor what is between them.
    NotBetween(Value, Value),
    /// An address of this network.
    Within(IpNet),
    /// An address of any other network.
    Outside(IpNet),
    /// A member of the named set.
    In(String),
    /// No member of the named set.
    NotIn(String),
    /// `ct state`: any of these.
    State(&'static [CtState]),
    /// `ct status`: its flow's destination was translated.
    Dnat,
}

/// Conntrack's view of a packet (`enum ip_conntrack_info`, as nft's bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtState {
    /// About a known flow, such as an ICMP error.
    Related,
    /// A flow's first packet.
    New,
}

impl CtState {
    /// nft's name and its bit (`NF_CT_STATE_BIT`).
    pub const fn name_and_bit(self) -> (&'static str, u32) {
        match self {
            CtState::Related => ("related", 4),
            CtState::New => ("new", 8),
        }
    }
}

/// One comparison of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Match {
    /// What is compared.
    pub field: Field,
    /// With what, and how.
    pub test: Test,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.as_str())?;
        match &self.test {
            Test::Is(v) => write!(f, " {v}"),
            Test::Not(v) => write!(f, " != {v}"),
            Test::Below(v) => write!(f, " < {v}"),
            Test::Above(v) => write!(f, " > {v}"),
            Test::Between(a, b) => write!(f, " {a}-{b}"),
            Test::NotBetween(a, b) => write!(f, " != {a}-{b}"),
            Test::Within(net) => write!(f, " {net}"),
            Test::Outside(net) => write!(f, " != {net}"),
            Test::In(set) => write!(f, " @{set}"),
            Test::NotIn(set) => write!(f, " != @{set}"),
            Test::Dnat => f.write_str(" dnat"),
            Test::State(states) => {
                let names: Vec<_> = states.iter().map(|s| s.name_and_bit().0).collect();
                write!(f, " {}", names.join(","))
            }
        }
    }
}
