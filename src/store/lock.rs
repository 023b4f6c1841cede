//! Locks: empty files, locked with flock(2) by whoever is at work on what they stand for.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::files::{failed, rewriting};
use super::{StateDir, StateError, escaped};

/// How long to wait before a lock is tried again.
const POLL: Duration = Duration::from_millis(5);

/// A lock, held until dropped, or until the process ends: closing the file gives it back.
#[derive(Debug)]
pub struct Lock {
    _file: File,
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
            Err(TryLockError::Error(e)) => return Err(failed("lock", path)(e).into()),
        }
        thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now())));
    }
}
