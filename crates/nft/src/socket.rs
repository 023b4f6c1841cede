//! The nf_tables netlink socket: one batch is one transaction, all of it or nothing.
//!
//! The kernel works through a batch inside `sendmsg` (`net/netfilter/nfnetlink.c`), so that its
//! answers are there when the call returns, and nothing ever has to be waited for.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::check::brief;
use super::error::Error;
use super::transaction::Transaction;
use super::uapi::*;
use super::wire::{self, Message, Writer};

/// Whether this process has handed the kernel a transaction that is not answered yet.
static IN_TRANSACTION: AtomicBool = AtomicBool::new(false);

/// Whether the kernel is at work on a transaction of this process.
///
/// A node's first one makes it load the modules for each kind of expression, a `modprobe` each. That
/// takes milliseconds, or seconds where starting a program is slow; ending the process ends none of it.
pub fn in_transaction() -> bool {
    IN_TRANSACTION.load(Ordering::Acquire)
}

/// A socket in the network namespace in which it was opened.
pub struct Nft {
    socket: Socket,
    /// For answers. Kept, since the allocator would give so much back to the kernel after each one.
    buffer: Vec<u8>,
    /// The number of the last question: an answer that was lost may come with the next one's.
    asked: u32,
}

impl AsFd for Nft {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Questions are numbered from here on, operations of a transaction from 1.
const FIRST_QUESTION: u32 = 1 << 31;

/// Enough for any answer in one piece (`NLMSG_GOODSIZE` and the kernel's larger dump pages).
const BUFFER: usize = 1 << 16;

impl Nft {
    /// Opens and binds the socket.
    ///
    /// # Errors
    /// The kernel has no nfnetlink, or no file descriptor is left.
    pub fn open() -> Result<Self, Error> {
        let failed = |operation| move |errno| Error::Socket { operation, errno };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed("open"))?;
        socket
            .bind(&SocketAddr::new(0, 0))
            .map_err(failed("bind"))?;
        socket.set_cap_ack(true).map_err(failed("configure"))?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(BUFFER),
            asked: FIRST_QUESTION,
        })
    }

    /// Carries out all steps, or none.
    ///
    /// # Errors
    /// [`Error::Invalid`]: nothing was sent. [`Error::Refused`] names the first step that the kernel
    /// refused.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.commit_at(transaction, None)
    }

    /// Carries out all steps, or none; with a [`generation`](Nft::generation) only if it still is
    /// the kernel's.
    ///
    /// # Errors
    /// As [`commit`](Self::commit). An error that [is a conflict](Error::is_conflict): somebody
    /// changed something since that generation.
    pub fn commit_at(
        &mut self,
        transaction: &Transaction,
        generation: impl Into<Option<u32>>,
    ) -> Result<(), Error> {
        if let Some(fault) = transaction.fault() {
            return Err(fault.clone().into());
        }
        if transaction.is_empty() {
            return Ok(());
        }
        let bytes = batch(transaction, generation.into());
        let failed = |operation| move |errno| Error::Socket { operation, errno };
        // A batch must go in one piece; the default buffer holds about 200 kB.
        if bytes.len() > 100_000 {
            setsockopt(&self.socket, sockopt::SndBufForce, &(bytes.len() * 2))
                .map_err(|e| failed("enlarge")(e.into()))?;
        }
        IN_TRANSACTION.store(true, Ordering::Release);
        let sent = self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0);
        IN_TRANSACTION.store(false, Ordering::Release);
        sent.map_err(failed("write to"))?;
        self.outcome(transaction)
    }

    /// Waits until no packet can still be looking at what was deleted. Closing the socket waits for
    /// it anyway (`nf_tables_trans_destroy_flush_work`), but with the lock held that every other
    /// transaction of the node needs.
    pub fn settle(&self) {
        const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1; // include/uapi/linux/membarrier.h
        // SAFETY: no pointers; the call waits for a grace period and changes nothing. It may be
        // refused, and then the close waits.
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    }

    fn outcome(&mut self, transaction: &Transaction) -> Result<(), Error> {
        let steps = transaction.steps();
        let mut confirmed = false;
        let mut refused: Option<(u32, i32)> = None;
        // What can't be read says nothing of what the kernel did.
        while let Some(bytes) = self.receive_now().map_err(|_| Error::Unconfirmed)? {
            for message in wire::messages(bytes).filter(|m| m.seq < FIRST_QUESTION) {
                let Some(errno) = error_of(&message) else {
                    continue;
                };
                match errno {
                    0 => confirmed |= message.seq as usize == steps.len(),
                    _ => refused = refused.or(Some((message.seq, errno))),
                }
            }
        }
        match refused {
            Some((seq, errno)) => {
                let errno = io::Error::from_raw_os_error(errno);
                match (seq as usize).checked_sub(1).and_then(|n| steps.get(n)) {
                    Some(step) => Err(Error::Refused {
                        operation: brief(step),
                        errno,
                    }),
                    None => Err(Error::Commit { errno }),
                }
            }
            None if confirmed => Ok(()),
            None => Err(Error::Unconfirmed),
        }
    }

    /// What is waiting in the socket, without waiting for more.
    fn receive_now(&mut self) -> Result<Option<&[u8]>, Error> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(Some(&self.buffer)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Too many refusals for the buffer: those that fit are told.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(errno) => {
                    return Err(Error::Socket {
                        operation: "read from",
                        errno,
                    });
                }
            }
        }
    }

    /// Asks for one object or, with `dump`, for all that fit; an empty list if there is none. The
    /// family is [`TableFamily::number`](super::TableFamily::number), or zero for all.
    ///
    /// # Errors
    /// The kernel refuses to tell; "no such object" is not an error.
    pub(super) fn query(
        &mut self,
        object: fmt::Arguments<'_>,
        kind: u16,
        family: u8,
        dump: bool,
        body: impl Fn(&mut Writer),
    ) -> Result<Vec<Vec<u8>>, Error> {
        // A dump that was overtaken by a change is asked for again.
        for _ in 0..100 {
            if let Some(answer) = self.query_once(object, kind, family, dump, &body)? {
                return Ok(answer);
            }
        }
        let errno = io::Error::from_raw_os_error(libc::EINTR);
        Err(Error::Query {
            object: object.to_string(),
            errno,
        })
    }

    fn query_once(
        &mut self,
        object: fmt::Arguments<'_>,
        kind: u16,
        family: u8,
        dump: bool,
        body: &impl Fn(&mut Writer),
    ) -> Result<Option<Vec<Vec<u8>>>, Error> {
        self.asked = self.asked.checked_add(1).unwrap_or(FIRST_QUESTION);
        let asked = self.asked;
        let mut flags = libc::NLM_F_REQUEST as u16;
        if dump {
            flags |= libc::NLM_F_DUMP as u16;
        }
        let mut w = Writer::default();
        w.message(
            NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags,
            asked,
            family,
            0,
            |w| body(w),
        );
        self.socket
            .send_to(&w.bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|errno| Error::Socket {
                operation: "write to",
                errno,
            })?;
        let mut answer = Vec::new();
        let (mut interrupted, mut finished) = (false, false);
        // Dumps, too, are filled in by our own calls: there is never anything to wait for. A dump has
        // an end of its own; otherwise there is one answer, the object or why there is none.
        while !finished && let Some(bytes) = self.receive_now()? {
            for message in wire::messages(bytes).filter(|m| m.seq == asked) {
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match error_of(&message) {
                    None => {
                        answer.push(message.body.to_vec());
                        finished |= !dump;
                    }
                    Some(0 | libc::ENOENT) => finished = true,
                    Some(errno) => {
                        let errno = io::Error::from_raw_os_error(errno);
                        return Err(Error::Query {
                            object: object.to_string(),
                            errno,
                        });
                    }
                }
            }
        }
        // Every question has an end to its answer. Without it some of it was lost, for want of
        // memory: to take that for "there is none" would forget what there is.
        Ok((finished && !interrupted).then_some(answer))
    }
}

