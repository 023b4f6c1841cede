//! ADD's transaction.

use std::borrow::Cow;

use crate::plan::names::{nd_chain, veth_chain};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled, INET, NETDEV};
use crate::refusal::{CniError, nft_failure};
use crate::store::{AttachmentId, StateDir};
use nft::{self, Chain, Nft, SetName, Transaction};

use super::remove::delete_unused_policy;
use super::verify::{damaged_base, damaged_policy, same_rules};
use super::{Whole, again, delete_elements, owner_of};

/// What pods share, and how to make it, which is done only for what is not known to be in the kernel.
pub struct Shared<'a> {
    /// The base's [`Base::marker`].
    pub marker: &'a str,
    /// What both tables hold for all pods.
    pub base: &'a dyn Fn() -> Result<Cow<'a, Base>, CniError>,
    /// The pod's policy.
    pub policy: &'a dyn Fn() -> Result<Cow<'a, Compiled>, CniError>,
}

/// What an ADD puts into the kernel.
pub struct Install<'a, 's> {
    /// What is the attachment's own.
    pub attachment: &'a AttachmentPlan,
    /// What it leads to.
    pub shared: &'a Shared<'s>,
    /// The policy that it had before, if any.
    pub before: Option<&'a str>,
    /// The other ports of the attachment's bridge, to be covered when it is the bridge's first.
    pub bridge_ports: &'a [String],
    /// Older attachments that had a veth of the same name.
    pub previous: &'a [AttachmentId],
}

/// What pods share, as far as the transaction has to care for it.
#[derive(Default)]
struct Made<'a> {
    base: Option<Cow<'a, Base>>,
    policy: Option<Cow<'a, Compiled>>,
}

/// Why there was no transaction.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Kernel(#[from] nft::Error),
    #[error(transparent)]
    Shared(CniError),
}

impl Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Error::Kernel(e) if e.is_conflict())
    }
}

impl Install<'_, '_> {
    /// Makes the kernel enforce the plan. Replaces what is left of an earlier ADD of the same
    /// attachment, and takes addresses over from whoever had them. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// Code 103, or 11 where trying again can help: the kernel refuses. Those of [`Shared`]. Nothing has
    /// changed then.
    pub fn commit(&self, nft: &mut Nft, state: &StateDir) -> Result<(), CniError> {
        let (marker, policy) = (self.shared.marker, self.attachment.policy.as_str());
        let mut whole = Some(Whole::load(state, nft).map_err(nft_failure)?);
        let mut made = Made::default();
        let committed = again(Error::is_conflict, || {
            // Once somebody else changes the tables, nothing is known of them.
            let known = whole.take().map_or_else(|| Whole::nothing(nft), Ok)?;
            if !known.has(marker) && made.base.is_none() {
                made.base = Some((self.shared.base)().map_err(Error::Shared)?);
            }
            if !known.has(policy) && made.policy.is_none() {
                made.policy = Some((self.shared.policy)().map_err(Error::Shared)?);
            }
            let ops = self.operations(nft, &made)?;
            // What is left out is known of one state of the kernel.
            let leaves_out = made.base.is_none() || made.policy.is_none();
            nft.commit_at(&ops, leaves_out.then(|| known.generation()))?;
            Ok(known)
        });
        let known = committed.map_err(|e| match e {
            Error::Kernel(e) => nft_failure(e),
            Error::Shared(e) => e,
        })?;
        // Rules that have changed: the policy of before went with its last user.
        let before = self.before.filter(|before| *before != policy);
        let gone = before.filter(|name| matches!(nft.chain(&INET, name), Ok(None)));
        known.keep(state, nft, &[marker, policy], gone.as_slice());
        Ok(())
    }

    /// The transaction for the kernel as it is now.
    fn operations(&self, nft: &mut Nft, shared: &Made<'_>) -> Result<Transaction, nft::Error> {
        let mut ops = Transaction::new();
        // Later pods rely on what earlier ones put there, and a name alone does not say that it is
        // whole: `nft flush table` leaves chains without rules, and anybody can delete an element.
        if let Some(base) = shared.base.as_deref()
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
        if let Some(policy) = shared.policy.as_deref()
            && damaged_policy(nft, policy)?.is_some()
        {
            mend_policy(nft, policy, &mut ops)?;
        }
        ops.append(self.attachment.add());
        Ok(ops)
    }

