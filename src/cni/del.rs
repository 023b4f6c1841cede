//! DEL

use std::time::Instant;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 999, always.
pub fn del(_: &Invocation, _: &Conf, _: Instant) -> Result<(), CniError> {
    Err(CniError::internal("DEL: not built yet"))
}
