//! From an effective policy and an attachment to transactions on the two tables. Pure: the same input
//! gives the same transaction, and it prints itself as nft text.

mod action;
pub mod attachment;
pub mod base;
pub mod bridge;
mod chain;
mod condition;
mod lookup;
pub mod multicast;
pub mod named;
pub mod names;
mod packet;
pub mod policy;
mod reach;
pub mod resolver;
mod traffic;
pub mod veth;

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

/// The NFLOG group of rules that are not enforced ones: what a pod's own rules log, however much that is, keeps
/// nothing of what the platform's do from being read.
pub const fn log_group_of_others(log_group: u16) -> u16 {
    log_group.saturating_add(1)
}

/// The version of what this program makes of an attachment and of a policy in the kernel. What another
/// version made is not shared and not compared, but can be removed by its names.
pub const LAYOUT: u32 = 13;
