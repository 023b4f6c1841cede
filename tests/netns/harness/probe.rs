//! Clients that try, and say exactly what came of it.

use super::attempt::Attempt;
use super::{Netns, Node, exec, silently};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long to wait where an answer is expected; long enough for a SYN's second try and a busy machine. Where silence
/// is expected, nothing is waited for: see `silence`.
pub fn soon() -> Duration {
    exec::seconds(4)
}

/// What servers are asked, who answer whom they see.
pub(super) const QUESTION: &[u8] = b"who am I";

/// What a client met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and the server saw this source (for a ping: the address asked).
    Reached(IpAddr),
    /// TCP reset, or ICMP port unreachable.
    Refused,
    /// ICMP administratively prohibited, or host unreachable.
    Prohibited,
    /// No answer, and nobody was handed it.
    Silence,
    /// No answer, but this host was handed it.
    Arrived(String),
    /// Something else that the kernel said.
    Failed(String),
}

/// What a test expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Reached,
    /// Reached, with this source address seen by the server.
    From(IpAddr),
    Refused,
    Prohibited,
    Silence,
}

impl Want {
    pub fn matches(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Reached, Outcome::Reached(_))
            | (Self::Refused, Outcome::Refused)
            | (Self::Prohibited, Outcome::Prohibited)
            | (Self::Silence, Outcome::Silence) => true,
            (Self::From(want), Outcome::Reached(seen)) => want == *seen,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    Tcp,
    Udp,
    Ping,
}

/// One packet's question: who tries what, and what must come of it.
#[derive(Clone)]
pub struct Probe<'a> {
    pub from: &'a Netns,
    pub proto: Proto,
    pub to: SocketAddr,
    pub want: Want,
}

impl<'a> Probe<'a> {
    pub fn tcp(from: &'a Netns, to: impl Into<IpAddr>, port: u16, want: Want) -> Self {
        Self {
            from,
            proto: Proto::Tcp,
            to: SocketAddr::new(to.into(), port),
            want,
        }
    }

    pub fn udp(from: &'a Netns, to: impl Into<IpAddr>, port: u16, want: Want) -> Self {
        Self {
            from,
            proto: Proto::Udp,
            to: SocketAddr::new(to.into(), port),
            want,
        }
    }

    pub fn ping(from: &'a Netns, to: impl Into<IpAddr>, want: Want) -> Self {
        Self {
            from,
            proto: Proto::Ping,
            to: SocketAddr::new(to.into(), 0),
            want,
        }
    }

    /// Tries, and waits for the answer. Where silence is wanted, `check` is needed.
    pub fn run(&self) -> Outcome {
        assert_ne!(self.want, Want::Silence);
        match self.proto {
            Proto::Tcp => try_tcp(self.from, self.to, soon()),
            Proto::Udp => try_udp(self.from, self.to, soon()),
            Proto::Ping => ping(self.from, self.to.ip(), soon()),
        }
    }
}

