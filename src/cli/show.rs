//! `egressway show`: this node's attachments, their rules, and what the kernel counted.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::output;
use super::value;
use crate::attachment::records::Records;
use crate::defaults;
use crate::plan::{self, AttachmentPlan};
use crate::store::{Record, StateDir};
use crate::verdicts::client;
use crate::verdicts::node::Node;
use nft::{self, Nft};
use rules::fault::Faults;

mod detail;
mod guards;
mod kernel;
mod list;
#[cfg(test)]
mod tests;

use detail::Detail;
use kernel::Kernel;
use list::{List, users, users_of};

/// Show this node's attachments, or one of them in full.
///
///   egressway show                          all of them, a line each
///   egressway show payments/web-0           one, with every rule and what it counted
///   egressway show payments/web-0 --nft     one as nft text
///   egressway show --namespace payments --watch
///
/// DENIED counts the packets that were denied or rejected or, in audit mode, would have been; PACKETS
/// (-o wide) all packets of connections that the pod opened. Both start at zero with the pod. A
/// rule's counter is that of all pods of this node with the same policy. LAST is how long ago a
/// packet was denied last, within 30 days. Where it went is in the log (`egressway logs`).
///
/// MODE: enforce; audit, where denies of all or some tiers only log and count; exempt, of a
/// namespace without any rules. STATE: ok, or what is missing in the kernel or out of sync on the
/// node. For one attachment every rule is compared; in the list only chains, hooks, elements and
/// the veth.
///
/// Where `egressway agent` runs, it adds what only it knows: rules that are written and not in force,
/// and why; the last logged deny with its destination; pods of the node that no rules apply to.
///
/// FORGED CHECKSUMS: what is done about packets that would be rewritten behind the rules. drop, with
/// how many were dropped: no legitimate packet is. resolve: the pod's kernel writes all checksums
/// itself, which is slow; and why, unless the conflist asks for it. IGNORED: nothing, as the conflist
/// says. It is shown with each pod; below the list stands what was dropped, and which pods have no
/// drop. If the filter is missing, not the first, or another program, STATE says so.
///
/// Exit status: 0, also if no pod is attached; 1 if what was asked for is not there, or on failure;
/// 2 on wrong usage.
///
/// JSON: attachments (a list), leakStop, what this node dropped that would have left with another
/// source than the egress IP, and connectionsFailed, how many connections the node could not take
/// on: no free port on an egress IP, or conntrack's table was full; pending, why running pods may
/// have older rules than what is written, null if they have not, or no agent answers; uncovered
/// (pods that no rules apply to: namespace, pod, hostNetwork), null where no agent answers that asks
/// an API. An attachment: id, namespace, pod, uid, containerID, interface, addresses, veth, bridge,
/// mode, rulesIgnored (the pod has rules, and its namespace is exempt), rules (their number),
/// egressIPs, judged, denied, forgedChecksums (action: drop, resolve or ignore; dropped, a number,
/// null unless the action is drop; reason, why it is not drop, which the conflist asks for),
/// lastDeny (a time), state (ok or damaged), problems, policySince (a time), invalid (what is
/// written and not in force, and why; null: no agent answers), lastLoggedDeny (the last packet that
/// was denied and logged: time, rule, verdict, protocol, destination, destinationPort; from the
/// agent). With POD: the one attachment, and pending, network, mac, linkLocal, vethIndex, logGroup,
/// policyChain, wouldDeny (what audit mode would have denied, of all with this policy), policyUsers
/// (how many have the same policy), droppedAtVeth (what did not get as far as the rules),
/// droppedByKind (the same by the rows of docs/veth.md), lastDenyRule (the rule that denied last, if
/// only one of its policy ever denied), tiers, default. A tier: tier, source, audit, and rules: rule
/// (as in log lines), line, text, counted (null: nothing can match it). The default: rule, action,
/// audit, counted. What counts has packets and bytes. What is not known is null. With --watch it is
/// one line each time.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// One attachment: NAMESPACE/POD, POD, the attachment's id or the pod's address
    #[arg(value_name = "POD")]
    pod_name: Option<String>,
    /// Only pods of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Pods of all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only pods of this name
    #[arg(long, value_name = "NAME", conflicts_with = "pod_name")]
    pod: Option<String>,
    /// The nft text that was put into the kernel for it: its policy, then what is its own
    #[arg(long, requires = "pod_name", conflicts_with_all = ["output", "watch"])]
    nft: bool,
    /// Show it again and again until interrupted; every two seconds if no interval is given
    #[arg(
        short,
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = value::interval
    )]
    watch: Option<Duration>,
    /// What to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    /// The conflist's stateDir, which knows the pods
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// As wide as the terminal
    Text,
    /// With addresses, veths and packets
    Wide,
    /// With names that stay
    Json,
}

