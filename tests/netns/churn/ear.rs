//! Where nobody may be heard.

use std::net::UdpSocket;

use crate::harness::Node;
use crate::harness::node::{FAR, ip};

/// What every pod's rules deny.
pub const DENIED: u16 = 9;
/// What answers each datagram with its source.
pub const ANSWERS: u16 = 7;

/// Listens outside where every pod is denied to send to.
pub struct Ear([UdpSocket; 2]);

impl Ear {
    pub fn new(node: &Node) -> Self {
        Self(FAR.map(|far| {
            let socket = node.ext.run(|| UdpSocket::bind((ip(far), DENIED)));
            let socket = socket.expect("a socket");
            socket.set_nonblocking(true).expect("a non-blocking socket");
            socket
        }))
    }

    pub fn assert_heard_nothing(&self, node: &Node) {
        let mut datagram = [0; 64];
        for socket in &self.0 {
            if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                let who = String::from_utf8_lossy(&datagram[..length]);
                panic!(
                    "{who} was not enforced, heard as {from}\n{}",
                    node.describe()
                );
            }
        }
    }
}
