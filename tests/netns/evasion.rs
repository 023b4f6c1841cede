//! Ways to dress a denied packet so that a careless filter lets it go.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;
use std::net::UdpSocket;
use std::time::Duration;

under_every_primary!(fragments_of_large_datagrams);

const SOON: Duration = Duration::from_secs(4);

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
