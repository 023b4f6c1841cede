//! `egressway logs`: the verdicts of rules with `log`, as they are made.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use rules::verdict::Verdict;

use super::feed::{self, Source};
use super::output::Format;
use super::stream::{self, Error, Losses, Woken, Written};
use super::value;
use crate::defaults;
use crate::verdicts::client::{Message, Said, Wanted};
use crate::verdicts::{Line, Loss, Received, Stream};

#[cfg(test)]
mod tests;

/// Print verdicts of rules with `log` as they are made.
///
/// What happens from now on is shown, until interrupted. Where `egressway agent` runs, it reads the
/// groups, and hands the lines to any number of `logs` and `capture`; it keeps the last 16 MiB of at
/// most an hour, for --since. Without an agent the kernel is asked: it keeps nothing, and one program
/// at a time can read a group. A rule that denies or rejects logs 10 packets a second, if it does not
/// say `log=N/s`; a rule that allows, the first packet of each flow, and so many a second of what is
/// of no flow (what conntrack calls invalid or does not track).
///
///   egressway logs                                    everything
///   egressway logs shop/web-0                         one pod
///   egressway logs --namespace shop --verdict deny,reject
///   egressway logs --since 10m --no-follow            the last ten minutes, from the agent
///   egressway logs --destination 203.0.113.0/24 --for 1m
///   egressway logs -o json >> egress.log              for suggest, report and scripts
///
/// Text: TIME NAMESPACE/POD VERDICT RULE PROTOCOL SOURCE[:PORT] -> DESTINATION[:PORT]
/// [type=N code=N] [original=ADDRESS[:PORT]] [interface=NAME] [egress-ip=ADDRESS], with "-" for what
/// is not known. Times are UTC.
///
/// JSON, one object a line: kind (verdict), v (1), time, node, namespace, pod, podUID, workload (what
/// made the pod, as Deployment/web; both this and node only the agent knows), verdict, rule,
/// ruleSource, ruleLine and ruleText (the annotation or part of the policy file, the line in that
/// text, the rule itself), protocol, source, sourcePort, destination, destinationPort,
/// originalDestination and originalDestinationPort (where the pod sent it, if a Service translated
/// that), icmpType, icmpCode, name (the domain name by which a rule of the pod has the destination),
/// asked (the one that the pod had asked for, and that no rule of it has), interface (by which the
/// packet came in), egressIP (the address that the pod has outside the cluster); without those that
/// are not known. Where the kernel was built without
/// CONFIG_NETFILTER_NETLINK_GLUE_CT, originalDestination is never known, and stderr says so.
///
/// Messages that come faster than they are written are lost; the number is told on stderr, and in
/// JSON by a record of its own: kind (lost), v, time, lost (how many since the last such record),
/// lostMore (true: and more, whose number is not known yet). If the agent ends, it is waited for;
/// such a record and stderr say that lines may be lost meanwhile.
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
    /// NFLOG group, the conflist's logGroup; the next one is read, too [default: the agent's, or 100]
    #[arg(long, value_parser = value::group)]
    group: Option<u16>,
    /// First what came in the last such time, as 10m, as far back as the agent has it
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    since: Option<Duration>,
    /// End with what is there
    #[arg(long, requires = "since", conflicts_with = "follow")]
    no_follow: bool,
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
    if !log.source.tells_original() {
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
    source: Source<Stream>,
    losses: Losses,
}

impl Source<Stream> {
    fn tells_original(&self) -> bool {
        match self {
            Source::Kernel(stream) => stream.tells_original(),
            Source::Agent(client) => client.begin().tells_original,
        }
    }

    fn receive(&mut self) -> Result<Vec<Said>, Error> {
        let Received { loss, lines } = match self {
            Source::Agent(client) => return Ok(client.receive()?),
            Source::Kernel(stream) => stream.receive()?,
        };
        let line = |line| Said::Line(Box::new(Message { line, packet: None }));
        let loss = loss.into_iter().map(Said::Loss);
        Ok(loss.chain(lines.into_iter().map(line)).collect())
    }

    /// What was lost and not told yet, for the end.
    fn rest(&mut self) -> Option<Loss> {
        match self {
            Source::Kernel(stream) => stream.rest(),
            Source::Agent(_) => None,
        }
    }
}

impl Log {
    fn open(args: &Args) -> Result<Self, Error> {
        let wanted = Wanted {
            since: args.since,
            follow: !args.no_follow,
            packets: false,
        };
        let group = args.group.unwrap_or(defaults::LOG_GROUP);
        let bind = || Stream::open(group, &args.state_dir);
        Ok(Log {
            source: Source::open(&args.state_dir, args.group, wanted, bind)?,
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
        self.losses.tell(self.source.lost());
        if let Some(loss) = self.source.rest()
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
        loop {
            let until = feed::earlier(deadline, self.source.due());
            let woken = stream::wait(self.source.fds(), until, stop, out.as_fd())?;
            let is_over = deadline.is_some_and(|at| at <= Instant::now());
            if woken == Woken::Stopped || (woken == Woken::Deadline && is_over) {
                return Ok(());
            }
            let said = self.source.receive()?;
            self.losses.tell_if_due(self.source.lost());
            for said in said {
                let is_line = matches!(said, Said::Line(_));
                let text = match said {
                    Said::End => return Ok(()),
                    Said::Line(message) if !args.wants(&message.line) => continue,
                    Said::Line(message) => match args.output {
                        Format::Text => message.line.text(),
                        Format::Json => message.line.json(),
                    },
                    Said::Gone => {
                        feed::tell_gone();
                        Loss::unknown().json()
                    }
                    Said::Loss(loss) => loss.json(),
                };
                if !is_line && args.output == Format::Text {
                    continue;
                }
                if stream::write(text.as_bytes(), stop, out, "stdout")? == Written::Stopped {
                    return Ok(());
                }
                left -= u64::from(is_line);
                if left == 0 {
                    return Ok(());
                }
            }
        }
    }
}
