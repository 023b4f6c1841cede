//! STATUS

use std::time::Instant;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 999, always.
pub fn status(_: &Invocation, _: &Conf, _: Instant) -> Result<(), CniError> {
    Err(CniError::internal("STATUS: not built yet"))
}
