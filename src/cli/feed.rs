//! Where log lines come from: the agent, which reads the groups and hands them to everybody, or the kernel, where there
//! is none.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::stream::Error;
use crate::verdicts::client::{self, Begin, Client, Wanted};
use netlink::nflog;

/// Asks the agent. None: none answers, or one of another group than what was asked for.
pub(super) fn agent(
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
            "the agent's lines reach back {kept}s only; what came before may be in its own log (kubectl logs)"
        ));
    }
}

/// Why nothing can be read, if a group is read by somebody and an agent does not answer.
pub(super) fn explain(nflog: nflog::Error, agent: Option<client::Error>) -> Error {
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
