//! `egress-cni logs`: the verdicts of rules with `log`, as they are made.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::net::nflog::{self, Lost, Nflog};

mod line;
mod packet;
mod pods;
#[cfg(test)]
pub(super) mod test_support;
#[cfg(test)]
mod tests;

pub(super) use line::{Line, Verdict};
pub(super) use packet::protocol_number;

use line::Reader;

/// How long the kernel may take to hand over the group.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
/// Losses are told no more often than this.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Print verdicts of rules with `log` as they are made.
///
/// The kernel keeps no history: only what happens from now on is shown, until interrupted. One
/// program at a time can read a group. A rule that denies or rejects logs 10 packets a second, if
/// it does not say `log=N/s`; a rule that allows, the first packet of each flow.
///
/// Text: TIME NAMESPACE/POD VERDICT RULE PROTOCOL SOURCE[:PORT] -> DESTINATION[:PORT]
/// [type=N code=N] [egress-ip=ADDRESS], with "-" for what is not known. Times are UTC.
///
/// JSON, one object a line: time, namespace, pod, verdict, rule, protocol, source, sourcePort,
/// destination, destinationPort, icmpType, icmpCode, interface (by which the packet came in),
/// egressIP (the address that the pod has outside the cluster); without those that are not known.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Go on until interrupted: this is so without it, too
    #[arg(short, long)]
    follow: bool,
    /// NFLOG group, the conflist's logGroup
    #[arg(long, default_value_t = 100)]
    group: u16,
    /// The conflist's stateDir, which knows the pods
    #[arg(long, value_name = "DIR", default_value = "/run/egress-cni")]
    state_dir: PathBuf,
    /// Only pods of this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only pods of this name
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Only these verdicts, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    verdict: Vec<Verdict>,
    /// Only this rule, such as pod:erp or cluster-enforced:2
    #[arg(long)]
    rule: Option<String>,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
    /// Stop after this many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Args {
    fn wants(&self, line: &Line) -> bool {
        fn is(wanted: &Option<String>, found: Option<&str>) -> bool {
            wanted.is_none() || wanted.as_deref() == found
        }
        is(&self.namespace, line.namespace.as_deref())
            && is(&self.pod, line.pod.as_deref())
            && is(&self.rule, Some(&line.rule))
            && (self.verdict.is_empty() || self.verdict.contains(&line.verdict))
    }
}

/// What ends the command other than success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Nflog(#[from] nflog::Error),
    #[error("cannot take over signals: {0}")]
    Signals(Errno),
    #[error("cannot wait for log messages: {0}")]
    Wait(Errno),
    #[error("cannot write to stdout: {0}")]
    Write(io::Error),
}

/// Runs the command until it is interrupted, or has printed what it was asked for.
pub(super) fn main(args: &Args) -> Result<(), Error> {
    let signals = termination_signals().map_err(Error::Signals)?;
    let mut log = Log::open(args)?;
    let outcome = log.print(args, signals.as_fd(), &mut io::stdout());
    log.tell_loss();
    outcome
}

/// SIGINT and SIGTERM as something to wait for, so that they end the command with success.
fn termination_signals() -> Result<SignalFd, Errno> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)
}

/// The messages of a group on their way to becoming lines.
struct Log {
    nflog: Nflog,
    reader: Reader,
    told: Lost,
    told_at: Option<Instant>,
}

impl Log {
    fn open(args: &Args) -> Result<Self, Error> {
        Ok(Log {
            nflog: Nflog::bind(args.group, Instant::now() + BIND_TIMEOUT)?,
            reader: Reader::new(&args.state_dir),
            told: Lost::default(),
            told_at: None,
        })
    }

    /// Prints until there is something to read on `stop`, nobody reads `out` any more, or the
    /// arguments say that it is enough.
    fn print(
        &mut self,
        args: &Args,
        stop: BorrowedFd<'_>,
        out: &mut (impl Write + AsFd),
    ) -> Result<(), Error> {
        let deadline = args
            .seconds
            .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        let mut left = args.count.unwrap_or(u64::MAX);
        while self.wait(deadline, stop, out.as_fd())? {
            let messages = self.nflog.receive()?;
            self.reader.refresh();
            let lines = messages
                .iter()
                .filter_map(|message| self.reader.line(message));
            for line in lines.filter(|line| args.wants(line)) {
                let text = match args.output {
                    Format::Text => line.text(),
                    Format::Json => line.json(),
                };
                match write_line(&text, stop, out)? {
                    Written::Yes => left -= 1,
                    Written::Stopped => return Ok(()),
                }
                if left == 0 {
                    return Ok(());
                }
            }
            if self.told_at.is_none_or(|at| at.elapsed() >= LOSS_INTERVAL) {
                self.tell_loss();
            }
        }
        Ok(())
    }

    /// Waits for messages. False: it is time to stop.
    fn wait(
        &self,
        deadline: Option<Instant>,
        stop: BorrowedFd<'_>,
        out: BorrowedFd<'_>,
    ) -> Result<bool, Error> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            let mut polled = [
                PollFd::new(self.nflog.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop, PollFlags::POLLIN),
                // Errors only: the other end of a pipe was closed.
                PollFd::new(out, PollFlags::empty()),
            ];
            match poll(&mut polled, timeout(left)) {
                Ok(_) if polled[1..].iter().any(happened) => return Ok(false),
                Ok(_) if happened(&polled[0]) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Wait(errno)),
            }
        }
    }

    /// Tells on stderr what has been lost, unless that was told already.
    fn tell_loss(&mut self) {
        let lost = self.nflog.lost();
        if lost == self.told {
            return;
        }
        self.told = lost;
        self.told_at = Some(Instant::now());
        // Lines matter more than this: it may fail.
        let _ = writeln!(
            io::stderr(),
            "egress-cni: {} log messages lost so far: they came faster than they were printed",
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

enum Written {
    Yes,
    /// Nobody wants more.
    Stopped,
}

/// Writes when the line fits, so that a reader that stands still can't keep the command from
/// being stopped.
fn write_line(
    line: &str,
    stop: BorrowedFd<'_>,
    out: &mut (impl Write + AsFd),
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
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Written::Yes),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::Stopped),
        Err(error) => Err(Error::Write(error)),
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
