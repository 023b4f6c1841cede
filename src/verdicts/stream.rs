//! A group's messages as lines, as they come.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use netlink::nflog::{Error, Lost, Nflog};

use super::line::Line;
use super::loss::{Loss, Told};
use super::reader::Reader;

/// How long the kernel may take to hand over the group.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes a group over, for those who want its packets as they are.
///
/// # Errors
/// Another process reads it, or this one may not.
pub fn bind(group: u16) -> Result<Nflog, Error> {
    Nflog::bind(group, Instant::now() + BIND_TIMEOUT)
}

/// The only reader of a group, in the network namespace of its rules.
///
/// Its file descriptor is readable when there are messages.
#[derive(Debug)]
pub struct Stream {
    nflog: Nflog,
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
    /// Takes a group over. `state_dir` is the conflist's, which knows the pods.
    ///
    /// # Errors
    /// Another process reads the group, or this one may not.
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

    /// What has been lost so far.
    pub fn lost(&self) -> Lost {
        self.nflog.lost()
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
        self.nflog.shrink_backlog();
    }
}

/// Whoever stays on a node reads on a thread of its own.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Stream>();
};

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.nflog.as_fd()
    }
}
