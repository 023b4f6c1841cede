//! The one reader of both NFLOG groups, on a thread of its own: it waits for nothing but the kernel.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netlink::nflog::Lost;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::denials::Denials;
use super::hub::{Hub, Reading};
use crate::names::Resolver;
use crate::verdicts::reader::{Reader, Workload};
use crate::verdicts::ring::Entry;
use crate::verdicts::stream::{self, Groups};

/// How long until groups are asked for again that somebody else reads: an agent that this one replaces, say.
const AGAIN: Duration = Duration::from_millis(100);

/// What the thread needs to know.
pub struct Reads {
    /// Of enforced rules; the next one is that of all others.
    pub group: u16,
    /// It knows the pods.
    pub state_dir: PathBuf,
    /// This node's name.
    pub node: Option<String>,
    /// What made a pod.
    pub workload: Workload,
}

/// Starts the thread, in the network namespace of the caller.
///
/// # Errors
/// The system gives none.
pub fn start(hub: Hub, denials: Denials, reads: Reads, resolver: Arc<Resolver>) -> io::Result<()> {
    let builder = thread::Builder::new().name("nflog".to_owned());
    builder
        .spawn(move || stay(&hub, &denials, reads, resolver))
        .map(drop)
}

fn stay(hub: &Hub, denials: &Denials, reads: Reads, resolver: Arc<Resolver>) {
    let naming = move |pod, destination| resolver.naming(pod, destination);
    let mut reader =
        Reader::in_cluster(&reads.state_dir, reads.node, reads.workload).naming(Box::new(naming));
    let mut before = Lost::default();
    loop {
        let failed = match stream::bind(reads.group) {
            Ok(mut groups) => {
                let tells_original = groups.tells_original();
                if hub.set_reading(Reading::Now { tells_original }) {
                    tracing::info!(group = reads.group, "verdicts are read");
                }
                let failed = read(hub, denials, &mut reader, &mut groups, before);
                before = before + groups.lost();
                before.more = true; // what comes until they are read again
                failed
            }
            Err(e) => e.to_string(),
        };
        if hub.set_reading(Reading::Not(failed.clone())) {
            tracing::warn!("no verdicts are read, trying again: {failed}");
        }
        thread::sleep(AGAIN);
    }
}

/// Reads until that fails.
fn read(
    hub: &Hub,
    denials: &Denials,
    reader: &mut Reader,
    groups: &mut Groups,
    before: Lost,
) -> String {
    let mut told = before;
    loop {
        if let Err(errno) = wait(groups.fds()) {
            return format!("cannot wait for log messages: {errno}");
        }
        let messages = match groups.receive() {
            Ok(messages) => messages,
            Err(e) => return e.to_string(),
        };
        let lost = before + groups.lost();
        // Records are there before rules are: whoever sent these is known now.
        reader.refresh();
        let mut entries = Vec::with_capacity(messages.len());
        for logged in messages {
            let Some(line) = reader.line(&logged) else {
                continue; // somebody else's
            };
            hub.counts().line(line.verdict);
            denials.see(&line);
            entries.push(Entry {
                line: line.json().into_bytes().into(),
                ether_type: logged.hw_protocol,
                packet: logged.payload.into(),
            });
        }
        if !entries.is_empty() || lost != told {
            told = lost;
            hub.push(entries, lost);
        }
    }
}

fn wait(fds: [BorrowedFd<'_>; 2]) -> Result<(), Errno> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
