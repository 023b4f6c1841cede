//! Headers and fragments that hide where a packet goes. All of these are truthful about their source, and go to
//! port 9 unless they say otherwise.

use crate::attack::case::On;
use crate::attack::case::Place::{Node, Outside, Victim};
use crate::attack::case::{Group, allowed, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static HEADERS: Group = Group {
    title: "Options and extension headers around a denied port",
    cases: &[
        judged(Outside, On::ALL, "nothing around it, IPv4", "tx(E / IP(src=me4, dst=ext4) / u9 / m)"),
        judged(Outside, On::ALL, "nothing around it, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / u9 / m)"),
        judged(Outside, On::ALL, "IPv4 options", "tx(E / IP(src=me4, dst=ext4, options=[IPOption_NOP()] * 8) / u9 / m)"),
        judged(Outside, On::ALL, "record route", "tx(E / IP(src=me4, dst=ext4, options=[IPOption_RR(routers=['0.0.0.0'] * 3)]) / u9 / m)"),
        judged(Outside, On::ALL, "router alert", "tx(E / IP(src=me4, dst=ext4, options=[IPOption_Router_Alert()]) / u9 / m)"),
        never(Outside, On::NOWHERE, "loose source route by the node", "tx(E / IP(src=me4, dst=node4, options=[IPOption_LSRR(routers=[ext4])]) / u9 / m)")
            .why("the node's kernel takes no source routes"),
        never(Outside, On::NOWHERE, "strict source route by the node", "tx(E / IP(src=me4, dst=node4, options=[IPOption_SSRR(routers=[ext4])]) / u9 / m)")
            .why("the node's kernel takes no source routes"),
        judged(Outside, On::ALL, "wrong UDP checksum", "tx(E / IP(src=me4, dst=ext4) / UDP(sport=4004, dport=9, chksum=0xdead) / m)"),
        judged(Outside, On::ALL, "UDP length beyond the packet", "tx(E / IP(src=me4, dst=ext4) / UDP(sport=4004, dport=9, len=9000) / m)"),
        judged(Outside, On::ALL, "UDP to port 0", "tx(E / IP(src=me4, dst=ext4) / UDP(sport=4004, dport=0) / m)"),
        judged(Outside, On::ALL, "hop-by-hop options", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrHopByHop() / u9 / m)"),
        judged(Outside, On::ALL, "destination options", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrDestOpt() / u9 / m)"),
        judged(Outside, On::ALL, "hop-by-hop and destination options, thrice", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / u9 / m)"),
        judged(Outside, On::ALL, "routing header type 0, used up", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrRouting(type=0, segleft=0, addresses=[far6]) / u9 / m)"),
        judged(Outside, On::ALL, "routing header type 0 with a next hop", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[far6]) / u9 / m)"),
        never(Outside, On::NOWHERE, "routing header type 0 by the node", "tx(E / IPv6(src=me6, dst=node6) / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[ext6]) / u9 / m)")
            .why("the node's kernel takes no source routes"),
        never(Outside, On::NOWHERE, "segment routing header by the node", "tx(E / IPv6(src=me6, dst=node6) / IPv6ExtHdrSegmentRouting(segleft=1, lastentry=1, addresses=[ext6, node6]) / u9 / m)")
            .why("the node's kernel takes no source routes"),
        judged(Outside, On::ALL, "AH in front, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / AH(spi=1, seq=1, icv=b'0' * 12) / u9 / m)"),
        judged(Outside, On::ALL, "AH in front, IPv4", "tx(E / IP(src=me4, dst=ext4) / AH(spi=1, seq=1, icv=b'0' * 12) / u10 / m)"),
        judged(Outside, On::ALL, "ESP", "tx(E / IP(src=me4, dst=ext4, proto=50) / Raw(b'\\0\\0\\0\\x01\\0\\0\\0\\x01') / u10 / m)"),
        judged(Outside, On::ALL, "ESP, IPv6", "tx(E / IPv6(src=me6, dst=ext6, nh=50) / Raw(b'\\0\\0\\0\\x01\\0\\0\\0\\x01') / u10 / m)"),
        judged(Outside, On::ALL, "no next header", "tx(E / IPv6(src=me6, dst=ext6, nh=59) / u10 / m)"),
        judged(Outside, On::ALL, "an unknown next header", "tx(E / IPv6(src=me6, dst=ext6, nh=253) / u10 / m)"),
        judged(Outside, On::ALL, "an unknown protocol", "tx(E / IP(src=me4, dst=ext4, proto=253) / u10 / m)"),
        judged(Outside, On::ALL, "an IPv4-mapped destination", "tx(E / IPv6(src=me6, dst='::ffff:172.30.0.100') / u9 / m)"),
        never(Victim, On::BRIDGES, "TTL 1, to another pod's MAC", "tx(V / IP(src=me4, dst=victim4, ttl=1) / u9 / m)"),
        never(Victim, On::BRIDGES, "hop limit 1, to another pod's MAC", "tx(V / IPv6(src=me6, dst=victim6, hlim=1) / u9 / m)"),
        judged(Outside, On::ALL, "TTL 255", "tx(E / IP(src=me4, dst=ext4, ttl=255) / u9 / m)"),
        judged(Outside, On::ALL, "hop limit 255", "tx(E / IPv6(src=me6, dst=ext6, hlim=255) / u9 / m)"),
        allowed(Outside, On::ALL, "destination options before an allowed port", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrDestOpt() / u10 / m)",
            "the port behind the header is what the rules see"),
    ],
};

