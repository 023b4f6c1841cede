//! Ways to dress a denied packet so that a careless filter lets it go.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use std::iter;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

under_every_primary!(disguises, fragments_of_large_datagrams);

const SOON: Duration = Duration::from_secs(4);

/// Port 9 is denied, port 10 allowed; `case(port)` is the same disguise around each.
const DISGUISES: &str = "
def both(name, build):
    for port in (9, 10):
        for frame in build(port, Raw(('{tag}-%s-%d-' % (name, port)).encode())):
            tx(Ether(src='{mac}', dst='{gateway}') / frame)
def four(port): return IP(src='{v4}', dst='172.30.0.100', id=int(RandShort()))
def six(): return IPv6(src='{v6}', dst='fd30::100')
def udp(port): return UDP(sport=4000, dport=port)
both('plain4', lambda p, m: [four(p) / udp(p) / m])
both('plain6', lambda p, m: [six() / udp(p) / m])
both('options4', lambda p, m: [IP(src='{v4}', dst='172.30.0.100', options=[IPOption_NOP()] * 8) / udp(p) / m])
both('hop6', lambda p, m: [six() / IPv6ExtHdrHopByHop() / udp(p) / m])
both('dest6', lambda p, m: [six() / IPv6ExtHdrDestOpt() / udp(p) / m])
both('dests6', lambda p, m: [six() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / udp(p) / m])
both('atom6', lambda p, m: [six() / IPv6ExtHdrFragment(id=p) / udp(p) / m])
both('late6', lambda p, m: [six() / IPv6ExtHdrFragment(id=p + 100) / IPv6ExtHdrDestOpt() / udp(p) / m])
both('pieces4', lambda p, m: fragment(four(p) / udp(p) / Raw(m.load + b'.' * 64), fragsize=8))
both('backwards4', lambda p, m: fragment(four(p) / udp(p) / Raw(m.load + b'.' * 64), fragsize=16)[::-1])
both('tcp4', lambda p, m: [four(p) / TCP(sport=4001, dport=p, flags='S') / m])
both('tcp6', lambda p, m: [six() / TCP(sport=4001, dport=p, flags='S') / m])
both('ack4', lambda p, m: [four(p) / TCP(sport=4002, dport=p, flags='A', seq=1, ack=1) / m])
both('ack6', lambda p, m: [six() / TCP(sport=4002, dport=p, flags='A', seq=1, ack=1) / m])
both('null4', lambda p, m: [four(p) / TCP(sport=4003, dport=p, flags=0) / m])
both('badsum4', lambda p, m: [four(p) / UDP(sport=4004, dport=p, chksum=0xdead) / m])
tx(Ether(src='{mac}', dst='{gateway}') / four(10) / udp(10) / Raw(b'{tag}-end4-'))
tx(Ether(src='{mac}', dst='{gateway}') / six() / udp(10) / Raw(b'{tag}-end6-'))
";
const NAMES: [&str; 16] = [
    "plain4",
    "plain6",
    "options4",
    "hop6",
    "dest6",
    "dests6",
    "atom6",
    "late6",
    "pieces4",
    "backwards4",
    "tcp4",
    "tcp6",
    "ack4",
    "ack6",
    "null4",
    "badsum4",
];

fn disguises(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let pod = node.pod(
        PodSpec::new("a", primary)
            .uncovered()
            .rules("deny 9/udp, 9/tcp"),
    );
    let gateway = if primary == Primary::Bridge {
        "cni0"
    } else {
        &pod.veth
    };
    let disguises = DISGUISES
        .replace("{mac}", &pod.mac)
        .replace("{gateway}", &node.netns.mac(gateway))
        .replace("{v4}", &pod.v4.to_string())
        .replace("{v6}", &pod.v6.to_string());
    // A capture sees what no socket would take, a socket what arrives in pieces.
    let capture = Capture::start(&node.ext);
    let sockets: Vec<UdpSocket> = EXT
        .iter()
        .flat_map(|ext| [9, 10].map(|port| listen(&node.ext, ip(ext), port)))
        .collect();
    let mut received = Vec::new();
    let mut send = |tag: &str| -> Vec<String> {
        scapy(&pod.netns, &disguises.replace("{tag}", tag));
        // Each family's last packet comes last.
        for family in [4, 6] {
            let last = format!("{tag}-end{family}-");
            assert!(
                capture.wait_for_marker(&last, SOON),
                "{last}\n{}",
                node.describe()
            );
        }
        received.extend(sockets.iter().flat_map(drain));
        let arrives = |marker: &str| {
            capture.saw(marker)
                || received
                    .iter()
                    .any(|d| capture::contains(d, marker.as_bytes()))
        };
        let cases = NAMES
            .iter()
            .flat_map(|name| [9, 10].map(|port| format!("{name}-{port}")));
        cases
            .filter(|case| arrives(&format!("{tag}-{case}-")))
            .collect()
    };
    let all: Vec<String> = NAMES
        .iter()
        .flat_map(|name| [9, 10].map(|port| format!("{name}-{port}")))
        .collect();
    assert_eq!(
        send("bare"),
        all,
        "the test proves nothing about what does not arrive without the plugin"
    );
    pod.ours("ADD").ok();
    let arrived = send("judged");
    let denied: Vec<&String> = arrived.iter().filter(|case| case.ends_with("-9")).collect();
    assert!(
        denied.is_empty(),
        "denied, and yet arrived: {denied:?}\n{}",
        node.describe()
    );
    for name in ["plain4", "plain6", "tcp4", "tcp6", "dest6", "pieces4"] {
        let allowed = arrived.contains(&format!("{name}-10"));
        assert!(allowed, "{name} is allowed\n{}", node.describe());
    }
}

fn listen(netns: &Netns, address: IpAddr, port: u16) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((address, port)).expect("a socket"));
    socket.set_nonblocking(true).expect("a non-blocking socket");
    socket
}

/// All datagrams that wait in a socket.
fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())).collect()
}

fn fragments_of_large_datagrams(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let pod = node.pod(PodSpec::new("a", primary).rules("deny 9/udp"));
    let _servers = node.serve_ext(&[9, 10]);
    for ext in EXT.map(ip) {
        let answered = |port: u16, patience: Duration| {
            pod.netns.run(|| {
                let any = if ext.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).expect("a socket");
                socket.set_read_timeout(Some(patience)).expect("a timeout");
                socket.send_to(&[b'x'; 4000], (ext, port)).expect("send");
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        assert!(answered(10, SOON), "{ext}: allowed\n{}", node.describe());
        assert!(
            !answered(9, Duration::from_millis(400)),
            "{ext}: denied\n{}",
            node.describe()
        );
    }
}
