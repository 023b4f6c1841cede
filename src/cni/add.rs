//! ADD

use std::time::Instant;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 999, always.
pub fn add(_: &Invocation, _: &Conf, _: Instant) -> Result<(), CniError> {
    Err(CniError::internal("ADD: not built yet"))
}
