//! GC: removes the attachments of this network that the runtime no longer knows, and what the kernel
//! holds for nobody.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::lifecycle::ByLeases;
use crate::lifecycle::detach;
use crate::lifecycle::reconcile::{self, Did};
use crate::store::{self, AttachmentId, Record, StateDir};
use netlink::Rtnl;

use super::Invocation;
use crate::conf::Conf;
use crate::conf::ValidAttachments;
use crate::refusal::CniError;
use crate::refusal::net_failure;

/// Without a list of valid attachments only those go whose interface on the host is gone: to take a
/// call without a list for an empty list would open the node.
///
/// # Errors
/// What could not be removed, after everything else was.
pub fn gc(_: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    let mut failures = Vec::new();
    for id in state.list_attachments()? {
        match is_garbage(&state, conf, &id, deadline) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(%id, "removing a stale attachment");
                if let Err(e) = detach::remove(&state, &ByLeases, &id, deadline) {
                    failures.push(format!("{id}: {}", e.msg));
                }
            }
            Err(e) => failures.push(format!("{id}: {}", e.msg)),
        }
    }
    // What has no record is nobody's, whatever the network.
    match reconcile::remove_orphans(&state, &ByLeases) {
        Ok(report) => {
            let failed = report.changes.into_iter().filter(|c| c.did == Did::Failed);
            failures.extend(failed.map(|c| format!("{}: {}", c.what, c.why)));
        }
        Err(e) => failures.push(e.to_string()),
    }
    match &failures[..] {
        [] => Ok(()),
        failures => Err(CniError::try_again(format!(
            "some things could not be removed: {}",
            failures.join("; ")
        ))),
    }
}

fn is_garbage(
    state: &StateDir,
    conf: &Conf,
    id: &AttachmentId,
    deadline: Instant,
) -> Result<bool, CniError> {
    let record = match Record::read_alone(state, id) {
        Err(e) if e.is_other_version() => {
            tracing::warn!("{e}");
            return Ok(false);
        }
        read => read?,
    };
    let Some(record) = record else {
        return Ok(false); // it went meanwhile
    };
    if record.network != conf.name {
        return Ok(false);
    }
    match &conf.valid_attachments {
        ValidAttachments::Listed(list) => {
            let valid: BTreeSet<AttachmentId> = list
                .iter()
                .map(|a| store::attachment_id(&conf.name, &a.container_id, &a.ifname))
                .collect();
            Ok(!valid.contains(id))
        }
        ValidAttachments::Absent => {
            let failed = |e| net_failure("look for the attachment's interface", e);
            let mut rtnl = Rtnl::open(deadline).map_err(failed)?;
            detach::interface_is_gone(&record, &mut rtnl).map_err(failed)
        }
    }
}
