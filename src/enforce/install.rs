//! ADD's transaction.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::plan::names::{has_names, many_chain, nd_chain, veth_chain};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled, INET, NETDEV, base};
use crate::refusal::{CniError, nft_failure};
use crate::store::AttachmentId;
use nft::{self, Chain, Family, Nft, Transaction};

use super::ledger::Ledger;
use super::measured::TransactionKind;
use super::switch::{has_some_of, put_base, put_policy, take_away};
use super::{again, delete_element, delete_elements, owner_of, same_rules};

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

/// Whether the kernel has nothing of the base, and nothing of somebody else's under its names.
fn is_new(nft: &mut Nft, base: &Base) -> Result<bool, nft::Error> {
    for chain in base.chains() {
        if nft.chain(chain.table, chain.name)?.is_some() {
            return Ok(false);
        }
    }
    Ok(nft.sets(&INET)?.is_empty())
}

impl Install<'_, '_> {
    /// Makes the kernel enforce the plan. Replaces what is left of an earlier ADD of the same
    /// attachment, and takes addresses over from whoever had them: the caller knows that they are dead. To be called under
    /// [`StateDir::lock`](crate::store::StateDir::lock).
    ///
    /// The first ADD of a pod is one transaction, if no pod that runs is concerned.
    ///
    /// # Errors
    /// Code 103, or 11 where trying again can help: the kernel refuses. Those of [`Shared`]. The
    /// attachment has what it had before, then.
    pub fn commit(&self, nft: &mut Nft, ledger: &mut Ledger<'_>) -> Result<(), CniError> {
        let (marker, policy) = (self.shared.marker, self.attachment.policy.as_str());
        let mut made = Made::default();
        // The pod may be sending by now, or something is not as it was thought to be.
        let mut careful = self.before.is_some();
        let mut is_first = true;
        let committed = again(Error::is_conflict, || {
            if !std::mem::take(&mut is_first) {
                ledger.forget(nft)?;
                careful = true;
            }
            if !ledger.has(marker) && made.base.is_none() {
                made.base = Some((self.shared.base)().map_err(Error::Shared)?);
            }
            if !ledger.has(policy) && made.policy.is_none() {
                made.policy = Some((self.shared.policy)().map_err(Error::Shared)?);
            }
            Ok(self.steps(nft, ledger, &made, careful)?)
        });
        committed.map_err(|e| match e {
            Error::Kernel(e) => nft_failure(e),
            Error::Shared(e) => e,
        })
    }

    fn steps(
        &self,
        nft: &mut Nft,
        ledger: &mut Ledger<'_>,
        shared: &Made<'_>,
        careful: bool,
    ) -> Result<(), nft::Error> {
        let mut ops = Transaction::new();
        // What a policy asks that is not its own is there before.
        let named = |policy: &Compiled| !policy.groups.is_empty();
        let careful = careful || shared.policy.as_deref().is_some_and(named);
        // Later pods rely on what earlier ones put there, and a name alone does not say that it is
        // whole: `nft flush table` leaves chains without rules, and anybody can delete an element.
        if let Some(base) = shared.base.as_deref() {
            if careful || !is_new(nft, base)? {
                put_base(nft, ledger, base)?;
            } else {
                ops.append(base.add(&[]));
            }
        }
        if let Some(policy) = shared.policy.as_deref() {
            if careful || has_some_of(nft, &policy.name)? {
                put_policy(nft, ledger, policy)?;
            } else {
                ops.append(policy.add());
            }
        }
        for previous in self.previous {
            self.clear_previous(nft, previous.as_str(), &mut ops)?;
        }
        let before = self.clear_own(nft, &mut ops)?;
        self.clear_addresses(nft, &mut ops)?;
        if let Some(bridge) = &self.attachment.bridge {
            self.prepare_bridge(nft, bridge, &mut ops)?;
        }
        ops.append(self.attachment.add());
        let there = [self.shared.marker, &self.attachment.policy];
        ledger.commit(nft, (TransactionKind::Attach, &ops), &there, &[])?;
        match before {
            Some(before) => take_away(nft, ledger, &[&before]),
            None => Ok(()),
        }
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
            for chain in [nd_chain(id), many_chain(id)] {
                if nft.chain(&NETDEV, &chain)?.is_some() {
                    ops.delete(&NETDEV, Chain::new(chain));
                }
            }
        }
        Ok(())
    }

    /// Makes room for the attachment's own chains; the other policy that it had, if any. What hangs
    /// where it should stays there, and gets its rules from one packet to the next: a base chain that is
    /// made anew drops all until its transaction is through.
    fn clear_own(
        &self,
        nft: &mut Nft,
        ops: &mut Transaction,
    ) -> Result<Option<String>, nft::Error> {
        let plan = self.attachment;
        if let Some(veth) = nft.chain(&NETDEV, &plan.veth_chain())? {
            let chain = Chain::new(plan.veth_chain());
            match veth.hangs_at(&plan.veth_hook()) {
                true => ops.flush(&NETDEV, chain),
                false => ops.delete(&NETDEV, chain),
            };
        }
        for chain in [plan.nd_chain(), plan.many_chain()] {
            if nft.chain(&NETDEV, &chain)?.is_some() {
                ops.flush(&NETDEV, Chain::new(chain));
            }
        }
        if nft.chain(&INET, &plan.pod_chain())?.is_none() {
            return Ok(None);
        }
        let before = nft.goto_of(&INET, &plan.pod_chain())?;
        ops.flush(&INET, Chain::new(plan.pod_chain()));
        Ok(before.filter(|before| *before != plan.policy))
    }

    /// Takes the addresses' elements away from others, and those of its own that differ. What is right
    /// stays: an element that is deleted is gone for packets before the one in its place is there.
    fn clear_addresses(&self, nft: &mut Nft, ops: &mut Transaction) -> Result<(), nft::Error> {
        let own = self.attachment.pod_chain();
        for address in &self.attachment.addresses {
            match owner_of(nft, *address)? {
                Some(owner) if owner != own => delete_elements(nft, *address, ops)?,
                Some(_) => self.clear_address(nft, *address, ops)?,
                None => {}
            }
        }
        Ok(())
    }

    /// What one of its own addresses has that the plan does not say.
    fn clear_address(
        &self,
        nft: &mut Nft,
        address: IpAddr,
        ops: &mut Transaction,
    ) -> Result<(), nft::Error> {
        let family = Family::of(&address);
        let egress = self.attachment.egress.iter();
        let egress = egress.copied().find(|e| Family::of(e) == family);
        if nft.mapped(&INET, base::snat(family), address)? != egress {
            delete_element(nft, &INET, base::snat(family), address, ops)?;
        }
        if egress.is_none() {
            delete_element(nft, &INET, base::snatted(family), address, ops)?;
        }
        if !has_names(&self.attachment.policy) {
            delete_element(nft, &INET, base::led(family), address, ops)?;
        }
        if self.attachment.bridge.is_none() {
            delete_element(nft, &NETDEV, base::bridged(family), address, ops)?;
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
