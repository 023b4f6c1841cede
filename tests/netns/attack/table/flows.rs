//! TCP states, tunnels, ICMP.

use crate::attack::case::On;
use crate::attack::case::Place::{Outside, Victim};
use crate::attack::case::{Group, allowed, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static TCP: Group = Group {
    title: "TCP",
    cases: &[
        judged(Outside, On::ALL, "SYN to a denied port", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4100, dport=9, flags='S') / m)"),
        judged(Outside, On::ALL, "SYN to a denied port, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / TCP(sport=4100, dport=9, flags='S') / m)"),
        judged(Outside, On::ALL, "ACK of no connection", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4101, dport=9, flags='A', seq=1, ack=1) / m)"),
        judged(Outside, On::ALL, "ACK of no connection, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / TCP(sport=4101, dport=9, flags='A', seq=1, ack=1) / m)"),
        judged(Outside, On::ALL, "SYN and ACK of no connection", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4102, dport=9, flags='SA') / m)"),
        judged(Outside, On::ALL, "RST of no connection", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4103, dport=9, flags='R') / m)"),
        judged(Outside, On::ALL, "FIN of no connection", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4104, dport=9, flags='FA') / m)"),
        judged(Outside, On::ALL, "no flags", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4105, dport=9, flags=0) / m)"),
        judged(Outside, On::ALL, "all flags", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4106, dport=9, flags='FSRPAU') / m)"),
        judged(Outside, On::ALL, "SYN with a wrong checksum", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4107, dport=9, flags='S', chksum=0xdead) / m)"),
        judged(Outside, On::ALL, "a header cut short", "tx(E / IP(src=me4, dst=ext4) / TCP(sport=4108, dport=9, flags='S', dataofs=15) / Raw(m.load[:8]))"),
        judged(Outside, On::ALL, "beyond the window, in a connection that the outside opened", "tx(E / stray(+1000000) / m)"),
        allowed(Outside, On::ALL, "an answer in a connection that the outside opened", "answer.send(m.load)",
            "who lets somebody in may answer"),
    ],
};

#[rustfmt::skip] // a table: one line a case
pub static TUNNELS: Group = Group {
    title: "Tunnels",
    cases: &[
        judged(Outside, On::ALL, "IPIP", "tx(E / IP(src=me4, dst=ext4) / IP(src=victim4, dst=ext4) / u10 / m)"),
        judged(Outside, On::ALL, "IPv6 in IPv4", "tx(E / IP(src=me4, dst=ext4) / IPv6(src=victim6, dst=ext6) / u10 / m)"),
        judged(Outside, On::ALL, "IPv4 in IPv6", "tx(E / IPv6(src=me6, dst=ext6) / IP(src=victim4, dst=ext4) / u10 / m)"),
        judged(Outside, On::ALL, "IPv6 in IPv6", "tx(E / IPv6(src=me6, dst=ext6) / IPv6(src=victim6, dst=ext6) / u10 / m)"),
        judged(Outside, On::ALL, "GRE", "tx(E / IP(src=me4, dst=ext4) / GRE() / IP(src=victim4, dst=ext4) / u10 / m)"),
        judged(Outside, On::ALL, "GRE with a frame", "tx(E / IP(src=me4, dst=ext4) / GRE(proto=0x6558) / Ether(src=mac, dst=gw) / IP(src=victim4, dst=ext4) / u10 / m)"),
        judged(Outside, On::ALL, "GRE in IPv6", "tx(E / IPv6(src=me6, dst=ext6) / GRE() / IP(src=victim4, dst=ext4) / u10 / m)"),
        judged(Outside, On::ALL, "SCTP", "tx(E / IP(src=me4, dst=ext4) / SCTP(sport=4200, dport=10, tag=0) / SCTPChunkInit() / m)"),
        judged(Outside, On::ALL, "UDP-Lite", "tx(E / IP(src=me4, dst=ext4, proto=136) / u10 / m)"),
        judged(Outside, On::ALL, "VXLAN", "tx(E / IP(src=me4, dst=ext4) / UDP(sport=4201, dport=4789) / VXLAN(vni=1) / Ether() / IP(src=victim4, dst=ext4) / u10 / m)"),
        allowed(Outside, On::ALL, "VXLAN to an allowed port", "tx(E / IP(src=me4, dst=ext4) / UDP(sport=4201, dport=10) / VXLAN(vni=1) / Ether() / IP(src=victim4, dst=ext4) / u10 / m)",
            "it is UDP to an allowed port, whatever is in it"),
        never(Victim, On::ALL, "IPIP to another pod", "tx(E / IP(src=me4, dst=victim4) / IP(src=gw4, dst=victim4) / u10 / m)").why("only an enforced rule lets a tunnel through"),
        never(Victim, On::BRIDGES, "IPIP to another pod's MAC", "tx(V / IP(src=me4, dst=victim4) / IP(src=gw4, dst=victim4) / u10 / m)").why("only an enforced rule lets a tunnel through"),
    ],
};

