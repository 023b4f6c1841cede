//! The node's own addresses, and what is behind them.

use crate::attack::case::On;
use crate::attack::case::Place::{Node, Outside};
use crate::attack::case::{Group, allowed, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static NODE: Group = Group {
    title: "The node, its services and its egress addresses",
    cases: &[
        judged(Node, On::ALL, "a denied port of the node, IPv4", "tx(E / IP(src=me4, dst=node4) / u9 / m)"),
        judged(Node, On::ALL, "a denied port of the node, IPv6", "tx(E / IPv6(src=me6, dst=node6) / u9 / m)"),
        judged(Node, On::ALL, "a denied port of the gateway, IPv4", "tx(E / IP(src=me4, dst=gw4) / u9 / m)"),
        judged(Node, On::ALL, "a denied port of the gateway, IPv6", "tx(E / IPv6(src=me6, dst=gw6) / u9 / m)"),
        judged(Node, On::ALL, "a denied port of the node's link-local address", "tx(E / IPv6(src=me6, dst=node_ll) / u9 / m)"),
        never(Node, On::ALL, "the node's link-local address, from one's own", "tx(E / IPv6(src=me_ll, dst=node_ll) / u10 / m)"),
        never(Node, On::ALL, "the node's address, from one's link-local one", "tx(E / IPv6(src=me_ll, dst=node6) / u10 / m)"),
        never(Node, On::NOWHERE, "127.0.0.1", "tx(E / IP(src=me4, dst='127.0.0.1') / u10 / m)")
            .why("the node's kernel takes nothing for loopback from outside"),
        never(Node, On::NOWHERE, "::1", "tx(E / IPv6(src=me6, dst='::1') / u10 / m)")
            .why("the node's kernel takes nothing for loopback from outside"),
        judged(Node, On::ALL, "TCP to a denied port of the node", "tx(E / IP(src=me4, dst=node4) / TCP(sport=4300, dport=9, flags='S') / m)"),
        never(Node, On::ALL, "IPIP to the node", "tx(E / IP(src=me4, dst=node4) / IP(src=victim4, dst=ext4) / u10 / m)").why("only an enforced rule lets a tunnel through"),
        never(Node, On::ALL, "VXLAN to the node", "tx(E / IP(src=me4, dst=node4) / UDP(sport=4301, dport=4789) / VXLAN(vni=1) / Ether() / IP(src=victim4, dst=victim4) / u10 / m)").why("only an enforced rule lets a tunnel through"),
        never(Node, On::ALL, "neighbour solicitation with much in it", "tx(E / IPv6(src=me_ll, dst=node_ll, hlim=255) / ICMPv6ND_NS(tgt=node_ll) / nonce / m)"),
        never(Node, On::ALL, "neighbour solicitation of hop limit 254", "tx(E / IPv6(src=me_ll, dst=node_ll, hlim=254) / ICMPv6ND_NS(tgt=node_ll) / nonce)"),
        allowed(Node, On::ALL, "neighbour solicitation", "tx(E / IPv6(src=me_ll, dst=node_ll, hlim=255) / ICMPv6ND_NS(tgt=node_ll) / nonce)",
            "without neighbour discovery there is no IPv6"),
        judged(Outside, On::ALL, "the cloud's metadata, IPv4", "tx(E / IP(src=me4, dst=meta4) / TCP(sport=4302, dport=80, flags='S') / m)"),
        judged(Outside, On::ALL, "the cloud's metadata, IPv6", "tx(E / IPv6(src=me6, dst=meta6) / TCP(sport=4302, dport=80, flags='S') / m)"),
        never(Node, On::ALL, "an egress address, from a pod, IPv4", "tx(E / IP(src=me4, dst=egress4) / u10 / m)"),
        never(Node, On::ALL, "an egress address, from a pod, IPv6", "tx(E / IPv6(src=me6, dst=egress6) / u10 / m)"),
        never(Node, On::ALL, "an egress address, from outside, UDP", "tx_ext(O / IP(src=ext4, dst=egress4) / u10 / m)"),
        never(Node, On::ALL, "an egress address, from outside, UDP, IPv6", "tx_ext(O / IPv6(src=ext6, dst=egress6) / u10 / m)"),
        never(Node, On::ALL, "an egress address, from outside, SYN", "tx_ext(O / IP(src=ext4, dst=egress4) / TCP(sport=4303, dport=10, flags='S') / m)"),
        never(Node, On::ALL, "an egress address, from outside, ACK", "tx_ext(O / IP(src=ext4, dst=egress4) / TCP(sport=4304, dport=10, flags='A') / m)"),
        never(Node, On::ALL, "an egress address, from outside, another protocol", "tx_ext(O / IP(src=ext4, dst=egress4) / GRE() / m)"),
        never(Node, On::ALL, "an egress address, from outside, ICMP timestamp", "tx_ext(O / IP(src=ext4, dst=egress4) / ICMP(type=13) / m)"),
        never(Node, On::ALL, "an egress address, from outside, in pieces", "for p in fragment(IP(src=ext4, dst=egress4, id=6201) / u10 / m, fragsize=16): tx_ext(O / p)"),
        allowed(Node, On::ALL, "an egress address, from outside, ping", "tx_ext(O / IP(src=ext4, dst=egress4) / ICMP(type=8) / m)",
            "ping is what it answers"),
    ],
};
