//! DEL: the attachment goes.

use std::time::Instant;

use super::Invocation;
use crate::conf::Conf;
use crate::lifecycle::ByLeases;
use crate::lifecycle::detach;
use crate::refusal::CniError;
use crate::store::StateDir;

/// # Errors
/// As [`detach::remove`].
pub fn del(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    detach::remove(&state, &ByLeases, &call.who(conf).id(), deadline)
}
