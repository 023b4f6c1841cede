//! The node's network as the kernel shows it: namespaces, links, addresses, routes, neighbours,
//! connection tracking. Everything goes over netlink and packet sockets; nothing is executed.
//!
//! All of it is synchronous: a plugin makes a handful of requests and exits. Every wait ends at
//! a deadline that the caller gives. What fails, does so for one of two reasons, and [`Error`] says which: the kernel
//! refuses, or that deadline has passed.

#![allow(clippy::missing_errors_doc)] // these

pub mod address;
mod arp;
pub mod bpf;
pub mod conntrack;
mod error;
pub mod link;
mod mac;
mod ndp;
pub mod neighbour;
mod netlink;
mod netns;
pub mod nflog;
pub mod offload;
mod packet_socket;
pub mod route;
mod rtnl;
pub mod tc;
#[cfg(any(test, feature = "test-support"))]
#[allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
pub mod test_support;
pub mod unfinished;
mod wait;
pub mod watch;

pub use error::Error;
pub use mac::Mac;
pub use netns::{Netns, identity_of};
pub use rtnl::Rtnl;
