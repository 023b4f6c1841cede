//! From an effective policy and an attachment to transactions on the two tables. Pure: the same input
//! gives the same transaction, and it prints itself as nft text.

mod action;
pub mod attachment;
pub mod base;
pub mod bridge;
mod condition;
mod lookup;
pub mod names;
pub mod policy;
mod reach;
mod veth;

use std::net::IpAddr;

use nft::{Table, TableFamily, Value};
use rules::set::Family;

pub use attachment::AttachmentPlan;
pub use base::Base;
pub use bridge::Bridge;
pub use policy::{Compiled, compile};

/// `inet egressway`: policy and SNAT.
pub static INET: Table = Table::new(TableFamily::Inet, "egressway");
/// `netdev egressway`: anti-spoofing at the veth.
pub static NETDEV: Table = Table::new(TableFamily::Netdev, "egressway");

/// The kernel's word for an IP version.
const fn kernel_family(family: Family) -> nft::Family {
    match family {
        Family::V4 => nft::Family::V4,
        Family::V6 => nft::Family::V6,
    }
}

/// Both ends of a range as values to compare with.
fn values((first, last): (IpAddr, IpAddr)) -> (Value, Value) {
    (first.into(), last.into())
}

/// A MAC address in JSON: `06:8f:f8:62:38:a5`.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use nft::Value;

    pub fn serialize<S: Serializer>(mac: &[u8; 6], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Value::Mac(*mac))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 6], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Option<Vec<u8>> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a MAC address")))
    }
}
