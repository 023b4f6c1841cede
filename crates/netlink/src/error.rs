//! What can go wrong between this program and the kernel.

use std::{io, path::PathBuf};

/// An operation of this module that failed. The text names the operation and its object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path of a network namespace leads nowhere: the container has gone.
    #[error("no such network namespace: {}", path.display())]
    NoSuchNetns {
        /// As given by the caller.
        path: PathBuf,
    },
    /// The path is something else: a file left behind by an unmount, another kind of namespace.
    #[error("not a network namespace: {}", path.display())]
    NotANetns {
        /// As given by the caller.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {operation}: {cause}")]
    System {
        /// What was being done, to which object.
        operation: String,
        /// The errno.
        cause: io::Error,
    },
    /// The kernel answered a netlink request with an error.
    #[error("cannot {operation}: {cause}{}", in_brackets(detail))]
    Refused {
        /// What was being done, to which object.
        operation: String,
        /// The errno.
        cause: io::Error,
        /// The kernel's own words (NLMSGERR_ATTR_MSG), if it gave any.
        detail: Option<String>,
    },
    /// The deadline came first.
    #[error("cannot {operation}: no time left")]
    Timeout {
        /// What was being done, to which object.
        operation: String,
    },
    /// A table changed each time it was read, so that no consistent answer exists.
    #[error("cannot {operation}: it keeps changing; try again")]
    Unstable {
        /// What was being done, to which object.
        operation: String,
    },
    /// The kernel's answer is not what the protocol says.
    #[error("cannot {operation}: malformed answer from the kernel: {what}")]
    Malformed {
        /// What was being done, to which object.
        operation: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// The errno behind the error, if there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::System { cause, .. } | Error::Refused { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }

    /// Whether it is one of these errnos: those by which the kernel says that something isn't
    /// there, or is there already.
    pub(super) fn is_any_of(&self, errnos: &[i32]) -> bool {
        self.errno().is_some_and(|errno| errnos.contains(&errno))
    }

    pub(super) fn system(operation: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Error::System {
            operation: operation.into(),
            cause: cause.into(),
        }
    }

    pub(super) fn malformed(operation: impl Into<String>, what: impl ToString) -> Self {
        Error::Malformed {
            operation: operation.into(),
            what: what.to_string(),
        }
    }
}

fn in_brackets(detail: &Option<String>) -> String {
    match detail {
        Some(text) => format!(" ({text})"),
        None => String::new(),
    }
}