/// `theirs4` and `theirs6` are what the outside would have sent in a flow of the other pod, `mine4` and `mine6` in one
/// of the attacker; `denied4` in one that its rules deny.
#[rustfmt::skip] // a table: one line a case
pub static ICMP: Group = Group {
    title: "ICMP",
    cases: &[
        judged(Outside, On::ALL, "echo request", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=8) / m)"),
        judged(Outside, On::ALL, "echo request, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / ICMPv6EchoRequest() / m)"),
        judged(Outside, On::ALL, "echo reply that nobody asked for", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=0) / m)"),
        judged(Outside, On::ALL, "timestamp request", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=13) / m)"),
        never(Outside, On::ALL, "unreachable, about another pod's flow", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=3) / theirs4 / m)"),
        never(Outside, On::ALL, "unreachable, about another pod's flow, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / ICMPv6DestUnreach(code=4) / theirs6 / m)"),
        never(Outside, On::ALL, "fragmentation needed, about another pod's flow", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=4, nexthopmtu=68) / theirs4 / m)"),
        never(Outside, On::ALL, "packet too big, about another pod's flow", "tx(E / IPv6(src=me6, dst=ext6) / ICMPv6PacketTooBig(mtu=1280) / theirs6 / m)"),
        never(Outside, On::ALL, "time exceeded, about another pod's flow", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=11) / theirs4 / m)"),
        never(Outside, On::ALL, "parameter problem, about another pod's flow, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / IPv6ExtHdrDestOpt() / ICMPv6ParamProblem() / theirs6 / m)"),
        never(Outside, On::ALL, "unreachable, about another pod's flow, in pieces", "for p in fragment(IP(src=me4, dst=ext4, id=6101) / ICMP(type=3, code=3) / theirs4 / m, fragsize=24): tx(E / p)"),
        never(Victim, On::ALL, "unreachable, to the pod about its own flow", "tx(E / IP(src=me4, dst=victim4) / ICMP(type=3, code=3) / IP(src=victim4, dst=ext4) / UDP(sport=5000, dport=10) / m)"),
        never(Victim, On::ALL, "packet too big, to the pod about its own flow", "tx(E / IPv6(src=me6, dst=victim6) / ICMPv6PacketTooBig(mtu=1280) / IPv6(src=victim6, dst=ext6) / UDP(sport=5000, dport=10) / m)"),
        never(Victim, On::ALL, "redirect, to the pod about its own flow", "tx(E / IP(src=me4, dst=victim4) / ICMP(type=5, code=1, gw=me4) / IP(src=victim4, dst=ext4) / UDP(sport=5000, dport=10) / m)"),
        never(Outside, On::ALL, "unreachable, about a flow that does not exist", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=3) / IP(src=ext4, dst=strange4) / UDP(sport=1, dport=2) / m)"),
        never(Outside, On::ALL, "unreachable, about a flow of its own, with another source", "tx(E / IP(src=strange4, dst=ext4) / ICMP(type=3, code=3) / IP(src=ext4, dst=me4) / UDP(sport=5001, dport=77) / m)"),
        never(Outside, On::ALL, "unreachable, about a flow of its own, with another source, IPv6", "tx(E / IPv6(src=strange6, dst=ext6) / ICMPv6DestUnreach(code=4) / IPv6(src=ext6, dst=me6) / UDP(sport=5001, dport=77) / m)"),
        never(Outside, On::ALL, "unreachable, quoting nothing", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=3) / m)"),
        judged(Outside, On::ALL, "unreachable, about a denied flow of its own", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=3) / IP(src=ext4, dst=me4) / UDP(sport=9, dport=4000) / m)"),
        judged(Outside, On::ALL, "unreachable, about a denied flow of its own, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / ICMPv6DestUnreach(code=4) / IPv6(src=ext6, dst=me6) / UDP(sport=9, dport=4000) / m)"),
        allowed(Outside, On::ALL, "unreachable, about a flow that the outside opened", "tx(E / IP(src=me4, dst=ext4) / ICMP(type=3, code=3) / IP(src=ext4, dst=me4) / UDP(sport=5001, dport=77) / m)",
            "it is the answer to what came in"),
        allowed(Outside, On::ALL, "unreachable, about a flow that the outside opened, IPv6", "tx(E / IPv6(src=me6, dst=ext6) / ICMPv6DestUnreach(code=4) / IPv6(src=ext6, dst=me6) / UDP(sport=5001, dport=77) / m)",
            "it is the answer to what came in"),
    ],
};
