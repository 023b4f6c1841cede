//! Flows in time and space: open connections, replies, services, neighbours on the same node.

use crate::harness::node::{EXT, FAR, NODE, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use std::net::SocketAddr;

under_every_primary!(
    pods_of_one_node,
    a_new_deny_cuts_open_connections,
    what_comes_to_the_pod_is_not_judged,
    pods_not_covered_keep_working,
);

fn node_with(bridge_nf: bool) -> Node {
    Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    })
}

/// Rules of one pod about another on the same node hold, whether packets are bridged or routed.
fn pods_of_one_node(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let a =
        node.pod(PodSpec::new("a", primary).rules("deny 80/tcp, 80/udp, icmp, icmpv6 to cluster"));
    let b = node.pod(PodSpec::new("b", primary).rules("reject 81/tcp, 81/udp to cluster"));
    let _servers = [a.serve(&[80, 81]), b.serve(&[80, 81])];
    let mut probes = Vec::new();
    for family in 0..2 {
        let (at_a, at_b) = (a.addresses()[family], b.addresses()[family]);
        probes.extend([
            Probe::tcp(&a.netns, at_b, 80, Want::Silence),
            Probe::udp(&a.netns, at_b, 80, Want::Silence),
            Probe::ping(&a.netns, at_b, Want::Silence),
            Probe::tcp(&a.netns, at_b, 81, Want::From(at_a)),
            Probe::udp(&a.netns, at_b, 81, Want::From(at_a)),
            Probe::tcp(&b.netns, at_a, 80, Want::From(at_b)),
            Probe::udp(&b.netns, at_a, 80, Want::From(at_b)),
            Probe::ping(&b.netns, at_a, Want::Reached),
            Probe::tcp(&b.netns, at_a, 81, Want::Refused),
            Probe::udp(&b.netns, at_a, 81, Want::Prohibited),
        ]);
    }
    check(&node, &probes);
}

fn a_new_deny_cuts_open_connections(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let mut pod = node.pod(PodSpec::new("a", primary));
    let _servers = [node.serve_ext(&[80, 81, 82]), pod.serve(&[90])];
    let open = |port: u16| -> Vec<Conn> {
        let at = EXT.map(|ext| SocketAddr::new(ip(ext), port));
        at.map(|to| Conn::open(&pod.netns, to, soon()).unwrap_or_else(|o| panic!("{to}: {o:?}")))
            .into()
    };
    let (mut denied, mut rejected, mut kept) = (open(80), open(81), open(82));
    let mut inbound: Vec<Conn> = pod
        .addresses()
        .map(|a| {
            Conn::open(&node.ext, SocketAddr::new(a, 90), soon())
                .unwrap_or_else(|o| panic!("to {a}: {o:?}"))
        })
        .into();
    for conn in denied
        .iter_mut()
        .chain(&mut rejected)
        .chain(&mut kept)
        .chain(&mut inbound)
    {
        assert_eq!(conn.exchange(soon()), Ok(()));
    }
    pod.readd("deny 80/tcp\nreject 81/tcp\nallow 82/tcp\ndeny to any");
    for conn in &mut denied {
        assert_eq!(conn.is_cut(&node), Outcome::Silence, "{}", node.describe());
    }
    for conn in &mut rejected {
        assert_eq!(
            conn.exchange(soon()),
            Err(Outcome::Refused),
            "{}",
            node.describe()
        );
    }
    for conn in kept.iter_mut().chain(&mut inbound) {
        assert_eq!(conn.exchange(soon()), Ok(()), "{}", node.describe());
    }
    // And back: the connection that was only held up goes on.
    pod.readd("allow to any");
    for conn in &mut kept {
        assert_eq!(conn.exchange(soon()), Ok(()), "{}", node.describe());
    }
    let probes = EXT.map(|ext| Probe::tcp(&pod.netns, ip(ext), 80, Want::Reached));
    check(&node, &probes);
}

