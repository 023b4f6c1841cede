//! The attacks.
//!
//! The names in them: `me4`, `me6`, `me_ll`, `mac` are the attacker's; `victim4` and so on those of another pod of
//! the node; `free4`, `free6` are nobody's, in the pods' network; `strange4`, `strange6` of no network of the node;
//! `gw` is the gateway's MAC, `gw4`, `gw6`, `node_ll` its addresses, `node4`, `node6` the node's on the LAN. `E`, `V`
//! and `B` are frames to the gateway, to the victim and to all; `u9` and `u10` UDP to port 9, which a pod with rules
//! may not reach, and to port 10, which it may. `claim4` and `claim6` are addresses of a third party, for lies
//! about neighbours: each case has its own.

mod flows;
mod frames;
mod headers;
mod identity;
mod local;
mod services;

use super::case::Group;
pub use flows::ICMP;
pub use identity::SOURCES;

/// All of them, in the document's order.
pub const GROUPS: [&Group; 13] = [
    &identity::SOURCES,
    &identity::FROM_INSIDE,
    &identity::NEIGHBOURS,
    &frames::NOT_IP,
    &frames::MANY,
    &headers::HEADERS,
    &headers::CHECKSUMS,
    &headers::FRAGMENTS,
    &flows::TCP,
    &flows::TUNNELS,
    &flows::ICMP,
    &local::NODE,
    &services::SERVICES,
];

/// Those that are tried where Services are translated. The others are tried without that: translation tracks
/// connections, and a node that does so reassembles fragments, which would hide what they do.
pub fn wants_services(group: &Group) -> bool {
    std::ptr::eq(group, &raw const services::SERVICES)
}
