//! Against packets that are written after they were judged.
//!
//! A pod with a packet socket, or a guest behind a tap, may leave a packet's checksum to the kernel and
//! say himself which two bytes that is: a port, an address, the protocol. The kernel writes them behind
//! every hook of netfilter ([`program`] says when). No rule can see it, so it is stopped ahead of all
//! rules, at the host's side of the veth:
//!
//! ```text
//! btf ── program::Layout ── program::assemble ── asm     pure
//!               │
//!            kernel::program   bpf(2); its number is kept in the state directory
//!               │
//!            Guard::put        clsact and a classifier at the veth (drop),
//!                              or no checksum offload at the pod's end (resolve)
//! ```

mod asm;
pub mod btf;
mod filter;
mod kernel;
pub mod program;
mod resolve;
pub mod trial;

use std::str::FromStr;

pub use crate::store::Guard;
use crate::store::StateDir;
use netlink::link::{self, Link};
use netlink::{Netns, Rtnl};

pub use filter::is_own;
pub use kernel::Unavailable;

/// What the conflist's `forgedChecksums` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Packets that nothing but an attempt explains are dropped; where the kernel can't, as
    /// [`Mode::Resolve`].
    #[default]
    Drop,
    /// The pod's kernel writes all checksums before anybody looks at the packet, and nobody later. Large
    /// TCP packets are cut there, too, which costs more than half of the throughput.
    Resolve,
    /// Nothing is done: for nodes whose pods have no NET_RAW and no guests.
    Ignore,
}

impl Mode {
    /// What a conflist may say.
    pub const WORDS: &str = "drop, resolve or ignore";

    /// As the conflist has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Drop => "drop",
            Mode::Resolve => "resolve",
            Mode::Ignore => "ignore",
        }
    }
}

/// None of [`Mode::WORDS`].
#[derive(Debug, thiserror::Error)]
#[error("expected {}", Mode::WORDS)]
pub struct NoMode;

impl FromStr for Mode {
    type Err = NoMode;

    fn from_str(word: &str) -> Result<Self, NoMode> {
        let all = [Mode::Drop, Mode::Resolve, Mode::Ignore];
        let mut all = all.into_iter();
        all.find(|mode| mode.as_str() == word).ok_or(NoMode)
    }
}

/// What it means that a node has [`Mode::Resolve`] in place of [`Mode::Drop`].
pub fn fallback(reason: &str) -> String {
    format!(
        "packets with forged checksums cannot be dropped on this node: {reason}. Instead the pods' kernel writes all checksums (TX checksum offload off), which costs more than half of a pod's TCP throughput"
    )
}

/// Why the guard can't be put, looked at or taken away.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error(
        "a filter of kind {kind} at the ingress of {veth} has preference 1: the one that drops packets with forged checksums could not be the first"
    )]
    NotFirst { veth: String, kind: String },
    #[error("{netns} is not the network namespace of the pod at {veth} any more")]
    NotThere { netns: String, veth: String },
    #[error("there is no veth of index {index} any more")]
    NoVeth { index: u32 },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Net(#[from] netlink::Error),
}

/// The veth of a pod, and its other end.
pub struct Ends<'a> {
    /// The host's side, in the calling thread's namespace.
    pub veth: &'a Link,
    /// Where the pod's end is.
    pub netns: &'a Netns,
}

impl Guard {
    /// Puts the guard at a veth, whatever guard is there by now. `before` is what the attachment's last
    /// ADD has put.
    ///
    /// # Errors
    /// Then nothing new is left.
    pub fn put(
        mode: Mode,
        state: &StateDir,
        rtnl: &mut Rtnl,
        place: &Ends<'_>,
        before: Option<&Guard>,
    ) -> Result<Guard, Error> {
        let guard = match mode {
            Mode::Drop => match filter::put(state, rtnl, place.veth) {
                Ok(tag) => Guard::Drop {
                    tag: tag.to_string(),
                },
                Err(Error::Unavailable(why)) => {
                    let why = why.to_string();
                    kernel::tell_once(state, &why);
                    resolve::put(rtnl, place, Some(why), before)?
                }
                Err(e) => return Err(e),
            },
            Mode::Resolve => resolve::put(rtnl, place, None, before)?,
            Mode::Ignore => Guard::Ignore,
        };
        // What an earlier ADD has put for another setting.
        if !matches!(guard, Guard::Drop { .. }) {
            filter::remove(rtnl, place.veth.index)?;
        }
        if let Some(Guard::Resolve { joining, .. }) = before
            && !matches!(guard, Guard::Resolve { .. })
        {
            resolve::remove(rtnl, place, *joining)?;
        }
        Ok(guard)
    }

    /// What asks for it.
    pub fn mode(&self) -> Mode {
        match self {
            Guard::Drop { .. }
            | Guard::Resolve {
                reason: Some(_), ..
            } => Mode::Drop,
            Guard::Resolve { reason: None, .. } => Mode::Resolve,
            Guard::Ignore => Mode::Ignore,
        }
    }

    /// What of it is missing at the veth of that index, in words; nothing if it is whole.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verify(&self, rtnl: &mut Rtnl, veth: u32) -> Result<Option<String>, Error> {
        match self {
            Guard::Drop { tag } => filter::verify(rtnl, veth, tag),
            Guard::Resolve { netns, .. } => resolve::verify(rtnl, veth, netns),
            Guard::Ignore => Ok(None),
        }
    }

    /// Puts back what somebody has taken away. Returns what is there then.
    ///
    /// # Errors
    /// It can't be had by now.
    pub fn restore(&self, state: &StateDir, rtnl: &mut Rtnl, veth: u32) -> Result<Guard, Error> {
        let missing = || Error::NoVeth { index: veth };
        let link = link::get_by_index(rtnl, veth)?.ok_or_else(missing)?;
        match self {
            Guard::Drop { .. } => {
                let tag = filter::put(state, rtnl, &link)?.to_string();
                Ok(Guard::Drop { tag })
            }
            Guard::Resolve { netns, reason, .. } => {
                let netns = resolve::netns_of(rtnl, &link, netns)?;
                let place = Ends {
                    veth: &link,
                    netns: &netns,
                };
                resolve::put(rtnl, &place, reason.clone(), Some(self))
            }
            Guard::Ignore => Ok(Guard::Ignore),
        }
    }

    /// Leaves the veth as it was before.
    ///
    /// # Errors
    /// The kernel refuses. A link that is gone is none.
    pub fn remove(&self, rtnl: &mut Rtnl, veth: u32) -> Result<(), Error> {
        match self {
            Guard::Drop { .. } => Ok(filter::remove(rtnl, veth)?),
            Guard::Resolve { netns, joining, .. } => resolve::undo(rtnl, veth, netns, *joining),
            Guard::Ignore => Ok(()),
        }
    }
}

#[cfg(test)]
mod mutants;
#[cfg(test)]
mod tests;
