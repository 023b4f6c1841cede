//! Frames that are not IP, and frames for many.

use crate::attack::case::On;
use crate::attack::case::Place::{Node, Outside, Victim};
use crate::attack::case::{Group, allowed, judged, never};

#[rustfmt::skip] // a table: one line a case
pub static NOT_IP: Group = Group {
    title: "Frames that are not plain IP",
    cases: &[
        never(Victim, On::BRIDGES, "priority tag (VLAN 0)", "tx(V / Dot1Q(vlan=0) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "priority tag, IPv6", "tx(V / Dot1Q(vlan=0) / IPv6(src=me6, dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "priority tag, ICMP error", "tx(V / Dot1Q(vlan=0) / IP(src=me4, dst=victim4) / ICMP(type=3, code=3) / IP(src=victim4, dst=me4) / UDP(sport=5001, dport=77) / m)"),
        never(Victim, On::BRIDGES, "VLAN tag", "tx(V / Dot1Q(vlan=7) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "VLAN tag, IPv6", "tx(V / Dot1Q(vlan=7) / IPv6(src=me6, dst=victim6) / u10 / m)"),
        never(Victim, On::BRIDGES, "two VLAN tags", "tx(V / Dot1Q(vlan=7) / Dot1Q(vlan=8) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "QinQ (802.1ad)", "tx(V / Dot1AD(vlan=7) / Dot1Q(vlan=8) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "MPLS", "tx(Ether(src=mac, dst=victim_mac, type=0x8847) / Raw(b'\\0\\x01\\x01\\x40') / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "PPPoE session", "tx(V / PPPoE(sessionid=1) / PPP() / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "PPPoE discovery", "tx(B / PPPoED(code=9) / m)"),
        never(Victim, On::BRIDGES, "LLC", "tx(Dot3(src=mac, dst=victim_mac) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / m)"),
        never(Victim, On::BRIDGES, "LLC and SNAP around IPv4", "tx(Dot3(src=mac, dst=victim_mac) / LLC(dsap=0xaa, ssap=0xaa, ctrl=3) / SNAP(code=0x800) / IP(src=me4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "an ethertype that nobody knows", "tx(Ether(src=mac, dst=victim_mac, type=0x88b5) / m)"),
        never(Victim, On::BRIDGES, "RARP", "tx(Ether(src=mac, dst=victim_mac, type=0x8035) / ARP(op=3, psrc=me4, hwsrc=mac) / m)"),
        never(Victim, On::BRIDGES, "ARP of a strange hardware type", "tx(V / ARP(hwtype=6, op=2, psrc=free4, hwsrc=mac, pdst=victim4) / m)"),
        never(Victim, On::BRIDGES, "spanning tree", "tx(Dot3(src=mac, dst='01:80:c2:00:00:00') / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP() / m)"),
        never(Victim, On::BRIDGES, "IEEE 802.1X", "tx(Ether(src=mac, dst=victim_mac, type=0x888e) / m)"),
        never(Victim, On::NOWHERE, "LLDP", "tx(Ether(src=mac, dst='01:80:c2:00:00:0e', type=0x88cc) / m)")
            .why("a bridge does not forward this group"),
        never(Victim, On::BRIDGE, "IPv4 with version 5", "tx(V / IP(version=5, src=me4, dst=victim4) / u10 / m)")
            .why("br_netfilter drops malformed packets"),
        never(Victim, On::BRIDGE, "IPv6 inside ethertype IPv4", "tx(Ether(src=mac, dst=victim_mac, type=0x800) / IPv6(src=me6, dst=victim6) / u10 / m)").why("br_netfilter drops malformed packets"),
        never(Victim, On::BRIDGE, "IPv4 inside ethertype IPv6", "tx(Ether(src=mac, dst=victim_mac, type=0x86dd) / IP(src=me4, dst=victim4) / u10 / m)").why("br_netfilter drops malformed packets"),
    ],
};

#[rustfmt::skip] // a table: one line a case
pub static MANY: Group = Group {
    title: "Broadcast and multicast",
    cases: &[
        never(Victim, On::BRIDGES, "free source, to the broadcast MAC", "tx(B / IP(src=free4, dst=victim4) / u10 / m)"),
        never(Victim, On::BRIDGES, "free source, to a multicast MAC", "tx(Ether(src=mac, dst='01:00:5e:00:00:09') / IP(src=free4, dst=victim4) / u10 / m)"),
        judged(Victim, On::BRIDGES, "unicast IPv4 to the broadcast MAC", "tx(B / IP(src=me4, dst=victim4) / u9 / m)"),
        judged(Victim, On::BRIDGES, "unicast IPv6 to a multicast MAC", "tx(M / IPv6(src=me6, dst=victim6) / u9 / m)"),
        judged(Outside, On::NOWHERE, "unicast to the outside, to the broadcast MAC", "tx(B / IP(src=me4, dst=ext4) / u9 / m)")
            .open(On::BRIDGES).why("the node's kernel forwards no broadcast; on bridges the plugin makes it the unicast that it is"),
        never(Victim, On::BRIDGES, "255.255.255.255", "tx(B / IP(src=me4, dst='255.255.255.255') / u10 / m)"),
        never(Node, On::ALL, "255.255.255.255, to the node", "tx(B / IP(src=me4, dst='255.255.255.255') / u10 / m)"),
        never(Victim, On::BRIDGES, "the network's broadcast address", "tx(B / IP(src=me4, dst=all4) / u10 / m)"),
        never(Victim, On::BRIDGES, "IPv4 multicast", "tx(Ether(src=mac, dst='01:00:5e:00:00:09') / IP(src=me4, dst='224.0.0.9') / u10 / m)"),
        never(Victim, On::BRIDGES, "IPv4 multicast to the pod's MAC", "tx(V / IP(src=me4, dst='239.1.1.1') / u10 / m)"),
        never(Victim, On::BRIDGES, "mDNS", "tx(Ether(src=mac, dst='01:00:5e:00:00:fb') / IP(src=me4, dst='224.0.0.251', ttl=255) / UDP(sport=5353, dport=5353) / m)"),
        never(Victim, On::NOWHERE, "IGMP", "tx(Ether(src=mac, dst='01:00:5e:00:00:16') / IP(src=me4, dst='224.0.0.22', ttl=1, proto=2) / Raw(b'\\x22\\0\\0\\0') / m)").why("a bridge keeps it for routers"),
        never(Victim, On::BRIDGES, "IPv6 multicast of the link, link-local source", "tx(M / IPv6(src=me_ll, dst='ff02::1') / u10 / m)"),
        never(Victim, On::BRIDGES, "IPv6 multicast of the link, own source", "tx(M / IPv6(src=me6, dst='ff02::1') / u10 / m)"),
        never(Node, On::ALL, "IPv6 multicast of the link, to the node", "tx(M / IPv6(src=me6, dst='ff02::1') / u10 / m)"),
        never(Victim, On::BRIDGES, "IPv6 multicast of the site", "tx(M / IPv6(src=me6, dst='ff05::1') / u10 / m)"),
        never(Victim, On::BRIDGES, "echo request to all nodes of the link", "tx(M / IPv6(src=me_ll, dst='ff02::1') / ICMPv6EchoRequest() / m)"),
        allowed(Victim, On::BRIDGES, "multicast listener report", "tx(M / IPv6(src=me_ll, dst='ff02::16', hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2() / m)",
            "bridges learn from it where neighbour solicitations go; it stays on the link"),
        never(Victim, On::BRIDGES, "multicast listener report from afar", "tx(M / IPv6(src=me_ll, dst='ff02::16', hlim=64) / alert / ICMPv6MLReport2() / m)"),
        never(Victim, On::BRIDGES, "multicast listener report without router alert", "tx(M / IPv6(src=me_ll, dst='ff02::16', hlim=1) / ICMPv6MLReport2() / m)"),
        never(Victim, On::BRIDGES, "multicast listener report with much in it", "tx(M / IPv6(src=me_ll, dst='ff02::16', hlim=1) / alert / ICMPv6MLReport2() / (m.load * 5))"),
        never(Victim, On::BRIDGES, "multicast listener report to all nodes of the link", "tx(M / IPv6(src=me_ll, dst='ff02::1', hlim=1) / alert / ICMPv6MLReport2() / m)"),
        never(Victim, On::BRIDGES, "multicast listener report of version 1 with much in it", "tx(M / IPv6(src=me_ll, dst='ff02::1:ff00:1', hlim=1) / alert / ICMPv6MLReport(mladdr='ff02::1:ff00:1') / m)"),
        never(Victim, On::BRIDGES, "multicast listener report of version 1 to a group that anybody may be in", "tx(M / IPv6(src=me_ll, dst=marked('ff02::'), hlim=1) / alert / ICMPv6MLReport(mladdr='ff02::fb'))"),
        never(Victim, On::BRIDGES, "multicast listener done to all nodes of the link", "tx(M / IPv6(src=me_ll, dst='ff02::1', hlim=1) / alert / ICMPv6MLDone(mladdr=marked('ff02::')))"),
        never(Victim, On::BRIDGES, "DHCP client", "tx(B / IP(src='0.0.0.0', dst='255.255.255.255') / UDP(sport=68, dport=67) / BOOTP(chaddr=mac) / DHCP(options=[('message-type', 'discover'), 'end']) / m)"),
        never(Node, On::ALL, "DHCP client, to the node", "tx(B / IP(src='0.0.0.0', dst='255.255.255.255') / UDP(sport=68, dport=67) / BOOTP(chaddr=mac) / DHCP(options=[('message-type', 'discover'), 'end']) / m)"),
        never(Victim, On::BRIDGES, "DHCP server, to all", "tx(B / IP(src=me4, dst='255.255.255.255') / UDP(sport=67, dport=68) / BOOTP(op=2, yiaddr=victim4, siaddr=me4) / DHCP(options=[('message-type', 'offer'), ('router', me4), 'end']) / m)"),
        judged(Victim, On::ALL, "DHCP server, to one", "tx(E / IP(src=me4, dst=victim4) / UDP(sport=67, dport=68) / BOOTP(op=2, yiaddr=victim4, siaddr=me4) / DHCP(options=[('message-type', 'ack'), ('router', me4), 'end']) / m)"),
        never(Victim, On::BRIDGES, "DHCPv6 client", "tx(Ether(src=mac, dst='33:33:00:01:00:02') / IPv6(src=me_ll, dst='ff02::1:2') / UDP(sport=546, dport=547) / DHCP6_Solicit() / m)"),
        never(Victim, On::BRIDGES, "DHCPv6 server", "tx(V / IPv6(src=me_ll, dst=victim_ll) / UDP(sport=547, dport=546) / DHCP6_Advertise() / m)"),
    ],
};