/// `forge` takes the byte of the frame where the checksum would begin, and how far behind it its place would be. That
/// such packets are written on their way, where nobody drops them, is what `forged` shows.
#[rustfmt::skip] // a table: one line a case
pub static CHECKSUMS: Group = Group {
    title: "Checksums that are left to the kernel, in a place of the pod's choice",
    cases: &[
        never(Outside, On::ALL, "the destination's port, IPv4", "forge(E / IP(src=me4, dst=ext4) / u10 / m, 34, 2)"),
        never(Outside, On::ALL, "the destination's port, IPv6", "forge(E / IPv6(src=me6, dst=ext6) / u10 / m, 54, 2)"),
        never(Outside, On::ALL, "the destination's port of TCP", "forge(E / IP(src=me4, dst=ext4) / TCP(sport=4400, dport=10, flags='S') / m, 34, 2)"),
        never(Outside, On::ALL, "the destination's port, in pieces", "for p in fragment(IP(src=me4, dst=ext4, id=6301) / u10 / m, fragsize=32): forge(E / p, 34, 2)"),
        never(Outside, On::ALL, "the destination's port, behind destination options", "forge(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrDestOpt() / u10 / m, 62, 2)"),
        never(Outside, On::ALL, "TTL and protocol", "forge(E / IP(src=me4, dst=ext4) / u10 / m, 22, 0)"),
        never(Outside, On::ALL, "the source, IPv4", "forge(E / IP(src=me4, dst=ext4) / u10 / m, 28, 0)"),
        never(Outside, On::ALL, "the source, IPv6", "forge(E / IPv6(src=me6, dst=ext6) / u10 / m, 28, 0)"),
        never(Outside, On::ALL, "the destination, IPv6", "forge(E / IPv6(src=me6, dst=ext6) / u10 / m, 50, 0)"),
        never(Outside, On::ALL, "the type of ICMP", "forge(E / IP(src=me4, dst=ext4) / ICMP(type=8) / m, 34, 0)"),
        never(Outside, On::ALL, "behind all headers", "forge(E / IP(src=me4, dst=ext4) / u10 / m, 42, 0)"),
        never(Victim, On::ALL, "the destination's port, to another pod", "forge(E / IP(src=me4, dst=victim4) / u10 / m, 34, 2)"),
        never(Victim, On::BRIDGES, "the address of an ARP reply", "forge(A / arp(op=2), 28, 0)"),
        never(Victim, On::BRIDGES, "the target of a neighbour solicitation", "forge(M / IPv6(src=me6, dst='ff02::1:ff00:1', hlim=255) / ICMPv6ND_NS(tgt=me6) / nonce, 54, 8)"),
        allowed(Outside, On::ALL, "UDP's checksum in its place", "forge(E / IP(src=me4, dst=ext4) / u10 / m, 34, 6)", "so does each pod's own kernel"),
        allowed(Outside, On::ALL, "UDP's checksum in its place, behind destination options", "forge(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrDestOpt() / u10 / m, 62, 6)", "so does each pod's own kernel"),
    ],
};

