//! The log as the agent hands it out, for whoever can't read the groups beside it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netlink::nflog::{Logged, Lost};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rules::verdict::prefix;
use serde::Deserialize;

use super::line::Line;
use super::loss::Loss;
use super::node::Node;
use super::wire::{self, Answer, Request, Want};
use crate::names::told::ToldNames;

/// How long the agent may take for the first line of its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long until an agent that has gone is looked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// No line is longer; the first one of an answer about the node may be.
const LONGEST_LINE: usize = 64 * 1024;

/// Why the agent is of no use.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("the agent does not answer at {}: {cause}", rules::fault::shown(path))]
    Io { path: PathBuf, cause: io::Error },
    #[error("the agent refuses: {0}")]
    Refused(String),
    #[error("the agent answers something else than this version of egressway expects")]
    Nonsense,
}

impl Error {
    /// There is no agent.
    pub fn is_absence(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        matches!(self, Error::Io { cause, .. } if matches!(cause.kind(), NotFound | ConnectionRefused | NotADirectory))
    }
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Lines of so long ago come first.
    pub since: Option<Duration>,
    /// What comes follows.
    pub follow: bool,
    /// With packets.
    pub packets: bool,
}

/// A line, and the packet if that was wanted.
#[derive(Debug)]
pub struct Message {
    /// The line.
    pub line: Line,
    /// EtherType and first bytes.
    pub packet: Option<(u16, Vec<u8>)>,
}

impl Message {
    /// The packet as the kernel had logged it, as far as it is known.
    pub fn logged(self) -> Option<Logged> {
        let (hw_protocol, payload) = self.packet?;
        Some(Logged {
            prefix: prefix(&self.line.rule, self.line.verdict),
            time: Some(self.line.time),
            indev: None,
            physindev: None,
            outdev: None,
            hw_protocol,
            payload,
            original: None,
        })
    }
}

/// What came at once.
#[derive(Debug)]
pub enum Said {
    /// A line.
    Line(Box<Message>),
    /// Some lines are missing here.
    Loss(Loss),
    /// The agent has ended; lines may be missing until another one answers.
    Gone,
    /// Nothing more will come: all that was wanted has.
    End,
}

/// The way to the agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    wanted: Wanted,
    begin: Begin,
    state: Connection,
    lost: Lost,
}

#[derive(Debug)]
enum Connection {
    Connected {
        stream: UnixStream,
        rest: Vec<u8>,
    },
    /// Since when, and a descriptor on which nothing ever comes.
    Gone {
        since: Instant,
        next: Instant,
        never: (OwnedFd, OwnedFd),
    },
    Ended(OwnedFd),
}

/// How an answer began.
#[derive(Debug, Clone)]
pub struct Begin {
    /// The NFLOG group of enforced rules.
    pub group: u16,
    /// How far back every line is there.
    pub reaches_back: Duration,
    /// Why nothing is read from the groups at present.
    pub not_reading: Option<String>,
    /// Whether lines tell where packets went before translation.
    pub tells_original: bool,
}

impl Client {
    /// Asks the agent of this state directory.
    ///
    /// # Errors
    /// [`Error::is_absence`]: there is none.
    pub fn open(state_dir: &Path, wanted: Wanted) -> Result<Client, Error> {
        let path = wire::socket(state_dir);
        let (stream, begin, rest) = connect(&path, wanted)?;
        Ok(Client {
            path,
            wanted,
            begin,
            state: Connection::Connected { stream, rest },
            lost: Lost::default(),
        })
    }

    /// How the answer began.
    pub fn begin(&self) -> &Begin {
        &self.begin
    }

    /// What has been lost so far.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Readable when there is something to receive.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.state {
            Connection::Connected { stream, .. } => stream.as_fd(),
            Connection::Gone { never, .. } => never.0.as_fd(),
            Connection::Ended(fd) => fd.as_fd(),
        }
    }

    /// When [`Client::receive`] is to be called although nothing can be read.
    pub fn due(&self) -> Option<Instant> {
        match &self.state {
            Connection::Connected { rest, .. } if rest.contains(&b'\n') => Some(Instant::now()),
            Connection::Gone { next, .. } => Some(*next),
            _ => None,
        }
    }

    /// Takes what is there; nothing if there is nothing.
    ///
    /// # Errors
    /// The agent that answers now is of no use.
    pub fn receive(&mut self) -> Result<Vec<Said>, Error> {
        match &mut self.state {
            Connection::Ended(_) => Ok(vec![Said::End]),
            Connection::Gone { since, next, .. } => {
                if *next <= Instant::now() {
                    *next = Instant::now() + AGAIN;
                    // All of the time without an agent: what another one has read by now is not lost. It
                    // knows nothing older, so a little more is nothing twice.
                    let wanted = Wanted {
                        since: Some(since.elapsed() + AGAIN),
                        ..self.wanted
                    };
                    match connect(&self.path, wanted) {
                        Ok((stream, begin, rest)) => {
                            self.begin = begin;
                            self.state = Connection::Connected { stream, rest };
                        }
                        Err(e @ (Error::Refused(_) | Error::Nonsense)) => return Err(e),
                        Err(Error::Io { .. }) => {}
                    }
                }
                Ok(Vec::new())
            }
            Connection::Connected { stream, rest } => {
                let mut buffer = [0; 16 * 1024];
                let is_end = match stream.read(&mut buffer) {
                    Ok(0) => true,
                    Ok(length) => {
                        rest.extend_from_slice(&buffer[..length]);
                        false
                    }
                    Err(e) if is_soon(&e) => false,
                    Err(_) => true,
                };
                let mut said = lines(rest, self.wanted.packets)?;
                for one in &said {
                    if let Said::Loss(loss) = one {
                        self.lost.messages += loss.lost;
                        self.lost.more = loss.lost_more;
                    }
                }
                if is_end {
                    let (ours, theirs) = io::pipe().map_err(|cause| self.failed(cause))?;
                    if self.wanted.follow {
                        said.push(Said::Gone);
                        self.lost.more = true;
                        let now = Instant::now();
                        let never = (ours.into(), theirs.into());
                        self.state = Connection::Gone {
                            since: now,
                            next: now + AGAIN,
                            never,
                        };
                    } else {
                        said.push(Said::End);
                        self.state = Connection::Ended(ours.into()); // the other end is closed: readable
                    }
                }
                Ok(said)
            }
        }
    }

    /// As if the agent had ended.
    #[cfg(test)]
    pub(crate) fn cut(&self) {
        if let Connection::Connected { stream, .. } = &self.state {
            stream
                .shutdown(std::net::Shutdown::Both)
                .expect("connected");
        }
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            cause,
        }
    }
}

