//! What is known of the kernel's state, of which nothing must be lost but time if it is lost.

use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StateDir, StateError, decode, encoded, failed, replacing};

impl StateDir {
    /// Writes what is known to be whole. To be called under [`StateDir::lock`].
    ///
    /// In place, which costs half of a new file and a new name: nobody reads it without the lock, and
    /// what a killed call has written of it is [`StateError::Damaged`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_whole<T: Serialize>(&self, whole: &T) -> Result<(), StateError> {
        let path = self.root.join("whole.json");
        let json = encoded(&path, whole)?;
        let mut file = self.open(&path, &path, &replacing(), "write")?;
        file.write_all(&json).map_err(failed("write", &path))
    }

    /// What was known to be whole; none if nothing was.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if the file isn't a whole `T`.
    pub fn read_whole<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        decode(&self.root.join("whole.json"))
    }
}
