//! `FOLDER/NAME.json`: what was read elsewhere, kept for when it can't be read.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StateDir, StateError, decode, escaped, failed, remove};

/// How long to wait for another call that writes one. That takes no time.
const PATIENCE: Duration = Duration::from_secs(1);

impl StateDir {
    /// Writes a snapshot in one step, whatever was there before.
    ///
    /// # Errors
    /// The system refuses; then the one before may still be there.
    pub fn write_snapshot<T: Serialize>(
        &self,
        folder: &str,
        name: &str,
        value: &T,
    ) -> Result<(), StateError> {
        // Two pods of one namespace may start at once, and both write.
        let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
        self.write_json(&self.snapshot_path(folder, name), value)
    }

    /// Reads a snapshot; none if there is none.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if the file is there but isn't a whole `T`.
    pub fn read_snapshot<T: DeserializeOwned>(
        &self,
        folder: &str,
        name: &str,
    ) -> Result<Option<T>, StateError> {
        decode(&self.snapshot_path(folder, name))
    }

    /// Removes a snapshot, if there is one.
    pub fn remove_snapshot(&self, folder: &str, name: &str) -> Result<(), StateError> {
        let path = self.snapshot_path(folder, name);
        if !path.exists() {
            return Ok(());
        }
        let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
        remove(&path)
    }

    /// Removes the snapshots of `folder` that were written longer than `max_age` ago.
    pub fn prune_snapshots(&self, folder: &str, max_age: Duration) -> Result<(), StateError> {
        let dir = self.root.join(folder);
        for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
            let path = entry.map_err(failed("list", &dir))?.path();
            let age = fs::metadata(&path)
                .and_then(|file| file.modified())
                .map(|modified| modified.elapsed());
            // An unknown age: it has just gone, or the clock was changed.
            if let Ok(Ok(age)) = age
                && age > max_age
            {
                let _lock = self.lock_named("snapshots", Instant::now() + PATIENCE)?;
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn snapshot_path(&self, folder: &str, name: &str) -> PathBuf {
        self.root
            .join(folder)
            .join(format!("{}.json", escaped(name)))
    }
}
