//! What is known of the kernel's state, of which nothing must be lost but time if it is lost.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StateDir, StateError, decode};

impl StateDir {
    /// Writes what is known to be whole, in one step. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_whole<T: Serialize>(&self, whole: &T) -> Result<(), StateError> {
        self.write_json(&self.root.join("whole.json"), whole)
    }

    /// What was known to be whole; none if nothing was.
    ///
    /// # Errors
    /// [`StateError::Damaged`] if the file isn't a whole `T`.
    pub fn read_whole<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        decode(&self.root.join("whole.json"))
    }
}
