//! What can go wrong between a program and the kernel.

use std::io;

use super::check::Invalid;

/// Something that could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A transaction that no kernel would take was not sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The kernel refused one step; nothing of the transaction is left.
    #[error("the kernel refused `{operation}`: {errno}{}", hint(.errno))]
    Refused {
        /// The step as nft text, the first 300 characters.
        operation: String,
        /// Why.
        errno: io::Error,
    },
    /// The transaction as a whole was refused, at its commit; nothing of it is left.
    #[error("the kernel refused the transaction: {errno}{}", hint(.errno))]
    Commit {
        /// Why.
        errno: io::Error,
    },
    /// The kernel's answer was lost: it is not known whether it took the transaction.
    #[error("the kernel did not confirm the transaction")]
    Unconfirmed,
    /// A system call on the socket failed.
    #[error("cannot {operation} the nf_tables netlink socket: {errno}")]
    Socket {
        /// What was done to it: `open`, `bind`, `write to`, ...
        operation: &'static str,
        /// Why.
        #[source]
        errno: io::Error,
    },
    /// A question was answered by an error other than "there is no such thing".
    #[error("cannot query {object}: {errno}{}", hint(.errno))]
    Query {
        /// What was asked for: `chain inet filter input`.
        object: String,
        /// Why.
        errno: io::Error,
    },
}

/// What an error comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something that a step names is not there (`ENOENT`): the table, the chain of a rule or the
    /// target of a jump, the set of a lookup, an element to delete.
    NotFound,
    /// It is there already, and is another (`EEXIST`): a set of other flags, an element that leads
    /// elsewhere or overlaps; or it is there at all, for [`create`](super::Transaction::create).
    AlreadyExists,
    /// Something still refers to what shall be deleted (`EBUSY`).
    Busy,
    /// The ruleset is not what it was at the generation that
    /// [`commit_at`](super::Nft::commit_at) was given (`ERESTART`), or kept changing while it was
    /// read (`EAGAIN`, `EINTR`).
    Changed,
    /// It is not known whether the transaction was taken.
    Unknown,
    /// `CAP_NET_ADMIN` is missing (`EPERM`, `EACCES`).
    NotPermitted,
    /// The kernel lacks it (`EOPNOTSUPP`, `EAFNOSUPPORT`, `EPROTONOSUPPORT`).
    Unsupported,
    /// Something else.
    Other,
}

impl Error {
    /// The error's kind.
    pub fn kind(&self) -> ErrorKind {
        if matches!(self, Error::Unconfirmed) {
            return ErrorKind::Unknown;
        }
        match self.errno() {
            Some(libc::ENOENT) => ErrorKind::NotFound,
            Some(libc::EEXIST) => ErrorKind::AlreadyExists,
            Some(libc::EBUSY) => ErrorKind::Busy,
            Some(libc::ERESTART | libc::EAGAIN | libc::EINTR) => ErrorKind::Changed,
            Some(libc::EPERM | libc::EACCES) => ErrorKind::NotPermitted,
            Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => {
                ErrorKind::Unsupported
            }
            _ => ErrorKind::Other,
        }
    }

    /// Something that a step names is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Something is there already, and is another.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == ErrorKind::AlreadyExists
    }

    /// Somebody else changed what had just been looked at, or it is not known whether the kernel took
    /// the transaction: to look again and retry helps. A caller that does not look before it commits
    /// wants [`kind`](Self::kind).
    pub fn is_conflict(&self) -> bool {
        use ErrorKind::{AlreadyExists, Busy, Changed, NotFound, Unknown};
        matches!(
            self.kind(),
            NotFound | AlreadyExists | Busy | Changed | Unknown
        )
    }

    /// The kernel's answer as it is.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { errno, .. } | Error::Commit { errno } | Error::Query { errno, .. } => {
                errno.raw_os_error()
            }
            _ => None,
        }
    }
}

fn hint(errno: &io::Error) -> &'static str {
    match errno.raw_os_error() {
        Some(libc::EPERM) => " (CAP_NET_ADMIN is needed in this network namespace)",
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => {
            " (this kernel lacks a part of nf_tables that is needed)"
        }
        Some(libc::ERESTART) => " (somebody changed the ruleset since that generation)",
        _ => "",
    }
}
