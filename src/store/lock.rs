//! Locks: empty files, locked with flock(2) by whoever is at work on what they stand for.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::files::{self, failed, rewriting};
use super::{StateDir, StateError, escaped};

/// How long to wait before a lock is tried again.
const POLL: Duration = Duration::from_millis(5);

/// A lock, held until dropped, or until the process ends: closing the file gives it back.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// A lock whose file is removed before it is given back.
#[derive(Debug)]
pub struct Passing {
    path: PathBuf,
    _lock: Lock,
}

impl Drop for Passing {
    fn drop(&mut self) {
        files::remove(&self.path)
            .map(drop)
            .unwrap_or_else(|e| tracing::warn!("{e}"));
    }
}

impl StateDir {
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

    /// Takes the lock called `name`, whose file goes with it: for names that are many, and soon forgotten.
    ///
    /// # Errors
    /// [`StateError::Locked`] if it isn't free before `deadline`.
    pub fn lock_passing(&self, name: &str, deadline: Instant) -> Result<Passing, StateError> {
        let path = self.root.join("locks").join(escaped(name));
        loop {
            let lock = self.lock_file(&path, deadline)?;
            if is_at(&lock.file, &path) {
                return Ok(Passing { path, _lock: lock });
            }
        }
    }

    /// The rest of the names of those passing locks that begin like this and that somebody holds. The files of those who
    /// were killed are removed.
    pub fn passing(&self, beginning: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("locks"));
        let entries = entries.into_iter().flatten().flatten();
        let held = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(beginning)?.to_owned();
            let file = File::open(entry.path()).ok()?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &entry.path()) => {
                    let removed = files::remove(&entry.path()).map(drop);
                    removed.unwrap_or_else(|e| tracing::warn!("{e}"));
                    None
                }
                Ok(()) => None,
                Err(_) => Some(rest),
            }
        });
        held.collect()
    }

    fn lock_file(&self, path: &Path, deadline: Instant) -> Result<Lock, StateError> {
        let open = || {
            rewriting(0o600)
                .truncate(false)
                .open(path)
                .map_err(failed("open", path))
        };
        lock(self.in_its_directory(path, open)?, path, deadline)
    }
}

/// Whether this is still the file of that name: whoever had its lock may have removed it, and others lock the next one.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |file: fs::Metadata| (file.dev(), file.ino());
    let own = file.metadata().map(number);
    let there = fs::metadata(path).map(number);
    own.is_ok_and(|own| there.is_ok_and(|there| there == own))
}

fn lock(file: File, path: &Path, deadline: Instant) -> Result<Lock, StateError> {
    loop {
        // Never waiting in flock(2) itself: nothing but a signal could end that at the deadline.
        match file.try_lock() {
            Ok(()) => return Ok(Lock { file }),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(StateError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(e)) => return Err(failed("lock", path)(e).into()),
        }
        thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now())));
    }
}
