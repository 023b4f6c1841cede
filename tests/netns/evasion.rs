//! Ways to dress a denied packet so that a careless filter lets it go.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use std::net::UdpSocket;

under_every_primary!(fragments_of_large_datagrams);

fn fragments_of_large_datagrams(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let pod = node.pod(PodSpec::new("a", primary).rules("deny 9/udp"));
    let _servers = node.serve_ext(&[9, 10]);
    for ext in EXT.map(ip) {
        let send = |port: u16| {
            pod.netns.run(|| {
                let any = if ext.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).expect("a socket");
                socket.send_to(&[b'x'; 4000], (ext, port)).expect("send");
                socket
            })
        };
        let answered = |socket: &UdpSocket| socket.recv(&mut [0; 64]).is_ok();
        let allowed = send(10);
        allowed.set_read_timeout(Some(soon())).expect("a timeout");
        assert!(answered(&allowed), "{ext}: allowed\n{}", node.describe());
        let (denied, arrivals) = silently(&node, || send(9));
        denied.set_nonblocking(true).expect("a socket");
        let large: Vec<_> = arrivals.iter().filter(|a| a.bytes.len() > 4000).collect();
        assert!(
            large.is_empty() && !answered(&denied),
            "{ext}: denied, but {large:?}\n{}",
            node.describe()
        );
    }
}
