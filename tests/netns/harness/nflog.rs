//! A reader of an NFLOG group.

use super::Netns;
use super::capture::{EYE, contains};
use super::exec;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nflog::{
    ConfigCmd, ConfigMode, PacketNla, ULogMessage, config_request,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

/// Waits until somebody reads a log group.
pub fn until_read(netns: &Netns) {
    let started = Instant::now();
    while netns
        .exec("cat /proc/net/netfilter/nfnetlink_log")
        .is_empty()
    {
        assert!(started.elapsed() < exec::limit(), "nobody reads the log");
        thread::sleep(Duration::from_millis(10));
    }
}

/// One logged packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub prefix: String,
    /// The packet from its IP header on, as much of it as was logged.
    pub packet: Vec<u8>,
}

impl Logged {
    /// The packet's source address.
    pub fn source(&self) -> IpAddr {
        if self.packet[0] >> 4 == 4 {
            let octets: [u8; 4] = self.packet[12..16].try_into().expect("an IPv4 header");
            IpAddr::V4(Ipv4Addr::from(octets))
        } else {
            let octets: [u8; 16] = self.packet[8..24].try_into().expect("an IPv6 header");
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    }

    /// The flags of a TCP segment without IPv6 extension headers.
    pub fn tcp_flags(&self) -> u8 {
        let header = match self.packet[0] >> 4 {
            4 => usize::from(self.packet[0] & 15) * 4,
            _ => 40,
        };
        self.packet[header + 13]
    }
}

/// Reads what nf_tables logs to groups in one namespace.
pub struct Nflog {
    socket: Socket,
    seen: Vec<Logged>,
}

impl Nflog {
    /// The group of enforced rules and that of all others, the next one. Bound when this returns: every packet
    /// logged afterwards is read.
    pub fn start(netns: &Netns, group: u16) -> Self {
        Self::of(netns, &[group, group + 1])
    }

    /// Only these groups.
    pub fn of(netns: &Netns, groups: &[u16]) -> Self {
        let mut socket = netns.run(|| Socket::new(NETLINK_NETFILTER).expect("a netlink socket"));
        socket.bind_auto().expect("bind a netlink socket");
        setsockopt(&socket, sockopt::RcvBufForce, &EYE).expect("a large buffer");
        groups.iter().for_each(|group| bind(&socket, *group));
        socket
            .set_non_blocking(true)
            .expect("a non-blocking socket");
        Self {
            socket,
            seen: Vec::new(),
        }
    }

    /// All that was logged so far. Lost messages (ENOBUFS) fail the test: they would pass for none.
    pub fn read(&mut self) -> &[Logged] {
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => self.seen.extend(parse(&bytes)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return &self.seen,
                Err(e) => panic!("read logged packets: {e}"),
            }
        }
    }

    /// Whether a packet with these bytes in it was among those read.
    pub fn saw(&self, marker: &str) -> bool {
        self.seen
            .iter()
            .any(|logged| contains(&logged.packet, marker.as_bytes()))
    }

    /// Waits until a logged packet fits.
    pub fn wait_for(
        &mut self,
        patience: Duration,
        fits: impl Fn(&Logged) -> bool,
    ) -> Option<Logged> {
        let started = Instant::now();
        loop {
            if let Some(found) = self.read().iter().find(|l| fits(l)) {
                return Some(found.clone());
            }
            if started.elapsed() > patience {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn bind(socket: &Socket, group: u16) {
    let request = config_request(
        NetfilterProtoFamily::Unspec,
        group,
        vec![ConfigCmd::Bind.into(), ConfigMode::PACKET_MAX.into()],
    );
    let mut bytes = vec![0; request.header.length as usize];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0).expect("ask for a log group");
    let (answer, _) = socket.recv_from_full().expect("an answer");
    let answer =
        NetlinkMessage::<NetfilterMessage>::deserialize(&answer).expect("a netlink message");
    match answer.payload {
        NetlinkPayload::Error(e) => assert_eq!(e.code, None, "bind log group {group}"),
        other => panic!("bind log group {group}: {other:?}"),
    }
}

/// Takes a datagram of one or more netlink messages apart.
fn parse(mut bytes: &[u8]) -> Vec<Logged> {
    let mut logged = Vec::new();
    while !bytes.is_empty() {
        let message =
            NetlinkMessage::<NetfilterMessage>::deserialize(bytes).expect("a netlink message");
        let aligned = (message.header.length as usize)
            .next_multiple_of(4)
            .clamp(4, bytes.len());
        bytes = &bytes[aligned..];
        let NetlinkPayload::InnerMessage(inner) = message.payload else {
            continue;
        };
        let NetfilterMessageInner::ULog(ULogMessage::Packet(attributes)) = inner.inner else {
            continue;
        };
        let mut entry = Logged {
            prefix: String::new(),
            packet: Vec::new(),
        };
        for attribute in attributes {
            match attribute {
                PacketNla::Prefix(prefix) => entry.prefix = prefix.to_string_lossy().into_owned(),
                PacketNla::Payload(payload) => entry.packet = payload,
                _ => {}
            }
        }
        logged.push(entry);
    }
    logged
}
