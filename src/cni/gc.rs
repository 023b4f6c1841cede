//! GC

use std::time::Instant;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 999, always.
pub fn gc(_: &Invocation, _: &Conf, _: Instant) -> Result<(), CniError> {
    Err(CniError::internal("GC: not built yet"))
}
