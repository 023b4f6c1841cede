//! What pods send of their own accord, and their kernels: all of it goes on.

use super::scene::{dropped, filters, node};
use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

fn everything_arrives(setting: &str, primary: Primary) {
    // Without the uplink's offload, whatever is not finished is finished there, and checked by who
    // receives it.
    let node = node(setting, false);
    let pod = node.pod(PodSpec::new("honest", primary));
    let _servers = node.serve_ext(&[80]);
    let from = &pod.netns;
    let mut probes = Vec::new();
    for to in [EXT, FAR].concat().into_iter().map(ip) {
        probes.push(Probe::tcp(from, to, 80, Want::Reached));
        probes.push(Probe::udp(from, to, 80, Want::Reached));
        probes.push(Probe::ping(from, to, Want::Reached));
    }
    check(&node, &probes);
    for to in EXT.map(ip) {
        let to = SocketAddr::new(to, 80);
        bulk(from, to);
        // More than a packet: cut by the pod's kernel, after it has written the checksum.
        large_datagram(from, to);
    }
    segmented_datagrams(from, &node.ext);
    tunnel(&node, &pod, 0);
    tunnel(&node, &pod, 1);
    destination_options(from);
    assert_eq!(dropped(&pod), 0);
    let guarded = filters(&pod).len();
    assert_eq!(guarded, usize::from(setting == "drop"));
}

#[test]
fn everything_arrives_on_a_bridge() {
    everything_arrives("drop", Primary::Bridge);
}

#[test]
fn everything_arrives_by_ptp() {
    everything_arrives("drop", Primary::Ptp);
}

#[test]
fn everything_arrives_resolved() {
    everything_arrives("resolve", Primary::Bridge);
}

fn socket(netns: &Netns, any: &str) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind(any)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Megabytes in packets of up to 64 kB, which the kernel or the device cuts. Not at once: who answers
/// each byte waits until somebody reads.
fn bulk(from: &Netns, to: SocketAddr) {
    let mut conn = Conn::open(from, to, PATIENCE).expect("a connection");
    for _ in 0..20 {
        conn.exchange_large(100_000, PATIENCE).expect("all of it");
    }
}

fn large_datagram(from: &Netns, to: SocketAddr) {
    let socket = socket(from, if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("a timeout");
    // The first one of IPv6 is answered with how long fragments may be.
    let ask = || {
        socket.send_to(&[b'x'; 8000], to).expect("sent");
        socket.recv(&mut [0; 64]).is_ok()
    };
    assert!((0..8).any(|_| ask()), "no answer from {to}");
}

/// Ten datagrams in one system call (UDP_SEGMENT).
fn segmented_datagrams(from: &Netns, ext: &Netns) {
    for (family, any) in ["0.0.0.0:81", "[::]:81"].into_iter().enumerate() {
        let server = socket(ext, any);
        let code = format!(
            "import socket
s = socket.socket(socket.{}, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 103, 1000)
s.sendto(b'x' * 10000, ('{}', 81))",
            ["AF_INET", "AF_INET6"][family],
            EXT[family]
        );
        python(from, &code);
        for number in 0..10 {
            let mut datagram = [0; 2000];
            let length = server.recv(&mut datagram);
            assert_eq!(length.ok(), Some(1000), "datagram {number}");
        }
    }
}

fn python(netns: &Netns, code: &str) {
    let mut command = Command::new("/usr/bin/python3");
    let output = netns.exec_with(command.args(["-c", code]), b"");
    assert_eq!(output.code, Some(0), "{code}\n{}", output.stderr);
}

/// The pod's own VXLAN, with TCP inside: that checksum is begun behind the outer headers.
fn tunnel(node: &Node, pod: &Pod<'_>, family: usize) {
    let own = pod.addresses()[family];
    let (pods, exts) = (
        ["192.168.90.1", "192.168.91.1"],
        ["192.168.90.2", "192.168.91.2"],
    );
    let lines = |remote: IpAddr, address: &str, more: &str| {
        format!(
            "link add vx{family} type vxlan id {} dstport 4789 local {{local}} remote {remote} {more}
             addr add {address}/24 dev vx{family}
             link set vx{family} mtu 1100 up",
            7 + family
        )
    };
    let far = ip(EXT[family]);
    let here = lines(far, pods[family], "dev eth0");
    pod.netns.ip(&here.replace("{local}", &own.to_string()));
    let there = lines(own, exts[family], "dev eth0");
    node.ext.ip(&there.replace("{local}", EXT[family]));
    let inside = ip(exts[family]);
    let _server = Echo::start(&node.ext, &[inside], &[80]);
    bulk(&pod.netns, SocketAddr::new(inside, 80));
}

/// TCP behind destination options (RFC 8200, 4.6), which the pod's program asks for.
fn destination_options(from: &Netns) {
    let code = format!(
        "import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.settimeout(10)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
s.connect(('{}', 80))
assert s.recv(100)
s.sendall(b'x' * 3000)
assert s.recv(1)",
        EXT[1]
    );
    python(from, &code);
}
