//! CHECK

use std::time::Instant;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 999, always.
pub fn check(_: &Invocation, _: &Conf, _: Instant) -> Result<(), CniError> {
    Err(CniError::internal("CHECK: not built yet"))
}
