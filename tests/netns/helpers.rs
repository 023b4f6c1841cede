//! Flows that conntrack's helpers expect: translated from the start, so that no nat chain ever sees them.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// What whoever runs such servers has on the node.
const HELPER: &str = r#"
table ip helpers {
    ct helper ftp-std { type "ftp" protocol tcp; }
    chain pre { type filter hook prerouting priority -150; tcp dport 21 ct helper set "ftp-std"; }
}"#;

/// `10,0,0,1,4,210` (RFC 959, 5.3.2).
fn host_port(address: SocketAddr) -> String {
    let SocketAddr::V4(at) = address else {
        panic!("{address} is not IPv4");
    };
    let [a, b, c, d] = at.ip().octets();
    let [high, low] = at.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

fn address(host_port: &str) -> SocketAddr {
    let parts = host_port.trim().split(',').map(|part| part.parse().ok());
    let parts: Option<Vec<u8>> = parts.collect();
    let Some([a, b, c, d, high, low]) = parts.as_deref() else {
        panic!("not a host and a port: {host_port}");
    };
    let ip = Ipv4Addr::new(*a, *b, *c, *d);
    SocketAddr::new(ip.into(), u16::from_be_bytes([*high, *low]))
}

/// Active FTP: the server opens the data connection, to an address and a port that the helper has translated.
#[test]
fn what_a_helper_expects_towards_the_pod_is_answered() {
    let node = Node::new(NodeOptions::default());
    node.netns.nft(HELPER);
    for primary in [Primary::Bridge, Primary::Ptp] {
        let spec = PodSpec::new("ftp", primary).masquerade();
        let pod = node.pod(spec.rules("allow 21/tcp\ndeny to any"));
        let server = SocketAddr::new(ip(EXT[0]), 21);
        let listener = node.ext.run(|| TcpListener::bind(server));
        let listener = listener.expect("a listener");
        let control = pod
            .netns
            .run(|| TcpStream::connect_timeout(&server, soon()));
        let mut control = control.expect("it is allowed");
        let (there, from) = listener.accept().expect("a connection");
        assert_ne!(from.ip(), pod.v4, "nothing is translated");

        let data = pod.netns.run(|| TcpListener::bind((pod.v4, 0)));
        let data = data.expect("a listener");
        let at = data.local_addr().expect("an address");
        let mut reader = BufReader::new(&there);
        // In one packet each, the first for the helper to learn where lines begin.
        let mut say = |command: &str| {
            control.write_all(command.as_bytes()).expect("write");
            let mut line = String::new();
            reader.read_line(&mut line).expect("a command");
            line
        };
        assert_eq!(say("USER a\r\n"), "USER a\r\n");
        let line = say(&format!("PORT {}\r\n", host_port(at)));
        let told = address(line.strip_prefix("PORT ").expect("the command"));
        assert_eq!(told.ip(), from.ip(), "the helper is at work: {line}");

        let back = node.ext.run(|| TcpStream::connect_timeout(&told, soon()));
        let mut back = back.expect("the pod answers what is opened towards it");
        back.set_read_timeout(Some(soon())).expect("a socket");
        let (mut here, _) = data.accept().expect("a connection");
        here.write_all(b"list").expect("write");
        let mut got = [0; 4];
        back.read_exact(&mut got).expect("the pod's data");
        assert_eq!(&got, b"list");
        pod.delete();
    }
}