/// `BATCH_BEGIN`, the steps (each one's sequence number is its place, from 1), `BATCH_END`.
/// The last step asks for an answer, as proof of the commit.
fn batch(transaction: &Transaction, generation: Option<u32>) -> Vec<u8> {
    let mut w = Writer::default();
    let request = libc::NLM_F_REQUEST as u16;
    w.message(
        NFNL_MSG_BATCH_BEGIN,
        request,
        0,
        0,
        NFNL_SUBSYS_NFTABLES,
        |w| {
            if let Some(generation) = generation {
                w.be32(NFNL_BATCH_GENID, generation);
            }
        },
    );
    let steps = transaction.steps();
    for (n, step) in steps.iter().enumerate() {
        let start = w.bytes.len();
        step.encode(&mut w, n as u32 + 1);
        if n + 1 == steps.len() {
            let flags = u16::from_ne_bytes([w.bytes[start + 6], w.bytes[start + 7]])
                | libc::NLM_F_ACK as u16;
            w.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
    }
    w.message(
        NFNL_MSG_BATCH_END,
        request,
        0,
        0,
        NFNL_SUBSYS_NFTABLES,
        |_| {},
    );
    w.bytes
}

/// The errno (positive) of an `NLMSG_ERROR` or `NLMSG_DONE`; 0 is an acknowledgement.
fn error_of(message: &Message<'_>) -> Option<i32> {
    if !matches!(
        i32::from(message.kind),
        libc::NLMSG_ERROR | libc::NLMSG_DONE
    ) {
        return None;
    }
    let code = wire::u32_at(message.body, 0).unwrap_or(0) as i32;
    Some(code.saturating_neg())
}
