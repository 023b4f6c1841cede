//! Which source address the outside sees.

use crate::harness::egress::{BOTH, EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{EXT, FAR, NODE, ip};
use crate::harness::*;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

/// The pod shows its egress address outside, and its own where the cluster is meant.
fn seen_as_egress(node: &Node, pod: &Pod<'_>, peer: &Pod<'_>) {
    let _servers = [
        node.serve_ext(&[80]),
        node.serve_node(&[80]),
        peer.serve(&[80]),
    ];
    let mut probes = Vec::new();
    for family in 0..2 {
        let egress = Want::From(ip(EGRESS[family]));
        for outside in [EXT[family], FAR[family]].map(ip) {
            probes.push(Probe::tcp(&pod.netns, outside, 80, egress));
            probes.push(Probe::udp(&pod.netns, outside, 80, egress));
            probes.push(Probe::ping(&pod.netns, outside, Want::Reached));
        }
        probes.push(Probe::tcp(
            &pod.netns,
            peer.addresses()[family],
            80,
            Want::Reached,
        ));
        // A namespace without egress addresses does not get another's.
        probes.push(Probe::tcp(&peer.netns, ip(FAR[family]), 80, Want::Reached));
    }
    check(node, &probes);
    for family in 0..2 {
        let outcome = Probe::tcp(&peer.netns, ip(FAR[family]), 80, Want::Reached).run();
        assert_ne!(outcome, Outcome::Reached(ip(EGRESS[family])));
    }
}

#[test]
fn egress_address_without_masquerade() {
    let node = shop_node();
    let peer = node.pod(PodSpec::new("peer", Primary::Bridge).namespace("other"));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    assert_eq!(
        has_egress_addresses(&node),
        [true, true],
        "{:?}",
        uplink(&node)
    );
    seen_as_egress(&node, &pod, &peer);
    // Inside the cluster, and to the node, the pod is itself.
    let _servers = [node.serve_node(&[81]), peer.serve(&[81])];
    let mut probes = Vec::new();
    for family in 0..2 {
        let own = Want::From(pod.addresses()[family]);
        probes.push(Probe::tcp(&pod.netns, peer.addresses()[family], 81, own));
        probes.push(Probe::udp(&pod.netns, peer.addresses()[family], 81, own));
        probes.push(Probe::tcp(&pod.netns, ip(NODE[family]), 81, own));
        // The node's own traffic keeps the node's address.
        probes.push(Probe::tcp(
            &node.netns,
            peer.addresses()[family],
            81,
            Want::Reached,
        ));
    }
    check(&node, &probes);
    let _ext = node.serve_ext(&[82]);
    let own_ways = [0, 1].map(|f| Probe::tcp(&node.netns, ip(FAR[f]), 82, Want::From(ip(NODE[f]))));
    check(&node, &own_ways);
}

#[test]
fn egress_address_beats_the_primarys_masquerade() {
    for primary in [Primary::Bridge, Primary::Ptp, Primary::Calico] {
        let node = shop_node();
        let peer = node.pod(
            PodSpec::new("peer", primary)
                .namespace("other")
                .masquerade(),
        );
        let pod = node.pod(PodSpec::new("a", primary).masquerade());
        seen_as_egress(&node, &pod, &peer);
        pod.delete();
        peer.delete();
        node.assert_nothing_left();
    }
}

#[test]
fn egress_address_beats_kube_proxys_masquerade() {
    for tools in [
        ["iptables-nft", "ip6tables-nft"],
        ["iptables-legacy", "ip6tables-legacy"],
    ] {
        let node = shop_node();
        for (tool, range) in tools.iter().zip(["10.244.0.0/16", "fd44::/16"]) {
            node.netns.exec(&format!(
                "{tool} -w -t nat -A POSTROUTING -s {range} ! -d {range} -j MASQUERADE"
            ));
        }
        let peer = node.pod(PodSpec::new("peer", Primary::Bridge).namespace("other"));
        let pod = node.pod(PodSpec::new("a", Primary::Bridge));
        seen_as_egress(&node, &pod, &peer);
    }
}

#[test]
fn portmap_in_the_chain_still_works() {
    let node = shop_node();
    let portmap = |port: u16| {
        let mappings =
            json!({"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]});
        (
            json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}),
            mappings,
        )
    };
    let peer = node.pod(
        PodSpec::new("peer", Primary::Bridge)
            .namespace("other")
            .masquerade(),
    );
    let (conf, runtime) = portmap(8080);
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .masquerade()
            .between(conf, runtime),
    );
    let server = pod.serve(&[80]);
    check(
        &node,
        &[
            Probe::tcp(&node.ext, ip(NODE[0]), 8080, Want::From(ip(EXT[0]))),
            Probe::tcp(&node.ext, ip(NODE[1]), 8080, Want::From(ip(EXT[1]))),
            Probe::tcp(&peer.netns, ip(NODE[0]), 8080, Want::Reached),
            // To itself through its own host port.
            Probe::tcp(&pod.netns, ip(NODE[0]), 8080, Want::Reached),
        ],
    );
    drop(server);
    seen_as_egress(&node, &pod, &peer);
    pod.delete();
    peer.delete();
    node.assert_nothing_left();
}

