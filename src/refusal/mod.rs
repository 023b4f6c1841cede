//! What the outside is told when something can't be done: the CNI spec's codes and ours, as one JSON
//! object on stdout. It stands on the ground: every room's error is mapped to a code here or by the room
//! itself, and no room asks the ones above it for that.

mod failure;
pub mod version;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

pub use failure::{net_failure, nft_failure};
use version::CniVersion;

/// Error codes: 0 to 99 are the CNI spec's, 100 and up are this plugin's, 999 is libcni's.
pub mod code {
    /// The configuration's `cniVersion` is not one that this plugin (or this verb) speaks.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A `CNI_*` variable is missing or invalid.
    pub const ENVIRONMENT: u32 = 4;
    /// Reading or writing failed: stdin, the state directory.
    pub const IO: u32 = 5;
    /// stdin is not JSON.
    pub const DECODING: u32 = 6;
    /// The configuration is JSON, but says something invalid.
    pub const INVALID_CONFIG: u32 = 7;
    /// `CNI_NETNS` is not a usable network namespace. In libcni, not in the spec's table.
    pub const INVALID_NETNS: u32 = 8;
    /// The same call can succeed later.
    pub const TRY_AGAIN: u32 = 11;
    /// STATUS: no ADD can be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// A policy's text is invalid.
    pub const POLICY: u32 = 100;
    /// This pod's traffic can't be enforced on this node.
    pub const UNENFORCEABLE: u32 = 101;
    /// The namespace's egress IP can't be had.
    pub const EGRESS_IP: u32 = 102;
    /// The kernel refused.
    pub const KERNEL: u32 = 103;
    /// A defect of this plugin.
    pub const INTERNAL: u32 = 999;
}

/// Runtimes copy these texts into events and logs. A policy error shows a line of the policy, which
/// may be long; more than this helps nobody.
const MAX_TEXT: usize = 4096;

/// How many bytes of a hostile value an error message shows.
const MAX_QUOTED: usize = 64;

/// One failed call, as the runtime is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// One of [`code`].
    pub code: u32,
    /// What was being done, to which object, and what to change. A pod's owner reads it.
    pub msg: String,
    /// More for the operator; may be empty.
    pub details: String,
}

impl CniError {
    /// An error with `code` (one of [`code`]) and no details.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        CniError {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with `details`.
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// [`code::INCOMPATIBLE_VERSION`]
    pub fn incompatible_version(msg: impl Into<String>) -> Self {
        Self::new(code::INCOMPATIBLE_VERSION, msg)
    }

    /// [`code::ENVIRONMENT`]
    pub fn environment(msg: impl Into<String>) -> Self {
        Self::new(code::ENVIRONMENT, msg)
    }

    /// [`code::IO`]
    pub fn io(msg: impl Into<String>) -> Self {
        Self::new(code::IO, msg)
    }

    /// [`code::DECODING`]
    pub fn decoding(msg: impl Into<String>) -> Self {
        Self::new(code::DECODING, msg)
    }

    /// [`code::INVALID_CONFIG`]
    pub fn invalid_config(msg: impl Into<String>) -> Self {
        Self::new(code::INVALID_CONFIG, msg)
    }

    /// [`code::INVALID_NETNS`]
    pub fn invalid_netns(msg: impl Into<String>) -> Self {
        Self::new(code::INVALID_NETNS, msg)
    }

    /// [`code::TRY_AGAIN`]
    pub fn try_again(msg: impl Into<String>) -> Self {
        Self::new(code::TRY_AGAIN, msg)
    }

    /// [`code::NOT_AVAILABLE`]
    pub fn not_available(msg: impl Into<String>) -> Self {
        Self::new(code::NOT_AVAILABLE, msg)
    }

    /// [`code::POLICY`]
    pub fn policy(msg: impl Into<String>) -> Self {
        Self::new(code::POLICY, msg)
    }

    /// [`code::UNENFORCEABLE`]
    pub fn unenforceable(msg: impl Into<String>) -> Self {
        Self::new(code::UNENFORCEABLE, msg)
    }

    /// [`code::EGRESS_IP`]
    pub fn egress_ip(msg: impl Into<String>) -> Self {
        Self::new(code::EGRESS_IP, msg)
    }

    /// [`code::KERNEL`]
    pub fn kernel(msg: impl Into<String>) -> Self {
        Self::new(code::KERNEL, msg)
    }

    /// [`code::INTERNAL`]
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, msg)
    }

    /// The spec's error object, one line, with a newline at its end.
    ///
    /// `version` is the configuration's, or [`CniVersion::CURRENT`] if that isn't known.
    pub fn to_json(&self, version: CniVersion) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ErrorDocument<'a> {
            cni_version: &'a str,
            code: u32,
            msg: String,
            #[serde(skip_serializing_if = "String::is_empty")]
            details: String,
        }
        let document = ErrorDocument {
            cni_version: version.as_str(),
            code: self.code,
            msg: capped(&self.msg),
            details: capped(&self.details),
        };
        // Strings and a number always serialize; should that ever change, the code still gets out.
        let mut json = serde_json::to_vec(&document)
            .unwrap_or_else(|_| format!(r#"{{"code":{}}}"#, self.code).into_bytes());
        json.push(b'\n');
        json
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}

/// `text`, or its beginning and a note of how much is left out.
fn capped(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    format!("{}... ({} more bytes)", &text[..end], text.len() - end)
}

/// A value from outside, in quotes: control characters and bytes that are not UTF-8 escaped, and
/// only its beginning if it is long.
pub fn quoted(value: impl AsRef<OsStr>) -> String {
    let value = value.as_ref();
    if value.len() <= MAX_QUOTED {
        return format!("{value:?}");
    }
    let start = OsStr::from_bytes(&value.as_bytes()[..MAX_QUOTED]);
    format!("{start:?}... ({} bytes)", value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(error: &CniError) -> serde_json::Value {
        let json = error.to_json(CniVersion::V0_4_0);
        assert_eq!(json.iter().filter(|b| **b == b'\n').count(), 1);
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn json_has_the_spec_keys() {
        let error = CniError::environment("a \"quoted\"\nmsg").with_details("more");
        assert_eq!(
            parsed(&error),
            serde_json::json!({"cniVersion": "0.4.0", "code": 4, "msg": "a \"quoted\"\nmsg", "details": "more"})
        );
        assert!(parsed(&CniError::io("x")).get("details").is_none());
    }

    #[test]
    fn a_huge_message_is_cut_and_says_so() {
        let error = CniError::policy("é".repeat(1 << 20)).with_details("x".repeat(5000));
        let json = parsed(&error);
        let msg = json["msg"].as_str().unwrap();
        assert!(msg.len() < MAX_TEXT + 40, "{}", msg.len());
        assert!(msg.ends_with("é... (2093056 more bytes)"), "{msg}");
        assert!(
            json["details"]
                .as_str()
                .unwrap()
                .ends_with("(904 more bytes)")
        );
    }

    #[test]
    fn quoted_values_are_escaped_and_short() {
        assert_eq!(quoted("eth0"), r#""eth0""#);
        assert_eq!(quoted("a\nb\u{1b}[31m"), r#""a\nb\u{1b}[31m""#);
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff")), r#""a\xFF""#);
        let long = quoted("x".repeat(100_000));
        assert!(
            long.len() < 100 && long.ends_with("(100000 bytes)"),
            "{long}"
        );
    }
}