/// `deny to any` is about what the pod starts. Probes, clients and Services reach it, errors come back from it.
fn what_comes_to_the_pod_is_not_judged(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let pod = node.pod(PodSpec::new("a", primary).rules("deny to any"));
    let peer = node.pod(PodSpec::new("b", primary));
    let _servers = [
        pod.serve(&[80]),
        node.serve_ext(&[80]),
        node.serve_node(&[81]),
        peer.serve(&[80]),
    ];
    // A NodePort and a ClusterIP, as kube-proxy does them.
    node.netns.nft(&format!(
        "table inet kube-proxy {{
           chain services {{
             type nat hook prerouting priority -100
             ip daddr {{ 172.30.0.11, 10.96.0.20 }} tcp dport 30080 dnat ip to {}:80
             ip6 daddr {{ fd30::11, fd96::20 }} tcp dport 30080 dnat ip6 to [{}]:80
           }}
         }}",
        pod.v4, pod.v6
    ));
    let vip = ["10.96.0.20", "fd96::20"];
    let mut probes = Vec::new();
    for family in 0..2 {
        let at = pod.addresses()[family];
        probes.extend([
            // Covered indeed.
            Probe::tcp(&pod.netns, ip(EXT[family]), 80, Want::Silence),
            Probe::tcp(&pod.netns, ip(FAR[family]), 80, Want::Silence),
            Probe::tcp(&pod.netns, ip(NODE[family]), 81, Want::Silence),
            Probe::tcp(&pod.netns, peer.addresses()[family], 80, Want::Silence),
            Probe::ping(&pod.netns, ip(EXT[family]), Want::Silence),
            // The kubelet's probes.
            Probe::tcp(&node.netns, at, 80, Want::Reached),
            Probe::udp(&node.netns, at, 80, Want::Reached),
            Probe::ping(&node.netns, at, Want::Reached),
            // From outside and from a neighbour; directly and through a Service.
            Probe::tcp(&node.ext, at, 80, Want::From(ip(EXT[family]))),
            Probe::udp(&node.ext, at, 80, Want::From(ip(EXT[family]))),
            Probe::ping(&node.ext, at, Want::Reached),
            Probe::tcp(
                &node.ext,
                ip(NODE[family]),
                30080,
                Want::From(ip(EXT[family])),
            ),
            Probe::tcp(&peer.netns, at, 80, Want::From(peer.addresses()[family])),
            Probe::ping(&peer.netns, at, Want::Reached),
            Probe::tcp(
                &peer.netns,
                ip(vip[family]),
                30080,
                Want::From(peer.addresses()[family]),
            ),
            // A closed port is said to be closed.
            Probe::tcp(&node.ext, at, 99, Want::Refused),
            Probe::udp(&node.ext, at, 99, Want::Refused),
            Probe::udp(&node.netns, at, 99, Want::Refused),
        ]);
    }
    check(&node, &probes);
}

/// Pods that were there before the plugin are not covered, and must not be hurt either.
fn pods_not_covered_keep_working(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let old = node.pod(PodSpec::new("old", primary).uncovered());
    let older = node.pod(PodSpec::new("older", primary).uncovered());
    // Its answers are none of what it may send: they pass only if they are known as answers.
    let new = node.pod(
        PodSpec::new("new", primary)
            .rules("allow 80/tcp, 80/udp, icmp/8, icmpv6/128 to cluster\ndeny to cluster"),
    );
    let _servers = [
        old.serve(&[80, 82]),
        older.serve(&[80]),
        new.serve(&[80]),
        node.serve_ext(&[80]),
        node.serve_node(&[80]),
    ];
    let mut probes = Vec::new();
    for family in 0..2 {
        let [at_old, at_older, at_new] = [&old, &older, &new].map(|pod| pod.addresses()[family]);
        probes.extend([
            Probe::tcp(&old.netns, at_new, 80, Want::From(at_old)),
            Probe::udp(&old.netns, at_new, 80, Want::From(at_old)),
            Probe::ping(&old.netns, at_new, Want::Reached),
            Probe::tcp(&new.netns, at_old, 80, Want::From(at_new)),
            Probe::udp(&new.netns, at_old, 80, Want::From(at_new)),
            Probe::ping(&new.netns, at_old, Want::Reached),
            Probe::tcp(&new.netns, at_old, 82, Want::Silence),
            Probe::tcp(&old.netns, at_older, 80, Want::From(at_old)),
            Probe::udp(&older.netns, at_old, 80, Want::From(at_older)),
            Probe::tcp(&old.netns, ip(EXT[family]), 80, Want::From(at_old)),
            Probe::tcp(&old.netns, ip(NODE[family]), 80, Want::From(at_old)),
            Probe::tcp(&node.netns, at_old, 80, Want::Reached),
            Probe::tcp(&node.ext, at_old, 80, Want::Reached),
        ]);
    }
    check(&node, &probes);
    new.delete();
    // Nor when the last covered pod has gone.
    let mut probes = Vec::new();
    for family in 0..2 {
        let [at_old, at_older] = [&old, &older].map(|pod| pod.addresses()[family]);
        probes.push(Probe::tcp(&old.netns, at_older, 80, Want::From(at_old)));
        probes.push(Probe::tcp(&older.netns, at_old, 80, Want::From(at_older)));
        probes.push(Probe::tcp(
            &old.netns,
            ip(EXT[family]),
            80,
            Want::From(at_old),
        ));
    }
    check(&node, &probes);
    node.assert_nothing_left();
}

/// The other ports of a bridge are covered, until they carry pods of ours.
#[test]
fn a_port_that_becomes_a_pods_is_no_mere_port_any_more() {
    let node = node_with(false);
    let ports = || {
        let objects = node.objects();
        let is_port = |o: &&String| o.starts_with("netdev chain port-");
        objects.iter().filter(is_port).count()
    };
    let old = node.pod(PodSpec::new("old", Primary::Bridge).uncovered());
    let new = node.pod(PodSpec::new("new", Primary::Bridge));
    assert_eq!(ports(), 1, "{}", node.describe());
    old.ours("ADD").ok();
    assert_eq!(ports(), 0, "{}", node.describe());
    old.ours("DEL").ok();
    new.delete();
    node.assert_nothing_left();
}