/// One family alone: the other keeps the primary's ways.
#[test]
fn one_family_alone() {
    let node = Node::new(NodeOptions {
        dad: true,
        ..NodeOptions::default()
    });
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", EGRESS[0]));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let _server = node.serve_ext(&[80]);
    check(
        &node,
        &[
            Probe::tcp(&pod.netns, ip(FAR[0]), 80, Want::From(ip(EGRESS[0]))),
            Probe::tcp(&pod.netns, ip(FAR[1]), 80, Want::From(pod.v6)),
        ],
    );
}

/// Only ping reaches the node on an egress address: no service of the node, no NodePort.
#[test]
fn the_address_serves_nothing() {
    let node = shop_node();
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let addresses = EGRESS.map(ip);
    let _servers = [
        Echo::start(&node.netns, &addresses, &[22]),
        node.serve_node(&[22]),
        pod.serve(&[80]),
    ];
    node.netns.nft(&format!(
        "table inet kube-proxy {{
           chain nodeports {{
             type nat hook prerouting priority -100
             fib daddr type local meta nfproto ipv4 tcp dport 30080 dnat ip to {}:80
             fib daddr type local meta nfproto ipv6 tcp dport 30080 dnat ip6 to [{}]:80
           }}
         }}",
        pod.v4, pod.v6
    ));
    let mut probes = Vec::new();
    for family in 0..2 {
        let (egress, own) = (addresses[family], ip(NODE[family]));
        probes.extend([
            Probe::ping(&node.ext, egress, Want::Reached),
            Probe::tcp(&node.ext, egress, 22, Want::Silence),
            Probe::udp(&node.ext, egress, 22, Want::Silence),
            Probe::tcp(&node.ext, egress, 23, Want::Silence),
            Probe::tcp(&node.ext, egress, 30080, Want::Silence),
            Probe::tcp(&node.ext, own, 22, Want::Reached),
            Probe::tcp(&node.ext, own, 30080, Want::Reached),
        ]);
    }
    check(&node, &probes);
    // Not even to who comes with the hop limit of neighbour discovery, which passes.
    node.ext.sysctls(&[("net/ipv6/conf/eth0/hop_limit", "255")]);
    let [udp, tcp] =
        [Probe::udp, Probe::tcp].map(|probe| probe(&node.ext, addresses[1], 22, Want::Silence));
    check(&node, &[udp, tcp]);
}

/// A node that lost an address takes its element out: what is open goes on with no source at all.
#[test]
fn what_an_address_had_open_ends_with_it() {
    let node = shop_node();
    let pod = node.pod(PodSpec::new("a", Primary::Ptp));
    let _server = node.serve_ext(&[80]);
    for family in 0..2 {
        let far = SocketAddr::new(ip(FAR[family]), 80);
        let mut open = Conn::open(&pod.netns, far, exec::limit()).expect("it is reached");
        assert_eq!(open.exchange(exec::limit()), Ok(()));
        let set = ["eip4", "eip6"][family];
        node.netns.nft(&format!(
            "delete element inet egressway {set} {{ {} }}",
            EGRESS[family]
        ));
        assert_eq!(open.is_cut(&node), Outcome::Silence, "to {far}");
        check(
            &node,
            &[Probe::tcp(&pod.netns, far.ip(), 80, Want::Silence)],
        );
    }
}

