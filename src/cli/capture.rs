//! `egressway capture`: a pod's denied packets as a pcap file.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use pcap_file::PcapError;

use super::feed::{self, Source};
use super::output::shown;
use super::stream::{self, Losses, Woken, Written};
use super::value;
use crate::attachment::records::{self, Records};
use crate::defaults;
use crate::store::Record;
use crate::verdicts;
use crate::verdicts::client::{Said, Wanted};
use crate::verdicts::packet::{self, Packet};
use crate::verdicts::stream::Groups;
use netlink::nflog::Logged;
use rules::verdict::{Verdict, parse_prefix};

mod file;
#[cfg(test)]
mod tests;

use file::Pcap;

/// Whether the pod is still there is looked at this often.
const TICK: Duration = Duration::from_secs(1);

/// Write a pod's denied packets to a pcap file, for tcpdump and Wireshark.
///
///   egressway capture payments/web-0 -w denied.pcap --for 1m
///   egressway capture payments/web-0 | tcpdump -n -r -
///
/// Only what is logged can be seen: packets of rules with `log`, of defaultAction deny, and of audit
/// mode; of rules that deny or reject 10 a second each, if they do not say `log=N/s`. Of each packet
/// the first 128 bytes, from the IP header on, as the rule saw it: after a Service's translation.
/// It begins now, and goes on until interrupted, or until the pod is gone. Where `egressway agent`
/// runs, packets come from it, beside any number of `logs`. Without it, one program at a time can
/// read a group, so `egressway logs` can't run beside it.
///
/// Exit status: 0, also if no packet came; 1 on failure; 2 on wrong usage.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// NAMESPACE/POD, POD, the attachment's id or the pod's address
    #[arg(value_name = "POD")]
    pod: String,
    /// The file; "-" is stdout, which must not be a terminal
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    write: PathBuf,
    /// Which packets
    #[arg(long, value_enum, default_value_t = Which::Denied)]
    verdict: Which,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Stop after this many packets
    #[arg(long, value_name = "N", value_parser = value::count)]
    count: Option<u64>,
    /// Stop after this time, such as 90s, 1m or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    length: Option<Duration>,
    /// NFLOG group [default: the pod's, from the conflist's logGroup]
    #[arg(long, value_parser = value::group)]
    group: Option<u16>,
    /// The conflist's stateDir, which knows the pods
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Denied, rejected, or what would have been but for audit mode
    Denied,
    /// Whatever is logged, also what was allowed
    Any,
}

impl Which {
    fn includes(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Deny | Verdict::Reject | Verdict::WouldDeny | Verdict::WouldReject => true,
            Verdict::Allow => self == Which::Any,
        }
    }
}

/// What ends the command other than success.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Records(#[from] records::Error),
    #[error("a pcap file is not for a terminal: say -w FILE, or pipe it to `tcpdump -n -r -`")]
    Terminal,
    #[error("cannot create {}: {cause}", shown(path))]
    Create { path: PathBuf, cause: io::Error },
    #[error("cannot make a pcap record: {0}")]
    Encode(#[from] PcapError),
    #[error(transparent)]
    Stream(#[from] stream::Error),
}

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "egressway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let to_stdout = args.write == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::Terminal);
    }
    let records = Records::read(&args.state_dir)?;
    let record = records.find(&args.pod, args.namespace.as_deref())?;
    let signals = stream::termination_signals()?;
    // Before the file: a group that can't be read leaves an older file as it was.
    let source = open(args, record)?;
    let mut capture = Capture::new(args, record, source)?;
    let outcome = if to_stdout {
        capture.write_to(&mut io::stdout(), "stdout", signals.as_fd())
    } else {
        let mut file = create(&args.write)?;
        let name = shown(&args.write);
        capture.write_to(&mut file, &name, signals.as_fd())
    };
    capture.losses.tell(capture.source.lost());
    let packets = capture.packets;
    let _ = writeln!(
        io::stderr(),
        "egressway: packets written of {}: {packets}",
        record.title()
    );
    outcome
}