/// Only what goes to our pods is led through the host. What other ports say to each other stays bridged,
/// and so does neighbour discovery, which a router would make void.
#[test]
fn what_is_not_for_our_pods_stays_bridged() {
    let node = node_with(false);
    let old = node.pod(PodSpec::new("old", Primary::Bridge).uncovered());
    let older = node.pod(PodSpec::new("older", Primary::Bridge).uncovered());
    let new = node.pod(PodSpec::new("new", Primary::Bridge));
    // The answer to its solicitation is all that can tell it where the other is.
    for pod in [&new, &old] {
        pod.netns.ip("neigh flush all");
    }
    check(&node, &[Probe::ping(&new.netns, old.v6, Want::Reached)]);

    let captures = [&older, &new].map(|pod| Capture::start(&pod.netns));
    let program = format!(
        "
def to(mac, frame): tx(Ether(src='{}', dst=mac) / frame)
to('{older}', IP(dst='{}') / UDP(dport=9) / Raw(b'plain-four'))
to('{older}', IPv6(dst='{}') / UDP(dport=9) / Raw(b'plain-six'))
to('{new}', Dot1Q(vlan=7) / IP(dst='{}') / UDP(dport=9) / Raw(b'tagged-four'))
to('{new}', Dot1Q(vlan=7) / IPv6(dst='{}') / UDP(dport=9) / Raw(b'tagged-six'))
",
        old.mac,
        older.v4,
        older.v6,
        new.v4,
        new.v6,
        older = older.mac,
        new = new.mac,
    );
    scapy(&old.netns, &program);
    let mac: Vec<u8> = old
        .mac
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).expect("hex"))
        .collect();
    for (capture, marks) in captures
        .iter()
        .zip([["plain-four", "plain-six"], ["tagged-four", "tagged-six"]])
    {
        for mark in marks {
            let is_bridged =
                |f: &[u8]| capture::contains(f, mark.as_bytes()) && f[6..12] == mac[..];
            assert!(
                capture.wait_for(soon(), is_bridged).is_some(),
                "{mark}\n{}",
                node.describe()
            );
        }
    }
}

/// A large answer and a small path: the ICMP error that tells so belongs to a known flow, and passes.
#[test]
fn path_mtu_errors_pass() {
    let node = node_with(false);
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to any"));
    let _servers = pod.serve(&[80]);
    // The pod's answers meet a narrower path at the node, which tells the pod by ICMP.
    node.netns.ip(
        "route replace 172.30.0.0/24 dev eth0 mtu 1000\nroute replace fd30::/64 dev eth0 mtu 1300",
    );
    for address in pod.addresses() {
        let to = SocketAddr::new(address, 80);
        let mut conn = Conn::open(&node.ext, to, soon()).unwrap_or_else(|o| panic!("{to}: {o:?}"));
        assert_eq!(
            conn.exchange_large(4000, soon()),
            Ok(()),
            "{to}\n{}",
            node.describe()
        );
    }
}

/// An answer to a socket that has gone: the pod's error about its own, allowed flow is no flow of its own.
#[test]
fn errors_about_known_flows_pass() {
    let node = node_with(false);
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("allow 80/udp\ndeny to any"));
    let _servers = node.serve_ext(&[80]);
    let capture = Capture::start(&node.ext);
    // No socket has port 5555: the pod's kernel refuses the answer.
    let program = "
send(IP(dst='172.30.0.100') / UDP(sport=5555, dport=80) / Raw(b'x'))
send(IPv6(dst='fd30::100') / UDP(sport=5555, dport=80) / Raw(b'x'))
";
    scapy(&pod.netns, program);
    let unreachable4 =
        |f: &[u8]| f.len() > 35 && f[12..14] == [8, 0] && f[23] == 1 && f[34..36] == [3, 3];
    let unreachable6 =
        |f: &[u8]| f.len() > 55 && f[12..14] == [0x86, 0xdd] && f[20] == 58 && f[54..56] == [1, 4];
    assert!(
        capture.wait_for(soon(), unreachable4).is_some(),
        "{}",
        node.describe()
    );
    assert!(
        capture.wait_for(soon(), unreachable6).is_some(),
        "{}",
        node.describe()
    );
}

/// A bridge to which nobody gave a MAC takes the lowest of its ports': ours are sent to the one that it
/// had, which stays.
#[test]
fn the_bridges_address_does_not_change_with_its_ports() {
    let node = node_with(false);
    let pod = node.pod(PodSpec::new("a", Primary::Calico).uncovered());
    node.netns.ip(&format!(
        "link add br7 type bridge
         addr add 10.244.3.254/24 dev br7
         addr add fd44:3::ffff/64 dev br7 nodad
         link set br7 up
         link set {} master br7",
        pod.veth
    ));
    pod.ours("ADD").ok();
    let before = node.netns.mac("br7");
    node.netns.ip("link add low type veth peer name other
         link set low address 00:00:00:00:00:02
         link set low master br7");
    assert_eq!(node.netns.mac("br7"), before);
}
