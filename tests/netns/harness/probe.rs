//! Clients that try, and say exactly what came of it.

use super::{Netns, Node};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long to wait where an answer is expected; long enough for a SYN's second try and a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long to wait where silence is expected.
const SILENCE: Duration = Duration::from_millis(400);

/// What a client met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and the server saw this source (for a ping: the address asked).
    Reached(IpAddr),
    /// TCP reset, or ICMP port unreachable.
    Refused,
    /// ICMP administratively prohibited, or host unreachable.
    Prohibited,
    /// No answer at all.
    Silence,
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
    fn matches(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Reached, Outcome::Reached(_))
            | (Self::Refused, Outcome::Refused)
            | (Self::Prohibited, Outcome::Prohibited)
            | (Self::Silence, Outcome::Silence) => true,
            (Self::From(want), Outcome::Reached(seen)) => want == *seen,
            _ => false,
        }
    }

    fn patience(self) -> Duration {
        if self == Self::Silence {
            SILENCE
        } else {
            PATIENCE
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

    pub fn run(&self) -> Outcome {
        let patience = self.want.patience();
        match self.proto {
            Proto::Tcp => try_tcp(self.from, self.to, patience),
            Proto::Udp => try_udp(self.from, self.to, patience),
            Proto::Ping => ping(self.from, self.to.ip(), patience),
        }
    }
}

/// Runs all probes side by side and panics with every one that went wrong, the node's rules and the plugin's log.
pub fn check(node: &Node, probes: &[Probe<'_>]) {
    let wrong: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = probes
            .iter()
            .map(|p| (p, scope.spawn(|| p.run())))
            .collect();
        runs.into_iter()
            .filter_map(|(probe, run)| {
                let outcome = run.join().expect("a probe");
                (!probe.want.matches(&outcome)).then(|| {
                    let (from, proto, to) = (probe.from.name(), probe.proto, probe.to);
                    format!(
                        "{proto:?} {from} -> {to}: want {:?}, got {outcome:?}",
                        probe.want
                    )
                })
            })
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {} probes:\n{}\n{}",
        wrong.len(),
        probes.len(),
        wrong.join("\n"),
        node.describe()
    );
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
        let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
            .parse()
            .expect("an address");
        let ask = || -> io::Result<IpAddr> {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            parse_seen(&ask_until_answered(&socket, b"who am I", patience)?)
        };
        ask().map_or_else(|e| outcome_of(&e), Outcome::Reached)
    })
}

/// Echo requests by an unprivileged ping socket, one a second, until one is answered or time is over.
pub fn ping(from: &Netns, to: IpAddr, patience: Duration) -> Outcome {
    let (family, protocol, request) = match to {
        IpAddr::V4(_) => (
            AddressFamily::Inet,
            SockProtocol::Icmp,
            [8, 0, 0, 0, 0, 0, 0, 1],
        ),
        IpAddr::V6(_) => (
            AddressFamily::Inet6,
            SockProtocol::IcmpV6,
            [128, 0, 0, 0, 0, 0, 0, 1],
        ),
    };
    from.run(|| {
        let ask = || -> io::Result<()> {
            let socket = socket(family, SockType::Datagram, SockFlag::empty(), protocol)?;
            // Connect, send and receive are the same calls for every kind of datagram.
            let socket = UdpSocket::from(socket);
            socket.connect(SocketAddr::new(to, 0))?;
            ask_until_answered(&socket, &request, patience).map(drop)
        };
        ask().map_or_else(|e| outcome_of(&e), |()| Outcome::Reached(to))
    })
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
            let stream = from.run(|| TcpStream::connect_timeout(&to, patience))?;
            stream.set_read_timeout(Some(patience))?;
            let mut line = String::new();
            BufReader::with_capacity(64, &stream).read_line(&mut line)?;
            Ok(Self {
                seen: parse_seen(line.trim_end().as_bytes())?,
                stream,
            })
        };
        connect().map_err(|e| outcome_of(&e))
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

fn parse_seen(text: &[u8]) -> io::Result<IpAddr> {
    let text = String::from_utf8_lossy(text);
    text.parse()
        .map_err(|e| io::Error::other(format!("the server said {text:?}: {e}")))
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn outcome_of(e: &io::Error) -> Outcome {
    match e.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Outcome::Refused,
        Some(libc::EHOSTUNREACH | libc::EACCES) => Outcome::Prohibited,
        _ if is_timeout(e) => Outcome::Silence,
        _ => Outcome::Failed(e.to_string()),
    }
}
