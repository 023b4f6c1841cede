//! ADD's transaction.

use crate::plan::attachment::{nd_chain, veth_chain};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled};
use crate::store::AttachmentId;
use nft::{self, Nft, Op, Table};

use super::remove::delete_unused_policy;
use super::verify::{damaged_base, damaged_policy, same_rules};
use super::{commit, delete_elements, owner_of};

/// What an ADD puts into the kernel.
pub struct Install<'a> {
    /// What both tables hold for all pods. `None`: it is known to be whole.
    pub base: Option<&'a Base>,
    /// The pod's policy, which others may share. `None`: it is known to be whole.
    pub policy: Option<&'a Compiled>,
    /// The state of the kernel of which that is known.
    pub known_at: Option<u32>,
    /// What is the attachment's own.
    pub attachment: &'a AttachmentPlan,
    /// The other ports of the attachment's bridge, to be covered when it is the bridge's first.
    pub bridge_ports: &'a [String],
    /// Older attachments that had a veth of the same name.
    pub previous: &'a [AttachmentId],
}

impl Install<'_> {
    /// Makes the kernel enforce the plan. Replaces what is left of an earlier ADD of the same
    /// attachment, and takes addresses over from whoever had them.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed. A conflict: what was known holds no more.
    pub fn commit(&self, nft: &mut Nft) -> Result<(), nft::Error> {
        if self.base.is_none() || self.policy.is_none() {
            let ops = self.operations(nft)?;
            return nft.commit_at(&ops, self.known_at);
        }
        commit(nft, |nft| self.operations(nft)).map(drop)
    }

    /// The transaction for the kernel as it is now.
    fn operations(&self, nft: &mut Nft) -> Result<Vec<Op>, nft::Error> {
        let mut ops = Vec::new();
        // Later pods rely on what earlier ones put there, and a name alone does not say that it is
        // whole: `nft flush table` leaves chains without rules, and anybody can delete an element.
        if let Some(base) = self.base
            && damaged_base(nft, base)?.is_some()
        {
            mend_base(nft, base, &mut ops)?;
        }
        for previous in self.previous {
            self.clear_previous(nft, previous.as_str(), &mut ops)?;
        }
        self.clear_own(nft, &mut ops)?;
        self.clear_addresses(nft, &mut ops)?;
        if let Some(bridge) = &self.attachment.bridge {
            self.prepare_bridge(nft, bridge, &mut ops)?;
        }
        if let Some(policy) = self.policy
            && damaged_policy(nft, policy)?.is_some()
        {
            mend_policy(nft, policy, &mut ops)?;
        }
        ops.extend(self.attachment.add());
        Ok(ops)
    }

    /// A netdev chain outlives its device since 6.16, and catches the next one of that name.
    fn clear_previous(&self, nft: &mut Nft, id: &str, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        if id == self.attachment.id {
            return Ok(());
        }
        let chain = veth_chain(id);
        let stale = nft.chain(Table::Netdev, &chain)?;
        if stale.is_some_and(|c| c.device.as_deref() == Some(&self.attachment.veth)) {
            ops.push(Op::DeleteChain(Table::Netdev, chain));
            if nft.chain(Table::Netdev, &nd_chain(id))?.is_some() {
                ops.push(Op::DeleteChain(Table::Netdev, nd_chain(id)));
            }
        }
        Ok(())
    }

    fn clear_own(&self, nft: &mut Nft, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        let plan = self.attachment;
        if nft.chain(Table::Netdev, &plan.veth_chain())?.is_some() {
            ops.push(Op::DeleteChain(Table::Netdev, plan.veth_chain()));
        }
        if nft.chain(Table::Netdev, &plan.nd_chain())?.is_some() {
            ops.push(Op::FlushChain(Table::Netdev, plan.nd_chain()));
        }
        if nft.chain(Table::Inet, &plan.pod_chain())?.is_some() {
            let before = nft.goto_of(Table::Inet, &plan.pod_chain())?;
            ops.push(Op::FlushChain(Table::Inet, plan.pod_chain()));
            if let Some(before) = before
                && before != plan.policy
            {
                delete_unused_policy(nft, &before, ops)?;
            }
        }
        Ok(())
    }

    fn clear_addresses(&self, nft: &mut Nft, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        for address in &self.attachment.addresses {
            if owner_of(nft, *address)?.is_some() {
                delete_elements(nft, *address, ops)?;
            }
        }
        Ok(())
    }

    fn prepare_bridge(
        &self,
        nft: &mut Nft,
        bridge: &Bridge,
        ops: &mut Vec<Op>,
    ) -> Result<(), nft::Error> {
        let own_port = bridge.port_chain(&self.attachment.veth);
        if nft.chain(Table::Netdev, &bridge.chain())?.is_some() {
            if nft.chain(Table::Netdev, &own_port)?.is_some() {
                ops.push(Op::DeleteChain(Table::Netdev, own_port));
            }
            if !same_rules(nft, Table::Netdev, &bridge.chain(), &bridge.rules())? {
                ops.push(Op::FlushChain(Table::Netdev, bridge.chain()));
                ops.extend(bridge.add());
            }
            return Ok(());
        }
        ops.extend(bridge.add());
        for port in self
            .bridge_ports
            .iter()
            .filter(|port| **port != self.attachment.veth)
        {
            ops.extend(bridge.cover_port(port));
        }
        Ok(())
    }
}

/// Empties a set that is there, to be filled anew in the same transaction.
fn flush_set(nft: &mut Nft, set: &str, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
    if nft.has_set(Table::Inet, set)? {
        ops.push(Op::FlushSet(Table::Inet, set.to_owned()));
    }
    Ok(())
}

fn mend_base(nft: &mut Nft, base: &Base, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
    for (set, _) in base.sets() {
        flush_set(nft, set, ops)?;
    }
    for chain in base.chains() {
        // Nothing else of a base chain's hook can be changed but its policy.
        if let (Some(held), Some(hook)) = (nft.chain(chain.table, chain.name)?, chain.hook)
            && !held.is_placed_at(&hook)
        {
            ops.push(Op::DeleteChain(chain.table, chain.name.to_owned()));
        }
    }
    let sets = nft.sets(Table::Inet)?;
    ops.extend(base.add(&base.outdated(&sets)));
    Ok(())
}

/// In place, for other pods' chains lead to it.
fn mend_policy(nft: &mut Nft, policy: &Compiled, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
    for (chain, _) in &policy.chains {
        if nft.chain(Table::Inet, chain)?.is_some() {
            ops.push(Op::FlushChain(Table::Inet, chain.clone()));
        }
    }
    // Not flushed: the kernel takes seconds for that with thousands of concatenated elements.
    for (set, _) in &policy.sets {
        if nft.has_set(Table::Inet, &set.name)? {
            ops.push(Op::DeleteSet(Table::Inet, set.name.clone()));
        }
    }
    ops.extend(policy.add());
    Ok(())
}
