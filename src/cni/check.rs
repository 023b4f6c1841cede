//! CHECK: the kernel holds what ADD put there.

use std::net::IpAddr;
use std::time::Instant;

use crate::attachment::Unenforceable;
use crate::attachment::now::Interface;
use crate::egress::place::Ways;
use crate::enforce::{self, Compared};
use crate::guard;
use crate::plan::{self, AttachmentPlan, Base, INET, LAYOUT};
use crate::source::PolicyFile;
use crate::store::{Record, StateDir};
use netlink::{Rtnl, tc};
use nft::Nft;

use super::Invocation;
use crate::attachment::result::PodResult;
use crate::conf::Conf;
use crate::refusal::CniError;
use crate::refusal::{net_failure, nft_failure};

/// # Errors
/// Code 103: something is missing or differs; it is named.
pub fn check(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<(), CniError> {
    let state = StateDir::new(&conf.state_dir);
    let id = call.who(conf).id();
    // Nobody may be half-way through a change while it is compared.
    let _lock = state.lock(deadline)?;
    let Some(record) = Record::read(&state, &id)? else {
        // It was there before this plugin was in the chain: there is nothing to compare.
        tracing::warn!("this attachment was never added by this plugin, and is not enforced");
        return Ok(());
    };
    if let Some(prev_result) = &conf.prev_result {
        let result = PodResult::parse(prev_result, &call.ifname, &call.netns)?;
        addresses_are_known(&record, &result.addresses)?;
    }
    if record.layout != LAYOUT {
        tracing::warn!("added by another version of this plugin, whose objects it cannot compare");
        return Ok(());
    }
    let failed = |e| net_failure("look at the node's devices", e);
    let mut rtnl = Rtnl::open(deadline).map_err(failed)?;
    let ways = Ways::read(&mut rtnl).map_err(failed)?;
    interface_is_there(&ways, &mut rtnl, &record)?;
    egress_is_there(&ways, &state, &record)?;
    // A plugin behind this one in the chain may have led the packets elsewhere.
    let failed = |e| net_failure("look at the pod's veth", e);
    if let Some(detour) = tc::detour(&mut rtnl, record.veth_index, guard::is_own).map_err(failed)? {
        return Err(CniError::unenforceable(format!(
            "traffic control at {} takes packets past netfilter's ingress hook ({detour}): put this plugin last in the conflist",
            record.veth
        )));
    }
    let guarded = record.guard.verify(&mut rtnl, record.veth_index);
    if let Some(difference) = guarded.map_err(|e| CniError::kernel(e.to_string()))? {
        return Err(CniError::kernel(format!(
            "{difference}: the pod could have packets rewritten behind its rules; `egressway sync` on the node repairs it, the pod keeps running"
        )));
    }
    let mut nft = Nft::open().map_err(nft_failure)?;
    let bridge = record.bridge.as_ref().map(|bridge| &*bridge.name);
    let devices = [Some(&*record.veth), bridge];
    if let Some((flowtable, device)) = nft
        .flowtable_at(devices.into_iter().flatten())
        .map_err(nft_failure)?
    {
        let why = Unenforceable::Flowtable { flowtable, device };
        return Err(CniError::unenforceable(why.to_string()));
    }
    let policy = record
        .policy
        .rebuild()
        .map_err(|e| CniError::policy(format!("the record of this attachment: {e}")))?;
    let compiled = plan::compile(&policy, record.log_group);
    let base = current_base(&mut nft, conf, &record)?;
    let plan = AttachmentPlan::from(&record);
    let mut whole = Compared::default();
    match enforce::verify(&mut nft, &state, &base, &compiled, &plan, &mut whole)
        .map_err(nft_failure)?
    {
        None => Ok(()),
        Some(difference) => Err(CniError::kernel(format!(
            "{difference}: the nf_tables of egressway are out of sync; `egressway sync` on the node repairs them, the pod keeps running"
        ))),
    }
}

/// The record may be of a node that has changed since.
fn interface_is_there(ways: &Ways, rtnl: &mut Rtnl, record: &Record) -> Result<(), CniError> {
    let failed = |e| net_failure("look at the pod's interface", e);
    let veth = &record.veth;
    let now = match ways.devices.interface(rtnl, record).map_err(failed)? {
        Interface::Gone => return Err(CniError::kernel(format!("the pod's veth {veth} is gone"))),
        Interface::Elsewhere => {
            return Err(CniError::kernel(format!(
                "the pod's veth {veth} is now in another network namespace, where its packets are not filtered"
            )));
        }
        Interface::Here(now) => now,
    };
    if !now.changed.is_empty() {
        return Err(CniError::kernel(format!(
            "{}: `egressway sync` on the node repairs it, the pod keeps running",
            now.changed.join("; ")
        )));
    }
    match now.told.is_empty() {
        true => Ok(()),
        false => Err(CniError::kernel(now.told.join("; "))),
    }
}

fn egress_is_there(ways: &Ways, state: &StateDir, record: &Record) -> Result<(), CniError> {
    for address in &record.egress {
        let Some(owner) = state.read_egress(*address)? else {
            return Err(CniError::kernel(format!(
                "egress IP {address}: its file is missing; `egressway sync` on the node repairs it"
            )));
        };
        if let Some(fault) = ways.faults(*address, &owner).into_iter().next() {
            let repair = match fault.mends {
                true => "; `egressway sync` on the node repairs it, the pod keeps running",
                false => "",
            };
            let why = fault.why;
            return Err(CniError::kernel(format!(
                "egress IP {address}: {why}{repair}"
            )));
        }
    }
    Ok(())
}

fn addresses_are_known(record: &Record, addresses: &[IpAddr]) -> Result<(), CniError> {
    let known = |a: &IpAddr| {
        record.addresses.contains(a) || matches!(a, IpAddr::V6(a) if record.link_local.contains(a))
    };
    match addresses.iter().find(|a| !known(a)) {
        None => Ok(()),
        Some(address) => Err(CniError::kernel(format!(
            "prevResult has the address {address}, which is not enforced: ADD did not see it"
        ))),
    }
}

/// A later ADD may have brought a base for other `clusterCIDRs`.
fn current_base(nft: &mut Nft, conf: &Conf, record: &Record) -> Result<Base, CniError> {
    let base = Base::new(&record.policy.facts.cluster);
    if nft.has_set(&INET, base.marker()).map_err(nft_failure)? {
        return Ok(base);
    }
    Ok(match PolicyFile::load(&conf.policy_file) {
        Ok(file) => Base::new(&file.facts.cluster),
        Err(_) => base,
    })
}