    /// A netdev chain outlives its device since 6.16, and catches the next one of that name.
    fn clear_previous(
        &self,
        nft: &mut Nft,
        id: &str,
        ops: &mut Transaction,
    ) -> Result<(), nft::Error> {
        if id == self.attachment.id {
            return Ok(());
        }
        let chain = veth_chain(id);
        let stale = nft.chain(&NETDEV, &chain)?;
        if stale.is_some_and(|c| c.device.as_deref() == Some(&self.attachment.veth)) {
            ops.delete(&NETDEV, Chain::new(chain));
            if nft.chain(&NETDEV, &nd_chain(id))?.is_some() {
                ops.delete(&NETDEV, Chain::new(nd_chain(id)));
            }
        }
        Ok(())
    }

    fn clear_own(&self, nft: &mut Nft, ops: &mut Transaction) -> Result<(), nft::Error> {
        let plan = self.attachment;
        if nft.chain(&NETDEV, &plan.veth_chain())?.is_some() {
            ops.delete(&NETDEV, Chain::new(plan.veth_chain()));
        }
        if nft.chain(&NETDEV, &plan.nd_chain())?.is_some() {
            ops.flush(&NETDEV, Chain::new(plan.nd_chain()));
        }
        if nft.chain(&INET, &plan.pod_chain())?.is_some() {
            let before = nft.goto_of(&INET, &plan.pod_chain())?;
            ops.flush(&INET, Chain::new(plan.pod_chain()));
            if let Some(before) = before
                && before != plan.policy
            {
                delete_unused_policy(nft, &before, ops)?;
            }
        }
        Ok(())
    }

    fn clear_addresses(&self, nft: &mut Nft, ops: &mut Transaction) -> Result<(), nft::Error> {
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
        ops: &mut Transaction,
    ) -> Result<(), nft::Error> {
        let own_port = bridge.port_chain(&self.attachment.veth);
        if nft.chain(&NETDEV, &bridge.chain())?.is_some() {
            if nft.chain(&NETDEV, &own_port)?.is_some() {
                ops.delete(&NETDEV, Chain::new(own_port));
            }
            if !same_rules(nft, &NETDEV, &bridge.chain(), &bridge.rules())? {
                ops.flush(&NETDEV, Chain::new(bridge.chain()));
                ops.append(bridge.add());
            }
            return Ok(());
        }
        ops.append(bridge.add());
        for port in self
            .bridge_ports
            .iter()
            .filter(|port| **port != self.attachment.veth)
        {
            ops.append(bridge.cover_port(port));
        }
        Ok(())
    }
}

/// Empties a set that is there, to be filled anew in the same transaction.
fn flush_set(nft: &mut Nft, set: &str, ops: &mut Transaction) -> Result<(), nft::Error> {
    if nft.has_set(&INET, set)? {
        ops.flush(&INET, SetName(set.to_owned()));
    }
    Ok(())
}

fn mend_base(nft: &mut Nft, base: &Base, ops: &mut Transaction) -> Result<(), nft::Error> {
    for (set, _) in base.sets() {
        flush_set(nft, set, ops)?;
    }
    for chain in base.chains() {
        // Nothing else of a base chain's hook can be changed but its policy.
        if let (Some(held), Some(hook)) = (nft.chain(chain.table, chain.name)?, chain.hook)
            && !held.is_placed_at(&hook)
        {
            ops.delete(chain.table, Chain::new(chain.name));
        }
    }
    let sets = nft.sets(&INET)?;
    ops.append(base.add(&base.outdated(&sets)));
    Ok(())
}

/// In place, for other pods' chains lead to it.
fn mend_policy(nft: &mut Nft, policy: &Compiled, ops: &mut Transaction) -> Result<(), nft::Error> {
    for (chain, _) in &policy.chains {
        if nft.chain(&INET, chain)?.is_some() {
            ops.flush(&INET, Chain::new(chain));
        }
    }
    // Not flushed: the kernel takes seconds for that with thousands of concatenated elements.
    for (set, _) in &policy.sets {
        if nft.has_set(&INET, &set.name)? {
            ops.delete(&INET, SetName(set.name.clone()));
        }
    }
    ops.append(policy.add());
    Ok(())
}
