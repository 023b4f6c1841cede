//! An attachment's identity.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An attachment's identity: 16 lower-case hex digits, in file names and in the kernel's names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachmentId(String);

/// The id of an attachment: the first 16 hex digits of SHA-256 over network, NUL, container ID,
/// NUL, interface. None of the three can contain a NUL.
pub fn attachment_id(network: &str, container_id: &str, ifname: &str) -> AttachmentId {
    let hash = Sha256::digest([network, container_id, ifname].join("\0"));
    AttachmentId(hash[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

impl AttachmentId {
    /// The 16 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no attachment's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an attachment's id has 16 hex digits in lower case")]
pub struct NotAnId;

impl FromStr for AttachmentId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 16 && text.as_bytes().iter().all(is_digit) {
            Ok(AttachmentId(text.to_owned()))
        } else {
            Err(NotAnId)
        }
    }
}

impl TryFrom<String> for AttachmentId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<AttachmentId> for String {
    fn from(id: AttachmentId) -> Self {
        id.0
    }
}
