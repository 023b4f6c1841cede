//! The sockets to which questions are led. nf_tables finds them only if they may answer for others' addresses
//! (IP_TRANSPARENT), and a successor binds beside them (SO_REUSEPORT), so that no moment is without one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// Questions that wait until they are read: each is some hundred bytes, and the kernel counts twice that.
const BUFFER: usize = 1024 * 1024;

/// How many connections wait until they are accepted.
const BACKLOG: i32 = 512;

/// Where one server's questions are led to.
#[derive(Debug)]
pub struct Listeners {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
}

impl Listeners {
    /// In the network namespace of the caller, to which the address must lead.
    ///
    /// # Errors
    /// The address does not, or somebody else has its port.
    pub fn open(at: SocketAddr) -> io::Result<Listeners> {
        let udp = open(at, SockType::Datagram)?;
        // Not more than the system's limit, if that is lower.
        setsockopt(&udp, sockopt::RcvBuf, &BUFFER)?;
        let tcp = open(at, SockType::Stream)?;
        listen(&tcp, Backlog::new(BACKLOG)?)?;
        Ok(Listeners {
            udp: udp.into(),
            tcp: tcp.into(),
        })
    }

    /// The same sockets, for whoever may have to close them for another.
    ///
    /// # Errors
    /// The system gives no descriptor.
    pub fn try_clone(&self) -> io::Result<Listeners> {
        Ok(Listeners {
            udp: self.udp.try_clone()?,
            tcp: self.tcp.try_clone()?,
        })
    }

    /// Takes no more from now on. What waits can still be read and answered.
    pub fn close(&self) {
        // A datagram socket with a peer takes nothing from others: its own address leads to nobody there.
        let nowhere = match self.udp.local_addr() {
            Ok(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::LOCALHOST, 9)),
            _ => SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
        };
        if let Err(e) = self.udp.connect(nowhere) {
            tracing::warn!("cannot stop listening: {e}");
        }
        // One of connections that is shut takes none.
        let shut = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.tcp),
            nix::sys::socket::Shutdown::Both,
        );
        if let Err(e) = shut {
            tracing::debug!("cannot stop listening: {e}");
        }
    }
}

fn open(at: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match at.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, kind, flags, None)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    // Both families have it in one place.
    setsockopt(&fd, sockopt::IpTransparent, &true)?;
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &SockaddrStorage::from(at),
    )?;
    Ok(fd)
}
