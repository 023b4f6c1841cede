//! Brings what a record says into the kernel: the record first, then one transaction.

use std::borrow::Cow;
use std::time::Instant;

use crate::enforce::{self, Install, Whole};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled, INET, NETDEV};
use crate::refusal::CniError;
use crate::refusal::{net_failure, nft_failure};
use crate::store::{AttachmentId, PolicyKey, Record, StateDir, StateError};
use netlink::{Rtnl, conntrack, link};
use nft::{self, Nft};

/// How to make what pods share, which is done only for what is not known to be in the kernel.
pub(crate) struct Shared<'a> {
    pub base: &'a dyn Fn() -> Result<Cow<'a, Base>, CniError>,
    pub policy: &'a dyn Fn() -> Result<Cow<'a, Compiled>, CniError>,
}

/// One attachment on its way into the kernel.
pub(crate) struct Installation<'a> {
    pub state: &'a StateDir,
    pub id: &'a AttachmentId,
    pub record: &'a Record<PolicyKey>,
    /// The record that a first ADD of the same attachment has left.
    pub before: Option<&'a Record<PolicyKey>>,
    /// The base's [`Base::marker`].
    pub base: &'a str,
    pub shared: Shared<'a>,
    pub deadline: Instant,
}

impl Installation<'_> {
    /// Record, then kernel: whoever finds the one without the other knows which was not finished. A
    /// repeated ADD that fails leaves what the first one made, and its record. To be called under
    /// [`StateDir::lock`].
    pub fn run(&self, nft: &mut Nft) -> Result<(), CniError> {
        let (state, id, veth) = (self.state, self.id, &self.record.veth);
        let whole = Whole::load(state, nft).map_err(nft_failure)?;
        let plan = AttachmentPlan::from(self.record);
        let taken_over = taken_over(nft, &plan)?;
        let ports = match &plan.bridge {
            Some(bridge) => ports_to_cover(nft, bridge, self.deadline)?,
            None => Vec::new(),
        };
        let put = |nft: &mut Nft, whole, previous: Option<Vec<AttachmentId>>| {
            let previous = match previous {
                Some(previous) => previous,
                None => enforce::attachments_at(nft, veth).map_err(nft_failure)?,
            };
            let done = match self.put(nft, whole, &plan, &ports, &previous)? {
                // Somebody else changes the tables: nothing is known of them.
                Err(e) if e.is_conflict() => {
                    let nothing = Whole::nothing(nft).map_err(nft_failure)?;
                    self.put(nft, nothing, &plan, &ports, &previous)?
                }
                outcome => outcome,
            };
            done.map(|()| previous).map_err(nft_failure)
        };
        let done = state
            .write_attachment(id, self.record)
            .and_then(|()| state.set_link(veth, id))
            .map_err(CniError::from)
            .and_then(|previous| put(nft, whole, previous));
        let previous = match done {
            Ok(previous) => previous,
            Err(e) => {
                self.undo().unwrap_or_else(|e| tracing::warn!("{e}"));
                return Err(e);
            }
        };
        if !previous.is_empty() {
            let settled = state.settle_link(veth, id);
            settled.unwrap_or_else(|e| tracing::warn!("{e}"));
        }
        if taken_over {
            // The address is another pod's now: its old connections must not be taken for this one's.
            if let Err(e) = conntrack::delete_of(&self.record.addresses, self.deadline) {
                tracing::warn!("old connections of a reused address may remain: {e}");
            }
        }
        Ok(())
    }

    /// The transaction, with those shared parts that are not `whole`.
    fn put(
        &self,
        nft: &mut Nft,
        whole: Whole,
        plan: &AttachmentPlan,
        bridge_ports: &[String],
        previous: &[AttachmentId],
    ) -> Result<Result<(), nft::Error>, CniError> {
        let (base, policy) = (self.base, plan.policy.as_str());
        let new_base = (!whole.has(base)).then(self.shared.base).transpose()?;
        let new_policy = (!whole.has(policy)).then(self.shared.policy).transpose()?;
        let install = Install {
            base: new_base.as_deref(),
            policy: new_policy.as_deref(),
            known_at: Some(whole.generation()),
            attachment: plan,
            bridge_ports,
            previous,
        };
        let done = install.commit(nft);
        if done.is_ok() {
            // Rules that have changed: the policy of before went with its last user.
            let before = self.before.map(|record| record.policy_chain.as_str());
            let before = before.filter(|before| *before != policy);
            let gone = before.filter(|name| matches!(nft.chain(&INET, name), Ok(None)));
            whole.keep(self.state, nft, &[base, policy], gone.as_slice());
        }
        Ok(done)
    }

    /// The state directory as it was before.
    fn undo(&self) -> Result<(), StateError> {
        let (state, id, veth) = (self.state, self.id, &self.record.veth);
        if let Some(before) = self.before {
            return state.write_attachment(id, before);
        }
        state.remove_link(veth, id)?;
        state.remove_attachment(id)
    }
}

/// Whether one of the addresses still leads to another attachment, which was never deleted.
fn taken_over(nft: &mut Nft, plan: &AttachmentPlan) -> Result<bool, CniError> {
    for address in &plan.addresses {
        let owner = enforce::owner_of(nft, *address).map_err(nft_failure)?;
        if owner.is_some_and(|chain| chain != plan.pod_chain()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The other ports of a bridge that none of our pods was on so far. Pins the bridge's MAC, to which
/// the pods' packets will be sent: by itself it changes with the ports.
fn ports_to_cover(
    nft: &mut Nft,
    bridge: &Bridge,
    deadline: Instant,
) -> Result<Vec<String>, CniError> {
    if nft
        .chain(&NETDEV, &bridge.chain())
        .map_err(nft_failure)?
        .is_some()
    {
        return Ok(Vec::new());
    }
    let failed = |e| net_failure("prepare the pod's bridge", e);
    let mut rtnl = Rtnl::open(deadline).map_err(failed)?;
    link::set_mac(&mut rtnl, bridge.index, bridge.mac).map_err(failed)?;
    let ports = link::ports_of(&mut rtnl, bridge.index).map_err(failed)?;
    Ok(ports.into_iter().map(|port| port.name).collect())
}
