//! What is done about packets whose checksum the kernel would write behind the rules: of an attachment, and
//! of this kernel. Of the latter nothing must be lost but time if it is lost.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::{StateDir, StateError};

/// What is done for an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum Guard {
    /// Such packets are dropped, by a filter at the veth.
    Drop {
        /// Which program it is, in hex.
        tag: String,
    },
    /// The pod's kernel writes all checksums itself, before anybody looks at the packet.
    #[serde(rename_all = "camelCase")]
    Resolve {
        /// Where the pod's end of the veth is.
        netns: PathBuf,
        /// Whether joining of packets was switched on at the host's side, to regain some throughput.
        joining: bool,
        /// Why it is not [`Guard::Drop`], which was asked for.
        reason: Option<String>,
    },
    /// Nothing.
    Ignore,
}

/// Why this kernel can't have the program, as the log was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardFallback {
    /// As [`GuardProgram::boot`].
    pub boot: String,
    /// What is missing.
    pub reason: String,
}

impl Document for GuardFallback {
    const VERSION: u32 = 1;
}

/// Which program the kernel has, and from what it was made. It is replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardProgram<L, R> {
    /// The number that the kernel makes at each start: another kernel, or the same one anew, has no such
    /// program.
    pub boot: String,
    /// Where the kernel has what the program reads.
    pub layout: L,
    /// How it reads a packet.
    pub reading: R,
    /// Of which instructions it consists.
    pub code: u64,
    /// The kernel's number of it.
    pub id: u32,
    /// The kernel's tag of it.
    pub tag: String,
}

impl<L, R> Document for GuardProgram<L, R>
where
    L: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    const VERSION: u32 = 1;
}

/// The directory of the documents.
pub(super) const FOLDER: &str = "guard";

impl StateDir {
    /// Writes which program the kernel has.
    ///
    /// # Errors
    /// [`StateError::Io`]; [`StateError::OtherVersion`]: what is there is another version's.
    pub fn write_guard_program<L, R>(&self, program: &GuardProgram<L, R>) -> Result<(), StateError>
    where
        L: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        match self.read_guard_program::<L, R>() {
            Err(e) if e.is_other_version() => Err(e),
            _ => self.write(&self.guard_path(), program),
        }
    }

    /// Which program the kernel has; none if nobody said so.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_guard_program<L, R>(&self) -> Result<Option<GuardProgram<L, R>>, StateError>
    where
        L: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.read(&self.guard_path())
    }

    /// Writes what the log was told.
    ///
    /// # Errors
    /// [`StateError::Io`]; [`StateError::OtherVersion`]: what is there is another version's.
    pub fn write_guard_fallback(&self, fallback: &GuardFallback) -> Result<(), StateError> {
        match self.read_guard_fallback() {
            Err(e) if e.is_other_version() => Err(e),
            _ => self.write(&self.fallback_path(), fallback),
        }
    }

    /// What the log was told; none if nothing.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_guard_fallback(&self) -> Result<Option<GuardFallback>, StateError> {
        self.read(&self.fallback_path())
    }

    fn fallback_path(&self) -> PathBuf {
        self.root.join(FOLDER).join("fallback.json")
    }

    fn guard_path(&self) -> PathBuf {
        self.root.join(FOLDER).join("program.json")
    }
}
