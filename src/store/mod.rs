//! The state directory: what is known of each attachment, interface and egress address of the node, what
//! was asked of others, and the locks. All its documents have a type and a version here ([`document`]),
//! one reader and one writer.
//!
//! ```text
//! attachments/ID.json    one attachment                                    Record
//! attachments/ID.KEY     its policy: another name of policies/KEY
//! policies/KEY           the policy of all attachments that have the same  PolicyHead, StoredPolicy
//! links/NAME.json        the attachments that the host's interface NAME    LinkEntry
//!                        has carried, as long as their chains may hang
//!                        there; the last one carries it
//! egress/ADDRESS.json    whose egress address, on which device, its users  Owner
//! namespaces/NAME.json   what the Kubernetes API last said: of a           Snapshot
//! services/NAME.json     namespace, of what a name in rules stands for,
//! egress-lists/all.json  of all namespaces' lists of egress addresses
//! names/GROUP.json       which domain names a pair of live sets stands for   NameGroup
//! names.json             what the agent has put into them                 KnownNames
//! whole.json             which parts that pods share were verified, in     Verified
//!                        which state of the kernel
//! guard/program.json     the guard's program in this kernel                GuardProgram
//! guard/fallback.json    why it has none, as the log was told              GuardFallback
//! agent.sock             where the agent answers: no document
//! view/RUN/...           what a run of the agent has heard of the API, for   NodeView
//!                        pods that start, and its sign of life
//! lock, locks/NAME       empty files, locked with flock(2)
//! .new-NAME              beside NAME: a file that is being written
//! ```
//!
//! It lives on a tmpfs, as long as the kernel's state does. So nothing is synced to a disk; what
//! matters is that no reader ever sees half a file.

pub mod document;
pub mod files;

mod answers;
mod egress;
mod guard;
mod id;
mod links;
mod lock;
mod names;
mod policies;
mod record;
mod snapshots;
mod stamp;
mod tidy;
mod verified;
mod view;

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use document::{Document, Unreadable};
use files::{FileError, Outlives, failed};

pub use answers::{ApiAnswer, EgressLists, NamespaceAnswer, PodAnswer, ServiceAnswer};
pub use egress::{Held, Owner};
pub use guard::{Guard, GuardFallback, GuardProgram};
pub use id::{AttachmentId, NotAnId, attachment_id};
pub use links::LinkEntry;
pub use lock::{Lock, Passing};
pub use names::{GroupName, KnownAddress, KnownNames, NameGroup, NotAGroup, RecordNames};
pub use policies::{PolicyHead, PolicyKey};
pub use record::{Bridge, Record};
pub use snapshots::Snapshot;
pub use stamp::Stamp;
pub use tidy::remove_file;
pub use verified::Verified;
pub use view::NodeView;

/// What went wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused: no space, read-only, no permission, not a directory, ...
    #[error("state directory: {0}")]
    Io(#[from] FileError),
    /// A file is there, but what it says can't be read.
    #[error("state directory: {} is damaged: {reason}", rules::fault::shown(path))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program wrote it, or another program. It is left alone.
    #[error("state directory: {} {}; it is left alone", rules::fault::shown(path), written_by(*version, *newest))]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// Its version, if it says one.
        version: Option<u64>,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// Somebody else held a lock until the deadline.
    #[error(
        "state directory: {} is still locked by another call of egressway",
        rules::fault::shown(path)
    )]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
}

fn written_by(version: Option<u64>, newest: u32) -> String {
    match version {
        Some(version) if version > newest.into() => format!(
            "was written by a newer version of egressway (format {version}, this one reads up to {newest}): use that version"
        ),
        Some(version) => {
            format!("was written by an older version of egressway (format {version})")
        }
        None => {
            "has no version: an older version of egressway wrote it, or another program".to_owned()
        }
    }
}

impl StateError {
    /// Whether it is a document that this program must leave alone.
    pub const fn is_other_version(&self) -> bool {
        matches!(self, StateError::OtherVersion { .. })
    }
}

/// The state directory. Reading creates nothing; writing and locking create what is missing.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The state directory at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StateDir { root: root.into() }
    }

    /// Whether the directory exists.
    pub fn exists(&self) -> bool {
        self.root.exists()
    }

    /// Reads a document; none if there is none.
    fn read<D: Document>(&self, path: &Path) -> Result<Option<D>, StateError> {
        match files::read(path)? {
            Some(bytes) => decode(path, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a document in one step: a reader sees the old one or the new one.
    fn write<D: Document>(&self, path: &Path, document: &D) -> Result<(), StateError> {
        self.put(path, &encode(path, document)?)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        self.in_its_directory(path, || {
            files::replace(path, &unfinished(path), bytes, 0o600, Outlives::Process)
        })
    }

    /// Does what creates `path`, and makes its directory first if there is none.
    fn in_its_directory<T>(
        &self,
        path: &Path,
        mut work: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, StateError> {
        use io::ErrorKind::{NotADirectory, NotFound};
        match work() {
            // Nearly always it is there: to ask first would cost more than to open.
            Err(e) if matches!(e.source.kind(), NotFound | NotADirectory) => {
                self.create(path.parent().unwrap_or(&self.root))?;
                Ok(work()?)
            }
            done => Ok(done?),
        }
    }

    /// Records name pods and their policies: nobody but root reads them.
    fn create(&self, dir: &Path) -> Result<(), StateError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        Ok(builder.create(dir).map_err(failed("create", dir))?)
    }

    /// The names of a directory's documents, without their ending.
    fn documents(&self, dir: &str) -> Result<Vec<String>, StateError> {
        let names = files::names(&self.root.join(dir))?;
        let stems = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(stems.map(str::to_owned).collect())
    }
}

fn encode<D: Document>(path: &Path, document: &D) -> Result<Vec<u8>, StateError> {
    let bytes = document::encode(document);
    Ok(bytes.map_err(|e| failed("encode", path)(io::Error::other(e)))?)
}

fn decode<D: Document>(path: &Path, bytes: &[u8]) -> Result<D, StateError> {
    document::decode(bytes).map_err(|unreadable| match unreadable {
        Unreadable::Damaged(reason) => StateError::Damaged {
            path: path.to_owned(),
            reason,
        },
        Unreadable::OtherVersion(version) => StateError::OtherVersion {
            path: path.to_owned(),
            version,
            newest: *D::READS.end(),
        },
    })
}

/// How the name of a file begins that has not got its place yet.
const UNFINISHED: &str = ".new-";

/// Where a file is written before it takes its name, which that follows from: so what a killed process
/// leaves is overwritten, or removed with the file.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsStr::new(UNFINISHED).to_owned();
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Removes a file, and what a killed call has left of it.
fn remove(path: &Path) -> Result<(), StateError> {
    files::remove(&unfinished(path))?;
    files::remove(path)?;
    Ok(())
}

/// A file name for any text, different for different ones: all but ASCII letters, digits, `_` and
/// `-` as `%` and two hex digits.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    OsStr::new(text)
        .as_bytes()
        .iter()
        .copied()
        .map(escape)
        .collect()
}

/// The text of which [`escaped`] made this file name; none if it did not.
fn unescaped(file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = file.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    let text = String::from_utf8(bytes).ok()?;
    (escaped(&text) == file).then_some(text)
}

#[cfg(test)]
mod tests;
