//! DEL: the attachment goes.

use std::time::Instant;

use super::Invocation;
use crate::conf::Conf;
use crate::lifecycle::detach;
use crate::refusal::CniError;
use crate::store::{self, StateDir};

/// # Errors
/// As [`detach::remove`].
pub fn del(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    let id = store::attachment_id(&conf.name, &call.container_id, &call.ifname);
    detach::remove(&state, &id, deadline)
}