/// What goes wrong for one attachment only.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the rules of {name} were written by another version: {faults}")]
    OtherVersion { name: String, faults: Faults },
}

type BoxedError = Box<dyn std::error::Error>;

/// Runs the command.
pub(super) fn main(args: &Args) -> ExitCode {
    output::run(|out| match args.watch {
        None => show(args, out),
        Some(interval) => watch(args, interval, out),
    })
}

/// Shows it again and again. A signal ends it as any program: there is nothing to tidy up.
fn watch(args: &Args, interval: Duration, out: &mut dyn Write) -> Result<ExitCode, BoxedError> {
    // Home, and clear what is below: less flicker than to clear first.
    const CLEAR: &[u8] = b"\x1b[H\x1b[J";
    let terminal = io::stdout().is_terminal();
    loop {
        if terminal {
            out.write_all(CLEAR)?;
        }
        show(args, out)?;
        if !terminal && args.output != Output::Json {
            writeln!(out)?;
        }
        out.flush()?;
        if !pause(interval)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Waits. False: nobody reads stdout any more.
fn pause(interval: Duration) -> Result<bool, Errno> {
    let stdout = io::stdout();
    let until = Instant::now() + interval;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_micros().div_ceil(1000));
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        match poll(&mut polled, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(0) if Instant::now() >= until => return Ok(true),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// Shows it once.
fn show(args: &Args, out: &mut dyn Write) -> Result<ExitCode, BoxedError> {
    let records = Records::read(&args.state_dir)?;
    for error in &records.unreadable {
        // What can be read is shown all the same.
        let _ = writeln!(io::stderr(), "egressway: {error}");
    }
    match &args.pod_name {
        Some(name) => {
            let record = records.find(name, args.namespace.as_deref())?;
            show_one(args, record, &records, out)
        }
        None => show_all(args, &records, out),
    }
}

fn show_one(
    args: &Args,
    record: &Record,
    records: &Records,
    out: &mut dyn Write,
) -> Result<ExitCode, BoxedError> {
    if args.nft {
        out.write_all(nft_text(record)?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let users = users_of(&users(&records.list), record);
    let state = StateDir::new(&args.state_dir);
    let mut detail = Detail::read(record, &mut Nft::open()?, &state, users)?;
    detail.add_known(&state, agent(args).as_ref());
    match args.output {
        Output::Text | Output::Wide => {
            out.write_all(detail.text(output::colour()).as_bytes())?;
        }
        Output::Json => json(args, &detail, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the agent knows beyond that; nothing if none answers.
fn agent(args: &Args) -> Option<Node> {
    match client::node(&args.state_dir) {
        Ok(node) => Some(node),
        Err(e) if e.is_absence() => None,
        Err(e) => {
            let _ = writeln!(io::stderr(), "egressway: {e}");
            None
        }
    }
}

fn show_all(args: &Args, records: &Records, out: &mut dyn Write) -> Result<ExitCode, BoxedError> {
    let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    let wanted = records
        .list
        .iter()
        .filter(|r| is(&args.namespace, &r.namespace) && is(&args.pod, &r.pod));
    let state = StateDir::new(&args.state_dir);
    let kernel = Kernel::read(&mut Nft::open()?, &state, wanted.clone())?;
    let mut list = List::new(wanted, &kernel, &users(&records.list));
    list.add_known(&state, agent(args).as_ref());
    let filtered = args.namespace.is_some() || args.pod.is_some();
    let nothing = list.attachments.is_empty();
    match args.output {
        Output::Text | Output::Wide if nothing => {
            let such = if filtered { "no such pod" } else { "no pod" };
            let dir = output::shown(&args.state_dir);
            let _ = writeln!(
                io::stderr(),
                "egressway: {such} is attached on this node, by {dir}"
            );
        }
        Output::Text => {
            let text = list.text(output::colour(), output::terminal_width());
            out.write_all(text.as_bytes())?;
        }
        Output::Wide => out.write_all(list.wide(output::colour()).as_bytes())?,
        Output::Json => json(args, &list, out)?,
    }
    Ok(if nothing && (filtered || !records.unreadable.is_empty()) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn json(args: &Args, value: &impl Serialize, out: &mut dyn Write) -> Result<(), BoxedError> {
    if args.watch.is_some() {
        serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    } else {
        serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    }
    writeln!(out)?;
    Ok(())
}

/// What ADD put into the kernel for this attachment, save the base that all have.
fn nft_text(record: &Record) -> Result<String, Error> {
    let policy = record
        .policy
        .rebuild()
        .map_err(|faults| Error::OtherVersion {
            name: record.title(),
            faults,
        })?;
    let plan = AttachmentPlan::from(record);
    let mut ops = plan::compile(&policy, record.log_group).add();
    if let Some(bridge) = &plan.bridge {
        ops.append(bridge.add());
    }
    ops.append(plan.add());
    Ok(ops.to_string())
}