/// Runs all probes side by side and panics with every one that went wrong, the node's rules and the plugin's log.
pub fn check(node: &Node, probes: &[Probe<'_>]) {
    let wrong: Vec<String> = run_all(node, probes)
        .into_iter()
        .zip(probes)
        .filter(|(outcome, probe)| !probe.want.matches(outcome))
        .map(|(outcome, probe)| {
            let (from, proto, to) = (probe.from.name(), probe.proto, probe.to);
            format!(
                "{proto:?} {from} -> {to}: want {:?}, got {outcome:?}",
                probe.want
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} probes:\n{}\n{}",
        wrong.len(),
        probes.len(),
        wrong.join("\n"),
        node.describe()
    );
}

/// The outcomes, in the order of the probes.
pub fn run_all(node: &Node, probes: &[Probe<'_>]) -> Vec<Outcome> {
    let silent: Vec<_> = probes.iter().filter(|p| p.want == Want::Silence).collect();
    thread::scope(|scope| {
        let answered: Vec<_> = probes
            .iter()
            .map(|p| (p.want != Want::Silence).then(|| scope.spawn(|| p.run())))
            .collect();
        let mut unanswered = if silent.is_empty() {
            Vec::new()
        } else {
            attempts(node, &silent)
        }
        .into_iter();
        answered
            .into_iter()
            .map(|run| match run {
                Some(run) => run.join().expect("a probe"),
                None => unanswered.next().expect("an outcome"),
            })
            .collect()
    })
}

fn attempts(node: &Node, probes: &[&Probe<'_>]) -> Vec<Outcome> {
    let (attempts, arrivals) = silently(node, || {
        let start = |p: &&Probe<'_>| p.from.run(|| Attempt::start(p.proto, p.to));
        probes.iter().map(start).collect::<Vec<_>>()
    });
    attempts
        .into_iter()
        .map(|attempt| attempt.end(&arrivals))
        .collect()
}

/// Opens a TCP connection and reads the line that the server greets with.
pub fn try_tcp(from: &Netns, to: SocketAddr, patience: Duration) -> Outcome {
    match Conn::open(from, to, patience) {
        Ok(conn) => Outcome::Reached(conn.seen),
        Err(outcome) => outcome,
    }
}

/// Sends datagrams, one a second, until one is answered or time is over.
pub fn try_udp(from: &Netns, to: SocketAddr, patience: Duration) -> Outcome {
    from.run(|| {
        let ask = || -> io::Result<IpAddr> {
            let socket = UdpSocket::bind(any_address(to.ip(), 0))?;
            socket.connect(to)?;
            parse_seen(&ask_until_answered(&socket, QUESTION, patience)?)
        };
        ask().map_or_else(|e| outcome_of(&e), Outcome::Reached)
    })
}

/// Echo requests by an unprivileged ping socket, one a second, until one is answered or time is over.
pub fn ping(from: &Netns, to: IpAddr, patience: Duration) -> Outcome {
    from.run(|| {
        let ask = || -> io::Result<()> {
            let (socket, request) = ping_socket(to)?;
            ask_until_answered(&socket, &request, patience).map(drop)
        };
        ask().map_or_else(|e| outcome_of(&e), |()| Outcome::Reached(to))
    })
}

/// A ping socket to there, and an echo request for it. Connect, send and receive are the same calls for every kind of
/// datagram.
pub(super) fn ping_socket(to: IpAddr) -> io::Result<(UdpSocket, [u8; 8])> {
    let (family, protocol, kind) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let socket = socket(family, SockType::Datagram, SockFlag::empty(), protocol)?;
    let socket = UdpSocket::from(socket);
    socket.connect(SocketAddr::new(to, 0))?;
    Ok((socket, [kind, 0, 0, 0, 0, 0, 0, 1]))
}

/// The address to bind to for a talk with `to`.
pub(super) fn any_address(to: IpAddr, port: u16) -> SocketAddr {
    match to {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// Sends the question once a second, and returns the first answer.
fn ask_until_answered(
    socket: &UdpSocket,
    question: &[u8],
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let wait = patience.min(Duration::from_secs(1));
    socket.set_read_timeout(Some(wait))?;
    let mut tries = patience.as_millis().div_ceil(wait.as_millis());
    loop {
        socket.send(question)?;
        let mut answer = [0; 256];
        match socket.recv(&mut answer) {
            Ok(n) => return Ok(answer[..n].to_vec()),
            Err(e) if is_timeout(&e) && tries > 1 => tries -= 1,
            Err(e) => return Err(e),
        }
    }
}

/// An open TCP connection to an `Echo` server.
pub struct Conn {
    stream: TcpStream,
    /// The source address that the server saw.
    pub seen: IpAddr,
}

impl Conn {
    pub fn open(from: &Netns, to: SocketAddr, patience: Duration) -> Result<Self, Outcome> {
        let connect = || -> io::Result<Self> {
            Self::greeted(
                from.run(|| TcpStream::connect_timeout(&to, patience))?,
                patience,
            )
        };
        connect().map_err(|e| outcome_of(&e))
    }

    /// A connection that is open, when the server has said what it sees.
    pub(super) fn greeted(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        let mut line = String::new();
        BufReader::with_capacity(64, &stream).read_line(&mut line)?;
        Ok(Self {
            seen: parse_seen(line.trim_end().as_bytes())?,
            stream,
        })
    }

    /// Sends some bytes that must not arrive, nor anything come back; see [`silently`].
    pub fn is_cut(&mut self, node: &Node) -> Outcome {
        let here = self.stream.local_addr().expect("an address").port();
        let (sent, arrivals) = silently(node, || self.stream.write_all(b"12345"));
        if let Err(e) = sent {
            return outcome_of(&e);
        }
        self.stream.set_nonblocking(true).expect("a socket");
        let answer = self.stream.read(&mut [0; 64]);
        self.stream.set_nonblocking(false).expect("a socket");
        match answer {
            Ok(n) => Outcome::Failed(format!("{n} bytes came back")),
            Err(e) if !is_timeout(&e) => outcome_of(&e),
            Err(_) => match arrivals.iter().find(|a| a.source_port() == Some(here)) {
                Some(arrival) => Outcome::Arrived(arrival.host.clone()),
                None => Outcome::Silence,
            },
        }
    }

    /// Sends some bytes and waits for them to come back.
    pub fn exchange(&mut self, patience: Duration) -> Result<(), Outcome> {
        self.exchange_large(5, patience)
    }

    /// Sends this many bytes and waits for them to come back.
    pub fn exchange_large(&mut self, length: usize, patience: Duration) -> Result<(), Outcome> {
        let mut talk = || -> io::Result<()> {
            self.stream.set_read_timeout(Some(patience))?;
            self.stream.write_all(&vec![b'x'; length])?;
            self.stream.read_exact(&mut vec![0; length])
        };
        talk().map_err(|e| outcome_of(&e))
    }
}

pub(super) fn parse_seen(text: &[u8]) -> io::Result<IpAddr> {
    let text = String::from_utf8_lossy(text);
    text.parse()
        .map_err(|e| io::Error::other(format!("the server said {text:?}: {e}")))
}

pub(super) fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

pub(super) fn outcome_of(e: &io::Error) -> Outcome {
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Outcome::Refused,
        Some(libc::EHOSTUNREACH | libc::EACCES) => Outcome::Prohibited,
        _ if is_timeout(e) => Outcome::Silence,
        _ => Outcome::Failed(e.to_string()),
    }
}