/// What the agent knows of its node.
///
/// # Errors
/// [`Error::is_absence`]: there is none.
pub fn node(state_dir: &Path) -> Result<Node, Error> {
    let path = wire::socket(state_dir);
    let request = Request {
        v: wire::VERSION,
        want: Want::Node,
        since: None,
        follow: false,
        packets: false,
    };
    let (_, answer, _) = ask(&path, &request, 64 * 1024 * 1024)?;
    match answer {
        Answer::Node(node) => Ok(*node),
        Answer::Error { error, .. } => Err(Error::Refused(error)),
        Answer::Begin { .. } | Answer::Names(_) => Err(Error::Nonsense),
    }
}

/// What domain names in rules stand for.
///
/// # Errors
/// [`Error::is_absence`]: there is no agent.
pub fn names(state_dir: &Path) -> Result<ToldNames, Error> {
    let path = wire::socket(state_dir);
    let request = Request {
        v: wire::VERSION,
        want: Want::Names,
        since: None,
        follow: false,
        packets: false,
    };
    let (_, answer, _) = ask(&path, &request, 64 * 1024 * 1024)?;
    match answer {
        Answer::Names(names) => Ok(*names),
        Answer::Error { error, .. } => Err(Error::Refused(error)),
        Answer::Begin { .. } | Answer::Node(_) => Err(Error::Nonsense),
    }
}

fn connect(path: &Path, wanted: Wanted) -> Result<(UnixStream, Begin, Vec<u8>), Error> {
    let request = Request {
        v: wire::VERSION,
        want: Want::Verdicts,
        since: wanted.since.map(|since| since.as_secs_f64()),
        follow: wanted.follow,
        packets: wanted.packets,
    };
    let (stream, answer, rest) = ask(path, &request, LONGEST_LINE)?;
    match answer {
        Answer::Begin {
            group,
            reaches_back,
            not_reading,
            tells_original,
            ..
        } => {
            let reaches_back = Duration::try_from_secs_f64(reaches_back).unwrap_or_default();
            let begin = Begin {
                group,
                reaches_back,
                not_reading,
                tells_original,
            };
            Ok((stream, begin, rest))
        }
        Answer::Error { error, .. } => Err(Error::Refused(error)),
        Answer::Node(_) | Answer::Names(_) => Err(Error::Nonsense),
    }
}

/// Asks, and reads the first line of the answer; what came behind it comes, too.
fn ask(
    path: &Path,
    request: &Request,
    longest: usize,
) -> Result<(UnixStream, Answer, Vec<u8>), Error> {
    let failed = |cause| Error::Io {
        path: path.to_owned(),
        cause,
    };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_nonblocking(true).map_err(failed)?;
    // It fits into a socket of which nothing was read yet.
    let asked = serde_json::to_string(request).unwrap_or_default() + "\n";
    stream.write_all(asked.as_bytes()).map_err(failed)?;
    let deadline = Instant::now() + ANSWER;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if bytes.len() > longest {
            return Err(Error::Nonsense);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Ok(0) => return Err(failed(io::ErrorKind::TimedOut.into())),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(failed(e.into())),
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(e) if is_soon(&e) => {}
            Err(e) => return Err(failed(e)),
        }
    };
    let rest = bytes.split_off(end + 1);
    let answer = serde_json::from_slice(&bytes).map_err(|_| Error::Nonsense)?;
    Ok((stream, answer, rest))
}

fn is_soon(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Takes whole lines off `rest`.
fn lines(rest: &mut Vec<u8>, packets: bool) -> Result<Vec<Said>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PacketFields {
        ether_type: u16,
        packet: String,
    }
    let Some(last) = rest.iter().rposition(|byte| *byte == b'\n') else {
        let is_too_long = rest.len() > LONGEST_LINE;
        return if is_too_long {
            Err(Error::Nonsense)
        } else {
            Ok(Vec::new())
        };
    };
    let after = rest.split_off(last + 1);
    let whole = std::mem::replace(rest, after);
    let mut said = Vec::new();
    for bytes in whole
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        if let Ok(line) = serde_json::from_slice::<Line>(bytes) {
            let packet = packets
                .then(|| serde_json::from_slice::<PacketFields>(bytes).ok())
                .flatten();
            let packet = packet.and_then(|p| Some((p.ether_type, crate::hex::bytes(&p.packet)?)));
            said.push(Said::Line(Box::new(Message { line, packet })));
        } else if let Ok(loss) = serde_json::from_slice::<Loss>(bytes) {
            said.push(Said::Loss(loss));
        } else {
            return Err(Error::Nonsense);
        }
    }
    Ok(said)
}
