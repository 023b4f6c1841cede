//! The verbs of the CNI spec.

use std::fmt;

/// The CNI spec's verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named as in the spec
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub(crate) const ALL: [Command; 6] = [
        Command::Add,
        Command::Del,
        Command::Check,
        Command::Gc,
        Command::Status,
        Command::Version,
    ];

    /// As it stands in `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// Whether the verb is about one attachment, so that container and interface must be named.
    pub(crate) const fn needs_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }

    /// Whether the verb can't do without `CNI_NETNS`. DEL can: the namespace may be gone.
    pub(crate) const fn needs_netns(self) -> bool {
        matches!(self, Command::Add | Command::Check)
    }

    /// Whether the reference implementation asks for `CNI_PATH`. We never use it: root doesn't run
    /// what an environment names.
    pub(crate) const fn needs_path(self) -> bool {
        !matches!(self, Command::Version)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
