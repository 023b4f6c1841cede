//! A packet that must not arrive, sent without a wait for what comes of it.

use super::probe::{
    Conn, Outcome, Proto, QUESTION, any_address, is_timeout, outcome_of, parse_seen, ping_socket,
    soon,
};
use super::silence::Arrival;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU16, Ordering};

/// Source ports, below those that the kernel gives: no two attempts of this process share one, so that it tells whose
/// a packet is, behind any masquerade.
static PORTS: AtomicU16 = AtomicU16::new(0);

fn next_port() -> u16 {
    12_000 + PORTS.fetch_add(1, Ordering::Relaxed) % 16_000
}

/// What was sent from the namespace in which [`Attempt::start`] ran.
pub struct Attempt {
    kind: Kind,
    /// What of the packet is its own.
    mark: Mark,
}

enum Kind {
    Tcp(TcpStream),
    Datagram(UdpSocket, SocketAddr),
    /// The kernel did not send it.
    Refused(io::Error),
}

enum Mark {
    Port(u16),
    Text(String),
}

impl Attempt {
    pub fn start(proto: Proto, to: SocketAddr) -> Self {
        let port = next_port();
        let text = format!("attempt {}", port);
        let (kind, mark) = match proto {
            Proto::Tcp => (tcp(port, to), Mark::Port(port)),
            Proto::Udp => (udp(port, to), Mark::Port(port)),
            Proto::Ping => (echo_request(to, &text), Mark::Text(text)),
        };
        Self {
            kind: kind.unwrap_or_else(Kind::Refused),
            mark,
        }
    }

    /// What came of it by now.
    pub fn end(self, arrivals: &[Arrival]) -> Outcome {
        let outcome = match &self.kind {
            Kind::Tcp(stream) => connected(stream),
            Kind::Datagram(socket, to) => answered(socket, *to),
            Kind::Refused(e) => outcome_of(e),
        };
        let arrival = arrivals.iter().find(|arrival| self.mark.is_on(arrival));
        match (outcome, arrival) {
            (Outcome::Silence, Some(arrival)) => Outcome::Arrived(arrival.host.clone()),
            (outcome, _) => outcome,
        }
    }
}

impl Mark {
    fn is_on(&self, arrival: &Arrival) -> bool {
        match self {
            Self::Port(port) => arrival.source_port() == Some(*port),
            Self::Text(text) => arrival
                .bytes
                .windows(text.len())
                .any(|bytes| bytes == text.as_bytes()),
        }
    }
}

fn tcp(port: u16, to: SocketAddr) -> io::Result<Kind> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    let here = SockaddrStorage::from(any_address(to.ip(), port));
    bind(socket.as_raw_fd(), &here)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(Kind::Tcp(TcpStream::from(socket))),
        Err(e) => Err(e.into()),
    }
}

fn udp(port: u16, to: SocketAddr) -> io::Result<Kind> {
    let socket = UdpSocket::bind(any_address(to.ip(), port))?;
    socket.connect(to)?;
    socket.send(QUESTION)?;
    Ok(Kind::Datagram(socket, to))
}

fn echo_request(to: SocketAddr, text: &str) -> io::Result<Kind> {
    let (socket, request) = ping_socket(to.ip())?;
    socket.send(&[&request[..], text.as_bytes()].concat())?;
    Ok(Kind::Datagram(socket, to))
}

fn connected(stream: &TcpStream) -> Outcome {
    let mut ready = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO).expect("poll") == 0 {
        return Outcome::Silence;
    }
    let talk = || -> io::Result<Outcome> {
        if let Some(e) = stream.take_error()? {
            return Ok(outcome_of(&e));
        }
        stream.set_nonblocking(false)?;
        Ok(Outcome::Reached(
            Conn::greeted(stream.try_clone()?, soon())?.seen,
        ))
    };
    talk().unwrap_or_else(|e| Outcome::Failed(format!("connected, and then {e}")))
}

fn answered(socket: &UdpSocket, to: SocketAddr) -> Outcome {
    let mut answer = [0; 256];
    let received = socket
        .set_nonblocking(true)
        .and_then(|()| socket.recv(&mut answer));
    match received {
        // Of a ping, no server says what it saw.
        Ok(_) if to.port() == 0 => Outcome::Reached(to.ip()),
        Ok(length) => {
            parse_seen(&answer[..length]).map_or_else(|e| outcome_of(&e), Outcome::Reached)
        }
        Err(e) if is_timeout(&e) => Outcome::Silence,
        Err(e) => outcome_of(&e),
    }
}
