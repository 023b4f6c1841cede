//! `FOLDER/NAME.json`: what was read elsewhere, kept for when it can't be read.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answers::ApiAnswer;
use super::document::Document;
use super::{StateDir, StateError, escaped, files, remove};

/// How long to wait for another call that writes one. That takes no time.
const PATIENCE: Duration = Duration::from_secs(1);

/// One answer of the API. It is replaced as a whole by the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot<T> {
    /// By this node's clock.
    pub read_at: Timestamp,
    /// What it said.
    pub said: T,
}

impl<T: ApiAnswer> Document for Snapshot<T> {
    const VERSION: u32 = 1;
}

impl StateDir {
    /// Writes a snapshot in one step, in place of the one before.
    ///
    /// # Errors
    /// The system refuses; then the one before may still be there. [`StateError::OtherVersion`]: what is
    /// there is another version's.
    pub fn write_snapshot<T: ApiAnswer>(
        &self,
        name: &str,
        snapshot: &Snapshot<T>,
    ) -> Result<(), StateError> {
        // Two pods of one namespace may start at once, and both write.
        let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
        let path = self.snapshot_path::<T>(name);
        match self.read::<Snapshot<T>>(&path) {
            Err(e) if e.is_other_version() => Err(e),
            _ => self.write(&path, snapshot),
        }
    }

    /// Reads a snapshot; none if there is none.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_snapshot<T: ApiAnswer>(
        &self,
        name: &str,
    ) -> Result<Option<Snapshot<T>>, StateError> {
        self.read(&self.snapshot_path::<T>(name))
    }

    /// Removes a snapshot, if there is one and it is not another version's.
    ///
    /// # Errors
    /// The system refuses; [`StateError::OtherVersion`].
    pub fn remove_snapshot<T: ApiAnswer>(&self, name: &str) -> Result<(), StateError> {
        let path = self.snapshot_path::<T>(name);
        if !path.exists() {
            return Ok(());
        }
        let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
        match self.read::<Snapshot<T>>(&path) {
            Err(e) if e.is_other_version() => Err(e),
            _ => remove(&path),
        }
    }

    /// Removes the snapshots of one kind that were written longer than `max_age` ago.
    ///
    /// # Errors
    /// The system refuses.
    pub fn prune_snapshots<T: ApiAnswer>(&self, max_age: Duration) -> Result<(), StateError> {
        for path in files::list(&self.root.join(T::FOLDER))? {
            let age = fs::metadata(&path)
                .and_then(|file| file.modified())
                .map(|modified| modified.elapsed());
            // An unknown age: it has just gone, or the clock was changed.
            if let Ok(Ok(age)) = age
                && age > max_age
            {
                let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
                let read = self.read::<Snapshot<T>>(&path);
                if !read.is_err_and(|e| e.is_other_version()) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn snapshot_path<T: ApiAnswer>(&self, name: &str) -> PathBuf {
        self.root
            .join(T::FOLDER)
            .join(format!("{}.json", escaped(name)))
    }
}
