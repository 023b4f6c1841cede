//! Silence, proven and not waited for: what must not arrive is followed by markers that do, and afterwards every host
//! says what it was handed.
//!
//! All of it is sent from one processor. There packets pass through veths, bridges and routing in the order in which
//! they were sent, and what waits for a neighbour's address waits in one queue with what comes after it. So when a
//! host has answered the node, the node has dealt with everything that this host sent before; and when all hosts have
//! then answered once more, each has been handed what the node had for it.

use super::probe::{Outcome, ping, soon};
use super::{Netns, Node};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

/// Room for what arrives while nobody reads, in bytes.
const ROOM: usize = 8 << 20;

/// A packet that was handed to a host, past its firewall.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub host: String,
    pub protocol: SockProtocol,
    /// From the TCP, UDP or ICMP header on.
    pub bytes: Vec<u8>,
}

impl Arrival {
    /// Of TCP and UDP.
    pub fn source_port(&self) -> Option<u16> {
        let of_ports = matches!(self.protocol, SockProtocol::Tcp | SockProtocol::Udp);
        let port = self.bytes.get(..2).filter(|_| of_ports)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }
}

/// Runs what sends, and returns what came of it with every packet that any host of this node was handed from then until
/// everything sent had its time.
///
/// # Panics
/// If a marker does not come back: then silence would prove nothing.
pub fn silently<T: Send>(node: &Node, send: impl FnOnce() -> T + Send) -> (T, Vec<Arrival>) {
    let hosts = node.hosts();
    let witnesses: Vec<_> = hosts.iter().map(Witness::open).collect();
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            stay_on_this_processor();
            let sent = send();
            // What each host sent has passed the node; and then, each host has what the node had for it.
            for _ in 0..2 {
                hosts.iter().for_each(|host| mark(node, host));
            }
            sent
        });
        sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let arrivals = witnesses.into_iter().flat_map(Witness::tell).collect();
    (sent, arrivals)
}

/// Threads that this one starts inherit it.
pub fn stay_on_this_processor() {
    let mut processor = CpuSet::new();
    let here = sched_getcpu().expect("a processor");
    processor.set(here).expect("a processor's number");
    sched_setaffinity(Pid::from_raw(0), &processor).expect("to stay");
}

/// The node asks the host at each of its addresses, and is answered.
fn mark(node: &Node, host: &Netns) {
    if host.name() == node.netns.name() {
        return;
    }
    for address in addresses(host) {
        let outcome = ping(&node.netns, address, soon());
        assert_eq!(
            outcome,
            Outcome::Reached(address),
            "no marker from {}: silence would prove nothing\n{}",
            host.name(),
            node.describe()
        );
    }
}

/// A host's addresses that others reach it by.
fn addresses(host: &Netns) -> Vec<IpAddr> {
    let link_local = |a: &Ipv6Addr| a.segments()[0] & 0xffc0 == 0xfe80;
    host.run(|| {
        getifaddrs()
            .expect("addresses")
            .filter(|of| !of.flags.contains(InterfaceFlags::IFF_LOOPBACK))
            .filter_map(|of| of.address)
            .filter_map(|address| {
                let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                let v6 = address.as_sockaddr_in6().map(|a| a.ip());
                v4.or(v6.filter(|a| !link_local(a)).map(IpAddr::V6))
            })
            .collect()
    })
}

/// Raw sockets, which get a copy of every packet that is delivered in a namespace.
struct Witness {
    host: String,
    netns: Netns,
    sockets: Vec<(AddressFamily, SockProtocol, OwnedFd)>,
}

impl Witness {
    fn open(host: &Netns) -> Self {
        let kinds = [
            (AddressFamily::Inet, SockProtocol::Tcp),
            (AddressFamily::Inet, SockProtocol::Udp),
            (AddressFamily::Inet, SockProtocol::Icmp),
            (AddressFamily::Inet6, SockProtocol::Tcp),
            (AddressFamily::Inet6, SockProtocol::Udp),
            (AddressFamily::Inet6, SockProtocol::IcmpV6),
        ];
        let sockets = host.run(|| {
            kinds.map(|(family, protocol)| {
                let raw = socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol)
                    .expect("a raw socket");
                setsockopt(&raw, sockopt::RcvBufForce, &ROOM).expect("a large buffer");
                (family, protocol, raw)
            })
        });
        Self {
            host: host.name().to_owned(),
            netns: host.again(),
            sockets: sockets.into(),
        }
    }

    fn tell(self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut buffer = vec![0; 65536];
        for (family, protocol, socket) in &self.sockets {
            while let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                let header = match family {
                    AddressFamily::Inet => usize::from(buffer[0] & 0xf) * 4,
                    _ => 0, // not given
                };
                arrivals.push(Arrival {
                    host: self.host.clone(),
                    protocol: *protocol,
                    bytes: buffer[header.min(length)..length].to_vec(),
                });
            }
        }
        self.has_all();
        arrivals
    }

    /// Fails if the kernel had no room for something.
    fn has_all(&self) {
        let tables = self.netns.run(|| {
            ["raw", "raw6"]
                .map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")))
                .map(|text| text.expect("the raw sockets"))
                .concat()
        });
        for (_, protocol, socket) in &self.sockets {
            // sl local remote st queues tr tm->when retrnsmt uid timeout inode ref pointer drops
            let inode = fstat(socket).expect("a socket").st_ino.to_string();
            let line = tables
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .find(|fields| fields.get(9) == Some(&inode.as_str()))
                .expect("a raw socket's line");
            assert_eq!(
                line.last(),
                Some(&"0"),
                "{}: {protocol:?}: no room for all that arrived",
                self.host
            );
        }
    }
}
