//! What `logs` and `capture` do alike: wait for messages, tell what was lost, and write so that nothing keeps the
//! command from being stopped.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::verdicts::client;
use crate::verdicts::loss::INTERVAL;
use netlink::nflog::{self, Lost};

/// What ends a command that reads a group, other than success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Nflog(#[from] nflog::Error),
    #[error("cannot take over signals: {0}")]
    Signals(Errno),
    #[error(transparent)]
    Agent(#[from] client::Error),
    #[error("{nflog}; {agent}")]
    Both {
        nflog: nflog::Error,
        agent: client::Error,
    },
    #[error(
        "no agent answers at {socket}: only `egressway agent` keeps what was logged before; leave --since out to see what comes"
    )]
    NoHistory { socket: String },
    #[error("cannot wait for log messages: {0}")]
    Wait(Errno),
    #[error("cannot write to {to}: {cause}")]
    Write { to: String, cause: io::Error },
}

/// SIGINT and SIGTERM as something to wait for, so that they end the command with success.
pub(super) fn termination_signals() -> Result<SignalFd, Error> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC))
        .map_err(Error::Signals)
}

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    Messages,
    Deadline,
    /// There is something to read on `stop`, or nobody reads the output any more.
    Stopped,
}

/// Waits until there is something to read on one of `sources`.
pub(super) fn wait(
    sources: [BorrowedFd<'_>; 2],
    deadline: Option<Instant>,
    stop: BorrowedFd<'_>,
    out: BorrowedFd<'_>,
) -> Result<Woken, Error> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(Woken::Deadline);
        }
        let [first, second] = sources;
        let mut polled = [
            PollFd::new(first, PollFlags::POLLIN),
            PollFd::new(second, PollFlags::POLLIN),
            PollFd::new(stop, PollFlags::POLLIN),
            // Errors only: the other end of a pipe was closed.
            PollFd::new(out, PollFlags::empty()),
        ];
        match poll(&mut polled, timeout(left)) {
            Ok(_) if polled[2..].iter().any(happened) => return Ok(Woken::Stopped),
            Ok(_) if polled[..2].iter().any(happened) => return Ok(Woken::Messages),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::Wait(errno)),
        }
    }
}

/// Tells on stderr what was lost, as far as that was not told already.
#[derive(Debug, Default)]
pub(super) struct Losses {
    told: Lost,
    told_at: Option<Instant>,
}

impl Losses {
    /// Tells, unless that was done a moment ago.
    pub(super) fn tell_if_due(&mut self, lost: Lost) {
        if self.told_at.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.tell(lost);
        }
    }

    /// Tells now.
    pub(super) fn tell(&mut self, lost: Lost) {
        if lost == self.told {
            return;
        }
        self.told = lost;
        self.told_at = Some(Instant::now());
        // The messages matter more than this: it may fail.
        let _ = writeln!(
            io::stderr(),
            "egressway: {} log messages lost so far: they came faster than they were written",
            how_many(lost)
        );
    }
}

fn how_many(lost: Lost) -> String {
    match lost {
        Lost { messages: 0, .. } => "an unknown number of".to_owned(),
        Lost { messages, more } => format!("{}{messages}", if more { "more than " } else { "" }),
    }
}

/// The moment until which `--for DURATION` goes on.
pub(super) fn deadline(length: Option<Duration>) -> Option<Instant> {
    length.and_then(|length| Instant::now().checked_add(length))
}

/// Whether something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Yes,
    /// Nobody wants more.
    Stopped,
}

/// Writes when it fits, so that a reader that stands still can't keep the command from being
/// stopped. A pipe that takes anything takes 4096 bytes
/// (PIPE_BUF): no more should be written at once.
pub(super) fn write(
    bytes: &[u8],
    stop: BorrowedFd<'_>,
    out: &mut (impl Write + AsFd),
    to: &str,
) -> Result<Written, Error> {
    loop {
        let mut polled = [
            PollFd::new(stop, PollFlags::POLLIN),
            PollFd::new(out.as_fd(), PollFlags::POLLOUT),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) if happened(&polled[0]) => return Ok(Written::Stopped),
            Ok(_) if happened(&polled[1]) => break,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::Wait(errno)),
        }
    }
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::Stopped),
        Err(cause) => Err(Error::Write {
            to: to.to_owned(),
            cause,
        }),
    }
}

/// Writes if it fits now, at the end of a command that may have been stopped.
pub(super) fn write_last(bytes: &[u8], out: &mut (impl Write + AsFd)) {
    let mut polled = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        // Whoever does not read any more misses nothing.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
}

/// Something that was asked for, or an error.
fn happened(polled: &PollFd<'_>) -> bool {
    polled.any().unwrap_or(false)
}

/// Rounded up to whole milliseconds: rounded down, the last one would be spent spinning.
fn timeout(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else {
        return PollTimeout::NONE;
    };
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::pipe;

    use super::*;

    #[test]
    fn a_reader_that_stands_still_can_be_left() {
        let (_reader, mut writer) = pipe().unwrap();
        let (stop, mut ring) = pipe().unwrap();
        // A pipe holds 64 KiB, by whole pages: fill it to less than one.
        for _ in 0..16 {
            writer.write_all(&[b'x'; 4096]).unwrap();
        }
        ring.write_all(b"x").unwrap();
        let written = write(&[b'x'; 100], stop.as_fd(), &mut writer, "a pipe").unwrap();
        assert_eq!(written, Written::Stopped);
    }

    #[test]
    fn losses_are_told_as_far_as_they_are_known() {
        let told = [(0, true), (5, true), (5, false)]
            .map(|(messages, more)| how_many(Lost { messages, more }));
        assert_eq!(told, ["an unknown number of", "more than 5", "5"]);
    }
}
