//! The state directory: who each attachment is, which attachment a link belongs to, and the locks.
//!
//! ```text
//! attachments/ID.json   one attachment's record
//! attachments/ID.KEY    its rules: another name of policies/KEY
//! policies/KEY          the rules of all attachments whose policy is the same
//! links/NAME            the ids of the attachments that the host's interface NAME has carried, as long as
//!                       their chains may hang there; the last one carries it
//! namespaces/NAME.json  what the Kubernetes API last said of a namespace
//! whole.json            up to which state of the kernel the parts that pods share were whole
//! lock, locks/NAME      empty files, locked with flock(2)
//! ```
//!
//! It lives on a tmpfs, as long as the kernel's state does. So nothing is synced to a disk; what
//! matters is that no reader ever sees half a file.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::refusal::CniError;

mod id;
mod notes;
mod policies;
mod snapshots;
mod tidy;
mod whole;

pub use id::{AttachmentId, NotAnId, attachment_id};
pub use policies::PolicyKey;
pub use tidy::remove_file;

/// What went wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused: no space, read-only, no permission, not a directory, ...
    #[error("state directory: cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `write`.
        operation: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is there, but what it says can't be read.
    #[error("state directory: {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version of this program wrote it, with a meaning that this one can't know.
    #[error(
        "state directory: {} was written by a newer version of egressway (layout {layout}, this one knows {known}): use that version", path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        layout: u32,
        /// The newest layout that this version knows.
        known: u32,
    },
    /// Somebody else held a lock until the deadline.
    #[error("state directory: {} is still locked by another call of egressway", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
}

impl From<StateError> for CniError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io { .. } | StateError::Damaged { .. } | StateError::Newer { .. } => {
                CniError::io(error.to_string())
            }
            StateError::Locked { .. } => CniError::try_again(error.to_string()),
        }
    }
}

/// Adds to an I/O error what was being done, to which path.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// How long to wait before a lock is tried again.
const POLL: Duration = Duration::from_millis(5);

/// A lock, held until dropped, or until the process ends: closing the file gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
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

    /// Takes the lock of the whole directory.
    ///
    /// # Errors
    /// [`StateError::Locked`] if it isn't free before `deadline`.
    pub fn lock(&self, deadline: Instant) -> Result<Lock, StateError> {
        self.lock_file(&self.root.join("lock"), deadline)
    }

    /// Takes the lock called `name`, such as `egress-203.0.113.10`. It is independent of
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Locked`] if it isn't free before `deadline`.
    pub fn lock_named(&self, name: &str, deadline: Instant) -> Result<Lock, StateError> {
        let path = self.root.join("locks").join(escaped(name));
        self.lock_file(&path, deadline)
    }

    fn lock_file(&self, path: &Path, deadline: Instant) -> Result<Lock, StateError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        lock(self.open(path, path, &options, "open")?, path, deadline)
    }

    /// Writes an attachment's record in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// [`StateError::Io`]; then the old record, if any, is untouched.
    pub fn write_attachment<T: Serialize>(
        &self,
        id: &AttachmentId,
        record: &T,
    ) -> Result<(), StateError> {
        self.write_json(&self.attachment_path(id), record)
    }

    /// Reads an attachment's record; none if there is none.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if it is there but isn't a whole `T`.
    pub fn read_attachment<T: DeserializeOwned>(
        &self,
        id: &AttachmentId,
    ) -> Result<Option<T>, StateError> {
        decode(&self.attachment_path(id))
    }

    /// Removes an attachment's record, if there is one.
    pub fn remove_attachment(&self, id: &AttachmentId) -> Result<(), StateError> {
        remove(&self.attachment_path(id))
    }

    /// The ids of all records, in order. Files that are no record are left out.
    pub fn list_attachments(&self) -> Result<Vec<AttachmentId>, StateError> {
        let mut ids: Vec<AttachmentId> = list(&self.root.join("attachments"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Writes who uses an egress address, in one step.
    pub fn write_egress<T: Serialize>(&self, address: IpAddr, owner: &T) -> Result<(), StateError> {
        self.write_json(&self.egress_path(address), owner)
    }

    /// Reads who uses an egress address; none if nobody does.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if the file is there but isn't a whole `T`.
    pub fn read_egress<T: DeserializeOwned>(
        &self,
        address: IpAddr,
    ) -> Result<Option<T>, StateError> {
        decode(&self.egress_path(address))
    }

    /// Forgets who uses an egress address.
    pub fn remove_egress(&self, address: IpAddr) -> Result<(), StateError> {
        remove(&self.egress_path(address))
    }

    /// The egress addresses of which something is known, in order.
    pub fn list_egress(&self) -> Result<Vec<IpAddr>, StateError> {
        let mut addresses: Vec<IpAddr> = list(&self.root.join("egress"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    fn egress_path(&self, address: IpAddr) -> PathBuf {
        self.root.join("egress").join(format!("{address}.json"))
    }

    /// The file of an attachment's record, whether or not there is one.
    pub fn attachment_path(&self, id: &AttachmentId) -> PathBuf {
        self.root.join("attachments").join(format!("{id}.json"))
    }

    /// Records name pods and their policies: nobody but root reads them.
    fn create(&self, dir: &Path) -> Result<(), StateError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(failed("create", dir))
    }

    /// Opens `path`, and makes its directory first if there is none. A failure is said to be that of
    /// doing `operation` to `name`.
    fn open(
        &self,
        path: &Path,
        name: &Path,
        options: &OpenOptions,
        operation: &'static str,
    ) -> Result<File, StateError> {
        match options.open(path) {
            // Nearly always it is there: to ask first would cost more than to open.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                self.create(path.parent().unwrap_or(&self.root))?;
                options.open(path).map_err(failed(operation, name))
            }
            opened => opened.map_err(failed(operation, name)),
        }
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StateError> {
        self.write(path, &encoded(path, value)?)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        // In the same directory: a rename works inside one file system only. Its name follows from
        // the file's, so that what a killed process leaves is overwritten, or removed with the file.
        let new = unfinished(path);
        let written = self
            .open(&new, path, &replacing(), "write")
            .and_then(|mut file| file.write_all(bytes).map_err(failed("write", path)))
            .and_then(|()| fs::rename(&new, path).map_err(failed("replace", path)));
        if written.is_err() {
            let _ = fs::remove_file(&new); // the failure itself is what matters
        }
        written
    }
}

/// The names of a directory's `.json` files, without that ending.
fn list(dir: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", dir))?.file_name();
        names.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .map(str::to_owned),
        );
    }
    Ok(names)
}

/// How a file is opened that is written anew from its beginning.
fn replacing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

fn encoded<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|e| failed("encode", path)(io::Error::other(e)))
}

/// Reads a JSON file; none if there is none.
fn decode<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(StateError::Damaged {
            path: path.to_owned(),
            reason: e.to_string(),
        }),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Where a file is written before it takes its name.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsStr::new(tidy::UNFINISHED).to_owned();
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<(), StateError> {
    for path in [unfinished(path).as_path(), path] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", path)(e)),
            _ => {}
        }
    }
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

fn lock(file: File, path: &Path, deadline: Instant) -> Result<Lock, StateError> {
    loop {
        // Never waiting in flock(2) itself: nothing but a signal could end that at the deadline.
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(StateError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => return Err(failed("lock", path)(e)),
        }
        thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now())));
    }
}

#[cfg(test)]
mod tests;
