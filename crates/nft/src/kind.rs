//! Which values a field is compared with, and how: what `nft` reads and lists as it was said.

use super::field::Field;
use super::value::{Family, Value};

/// What a field is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ipv4` or `ipv6`.
    Family,
    /// An IP protocol's number.
    Protocol,
    /// A device's name.
    Device,
    /// Bits that somebody has given to the packet.
    Mark,
    /// A moment.
    Time,
    /// An Ethernet address.
    Mac,
    /// A number of one byte.
    Byte,
    /// A number of two bytes.
    Number,
    /// One of few numbers, for which nft has words.
    Word,
    /// Bits with a meaning each.
    Flags,
    /// An address.
    Address(Family),
    /// An address where nft knows no field.
    Raw(Family),
    /// [`Test::State`](super::Test::State)
    State,
    /// [`Test::Dnat`](super::Test::Dnat), or bits of it.
    Status,
    /// A device's number.
    Index,
    /// [`Test::Labelled`](super::Test::Labelled)
    Labels,
}

impl Kind {
    /// Whether a value is one of these.
    pub const fn takes(self, field: Field, value: &Value) -> bool {
        match (self, value) {
            (Kind::Family, Value::Nfproto(_))
            | (Kind::Protocol, Value::Protocol(_))
            | (Kind::Device, Value::Interface(_))
            | (Kind::Mark | Kind::Status, Value::Mark(_))
            | (Kind::Index, Value::Index(_))
            | (Kind::Time, Value::Time(_))
            | (Kind::Mac, Value::Mac(_))
            | (Kind::Byte | Kind::Flags, Value::U8(_))
            | (Kind::Number, Value::U16(_))
            | (Kind::Address(Family::V4), Value::V4(_))
            | (Kind::Address(Family::V6), Value::V6(_))
            | (Kind::Raw(Family::V4), Value::Hex4(_))
            | (Kind::Raw(Family::V6), Value::Hex(_)) => true,
            (Kind::Word, Value::EtherType(_)) => {
                matches!(field, Field::EtherType | Field::ArpPtype)
            }
            (Kind::Word, Value::Original | Value::Reply) => matches!(field, Field::CtDirection),
            (Kind::Word, Value::U8(0 | 1)) => matches!(field, Field::SocketTransparent),
            (Kind::Word, Value::Local) => matches!(field, Field::FibDaddrType),
            _ => false,
        }
    }

    /// Whether one value may be more than another.
    pub const fn has_order(self) -> bool {
        matches!(
            self,
            Kind::Protocol
                | Kind::Time
                | Kind::Mac
                | Kind::Byte
                | Kind::Number
                | Kind::Address(_)
                | Kind::Raw(_)
        )
    }

    /// Whether single bits may be asked for.
    pub const fn has_bits(self) -> bool {
        matches!(
            self,
            Kind::Mark | Kind::Status | Kind::Flags | Kind::Byte | Kind::Number | Kind::Address(_)
        )
    }
}

impl Field {
    /// What it is made of.
    pub(super) const fn kind(self) -> Kind {
        use Family::{V4, V6};
        match self {
            Field::Nfproto => Kind::Family,
            Field::L4proto | Field::Ip6Nexthdr => Kind::Protocol,
            Field::Iifname | Field::Oifname => Kind::Device,
            Field::Mark | Field::CtMark => Kind::Mark,
            Field::Iif => Kind::Index,
            Field::CtLabel => Kind::Labels,
            Field::Time => Kind::Time,
            Field::EtherDaddr | Field::EtherSaddr | Field::ArpSaddrEther => Kind::Mac,
            Field::EtherType
            | Field::ArpPtype
            | Field::CtDirection
            | Field::FibDaddrType
            | Field::SocketTransparent => Kind::Word,
            Field::TcpFlags => Kind::Flags,
            Field::ArpHlen
            | Field::ArpPlen
            | Field::Ip6Hoplimit
            | Field::IcmpType
            | Field::IcmpCode
            | Field::Icmpv6Type
            | Field::Icmpv6Code => Kind::Byte,
            Field::ArpHtype
            | Field::ArpOperation
            | Field::IpFragOff
            | Field::Ip6Length
            | Field::Ip6FragOff
            | Field::TcpSport
            | Field::TcpDport
            | Field::UdpSport
            | Field::UdpDport
            | Field::SctpDport
            | Field::ThSport
            | Field::ThDport
            | Field::CtOriginalDport => Kind::Number,
            Field::ArpSaddrIp
            | Field::ArpDaddrIp
            | Field::IpSaddr
            | Field::IpDaddr
            | Field::CtOriginalSaddr
            | Field::CtOriginalDaddr => Kind::Address(V4),
            Field::Ip6Saddr
            | Field::Ip6Daddr
            | Field::CtOriginalSaddr6
            | Field::CtOriginalDaddr6 => Kind::Address(V6),
            Field::IcmpQuotedDaddr => Kind::Raw(V4),
            Field::Icmpv6QuotedDaddr | Field::NdTarget | Field::UdpPayload => Kind::Raw(V6),
            Field::CtState => Kind::State,
            Field::CtStatus => Kind::Status,
        }
    }
}