/// Packets are nobody else's business.
fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(|cause| Error::Create {
        path: path.to_owned(),
        cause,
    })
}

/// Of the agent, if it reads the pod's group; else the group itself.
fn open(args: &Args, record: &Record) -> Result<Source<Groups>, Error> {
    let wanted = Wanted {
        since: None,
        follow: true,
        packets: true,
    };
    let group = args.group.unwrap_or(record.log_group);
    let bind = || verdicts::stream::bind(group);
    Ok(Source::open(&args.state_dir, Some(group), wanted, bind)?)
}

impl Source<Groups> {
    fn receive(&mut self) -> Result<Vec<Logged>, Error> {
        let client = match self {
            Source::Kernel(groups) => return Ok(groups.receive().map_err(stream::Error::Nflog)?),
            Source::Agent(client) => client,
        };
        let mut packets = Vec::new();
        for said in client.receive().map_err(stream::Error::Agent)? {
            match said {
                Said::Line(message) => packets.extend(message.logged()),
                Said::Gone => feed::tell_gone(),
                Said::Loss(_) | Said::End => {}
            }
        }
        Ok(packets)
    }
}

/// A pod's messages on their way to a file.
struct Capture<'a> {
    args: &'a Args,
    record: &'a Record,
    source: Source<Groups>,
    losses: Losses,
    pcap: Pcap,
    /// How many were written.
    packets: u64,
}

impl<'a> Capture<'a> {
    fn new(args: &'a Args, record: &'a Record, source: Source<Groups>) -> Result<Self, Error> {
        Ok(Capture {
            args,
            record,
            source,
            losses: Losses::default(),
            pcap: Pcap::new()?,
            packets: 0,
        })
    }

    /// Writes until there is something to read on `stop`, nobody reads `out` any more, the pod is
    /// gone, or the arguments say that it is enough.
    fn write_to(
        &mut self,
        out: &mut (impl Write + AsFd),
        name: &str,
        stop: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let deadline = stream::deadline(self.args.length);
        let header = self.pcap.take();
        if stream::write(&header, stop, out, name)? == Written::Stopped {
            return Ok(());
        }
        loop {
            let tick = Instant::now() + TICK;
            let until = feed::earlier(deadline, self.source.due().or(Some(tick)));
            match stream::wait(self.source.fds(), until, stop, out.as_fd())? {
                Woken::Stopped => return Ok(()),
                Woken::Deadline if deadline.is_some_and(|at| at <= Instant::now()) => return Ok(()),
                Woken::Deadline if self.source.due().is_none() => {}
                Woken::Deadline | Woken::Messages => {
                    let messages = self.source.receive()?;
                    self.losses.tell_if_due(self.source.lost());
                    for logged in messages {
                        if !self.wants(&logged) {
                            continue;
                        }
                        // One by one: a pipe takes that much whole.
                        self.pcap.push(&logged)?;
                        let bytes = self.pcap.take();
                        if stream::write(&bytes, stop, out, name)? == Written::Stopped {
                            return Ok(());
                        }
                        self.packets += 1;
                        if self.args.count.is_some_and(|count| count <= self.packets) {
                            return Ok(());
                        }
                    }
                }
            }
            // Another pod may get its address.
            if !records::exists(&self.args.state_dir, self.record) {
                let _ = writeln!(io::stderr(), "egressway: the pod is gone");
                return Ok(());
            }
        }
    }

    fn wants(&self, logged: &Logged) -> bool {
        let of_pod = packet::parse(logged.hw_protocol, &logged.payload)
            .is_some_and(|Packet { source, .. }| self.record.addresses.contains(&source));
        of_pod
            && parse_prefix(&logged.prefix)
                .is_some_and(|(_, verdict)| self.args.verdict.includes(verdict))
    }
}
