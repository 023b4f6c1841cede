//! Services as a way round a rule. `vip4` and `vip6` translate port 10 to the outside's port 9, port 9 to the outside's
//! port 10, and port 30010 to the other pod's port 9; the node's port 30010 is the outside's port 9, and port 30011 the
//! other pod's port 10. The pod with rules may reach the ports 10 and 30010.

use crate::attack::case::On;
use crate::attack::case::Place::{Node, Outside, Victim};
use crate::attack::case::{Group, allowed, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static SERVICES: Group = Group {
    title: "Services as a way round",
    cases: &[
        judged(Outside, On::ALL, "an allowed port of a Service whose backend's is denied", "tx(E / IP(src=me4, dst=vip4) / svc(10) / m)"),
        judged(Outside, On::ALL, "an allowed port of a Service whose backend's is denied, IPv6", "tx(E / IPv6(src=me6, dst=vip6) / svc(10) / m)"),
        allowed(Outside, On::ALL, "a denied port of a Service whose backend's is allowed", "tx(E / IP(src=me4, dst=vip4) / svc(9) / m)",
            "addresses and ports are those to which the packet really goes"),
        judged(Victim, On::ALL, "an allowed port of a Service whose backend is another pod's denied one", "tx(E / IP(src=me4, dst=vip4) / svc(30010) / m)"),
        judged(Victim, On::ALL, "an allowed port of a Service whose backend is another pod's denied one, IPv6", "tx(E / IPv6(src=me6, dst=vip6) / svc(30010) / m)"),
        judged(Outside, On::ALL, "an allowed node port whose backend's is denied", "tx(E / IP(src=me4, dst=node4) / svc(30010) / m)"),
        judged(Outside, On::ALL, "an allowed node port whose backend's is denied, IPv6", "tx(E / IPv6(src=me6, dst=node6) / svc(30010) / m)"),
        judged(Outside, On::ALL, "an allowed node port on the gateway's address", "tx(E / IP(src=me4, dst=gw4) / svc(30010) / m)"),
        never(Victim, On::ALL, "a node port on an egress address, from outside", "tx_ext(O / IP(src=ext4, dst=egress4) / svc(30011) / m)"),
        never(Victim, On::ALL, "a node port on an egress address, from outside, IPv6", "tx_ext(O / IPv6(src=ext6, dst=egress6) / svc(30011) / m)"),
        never(Victim, On::ALL, "a node port on an egress address, from a pod", "tx(E / IP(src=me4, dst=egress4) / svc(30011) / m)"),
        judged(Outside, On::ALL, "pieces to an allowed port of a Service whose backend's is denied", "for p in fragment(IP(src=me4, dst=vip4, id=6301) / svc(10) / m, fragsize=16): tx(E / p)"),
        judged(Outside, On::ALL, "ESP to a Service's address", "tx(E / IP(src=me4, dst=ext4, proto=50) / m)"),
        never(Outside, On::ALL, "a Service, with another pod's source", "tx(E / IP(src=victim4, dst=vip4) / svc(9) / m)"),
        judged(Node, On::ALL, "a port of the node that no Service has", "tx(E / IP(src=me4, dst=node4) / svc(9) / m)"),
    ],
};
