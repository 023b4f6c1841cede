//! What is left of a flow's or an address's former life decides nothing: conntrack takes whoever speaks first for the
//! one who opened a flow, and keeps flows of a time when nobody judged.

use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use crate::sync::{all_are, sync};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

fn deny_node() -> Node {
    Node::new(NodeOptions::default())
}

fn udp(netns: &Netns, address: IpAddr, port: u16) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(SocketAddr::new(address, port)));
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(soon())).expect("a socket");
    socket
}

fn tell(from: &UdpSocket, to: &UdpSocket) {
    let to = to.local_addr().expect("an address");
    from.send_to(b"x", to).expect("send");
}

fn hear(socket: &UdpSocket) {
    socket.recv(&mut [0; 64]).expect("a datagram");
}

/// Whether nothing from this port of the pod arrives anywhere while this is done.
fn is_silent(node: &Node, port: u16, work: impl FnOnce() + Send) -> bool {
    let ((), arrivals) = silently(node, work);
    !arrivals.iter().any(|a| a.source_port() == Some(port))
}

fn forget_connections(node: &Node, pod: &Pod<'_>, address: IpAddr) {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    for direction in ["-s", "-r"] {
        let line = format!("conntrack -D -f {family} {direction} {address}");
        let _ = node.netns.try_exec(&line);
    }
    assert_eq!(pod.ours("CHECK").ok(), "");
}

/// Whether or not the pod has met the new rules before.
#[test]
fn a_revoked_connection_stays_cut_without_its_entry() {
    let node = deny_node();
    for primary in [Primary::Calico, Primary::Bridge] {
        let mut pod = node.pod(PodSpec::new("a", primary).rules("allow 80/tcp\ndeny to any"));
        for (at, ext) in pod.addresses().into_iter().zip(EXT.map(ip)) {
            pod.readd("allow 80/tcp\ndeny to any");
            let to = SocketAddr::new(ext, 80);
            let listener = node.ext.run(|| TcpListener::bind(to)).expect("a listener");
            let here = pod.netns.run(|| TcpStream::connect_timeout(&to, soon()));
            let mut here = here.expect("it is allowed");
            let (mut there, _) = listener.accept().expect("a connection");
            let port = here.local_addr().expect("an address").port();
            pod.readd("deny to any");
            forget_connections(&node, &pod, at);
            let is_cut = is_silent(&node, port, || {
                there.write_all(b"push").expect("write");
                here.write_all(b"secret").expect("write");
            });
            assert!(is_cut, "{at}: {}", node.describe());
        }
        pod.delete();
    }
    node.assert_nothing_left();
}

#[test]
fn a_revoked_exchange_of_datagrams_stays_cut_without_its_entry() {
    let node = deny_node();
    let mut pod = node.pod(PodSpec::new("a", Primary::Calico).rules("allow 80/udp\ndeny to any"));
    let peer = node.pod(PodSpec::new("b", Primary::Calico));
    for (at, others) in pod
        .addresses()
        .into_iter()
        .zip([[ip(EXT[0]), peer.v4], [ip(EXT[1]), peer.v6]])
    {
        for (other, netns) in others.into_iter().zip([&node.ext, &peer.netns]) {
            pod.readd("allow 80/udp\ndeny to any");
            let (here, there) = (udp(&pod.netns, at, 0), udp(netns, other, 80));
            let port = here.local_addr().expect("an address").port();
            tell(&here, &there);
            hear(&there);
            tell(&there, &here);
            hear(&here);
            pod.readd("deny to any");
            assert!(is_silent(&node, port, || tell(&here, &there)));
            forget_connections(&node, &pod, at);
            let is_cut = is_silent(&node, port, || {
                tell(&there, &here);
                hear(&here);
                tell(&here, &there);
            });
            assert!(is_cut, "{at} to {other}: {}", node.describe());
            // What others open, from another port, is answered.
            let another = udp(netns, other, 0);
            tell(&another, &here);
            hear(&here);
            tell(&here, &another);
            hear(&another);
        }
    }
}