/// Packets that conntrack calls invalid get no SNAT; they must not leave at all.
#[test]
fn nothing_leaves_with_another_source() {
    let node = shop_node();
    let bare = node.pod(PodSpec::new("bare", Primary::Bridge).uncovered());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let outside = Capture::start(&node.ext);
    let send = |pod: &Pod<'_>, tag: &str| {
        scapy(
            &pod.netns,
            &format!(
                "
def m(name): return Raw(('{tag}-%s-' % name).encode())
for ip, family in [(IP(dst='198.51.100.100'), '4'), (IPv6(dst='2001:db8:99::100'), '6')]:
    send(ip / TCP(sport=5000, dport=80, flags='SFR') / m('flags' + family))
    send(ip / TCP(sport=5001, dport=80, flags='SA', seq=1, ack=1) / m('synack' + family))
    send(ip / TCP(sport=5002, dport=80, flags='R', seq=1) / m('reset' + family))
send(IP(dst='198.51.100.100') / ICMP(type=0) / m('echo-reply4'))
send(IPv6(dst='2001:db8:99::100') / ICMPv6EchoReply(data=b'{tag}-echo-reply6-'))
send(IP(dst='198.51.100.100') / UDP(dport=9) / m('end4'))
send(IPv6(dst='2001:db8:99::100') / UDP(dport=9) / m('end6'))
"
            ),
        );
        for family in [4, 6] {
            assert!(outside.wait_for_marker(&format!("{tag}-end{family}-"), soon()));
        }
    };
    send(&bare, "bare");
    for name in [
        "flags4",
        "flags6",
        "synack4",
        "synack6",
        "echo-reply4",
        "echo-reply6",
    ] {
        assert!(
            outside.saw(&format!("bare-{name}-")),
            "{name} does not even arrive without an egress address"
        );
    }
    send(&pod, "covered");
    let allowed = EGRESS.map(ip);
    let leaks: Vec<IpAddr> = outside
        .frames()
        .iter()
        .filter(|frame| capture::contains(frame, b"covered-"))
        .filter_map(|frame| source_of(frame))
        .filter(|source| !allowed.contains(source))
        .collect();
    assert!(
        leaks.is_empty(),
        "left with the source {leaks:?}\n{}",
        node.describe()
    );
}

/// The source address of an Ethernet frame's IP packet.
fn source_of(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x00] => <[u8; 4]>::try_from(frame.get(26..30)?)
            .ok()
            .map(IpAddr::from),
        [0x86, 0xdd] => <[u8; 16]>::try_from(frame.get(22..38)?)
            .ok()
            .map(IpAddr::from),
        _ => None,
    }
}

/// Rules are judged before the source changes, and bridged packets may pass the IP hooks twice.
#[test]
fn rules_hold_with_an_egress_address() {
    for bridge_nf in [false, true] {
        let node = Node::new(NodeOptions {
            dad: true,
            bridge_nf,
        });
        node.set_policy(&Policy::default().namespace("shop", "egress-ip", BOTH));
        let pod = node.pod(
            PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp\nreject 82/tcp to internet"),
        );
        let peer = node.pod(PodSpec::new("peer", Primary::Bridge).namespace("other"));
        let _servers = [
            node.serve_ext(&[80, 81, 82]),
            peer.serve(&[80, 81]),
            pod.serve(&[80]),
        ];
        let mut probes = Vec::new();
        for family in 0..2 {
            let own = pod.addresses()[family];
            probes.extend([
                Probe::tcp(
                    &pod.netns,
                    ip(FAR[family]),
                    80,
                    Want::From(ip(EGRESS[family])),
                ),
                Probe::tcp(&pod.netns, ip(FAR[family]), 81, Want::Silence),
                Probe::tcp(&pod.netns, ip(FAR[family]), 82, Want::Refused),
                Probe::tcp(&pod.netns, peer.addresses()[family], 80, Want::From(own)),
                Probe::tcp(&pod.netns, peer.addresses()[family], 81, Want::Silence),
                // Towards the pod nothing changes: who answers is who was asked.
                Probe::tcp(&node.ext, own, 80, Want::From(ip(EXT[family]))),
                Probe::udp(&node.ext, own, 80, Want::From(ip(EXT[family]))),
                Probe::tcp(&node.netns, own, 80, Want::Reached),
                Probe::tcp(&peer.netns, own, 80, Want::From(peer.addresses()[family])),
            ]);
        }
        check(&node, &probes);
    }
}

/// Open connections keep their source when the namespace's rules change.
#[test]
fn a_readd_keeps_open_connections() {
    let node = shop_node();
    let mut pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let _server = node.serve_ext(&[80]);
    let open = |far: &str| {
        Conn::open(&pod.netns, SocketAddr::new(ip(far), 80), soon()).expect("a connection")
    };
    let mut conns: Vec<Conn> = FAR.iter().map(|far| open(far)).collect();
    pod.readd("allow 80/tcp");
    for conn in &mut conns {
        assert_eq!(conn.exchange(soon()), Ok(()), "{}", node.describe());
    }
    assert_eq!(has_egress_addresses(&node), [true, true]);
}
