//! The resolver of pods whose rules name domains: it relays their questions to the cluster's DNS, and lets an answer
//! out when its addresses are in the kernel's sets.
//!
//! ```text
//! pod ── question ──> udp, tcp ── another id, another port ──> cluster DNS
//!                        │ relay         how many may be under way
//!                     resolver           whose question, may it be asked, what follows from the answer
//!                      │    ├ wanted     groups of names, and pods, from the state directory
//!                      │    ├ known      which addresses are in which set, for whom, until when
//!                      │    ├ asked      what no rule has
//!                      │    └ never      what no name opens
//!                    learn               one packet puts one address into one set
//! ```
//!
//! Pods are led here by nf_tables only while somebody listens: if this ends, questions go to the cluster's DNS by
//! themselves, what is known stays allowed until its time, and what is new stays closed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub mod counts;
pub mod learn;
pub mod message;
pub mod never;
pub mod resolver;
pub mod serve;
pub mod told;

mod asked;
mod known;
mod life;
mod listen;
mod relay;
mod tcp;
#[cfg(test)]
mod test_support;
mod udp;
mod wanted;

pub use resolver::Resolver;
pub use serve::ResolverThreads;

/// Where questions are led to: addresses that are no interface's, and nobody's source.
pub const LISTEN: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(169, 254, 20, 11),
    Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0x11),
);

/// The port for what was sent to the first address of `clusterDNS`; the next ones are for the next.
pub const FIRST_PORT: u16 = 5300;

/// Where questions to the `index`th address of `clusterDNS` are led to.
pub fn listens_at(index: u16, server: IpAddr) -> (IpAddr, u16) {
    let address = match server {
        IpAddr::V4(_) => LISTEN.0.into(),
        IpAddr::V6(_) => LISTEN.1.into(),
    };
    (address, FIRST_PORT.saturating_add(index))
}
