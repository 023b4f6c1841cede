//! How every document of the state directory is written and read: as a JSON object with its version.
//!
//! The plugin and the agent of a node may be of different versions for a while, older or newer than each
//! other. So that neither loses or misreads what the other wrote:
//!
//! - The meaning of a version never changes. A field may be added without a new one only if it stays
//!   true when a program that does not know it carries it along, or leaves it out of what it writes anew.
//! - Whoever changes a part of a document writes the rest as it was, with the fields that it does not
//!   know: each such type has an [`Unknown`] for them.
//! - Anything else is a new version. A release reads it before the next one writes it, and still reads
//!   the one before: so each works beside its predecessor and its successor.
//! - A document of a version that is not read is left alone. It is neither replaced nor removed, but by
//!   the ADD or DEL of the very attachment that it is about; errors name it, and everything else works.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned {
    /// The version that this program writes.
    const VERSION: u32;
    /// The versions that it reads, all of them as the same type.
    const READS: RangeInclusive<u32> = Self::VERSION..=Self::VERSION;
}

/// The fields of a document, or of a part of it, that a newer program has added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unknown(Map<String, Value>);

/// Why the bytes of a file are no document of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Nobody wrote that: it was cut short, or somebody has edited it. With the reason.
    Damaged(String),
    /// It has another version, or none: another program, or a stranger, wrote it.
    OtherVersion(Option<u64>),
}

/// The bytes of a document.
///
/// # Errors
/// A map whose keys are no text, which no document has.
pub fn encode<D: Document>(document: &D) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Versioned<'a, D> {
        version: u32,
        #[serde(flatten)]
        document: &'a D,
    }
    serde_json::to_vec(&Versioned {
        version: D::VERSION,
        document,
    })
}

/// Reads a document.
///
/// # Errors
/// See [`Unreadable`].
pub fn decode<D: Document>(bytes: &[u8]) -> Result<D, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned<D> {
        version: u32,
        #[serde(flatten)]
        document: D,
    }
    match serde_json::from_slice::<Versioned<D>>(bytes) {
        Ok(read) if D::READS.contains(&read.version) => Ok(read.document),
        Ok(read) => Err(Unreadable::OtherVersion(Some(read.version.into()))),
        Err(error) => Err(match version_of(bytes) {
            Some(version) if !is_read::<D>(version) => Unreadable::OtherVersion(version),
            _ => Unreadable::Damaged(error.to_string()),
        }),
    }
}

fn is_read<D: Document>(version: Option<u64>) -> bool {
    let version = version.and_then(|version| u32::try_from(version).ok());
    version.is_some_and(|version| D::READS.contains(&version))
}

/// The version that is said in a document of any kind: an object of JSON that says anything at all.
fn version_of(bytes: &[u8]) -> Option<Option<u64>> {
    let said: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    match said.get("version") {
        Some(version) => version.as_u64().map(Some),
        None => (!said.is_empty()).then_some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
        #[serde(flatten)]
        unknown: Unknown,
    }

    impl Document for Note {
        const VERSION: u32 = 3;
        const READS: RangeInclusive<u32> = 2..=4;
    }

    fn read(value: &Value) -> Result<Note, Unreadable> {
        decode(value.to_string().as_bytes())
    }

    #[test]
    fn what_a_newer_program_has_added_survives() {
        let before = json!({"version": 3, "text": "a", "more": {"deep": [1, null]}, "x": 0.5});
        let mut note = read(&before).expect("readable");
        assert_eq!(note.text, "a");
        note.text = "b".to_owned();
        let after: Value =
            serde_json::from_slice(&encode(&note).expect("JSON")).expect("JSON again");
        let mut expected = before;
        expected["text"] = json!("b");
        assert_eq!(after, expected);
    }

    #[test]
    fn the_versions_before_and_behind_are_read_and_others_are_not() {
        for version in 2..=4 {
            let note = read(&json!({"version": version, "text": "a"})).expect("readable");
            let written: Value =
                serde_json::from_slice(&encode(&note).expect("JSON")).expect("JSON");
            assert_eq!(written, json!({"version": 3, "text": "a"}));
        }
        for version in [0, 1, 5, u64::from(u32::MAX) + 3, u64::MAX] {
            for document in [
                json!({"version": version, "text": "a"}),
                json!({"version": version, "words": []}),
            ] {
                let error = read(&document).expect_err("another version");
                assert_eq!(error, Unreadable::OtherVersion(Some(version)), "{document}");
            }
        }
        let error = read(&json!({"text": "a"})).expect_err("no version");
        assert_eq!(error, Unreadable::OtherVersion(None));
    }

    #[test]
    fn what_nobody_wrote_is_damage() {
        let whole = json!({"version": 3, "text": "a", "more": true}).to_string();
        for end in 0..whole.len() {
            let error = decode::<Note>(&whole.as_bytes()[..end]).expect_err("cut short");
            assert!(matches!(error, Unreadable::Damaged(_)), "{end}: {error:?}");
        }
        for text in [
            "null",
            "[]",
            "{}",
            "3",
            "\u{fffd}",
            r#"{"version":3}"#,
            r#"{"version":"3","text":"a"}"#,
            r#"{"version":-1,"text":"a"}"#,
            r#"{"version":3,"text":1}"#,
        ] {
            let error = decode::<Note>(text.as_bytes()).expect_err("no note");
            assert!(matches!(error, Unreadable::Damaged(_)), "{text}: {error:?}");
        }
    }
}
