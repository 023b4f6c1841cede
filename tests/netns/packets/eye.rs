//! A packet socket that sees what a namespace receives, and raw sockets that send.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    recvfrom, sendto, setsockopt, socket, sockopt,
};

use super::bytes::{self, Seen};
use crate::harness::Netns;

/// Room for a whole case, so that nothing is lost while nobody reads.
const ROOM: usize = 8 << 20;

/// Sees every IP packet that a namespace receives.
pub struct Eye(OwnedFd);

impl Eye {
    pub fn open(netns: &Netns) -> Self {
        let socket = netns.run(|| {
            socket(
                AddressFamily::Packet,
                SockType::Datagram, // without link headers
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
            .expect("a packet socket")
        });
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM).expect("a large buffer");
        Self(socket)
    }

    /// What came since the last time.
    pub fn read(&mut self) -> Vec<Seen> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
            // What the namespace itself sends is no arrival.
            if from.is_some_and(|from| from.pkttype() != libc::PACKET_OUTGOING) {
                seen.extend(bytes::read(&buffer[..length]));
            }
        }
        seen
    }
}

/// Sends whole packets from a namespace, one socket a family.
pub struct Hand {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Hand {
    pub fn open(netns: &Netns) -> Self {
        let raw = |family| {
            netns.run(|| {
                socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
                    .expect("a raw socket")
            })
        };
        Self {
            v4: raw(AddressFamily::Inet),
            v6: raw(AddressFamily::Inet6),
        }
    }

    pub fn send(&self, to: IpAddr, packet: &[u8]) {
        let flags = MsgFlags::empty();
        let sent = match to {
            IpAddr::V4(a) => sendto(
                self.v4.as_raw_fd(),
                packet,
                &SockaddrIn::from(std::net::SocketAddrV4::new(a, 0)),
                flags,
            ),
            IpAddr::V6(a) => sendto(
                self.v6.as_raw_fd(),
                packet,
                &SockaddrIn6::from(std::net::SocketAddrV6::new(a, 0, 0, 0)),
                flags,
            ),
        };
        sent.unwrap_or_else(|e| panic!("send to {to}: {e}"));
    }
}
