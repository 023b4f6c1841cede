//! Reading JSON key by key, so that an error can name the key and what was expected there.
//!
//! Values stay as they were written ([`RawValue`]) until somebody asks for them: what we don't
//! know is never interpreted, and `prevResult` can be printed back byte for byte.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::refusal::{CniError, quoted};

/// An object's values, uninterpreted. Of a repeated key the last one counts, as in Go.
pub type JsonObject<'a> = BTreeMap<String, &'a RawValue>;

/// The value at `key` of `object`, as a `T`. None if it is absent or null.
///
/// # Errors
/// Code 7, naming `path` (where the key stands in the whole document) and `expected`.
pub fn value<T: DeserializeOwned>(
    object: &JsonObject<'_>,
    key: &str,
    path: &str,
    expected: &str,
) -> Result<Option<T>, CniError> {
    match object.get(key) {
        None => Ok(None),
        Some(raw) => serde_json::from_str(raw.get()).map_err(|_| unexpected(path, expected, raw)),
    }
}

/// As [`value`], for an object.
///
/// # Errors
/// It is something else.
pub fn object<'a>(
    from: &JsonObject<'a>,
    key: &str,
    path: &str,
) -> Result<Option<JsonObject<'a>>, CniError> {
    match from.get(key) {
        None => Ok(None),
        Some(raw) => {
            serde_json::from_str(raw.get()).map_err(|_| unexpected(path, "an object", raw))
        }
    }
}

/// As [`value`], for a list of objects.
///
/// # Errors
/// It is something else, or one of its items is.
pub fn objects<'a>(
    from: &JsonObject<'a>,
    key: &str,
    path: &str,
) -> Result<Option<Vec<JsonObject<'a>>>, CniError> {
    match from.get(key) {
        None => Ok(None),
        Some(raw) => {
            serde_json::from_str(raw.get()).map_err(|_| unexpected(path, "a list of objects", raw))
        }
    }
}

fn unexpected(path: &str, expected: &str, raw: &RawValue) -> CniError {
    invalid(
        path,
        &format!("expected {expected}, got {}", quoted(raw.get())),
    )
}

/// Code 7 for the value at `path`.
pub fn invalid(path: &str, problem: &str) -> CniError {
    CniError::invalid_config(format!("{path}: {problem}"))
}
