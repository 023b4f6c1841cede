//! What is known of the kernel's state, of which nothing must be lost but time if it is lost.

use std::collections::BTreeSet;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::document::{Document, Unknown};
use super::files::{failed, rewriting};
use super::{StateDir, StateError, encode};

/// Which of the parts that pods share were as they should be, in one state of the kernel's ruleset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The number that the kernel gives that state.
    pub generation: u32,
    /// Device and inode of the network namespace whose number that is; zeros if that is not known.
    pub netns: (u64, u64),
    /// The parts, by their names in the kernel.
    pub parts: BTreeSet<String>,
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Document for Verified {
    const VERSION: u32 = 1;
}

impl StateDir {
    /// Writes what is known. To be called under [`StateDir::lock`].
    ///
    /// In place, which costs half of a new file and a new name: nobody reads it without the lock, and
    /// what a killed call has written of it is [`StateError::Damaged`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_verified(&self, verified: &Verified) -> Result<(), StateError> {
        let path = self.root.join("whole.json");
        let json = encode(&path, verified)?;
        let open = || rewriting(0o600).open(&path).map_err(failed("write", &path));
        let mut file = self.in_its_directory(&path, open)?;
        Ok(file.write_all(&json).map_err(failed("write", &path))?)
    }

    /// What was known; none if nothing was.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_verified(&self) -> Result<Option<Verified>, StateError> {
        self.read(&self.root.join("whole.json"))
    }
}
