//! Brings what a record says into the kernel: the record first, then one transaction.

use super::node::Node;
use super::owners;
use crate::enforce::{self, Install, Ledger, Shared};
use crate::plan::{AttachmentPlan, Bridge, INET, NETDEV};
use crate::refusal::CniError;
use crate::refusal::{net_failure, nft_failure};
use crate::store::{AttachmentId, PolicyKey, Record, StateDir, StateError};
use netlink::{conntrack, link};

/// Record, then kernel: whoever finds the one without the other knows which was not finished. A
/// repeated ADD that fails leaves what the first one made, and its record. An address that another pod
/// holds is refused (code 11).
///
/// `before`: the record that a first ADD of the same attachment has left.
pub(crate) fn install(
    node: &mut Node<'_>,
    id: &AttachmentId,
    record: &Record<PolicyKey>,
    before: Option<&Record<PolicyKey>>,
    shared: &Shared<'_>,
) -> Result<(), CniError> {
    let (state, veth) = (node.state, &record.veth);
    let plan = AttachmentPlan::from(record);
    let mut ledger = Ledger::open(state, node.nft).map_err(nft_failure)?;
    let is_there = |node: &mut Node<'_>| node.nft.has_set(&INET, shared.marker);
    let is_known = ledger.has(shared.marker) || is_there(node).map_err(nft_failure)?;
    let others = owners::others(node, record, is_known)?;
    if let Some(holder) = others.holder {
        return Err(holder.refusal());
    }
    let bridge_ports = match &plan.bridge {
        Some(bridge) => ports_to_cover(node, bridge)?,
        None => Vec::new(),
    };
    let written = state
        .write_attachment(id, record)
        .and_then(|()| state.set_link(veth, id));
    let put = |previous: Option<Vec<AttachmentId>>| {
        let previous = match previous {
            Some(previous) => previous,
            None => enforce::attachments_at(node.nft, veth).map_err(nft_failure)?,
        };
        let install = Install {
            attachment: &plan,
            shared,
            before: before.map(|record| record.policy_chain.as_str()),
            bridge_ports: &bridge_ports,
            previous: &previous,
        };
        install.commit(node.nft, &mut ledger).map(|()| previous)
    };
    let previous = written.map_err(CniError::from).and_then(put);
    let previous = previous.inspect_err(|_| {
        let undone = undo(state, id, record, before);
        undone.unwrap_or_else(|e| tracing::warn!("{e}"));
    })?;
    if let Some(before) = before.filter(|before| before.veth != *veth) {
        let forgotten = state.remove_link(&before.veth, id);
        forgotten.unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    if !previous.is_empty() {
        let settled = state.settle_link(veth, id);
        settled.unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    if others.any {
        // The address is another pod's now: its old connections must not be taken for this one's.
        if let Err(e) = conntrack::delete_of(&record.addresses, node.deadline) {
            tracing::warn!("old connections of a reused address may remain: {e}");
        }
    }
    Ok(())
}

/// The state directory as it was before.
fn undo(
    state: &StateDir,
    id: &AttachmentId,
    record: &Record<PolicyKey>,
    before: Option<&Record<PolicyKey>>,
) -> Result<(), StateError> {
    if let Some(before) = before {
        return state.write_attachment(id, before);
    }
    state.remove_link(&record.veth, id)?;
    state.remove_attachment(id)
}

/// The other ports of a bridge that none of our pods was on so far. Pins the bridge's MAC, to which
/// the pods' packets will be sent: by itself it changes with the ports.
fn ports_to_cover(node: &mut Node<'_>, bridge: &Bridge) -> Result<Vec<String>, CniError> {
    let covered = node.nft.chain(&NETDEV, &bridge.chain());
    if covered.map_err(nft_failure)?.is_some() {
        return Ok(Vec::new());
    }
    let failed = |e| net_failure("prepare the pod's bridge", e);
    link::set_mac(node.rtnl, bridge.index, bridge.mac).map_err(failed)?;
    let ports = link::ports_of(node.rtnl, bridge.index).map_err(failed)?;
    Ok(ports.into_iter().map(|port| port.name).collect())
}
