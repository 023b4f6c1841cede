//! Both groups' messages as lines, as they come.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::plan::log_group_of_others as others;
use netlink::nflog::{Error, Logged, Lost, Nflog};

use super::line::Line;
use super::loss::{Loss, Told};
use super::reader::Reader;

/// How long the kernel may take to hand over the group.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes both groups over, for those who want their packets as they are.
///
/// # Errors
/// Another process reads one of them, or this one may not.
pub fn bind(group: u16) -> Result<Groups, Error> {
    let bind = |group| Nflog::bind(group, Instant::now() + BIND_TIMEOUT);
    Ok(Groups([bind(group)?, bind(others(group))?]))
}

/// The group of enforced rules and that of all others, each with a backlog of its own: however much the one
/// gets, nothing of the other is lost.
#[derive(Debug)]
pub struct Groups([Nflog; 2]);

impl Groups {
    /// Takes what is there, enforced rules' first; nothing if there is nothing.
    ///
    /// # Errors
    /// The kernel's, of reading the sockets.
    pub fn receive(&mut self) -> Result<Vec<Logged>, Error> {
        let [enforced, others] = &mut self.0;
        let mut messages = enforced.receive()?;
        messages.extend(others.receive()?);
        Ok(messages)
    }

    /// What has been lost so far.
    pub fn lost(&self) -> Lost {
        let [enforced, others] = self.0.each_ref().map(Nflog::lost);
        enforced + others
    }

    /// Readable when there are messages: one of them, or both.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        self.0.each_ref().map(AsFd::as_fd)
    }

    /// Whether messages tell where packets went before translation.
    pub fn tells_original(&self) -> bool {
        self.0.iter().all(Nflog::tells_original)
    }
}

impl AsRef<Groups> for Groups {
    fn as_ref(&self) -> &Groups {
        self
    }
}

impl AsRef<Groups> for Stream {
    fn as_ref(&self) -> &Groups {
        &self.nflog
    }
}

/// The only reader of both groups, in the network namespace of their rules.
#[derive(Debug)]
pub struct Stream {
    nflog: Groups,
    reader: Reader,
    told: Told,
}

/// What came at once, in this order.
#[derive(Debug)]
pub struct Received {
    /// What was lost before; at most once a second.
    pub loss: Option<Loss>,
    /// Of packets that rules of this program logged.
    pub lines: Vec<Line>,
}

impl Stream {
    /// Takes both groups over. `state_dir` is the conflist's, which knows the pods.
    ///
    /// # Errors
    /// Another process reads one of them, or this one may not.
    pub fn open(group: u16, state_dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            nflog: bind(group)?,
            reader: Reader::new(state_dir),
            told: Told::default(),
        })
    }

    /// Whether messages tell where packets went before translation.
    pub fn tells_original(&self) -> bool {
        self.nflog.tells_original()
    }

    /// Takes what is there; nothing if there is nothing.
    ///
    /// # Errors
    /// The kernel's, of reading the socket.
    pub fn receive(&mut self) -> Result<Received, Error> {
        let messages = self.nflog.receive()?;
        let loss = self.told.due(self.nflog.lost());
        // Records are there before rules are: whoever sent these is known now.
        self.reader.refresh();
        let lines = messages
            .iter()
            .filter_map(|message| self.reader.line(message));
        Ok(Received {
            loss,
            lines: lines.collect(),
        })
    }

    /// What was lost and not told yet, for the end.
    pub fn rest(&mut self) -> Option<Loss> {
        self.told.next(self.nflog.lost())
    }

    /// For tests of what is lost.
    #[cfg(test)]
    pub(crate) fn shrink_backlog(&self) {
        self.nflog.0.iter().for_each(Nflog::shrink_backlog);
    }
}

/// Whoever stays on a node reads on a thread of its own.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Stream>();
};
