//! `egressway explain`: whether a pod's packet may leave, and why.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;

use super::output::{self, Format};
use crate::defaults;
use crate::explain::{
    Destination, DestinationError, Explanation, Files, Question, SentTo, Subject, SubjectError, Via,
};

#[cfg(test)]
mod tests;
mod text;

/// Say whether a pod's packet may leave, by which rule, and why no other.
///
/// On a node, from what is enforced for an attached pod:
///
///   egressway explain payments/web-0 203.0.113.7:443/tcp
///
/// Anywhere else, from files; nothing is asked of a cluster:
///
///   egressway explain --manifest web.yaml --policy policy.yaml 203.0.113.7:443/tcp
///
/// The answer covers packets of connections that the pod opens. Reply traffic of connections to the
/// pod, ICMP errors about known connections and neighbour discovery are always allowed.
///
/// Destinations: 203.0.113.7:443/tcp  [2001:db8::1]:443/tcp  203.0.113.7:8000-8100/udp
///   203.0.113.7/icmp/8  203.0.113.7/proto/47  203.0.113.7 (whatever the protocol)  shop/db-0:5432 (a
///   pod of this node; TCP, if nothing else is said)
/// An address is where the packet really goes; --via says where the pod sent it, if a Service
/// translates that:
///
///   egressway explain --manifest web.yaml 10.244.3.4:8080/tcp --via svc/shop/db:5432
///
/// Files do not tell the addresses of Services and of the API server. Where rules name some, notes say
/// what would be answered with --via or --api-server.
///
/// Exit status: 0 allowed, also by audit mode; 1 denied or rejected; 2 wrong usage; 3 no answer:
/// something cannot be read or is invalid; 4 it depends on the protocol, the port,
/// the address, or the Service.
///
/// JSON: source (namespace, pod, attachment, exempt), passes (null: it depends), answers, and
/// defaultAction, defaultAudit, clusterCIDRs, clusterDNS, notes. An answer: destination, via,
/// sentTo (a list of Services: for files, where it is not known which one has via's address), traffic
/// (a list), verdict (allow, deny, reject, would-deny, would-reject), passes, rule (as in
/// log lines), logged, logPrefix, egressIPs (none: the primary CNI's choice), and steps, the rules
/// that were looked at: rule, tier, source, line, text, audit, logged, result (decides, passes on, not
/// reached, expired, except, other family, other address, other protocol, other port, other ICMP
/// type).
#[derive(Debug, clap::Args)]
#[allow(rustdoc::broken_intra_doc_links)] // help, not links
#[command(verbatim_doc_comment, allow_missing_positional = true)]
pub(super) struct Args {
    /// An attached pod: NAMESPACE/POD, POD, the attachment's id or the pod's address;
    /// with --manifest, which workload of several: NAME or KIND/NAME
    #[arg(verbatim_doc_comment)]
    source: Option<String>,
    /// Where the packet goes: ADDRESS, ADDRESS:PORT/PROTOCOL, ADDRESS/PROTOCOL, a pod of this node as POD:PORT or
    /// NAMESPACE/POD:PORT (TCP, if no /PROTOCOL is given), or a name
    #[arg(required = true)]
    destination: Destination,
    /// A pod, or a workload whose template makes pods; "-" is stdin
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The pod's Namespace [default: the one in the manifest, else what the policy file says]
    #[arg(long, value_name = "FILE")]
    namespace_manifest: Option<PathBuf>,
    /// The policy file
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Where the pod sent it, if to a Service: ADDRESS[:PORT] or svc/NAMESPACE/NAME[:PORT]
    #[arg(long, visible_alias = "service-destination", value_name = "SERVICE")]
    via: Option<Via>,
    /// The destination is an address of the pod's node; for an attached pod the node is asked
    #[arg(long)]
    node: bool,
    /// The destination is an address of the API server; for an attached pod it is known
    #[arg(long)]
    api_server: bool,
    /// Ask this machine's resolver for a name's addresses; the pod's may give others
    #[arg(long)]
    resolve: bool,
    /// When, as in `until` [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<Timestamp>,
    /// Show the whole policy, also the rules that were not reached
    #[arg(long)]
    all: bool,
    /// The conflist's stateDir, which knows the attached pods
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(
        "no pod given: name an attached pod, such as payments/web-0, or files: --manifest, --policy"
    )]
    NoSource,
    #[error(
        "SOURCE names an attached pod, or a workload of --manifest: leave it out, or --policy and --namespace-manifest"
    )]
    SourceAndFiles,
    #[error("{via} and {address} are not of the same IP version: no Service translates so")]
    ViaOfOtherFamily { via: IpAddr, address: IpAddr },
    #[error(transparent)]
    Destination(#[from] DestinationError),
    #[error(transparent)]
    Subject(#[from] SubjectError),
    #[error("cannot write the answer: {0}")]
    Write(String),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Error::NoSource
            | Error::SourceAndFiles
            | Error::Destination(DestinationError::Name(_))
            | Error::ViaOfOtherFamily { .. } => 2,
            Error::Destination(_) | Error::Subject(_) | Error::Write(_) => 3,
        }
    }
}

/// Answers. The exit status is in [`Args`]' help.
pub(super) fn main(args: &Args) -> ExitCode {
    let outcome = explain(args).and_then(|explanation| {
        print(args, &explanation)?;
        Ok(match explanation.passes {
            Some(true) => 0,
            Some(false) => 1,
            None => 4,
        })
    });
    ExitCode::from(outcome.unwrap_or_else(|error| {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stderr(), "egressway: {error}");
        error.code()
    }))
}

fn explain(args: &Args) -> Result<Explanation, Error> {
    let subject = subject(args)?;
    let namespace = subject.namespace.as_deref();
    let addresses = args
        .destination
        .addresses(&args.state_dir, namespace, args.resolve)?;
    let question = Question {
        traffic: args.destination.traffic.clone(),
        via: args.via.clone(),
        node: args.node,
        api_server: args.api_server,
        time: args.time.unwrap_or_else(Timestamp::now),
        all: args.all,
    };
    if let Some(Via {
        to: SentTo::Address(via),
        ..
    }) = args.via
        && let Some(address) = addresses.iter().find(|a| a.is_ipv4() != via.is_ipv4())
    {
        return Err(Error::ViaOfOtherFamily {
            via,
            address: *address,
        });
    }
    Ok(Explanation::new(subject, &addresses, &question))
}

fn subject(args: &Args) -> Result<Subject, Error> {
    let described = args.policy.is_some() || args.namespace_manifest.is_some();
    let namespace = args.namespace.as_deref();
    match (&args.manifest, &args.source) {
        (None, Some(_)) if described => Err(Error::SourceAndFiles),
        (None, Some(source)) => Ok(Subject::attached(&args.state_dir, source, namespace)?),
        (None, None) if !described => Err(Error::NoSource),
        _ => Ok(Files {
            manifest: args.manifest.as_deref(),
            namespace_manifest: args.namespace_manifest.as_deref(),
            policy: args.policy.as_deref(),
            namespace,
            workload: args.source.as_deref(),
        }
        .subject()?),
    }
}

/// Prints the answer. A reader that closes the pipe has seen enough: the exit status still answers.
fn print(args: &Args, explanation: &Explanation) -> Result<(), Error> {
    let text = match args.output {
        Format::Text => text::render(explanation, args.all, output::colour()),
        Format::Json => {
            let json = serde_json::to_string_pretty(explanation);
            json.map_err(|e| Error::Write(e.to_string()))? + "\n"
        }
    };
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::Write(e.to_string())),
        _ => Ok(()),
    }
}
