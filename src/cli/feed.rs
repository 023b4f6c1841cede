//! Where log lines come from: the agent, which reads the groups and hands them to everybody, or the kernel, where there
//! is none.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::output::shown;
use super::stream::Error;
use crate::verdicts::client::{self, Begin, Client, Wanted};
use crate::verdicts::stream::Groups;
use crate::verdicts::wire;
use netlink::nflog::{self, Lost};

/// Where messages come from: from the agent, or as `K` takes them from the kernel.
pub(super) enum Source<K> {
    Kernel(Box<K>),
    Agent(Client),
}

impl<K: AsRef<Groups>> Source<K> {
    /// Asks the agent first. `group`: only an agent that reads this one; `bind`: where there is none.
    ///
    /// # Errors
    /// Neither can be read, or what only an agent has is wanted and there is none.
    pub(super) fn open(
        state_dir: &Path,
        group: Option<u16>,
        wanted: Wanted,
        bind: impl FnOnce() -> Result<K, nflog::Error>,
    ) -> Result<Self, Error> {
        let unreachable = match agent(state_dir, group, wanted) {
            Ok(Some(client)) => return Ok(Source::Agent(client)),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        if wanted.since.is_some() {
            let none = || Error::NoHistory {
                socket: shown(&wire::socket(state_dir)),
            };
            return Err(unreachable.map_or_else(none, Error::Agent));
        }
        match bind() {
            Ok(kernel) => Ok(Source::Kernel(Box::new(kernel))),
            Err(e) => Err(explain(e, unreachable)),
        }
    }

    pub(super) fn lost(&self) -> Lost {
        match self {
            Source::Kernel(kernel) => (**kernel).as_ref().lost(),
            Source::Agent(client) => client.lost(),
        }
    }

    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        match self {
            Source::Kernel(kernel) => (**kernel).as_ref().fds(),
            Source::Agent(client) => [client.fd(), client.fd()],
        }
    }

    /// When to look again although nothing can be read.
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Source::Kernel(_) => None,
            Source::Agent(client) => client.due(),
        }
    }
}

/// Asks the agent. None: none answers, or one of another group than what was asked for.
fn agent(
    state_dir: &Path,
    group: Option<u16>,
    wanted: Wanted,
) -> Result<Option<Client>, client::Error> {
    match Client::open(state_dir, wanted) {
        Ok(client) if group.is_none_or(|group| group == client.begin().group) => {
            tell(client.begin(), wanted.since);
            Ok(Some(client))
        }
        Ok(_) => Ok(None),
        Err(e) if e.is_absence() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Tells on stderr what the agent can't give.
fn tell(begin: &Begin, since: Option<Duration>) {
    let say = |text: &str| drop(writeln!(io::stderr(), "egressway: {text}"));
    if let Some(why) = &begin.not_reading {
        say(&format!("the agent reads no verdicts at present: {why}"));
    }
    if since.is_some_and(|since| since > begin.reaches_back) {
        let kept = begin.reaches_back.as_secs();
        say(&format!(
            "the agent keeps the lines of the last {kept}s only; older ones may be in its own log (kubectl logs)"
        ));
    }
}

/// Why nothing can be read, if a group is read by somebody and an agent does not answer.
fn explain(nflog: nflog::Error, agent: Option<client::Error>) -> Error {
    match (nflog, agent) {
        (nflog, Some(agent)) => Error::Both { nflog, agent },
        (nflog, None) => Error::Nflog(nflog),
    }
}

/// Tells that the agent has ended.
pub(super) fn tell_gone() {
    let _ = writeln!(
        io::stderr(),
        "egressway: the agent has ended: waiting for the next one, lines may be lost meanwhile"
    );
}

/// The earlier of both.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