#[rustfmt::skip] // a table: one line a case
pub static FRAGMENTS: Group = Group {
    title: "Fragments",
    cases: &[
        judged(Outside, On::ALL, "pieces of eight bytes", "for p in fragment(IP(src=me4, dst=ext4, id=6001) / u9 / m, fragsize=8): tx(E / p)"),
        judged(Outside, On::ALL, "pieces of eight bytes, backwards", "for p in fragment(IP(src=me4, dst=ext4, id=6002) / u9 / m, fragsize=8)[::-1]: tx(E / p)"),
        judged(Victim, On::ALL, "pieces to another pod", "for p in fragment(IP(src=me4, dst=victim4, id=6003) / u9 / m, fragsize=16): tx(E / p)"),
        never(Outside, On::ALL, "a second piece only", "tx(E / IP(src=me4, dst=ext4, id=6004, frag=4, proto=17) / m)"),
        never(Outside, On::ALL, "a second piece only, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6005, offset=4, nh=17) / m)"),
        never(Outside, On::ALL, "a first piece only", "tx(E / IP(src=me4, dst=ext4, id=6006, flags='MF') / u9 / m)"),
        never(Victim, On::BRIDGES, "a second piece only, to another pod's MAC", "tx(V / IP(src=me4, dst=victim4, id=6007, frag=4, proto=17) / m)"),
        never(Outside, On::ALL, "the port overwritten by a second first piece",
            "piece(6008, 0, True, bytes(udp0(10) / m)[:8] + b'.' * 8); piece(6008, 0, True, bytes(udp0(9) / m)[:16]); piece(6008, 2, False, b'.' * 56)"),
        never(Outside, On::ALL, "the port overwritten by a first piece that comes last",
            "piece(6009, 2, False, b'.' * 56); piece(6009, 0, True, bytes(udp0(9) / m)[:16] + b'.' * 16); piece(6009, 0, True, bytes(udp0(10) / m)[:8] + b'.' * 8)"),
        judged(Outside, On::ALL, "atomic fragment", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6010) / u9 / m)"),
        judged(Outside, On::ALL, "atomic fragment, then destination options", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6011) / IPv6ExtHdrDestOpt() / u9 / m)"),
        judged(Outside, On::ALL, "pieces, IPv6", "for p in fragment6(IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6012) / u9 / (m.load * 3), 112): tx(E / p)"),
        never(Outside, On::ALL, "the UDP header in the second piece, IPv6",
            "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6013, m=1, nh=60) / Raw(b'\\x11\\0\\x01\\x04\\0\\0\\0\\0')); tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrFragment(id=6013, offset=1, nh=60) / UDP(sport=4000, dport=9, chksum=checksum6(u9 / m)) / m)"),
        allowed(Outside, On::ALL, "pieces to an allowed port", "for p in fragment(IP(src=me4, dst=ext4, id=6014) / u10 / m, fragsize=8): tx(E / p)",
            "the whole datagram is what the rules see"),
        judged(Node, On::ALL, "pieces to the node", "for p in fragment(IP(src=me4, dst=node4, id=6015) / u9 / m, fragsize=16): tx(E / p)"),
    ],
};
