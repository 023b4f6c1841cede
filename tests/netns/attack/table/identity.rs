//! Lies about who sends.

use crate::attack::case::On;
use crate::attack::case::Place::{NodesNeighbours, Outside, Victim, VictimsNeighbours};
use crate::attack::case::{Group, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static SOURCES: Group = Group {
    title: "Another's address",
    cases: &[
        never(Outside, On::ALL, "IPv4 source of another pod", "tx(E / IP(src=victim4, dst=ext4) / u10 / m)"),
        never(Outside, On::ALL, "IPv6 source of another pod", "tx(E / IPv6(src=victim6, dst=ext6) / u10 / m)"),
        never(Outside, On::ALL, "IPv4 source of no network here", "tx(E / IP(src=strange4, dst=ext4) / u10 / m)"),
        never(Outside, On::ALL, "IPv6 source of no network here", "tx(E / IPv6(src=strange6, dst=ext6) / u10 / m)"),
        never(Outside, On::ALL, "IPv4 source of the node's LAN", "tx(E / IP(src='172.30.0.77', dst=ext4) / u10 / m)"),
        never(Outside, On::ALL, "IPv6 source of the node's LAN", "tx(E / IPv6(src='fd30::77', dst=ext6) / u10 / m)"),
        never(Victim, On::ALL, "IPv4 source of no network here, to another pod", "tx(E / IP(src=strange4, dst=victim4) / u10 / m)"),
        never(Victim, On::ALL, "IPv6 source of no network here, to another pod", "tx(E / IPv6(src=strange6, dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "free IPv4 source, to another pod's MAC", "tx(V / IP(src=free4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "free IPv6 source, to another pod's MAC", "tx(V / IPv6(src=free6, dst=victim6) / u10 / m)"),
        never(Outside, On::ALL, "another MAC, IPv4", "tx(Ether(src=fake_mac, dst=gw) / IP(src=me4, dst=ext4) / u10 / m)"),
        never(Outside, On::ALL, "another MAC, IPv6", "tx(Ether(src=fake_mac, dst=gw) / IPv6(src=me6, dst=ext6) / u10 / m)"),
        never(Victim, On::BRIDGES, "another MAC, to another pod's MAC", "tx(Ether(src=fake_mac, dst=victim_mac) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Outside, On::NOWHERE, "source 0.0.0.0", "tx(E / IP(src='0.0.0.0', dst=ext4) / u10 / m)")
            .why("the node's kernel forwards no such source"),
        never(Victim, On::BRIDGES, "source 0.0.0.0, to another pod's MAC", "tx(V / IP(src='0.0.0.0', dst=victim4) / u10 / m)"),
        never(Outside, On::NOWHERE, "source 127.0.0.1", "tx(E / IP(src='127.0.0.1', dst=ext4) / u10 / m)")
            .why("the node's kernel forwards no such source"),
        never(Victim, On::BRIDGES, "source 127.0.0.1, to another pod's MAC", "tx(V / IP(src='127.0.0.1', dst=victim4) / u10 / m)"),
        never(Outside, On::NOWHERE, "source of the gateway, IPv4", "tx(E / IP(src=gw4, dst=ext4) / u10 / m)")
            .why("the node's kernel takes nothing from outside with its own source"),
        never(Victim, On::BRIDGES, "source of the gateway, IPv4, to another pod's MAC", "tx(V / IP(src=gw4, dst=victim4) / u10 / m)"),
        never(Outside, On::ALL, "source of the gateway, IPv6", "tx(E / IPv6(src=gw6, dst=ext6) / u10 / m)"),
        never(Victim, On::BRIDGES, "source of the gateway, IPv6, to another pod's MAC", "tx(V / IPv6(src=gw6, dst=victim6) / u10 / m)"),
        never(Outside, On::NOWHERE, "source 255.255.255.255", "tx(E / IP(src='255.255.255.255', dst=ext4) / u10 / m)")
            .why("the node's kernel forwards no such source"),
        never(Victim, On::BRIDGES, "source 255.255.255.255, to another pod's MAC", "tx(V / IP(src='255.255.255.255', dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "multicast source, to another pod's MAC", "tx(V / IP(src='224.0.0.9', dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "source ::, to another pod's MAC", "tx(V / IPv6(src='::', dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "source ::1, to another pod's MAC", "tx(V / IPv6(src='::1', dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "IPv4-mapped source, to another pod's MAC", "tx(V / IPv6(src='::ffff:10.1.1.1', dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "own link-local source, to another pod", "tx(V / IPv6(src=me_ll, dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "own link-local source, to another pod's", "tx(V / IPv6(src=me_ll, dst=victim_ll) / u10 / m)"),
        never(Outside, On::NOWHERE, "own link-local source, to the outside", "tx(E / IPv6(src=me_ll, dst=ext6) / u10 / m)")
            .why("the node's kernel forwards no such source"),
        judged(Outside, On::BRIDGES, "another pod as a router, by its MAC, IPv4", "tx(V / IP(src=me4, dst=ext4) / u9 / m)"),
        judged(Outside, On::BRIDGES, "another pod as a router, by its MAC, IPv6", "tx(V / IPv6(src=me6, dst=ext6) / u9 / m)"),
        never(Outside, On::BRIDGES, "another pod as a router, strange source", "tx(V / IP(src=strange4, dst=ext4) / u10 / m)"),
    ],
};

#[rustfmt::skip] // a table: one line a case
pub static FROM_INSIDE: Group = Group {
    title: "The interface changed from inside",
    cases: &[
        never(Outside, On::ALL, "a second IPv4 address",
            "sh('ip addr add 10.244.9.66/32 dev eth0'); say('10.244.9.66', ext4, 10, m)"),
        never(Outside, On::ALL, "a second IPv6 address",
            "sh('ip addr add fd44:9::66/128 dev eth0 nodad'); say('fd44:9::66', ext6, 10, m)"),
        never(Outside, On::ALL, "another MAC",
            "sh('ip link set eth0 address ' + fake_mac); tx(Ether(src=fake_mac, dst=gw) / IP(src=me4, dst=ext4) / u10 / m); sh('ip link set eth0 address ' + mac)"),
    ],
};

#[rustfmt::skip] // a table: one line a case
pub static NEIGHBOURS: Group = Group {
    title: "Lies about neighbours",
    cases: &[
        never(VictimsNeighbours, On::BRIDGES, "ARP reply to the pod",
            "tx(V / ARP(op=2, psrc=claim4, hwsrc=mac, pdst=victim4, hwdst=victim_mac))"),
        never(VictimsNeighbours, On::BRIDGES, "ARP request to all",
            "tx(B / ARP(op=1, psrc=claim4, hwsrc=mac, pdst=victim4))"),
        never(VictimsNeighbours, On::BRIDGES, "gratuitous ARP to all",
            "tx(B / ARP(op=1, psrc=claim4, hwsrc=mac, pdst=claim4))"),
        never(VictimsNeighbours, On::BRIDGES, "ARP inside a priority tag",
            "tx(V / Dot1Q(vlan=0) / ARP(op=2, psrc=claim4, hwsrc=mac, pdst=victim4, hwdst=victim_mac))"),
        never(NodesNeighbours, On::ALL, "ARP reply to the node",
            "tx(E / ARP(op=2, psrc=claim4, hwsrc=mac, pdst=gw4, hwdst=gw))"),
        never(NodesNeighbours, On::ALL, "ARP request to the node",
            "tx(E / ARP(op=1, psrc=claim4, hwsrc=mac, pdst=gw4))"),
        never(VictimsNeighbours, On::BRIDGES, "neighbour advertisement to the pod, link-local source",
            "tx(V / IPv6(src=me_ll, dst=victim6, hlim=255) / na(claim6))"),
        never(VictimsNeighbours, On::BRIDGES, "neighbour advertisement to the pod, own source",
            "tx(V / IPv6(src=me6, dst=victim6, hlim=255) / na(claim6))"),
        never(VictimsNeighbours, On::BRIDGES, "neighbour advertisement to the pod, the other's source",
            "tx(V / IPv6(src=claim6, dst=victim6, hlim=255) / na(claim6))"),
        never(VictimsNeighbours, On::BRIDGES, "neighbour advertisement to all",
            "tx(M / IPv6(src=me_ll, dst='ff02::1', hlim=255) / na(claim6))"),
        never(VictimsNeighbours, On::BRIDGES, "neighbour solicitation with the other's source",
            "tx(V / IPv6(src=claim6, dst=victim6, hlim=255) / ICMPv6ND_NS(tgt=victim6) / ICMPv6NDOptSrcLLAddr(lladdr=mac))"),
        never(NodesNeighbours, On::ALL, "neighbour advertisement to the node",
            "tx(E / IPv6(src=me_ll, dst=node_ll, hlim=255) / na(claim6))"),
        never(NodesNeighbours, On::ALL, "neighbour advertisement behind a hop-by-hop header",
            "tx(E / IPv6(src=me_ll, dst=node_ll, hlim=255) / IPv6ExtHdrHopByHop() / na(claim6))"),
        never(NodesNeighbours, On::ALL, "neighbour advertisement behind destination options",
            "tx(E / IPv6(src=me6, dst=node_ll, hlim=255) / IPv6ExtHdrDestOpt() / na(claim6))"),
        never(NodesNeighbours, On::ALL, "neighbour advertisement with the pod's address where errors quote it",
            "tx(E / IPv6(src=me6, dst=node_ll, hlim=255) / na(claim6) / about(me6))"),
        never(NodesNeighbours, On::ALL, "neighbour solicitation with the other's source, to the node",
            "tx(E / IPv6(src=claim6, dst=node_ll, hlim=255) / ICMPv6ND_NS(tgt=node_ll) / ICMPv6NDOptSrcLLAddr(lladdr=mac))"),
        never(Victim, On::BRIDGES, "router advertisement",
            "tx(M / IPv6(src=me_ll, dst='ff02::1', hlim=255) / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix='fd66::', prefixlen=64) / m)"),
        never(Victim, On::BRIDGES, "router advertisement behind destination options",
            "tx(M / IPv6(src=me_ll, dst='ff02::1', hlim=255) / IPv6ExtHdrDestOpt() / ICMPv6ND_RA(routerlifetime=0) / m)"),
        never(Victim, On::BRIDGES, "router advertisement in fragments",
            "for p in fragment6(IPv6(src=me_ll, dst='ff02::1', hlim=255) / IPv6ExtHdrFragment(id=7001) / ICMPv6ND_RA(routerlifetime=0) / m, 96): tx(M / p)"),
        never(Victim, On::BRIDGES, "redirect, IPv6",
            "tx(V / IPv6(src=me_ll, dst=victim6, hlim=255) / ICMPv6ND_Redirect(tgt=me_ll, dst=ext6) / m)"),
        never(Victim, On::BRIDGES, "redirect with the gateway's source, IPv6",
            "tx(V / IPv6(src=node_ll, dst=victim6, hlim=255) / ICMPv6ND_Redirect(tgt=me_ll, dst=ext6) / m)"),
        never(Victim, On::BRIDGES, "redirect with the gateway's source, IPv4",
            "tx(V / IP(src=gw4, dst=victim4) / ICMP(type=5, code=1, gw=me4) / IP(src=victim4, dst=ext4) / u10 / m)"),
        never(Outside, On::ALL, "what looks like neighbour discovery, to the outside",
            "tx(E / IPv6(src=me6, dst=ext6, hlim=255) / ICMPv6ND_NS(tgt=ext6) / nonce)"),
    ],
};