/// An error about a flow may have 1200 bytes of the pod's own.
#[test]
fn errors_about_a_revoked_flow_are_cut() {
    let node = deny_node();
    let with = |verb: &str| format!("{verb} 80/udp\nallow 9/udp\ndeny to any");
    let mut pod = node.pod(PodSpec::new("a", Primary::Calico).rules(&with("allow")));
    let capture = Capture::start(&node.ext);
    let sockets: Vec<_> = pod
        .addresses()
        .into_iter()
        .zip(EXT.map(ip))
        .map(|(at, ext)| (udp(&pod.netns, at, 5555), udp(&node.ext, ext, 80)))
        .collect();
    for (here, there) in &sockets {
        tell(here, there);
        hear(there);
        tell(there, here);
        hear(here);
    }
    let errors = |pod: &Pod<'_>, marker: &str| {
        let program = format!(
            "
from4 = IP(src='172.30.0.100', dst='{v4}') / UDP(sport=80, dport=5555) / Raw(b'{marker}-four' * 100)
from6 = IPv6(src='fd30::100', dst='{v6}') / UDP(sport=80, dport=5555) / Raw(b'{marker}-six' * 90)
send(IP(dst='172.30.0.100') / ICMP(type=3, code=3) / Raw(bytes(from4)))
send(IPv6(dst='fd30::100') / ICMPv6DestUnreach(code=4) / Raw(bytes(from6)))
send(IP(dst='172.30.0.100') / UDP(dport=9) / Raw(b'{marker}-end-four'))
send(IPv6(dst='fd30::100') / UDP(dport=9) / Raw(b'{marker}-end-six'))
",
            v4 = pod.v4,
            v6 = pod.v6
        );
        scapy(&pod.netns, &program);
        for end in ["end-four", "end-six"] {
            assert!(capture.wait_for_marker(&format!("{marker}-{end}"), soon()));
        }
    };
    errors(&pod, "known");
    assert!(
        capture.saw("known-four") && capture.saw("known-six"),
        "{}",
        node.describe()
    );
    // The pod has sent nothing else since.
    pod.readd(&with("deny"));
    errors(&pod, "secret");
    assert!(
        !capture.saw("secret-four") && !capture.saw("secret-six"),
        "{}",
        node.describe()
    );
    // Nor does it help that the peer is heard meanwhile.
    for (here, there) in &sockets {
        tell(there, here);
        hear(here);
    }
    errors(&pod, "later");
    assert!(
        !capture.saw("later-four") && !capture.saw("later-six"),
        "{}",
        node.describe()
    );
}

/// Another pod had the address, or the rules were gone for a while: flows of that time are judged as the pod's own.
#[test]
fn flows_of_a_time_without_rules_decide_nothing() {
    let node = deny_node();
    // Somebody else tracks connections, before us and without us.
    node.netns.nft(
        "table inet others {\nchain c {\ntype filter hook prerouting priority 0; policy accept;\nct state new accept\n}\n}",
    );
    let pod = node.pod(
        PodSpec::new("a", Primary::Calico)
            .rules("deny to any")
            .uncovered(),
    );
    let ext = EXT.map(ip);
    let heard = || -> Vec<(UdpSocket, UdpSocket)> {
        let pair = |(at, ext): (IpAddr, IpAddr)| {
            let (here, there) = (udp(&pod.netns, at, 0), udp(&node.ext, ext, 0));
            tell(&there, &here);
            hear(&here);
            (here, there)
        };
        pod.addresses().into_iter().zip(ext).map(pair).collect()
    };
    let are_judged = |flows: &[(UdpSocket, UdpSocket)]| {
        for (here, there) in flows {
            let port = here.local_addr().expect("an address").port();
            assert!(
                is_silent(&node, port, || tell(here, there)),
                "{}",
                node.describe()
            );
        }
    };
    let former = heard();
    pod.ours("ADD").ok();
    are_judged(&former);
    let open = |port| -> Vec<Conn> {
        let to = pod.addresses().map(|at| SocketAddr::new(at, port));
        to.map(|to| Conn::open(&node.ext, to, soon()).unwrap_or_else(|o| panic!("{to}: {o:?}")))
            .into()
    };
    let _server = pod.serve(&[90]);
    let mut open_before = open(90);
    node.netns
        .nft("delete table inet egressway\ndelete table netdev egressway");
    let meanwhile = heard();
    let (changes, good) = sync(&node);
    assert!(good && all_are(&changes, "repaired"), "{changes:#?}");
    are_judged(&meanwhile);
    for conn in open_before.iter_mut().chain(&mut open(90)) {
        assert_eq!(conn.exchange(soon()), Ok(()), "{}", node.describe());
    }
    pod.ours("DEL").ok();
    node.assert_nothing_left();
}

