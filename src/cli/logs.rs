//! `egressway logs`: the verdicts of rules with `log`, as they are made.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use rules::verdict::Verdict;

use super::output::Format;
use super::stream::{self, Error, Losses, Woken, Written};
use super::value;
use crate::defaults;
use crate::verdicts::{Line, Received, Stream};

#[cfg(test)]
mod tests;

/// Print verdicts of rules with `log` as they are made.
///
/// The kernel keeps no history: only what happens from now on is shown, until interrupted. One
/// program at a time can read a group. A rule that denies or rejects logs 10 packets a second, if
/// it does not say `log=N/s`; a rule that allows, the first packet of each flow, and so many a
/// second of what is of no flow (what conntrack calls invalid or does not track).
///
///   egressway logs                                    everything
///   egressway logs shop/web-0                         one pod
///   egressway logs --namespace shop --verdict deny,reject
///   egressway logs --destination 203.0.113.0/24 --for 1m
///   egressway logs -o json >> egress.log              for suggest, report and scripts
///
/// Text: TIME NAMESPACE/POD VERDICT RULE PROTOCOL SOURCE[:PORT] -> DESTINATION[:PORT]
/// [type=N code=N] [original=ADDRESS[:PORT]] [interface=NAME] [egress-ip=ADDRESS], with "-" for what
/// is not known. Times are UTC.
///
/// JSON, one object a line: time, namespace, pod, verdict, rule, ruleSource, ruleLine and ruleText (the
/// annotation or part of the policy file, the line in that text, the rule itself), protocol, source,
/// sourcePort, destination, destinationPort, originalDestination and originalDestinationPort (where
/// the pod sent it, if a Service translated that), icmpType, icmpCode, interface (by which the packet
/// came in), egressIP (the address that the pod has outside the cluster); without those that are not
/// known.
/// Where the kernel was built without CONFIG_NETFILTER_NETLINK_GLUE_CT, originalDestination is never
/// known, and stderr says so.
///
/// Messages that come faster than they are written are lost; the number is told on stderr, and in
/// JSON by a record of its own: time, lost (how many since the last such record), lostMore (true: and
/// more, whose number is not known yet).
#[derive(Debug, clap::Args)]
#[allow(rustdoc::broken_intra_doc_links)] // help, not links
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Only this pod: POD, or NAMESPACE/POD
    #[arg(value_name = "POD", conflicts_with = "pod")]
    target: Option<String>,
    /// Accepted for compatibility; output is always followed
    #[arg(short, long)]
    follow: bool,
    /// NFLOG group, the conflist's logGroup; the next one is read, too
    #[arg(long, default_value_t = defaults::LOG_GROUP, value_parser = value::group)]
    group: u16,
    /// The conflist's stateDir, which knows the pods
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,
    /// Only pods of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Pods of all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only pods of this name
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Only these verdicts, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = verdicts())]
    verdict: Vec<Verdict>,
    /// Only packets to these networks, before or after translation, separated by commas
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', value_parser = network)]
    destination: Vec<IpNet>,
    /// Only this rule, such as pod:erp or cluster-enforced:2
    #[arg(long)]
    rule: Option<String>,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
    /// Stop after this many lines
    #[arg(long, value_name = "N", value_parser = value::count)]
    count: Option<u64>,
    /// Stop after this time, such as 90s, 1m or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = value::duration)]
    length: Option<Duration>,
}

impl Args {
    fn wants(&self, line: &Line) -> bool {
        fn is(wanted: &Option<String>, found: Option<&str>) -> bool {
            wanted.is_none() || wanted.as_deref() == found
        }
        let (namespace, pod) = match &self.target {
            Some(target) => match target.split_once('/') {
                Some((namespace, pod)) => (Some(namespace), Some(pod)),
                None => (None, Some(target.as_str())),
            },
            None => (None, None),
        };
        is(&self.namespace, line.namespace.as_deref())
            && is(&self.pod, line.pod.as_deref())
            && namespace.is_none_or(|wanted| line.namespace.as_deref() == Some(wanted))
            && pod.is_none_or(|wanted| line.pod.as_deref() == Some(wanted))
            && is(&self.rule, Some(&line.rule))
            && (self.verdict.is_empty() || self.verdict.contains(&line.verdict))
            && (self.destination.is_empty() || self.goes_there(line))
    }

    fn goes_there(&self, line: &Line) -> bool {
        let ends = [Some(line.destination), line.original_destination];
        let within = |address: IpAddr| self.destination.iter().any(|net| net.contains(&address));
        ends.into_iter().flatten().any(within)
    }
}

/// What may be said behind `--verdict`.
pub(super) fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    PossibleValuesParser::new(Verdict::ALL.map(Verdict::as_str)).try_map(|word| word.parse())
}

/// `203.0.113.0/24`, `203.0.113.7`.
fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "expected an address or a network, such as 203.0.113.0/24".to_owned())
}

/// Runs the command until it is interrupted, or has printed what it was asked for.
pub(super) fn main(args: &Args) -> Result<(), Error> {
    let signals = stream::termination_signals()?;
    let mut log = Log::open(args)?;
    if !log.stream.tells_original() {
        // It is no fault: the rest is true without it.
        let _ = writeln!(
            io::stderr(),
            "egressway: this kernel can't tell where packets went before a Service's translation \
             (CONFIG_NETFILTER_NETLINK_GLUE_CT): originalDestination is never known"
        );
    }
    log.print(args, signals.as_fd(), &mut io::stdout())
}

/// The lines of a group on their way to whoever reads them.
struct Log {
    stream: Stream,
    losses: Losses,
}

impl Log {
    fn open(args: &Args) -> Result<Self, Error> {
        Ok(Log {
            stream: Stream::open(args.group, &args.state_dir)?,
            losses: Losses::default(),
        })
    }

    /// Prints lines, and at last what was lost.
    fn print(
        &mut self,
        args: &Args,
        stop: BorrowedFd<'_>,
        out: &mut (impl Write + AsFd),
    ) -> Result<(), Error> {
        let outcome = self.print_lines(args, stop, out);
        self.losses.tell(self.stream.lost());
        if let Some(loss) = self.stream.rest()
            && args.output == Format::Json
        {
            stream::write_last(loss.json().as_bytes(), out);
        }
        outcome
    }

    /// Prints until there is something to read on `stop`, nobody reads `out` any more, or the
    /// arguments say that it is enough.
    fn print_lines(
        &mut self,
        args: &Args,
        stop: BorrowedFd<'_>,
        out: &mut (impl Write + AsFd),
    ) -> Result<(), Error> {
        let deadline = stream::deadline(args.length);
        let mut left = args.count.unwrap_or(u64::MAX);
        while stream::wait(self.stream.fds(), deadline, stop, out.as_fd())? == Woken::Messages {
            let Received { loss, lines } = self.stream.receive()?;
            self.losses.tell_if_due(self.stream.lost());
            if args.output == Format::Json
                && let Some(loss) = loss
                && stream::write(loss.json().as_bytes(), stop, out, "stdout")? == Written::Stopped
            {
                return Ok(());
            }
            for line in lines.iter().filter(|line| args.wants(line)) {
                let text = match args.output {
                    Format::Text => line.text(),
                    Format::Json => line.json(),
                };
                match stream::write(text.as_bytes(), stop, out, "stdout")? {
                    Written::Yes => left -= 1,
                    Written::Stopped => return Ok(()),
                }
                if left == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
