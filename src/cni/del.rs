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
    let id = call.who(conf).id();
    let was_added = state.has_attachment(&id);
    detach::remove(&state, &ByLeases, &id, deadline)?;
    if !was_added && !call.netns.as_os_str().is_empty() {
        // Its ADD was refused, but a pod that started beside it may have covered its port.
        let uncovered = detach::uncover_port(&state, &call.netns, &call.ifname, deadline);
        uncovered.unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    Ok(())
}
