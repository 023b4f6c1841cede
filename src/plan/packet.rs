//! What rules ask of a packet, by its family.

use nft::{Family, Field, KeyType};

/// Both.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// `IPS_CONFIRMED`: the flow's first packet has gone its way.
pub const CONFIRMED: u32 = 8;

/// Where a packet goes.
pub const fn daddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpDaddr,
        Family::V6 => Field::Ip6Daddr,
    }
}

/// Where it comes from.
pub const fn saddr(family: Family) -> Field {
    match family {
        Family::V4 => Field::IpSaddr,
        Family::V6 => Field::Ip6Saddr,
    }
}

/// What a set of addresses holds.
pub const fn key_type(family: Family) -> KeyType {
    match family {
        Family::V4 => KeyType::Ipv4,
        Family::V6 => KeyType::Ipv6,
    }
}
