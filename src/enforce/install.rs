//! ADD's transaction.

use crate::nft::{self, Family, Nft, Op, Table};
use crate::plan::attachment::{nd_chain, veth_chain};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled, base};

use super::verify::{damaged_base, damaged_policy};
use super::{commit, delete_elements, owner_of};

/// What an ADD puts into the kernel.
pub struct Install<'a> {
    /// What both tables hold for all pods.
    pub base: &'a Base,
    /// The pod's policy, which others may share.
    pub policy: &'a Compiled,
    /// What is the attachment's own.
    pub attachment: &'a AttachmentPlan,
    /// The other ports of the attachment's bridge, to be covered when it is the bridge's first.
    pub bridge_ports: &'a [String],
    /// An older attachment that had a veth of the same name.
    pub previous: Option<&'a str>,
}

impl Install<'_> {
    /// Makes the kernel enforce the plan. Replaces what is left of an earlier ADD of the same
    /// attachment, and takes addresses over from whoever had them.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed.
    pub fn commit(&self, nft: &mut Nft) -> Result<(), nft::Error> {
        commit(nft, |nft| self.operations(nft))
    }

    /// The transaction for the kernel as it is now.
    fn operations(&self, nft: &mut Nft) -> Result<Vec<Op>, nft::Error> {
        let mut ops = Vec::new();
        // Later pods rely on what earlier ones put there, and a name alone does not say that it is
        // whole: `nft flush table` leaves chains without rules. There are few, whatever the policy.
        if !nft.has_set(Table::Inet, self.base.marker())?
            || !nft.has_set(Table::Netdev, base::bridged(Family::V6))?
            || damaged_base(nft, self.base)?.is_some()
        {
            let sets = nft.sets(Table::Inet)?;
            ops.extend(self.base.add(&self.base.outdated(&sets)));
        }
        if let Some(previous) = self.previous {
            self.clear_previous(nft, previous, &mut ops)?;
        }
        self.clear_own(nft, &mut ops)?;
        self.clear_addresses(nft, &mut ops)?;
        if let Some(bridge) = &self.attachment.bridge {
            self.prepare_bridge(nft, bridge, &mut ops)?;
        }
        if damaged_policy(nft, self.policy)?.is_some() {
            for (chain, _) in &self.policy.chains {
                if nft.chain(Table::Inet, chain)?.is_some() {
                    ops.push(Op::FlushChain(Table::Inet, chain.clone()));
                }
            }
            ops.extend(self.policy.add());
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
            ops.push(Op::FlushChain(Table::Inet, plan.pod_chain()));
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