/// What an older version has added is known to no set of this one's.
#[test]
fn pods_of_an_older_layout_go_on_answering() {
    let node = deny_node();
    let pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny to any"));
    let _server = pod.serve(&[90]);
    node.netns.nft(&format!(
        "flush chain inet egressway opened
         delete element inet egressway judged4 {{ {} }}
         delete element inet egressway judged6 {{ {} }}",
        pod.v4, pod.v6
    ));
    let newer = node.pod(PodSpec::new("b", Primary::Calico));
    for to in pod.addresses().map(|at| SocketAddr::new(at, 90)) {
        let answered = Conn::open(&node.ext, to, soon());
        assert!(answered.is_ok(), "{to}: {}", node.describe());
    }
    newer.delete();
    pod.delete();
    node.assert_nothing_left();
}

/// What has a pod's address and comes by another interface, or another port of its bridge, is not the pod's: it does
/// not leave as the pod's namespace.
#[test]
fn a_pods_address_counts_only_where_the_pod_is() {
    for bridge_nf in [false, true] {
        let node = Node::new(NodeOptions {
            bridge_nf,
            dad: true,
        });
        let policy = Policy::default().namespace("shop", "egress-ip", "172.30.0.50, fd30::50");
        node.set_policy(&policy);
        let neighbour = PodSpec::new("neighbour", Primary::Bridge).uncovered();
        let neighbour = node.pod(neighbour.namespace("other"));
        let elsewhere = PodSpec::new("elsewhere", Primary::Ptp).uncovered();
        let elsewhere = node.pod(elsewhere.namespace("other"));
        let pods = [Primary::Bridge, Primary::Ptp, Primary::Calico]
            .map(|primary| node.pod(PodSpec::new("a", primary)));
        let capture = Capture::start(&node.ext);
        for from in [&neighbour, &elsewhere] {
            let mut program = String::new();
            for (source, to) in [
                ([&pods[0].v4, &pods[1].v4, &pods[2].v4, &from.v4], FAR[0]),
                ([&pods[0].v6, &pods[1].v6, &pods[2].v6, &from.v6], FAR[1]),
            ] {
                for (n, source) in source.into_iter().enumerate() {
                    let kind = if source.is_ipv4() { "IP" } else { "IPv6" };
                    let mark = if n == 3 { "honest" } else { "forged" };
                    program += &format!(
                        "send({kind}(src='{source}', dst='{to}') / UDP(dport=9) / Raw(b'{mark}-{}-{kind}-'))\n",
                        from.spec.name
                    );
                }
            }
            scapy(&from.netns, &program);
            for kind in ["IP", "IPv6"] {
                let mark = |what| format!("{what}-{}-{kind}-", from.spec.name);
                assert!(
                    capture.wait_for_marker(&mark("honest"), soon()),
                    "{}",
                    node.describe()
                );
                assert!(!capture.saw(&mark("forged")), "{}", node.describe());
            }
        }
        let probes: Vec<_> = pods
            .iter()
            .flat_map(|pod| {
                ["172.30.0.50", "fd30::50"]
                    .map(ip)
                    .into_iter()
                    .zip(FAR.map(ip))
                    .map(|(eip, far)| Probe::udp(&pod.netns, far, 80, Want::From(eip)))
            })
            .collect();
        let _server = node.serve_ext(&[80]);
        check(&node, &probes);
    }
}
