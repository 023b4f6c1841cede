//! Takes out whatever an attachment still has. Nothing that is missing is an error, and the
//! pod's namespace is never entered: by now its path may lead to another pod's.

use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use crate::attachment::now::{Devices, Interface, own_veth};
use crate::egress::{self, Registry};
use crate::enforce::{self, Ledger, Remove};
use crate::guard;
use crate::plan::names::{Purpose, pod_chain};
use crate::plan::{Bridge, INET, NETDEV, base};
use crate::store::{AttachmentId, PolicyKey, Record, StateDir, StateError};
use netlink::{self, Netns, Rtnl, conntrack, link};
use nft::{ChainState, Family, Nft};

use crate::refusal::CniError;
use crate::refusal::{net_failure, nft_failure};

/// Removes one attachment, known or not.
///
/// # Errors
/// Code 11: the kernel's tables kept changing. Anything else is logged, and left to GC: an error
/// would keep the primary plugin from giving the pod's address back.
pub fn remove(
    state: &StateDir,
    registry: &dyn Registry,
    id: &AttachmentId,
    deadline: Instant,
) -> Result<(), CniError> {
    remove_as(state, registry, id, Only::Any, deadline)
}

/// Removes an attachment that was found to be nobody's, unless it has been added anew meanwhile.
///
/// # Errors
/// As [`remove`].
pub(crate) fn remove_stale(
    state: &StateDir,
    registry: &dyn Registry,
    id: &AttachmentId,
    found: &Record<PolicyKey>,
    deadline: Instant,
) -> Result<(), CniError> {
    remove_as(state, registry, id, Only::Of(found.veth_index), deadline)
}

/// Removes an attachment that was found to be nobody's and has a damaged record, unless it has been added
/// anew meanwhile.
///
/// # Errors
/// As [`remove`].
pub(crate) fn remove_unreadable(
    state: &StateDir,
    registry: &dyn Registry,
    id: &AttachmentId,
    deadline: Instant,
) -> Result<(), CniError> {
    remove_as(state, registry, id, Only::Unreadable, deadline)
}

/// Which attachment of an id is meant: it may be added anew at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Whichever is there.
    Any,
    /// The one whose veth has this index.
    Of(u32),
    /// The one whose record can't be read.
    Unreadable,
}

impl Only {
    fn means(self, record: Option<&Record<PolicyKey>>) -> bool {
        match self {
            Only::Any => true,
            Only::Of(index) => record.is_some_and(|record| record.veth_index == index),
            Only::Unreadable => record.is_none(),
        }
    }
}

fn remove_as(
    state: &StateDir,
    registry: &dyn Registry,
    id: &AttachmentId,
    only: Only,
    deadline: Instant,
) -> Result<(), CniError> {
    let read = || {
        Record::read_alone(state, id).unwrap_or_else(|e| {
            tracing::warn!("{e}; what the kernel has is removed by the attachment's id");
            None
        })
    };
    let record = read();
    if let Some(record) = &record
        && only == Only::Any
        && is_owner_of_veth(state, record, id)
    {
        // A pod that is still there must not speak once nobody judges it.
        note("set the pod's veth down", silence(record, deadline));
    }
    let release = egress::release(state, id, deadline);
    let lock = note("lock the state directory", state.lock(deadline));
    if !only.means(read().as_ref()) {
        return Ok(());
    }
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(e) => {
            tracing::error!("cannot remove anything from the kernel: {e}");
            return Ok(());
        }
    };
    let owned = owned_addresses(&mut nft, id, record.as_ref());
    let bridge = record.as_ref().and_then(|r| r.bridge.as_ref());
    let bridge = bridge.map(Bridge::from);
    let removal = Remove {
        id: id.as_str(),
        addresses: record.as_ref().map_or(&[], |r| &r.addresses),
        bridge: bridge.as_ref(),
        egress: &release.last,
    };
    // Nobody may write what is known without the lock.
    let mut ledger = lock
        .as_ref()
        .and_then(|_| note("ask for the ruleset's state", Ledger::open(state, &mut nft)));
    match removal.commit(&mut nft, ledger.as_mut()) {
        Ok(()) => {}
        Err(e) if e.is_conflict() => return Err(nft_failure(e)),
        Err(e) => {
            tracing::error!("cannot remove the attachment's rules: {e}");
            return Ok(());
        }
    }
    let names = record.as_ref().and_then(|record| record.names.as_ref());
    if let (Some(names), Some(ledger)) = (names, &mut ledger) {
        let removed = enforce::remove_names(&mut nft, ledger, &names.groups);
        note("remove the sets of the pod's domain names", removed);
    }
    if let Some(record) = &record
        && only == Only::Any
        && is_owner_of_veth(state, record, id)
    {
        note(
            "remove the guard of the pod's veth",
            unguard(record, deadline),
        );
    }
    note("forget the pod's veth", forget_links(state, id, &record));
    if lock.is_some() {
        if record.is_none() {
            let released = state.release_policies(id);
            note("remove the attachment's rules", released);
        }
        let tidied = state.tidy_policies();
        note("remove rules that a killed ADD has left", tidied);
    }
    // What is left is slow, and nobody else needs to wait for it.
    drop(lock);
    // Before any netfilter socket closes, also conntrack's: each close would wait by itself.
    nft.settle();
    // A reused address must not inherit NAT bindings, or pass for a reply.
    note(
        "forget the pod's connections",
        conntrack::delete_of(&owned, deadline),
    );
    let _locks = release.finish(state, registry, deadline);
    // Nobody waits for sync: the same attachment may have been added anew while there was no lock.
    let _lock = match only {
        Only::Any => None,
        _ => note("lock the state directory", state.lock(deadline)),
    };
    if !only.means(read().as_ref()) {
        return Ok(());
    }
    note(
        "remove the attachment's record",
        state.remove_attachment(id),
    );
    // Only now: no record ever lacks its rules. All that it has: a killed ADD may have left others.
    if record.is_some() {
        let released = state.release_policies(id);
        note("remove the attachment's rules", released);
    }
    Ok(())
}

fn note<T, E: std::fmt::Display>(what: &str, outcome: Result<T, E>) -> Option<T> {
    outcome
        .inspect_err(|e| tracing::warn!("cannot {what}: {e}"))
        .ok()
}

/// In the same breath as the transaction: a record without its link's note is one that goes.
fn forget_links(
    state: &StateDir,
    id: &AttachmentId,
    record: &Option<Record<PolicyKey>>,
) -> Result<(), StateError> {
    if let Some(record) = record {
        return state.remove_link(&record.veth, id);
    }
    for (name, carried) in state.links()? {
        if carried.is_ok_and(|carried| carried.contains(id)) {
            state.remove_link(&name, id)?;
        }
    }
    Ok(())
}

/// Whether no later attachment has taken the veth over.
fn is_owner_of_veth(state: &StateDir, record: &Record<PolicyKey>, id: &AttachmentId) -> bool {
    let owner = note("read whose veth it is", state.link(&record.veth)).flatten();
    owner.is_none_or(|owner| owner == *id)
}

/// Sets the host's side of the veth down.
fn silence(record: &Record<PolicyKey>, deadline: Instant) -> Result<(), netlink::Error> {
    let mut rtnl = Rtnl::open(deadline)?;
    let own = own_veth(&mut rtnl, record)?;
    own.map_or(Ok(()), |veth| link::set_down(&mut rtnl, veth.index))
}

/// Leaves the veth as it was before. In the same breath as the transaction: what has no guard any more is
/// no pod of ours.
fn unguard(record: &Record<PolicyKey>, deadline: Instant) -> Result<(), guard::Error> {
    let mut rtnl = Rtnl::open(deadline)?;
    let own = own_veth(&mut rtnl, record)?;
    own.map_or(Ok(()), |veth| record.guard.remove(&mut rtnl, veth.index))
}

/// Those of its addresses that nobody has taken over. Without a record, the kernel knows them; with one,
/// also those that a call which was cut short has taken from there already.
fn owned_addresses(
    nft: &mut Nft,
    id: &AttachmentId,
    record: Option<&Record<PolicyKey>>,
) -> Vec<IpAddr> {
    let own = pod_chain(id.as_str());
    if let Some(record) = record {
        let mut is_others = |address: &IpAddr| match enforce::owner_of(nft, *address) {
            Ok(owner) => owner.is_some_and(|chain| chain != own),
            Err(_) => true,
        };
        let mut owned = record.addresses.clone();
        owned.retain(|address| !is_others(address));
        return owned;
    }
    let mut owned = Vec::new();
    for family in [Family::V4, Family::V6] {
        let pods = nft.vmap_elements(&INET, base::pods(family));
        let pods = note("read whose the addresses are", pods).unwrap_or_default();
        let is_own = pods.into_iter().filter(|(_, chain)| *chain == own);
        owned.extend(is_own.map(|(address, _)| address));
    }
    owned
}

/// Takes out the chain of a bridge's port that was to become a pod's, and did not: nothing else would ever. And
/// those of ports that are gone. The namespace is not entered, and no interface of an attachment is touched.
///
/// # Errors
/// The kernel or the state directory does not tell.
pub fn uncover_port(
    state: &StateDir,
    netns: &Path,
    ifname: &str,
    deadline: Instant,
) -> Result<(), CniError> {
    let failed = |e| net_failure("find ports that no longer exist", e);
    let _lock = state.lock(deadline)?;
    let mut nft = Nft::open().map_err(nft_failure)?;
    let chains = nft.chains(&NETDEV).map_err(nft_failure)?;
    let is_port = |chain: &ChainState| Purpose::of(&chain.name) == Some(Purpose::Port);
    let ports: Vec<ChainState> = chains.into_iter().filter(is_port).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let mut rtnl = Rtnl::open(deadline).map_err(failed)?;
    let own = host_side(&mut rtnl, netns, ifname).map_err(failed)?;
    for port in ports {
        let Some(device) = &port.device else { continue };
        let mut is_gone = || link::get_by_name(&mut rtnl, device).map(|link| link.is_none());
        let is_own = own.as_ref() == Some(device) && state.link(device)?.is_none();
        if is_own || is_gone().map_err(failed)? {
            enforce::remove_bridge_chain(&mut nft, &port.name).map_err(nft_failure)?;
        }
    }
    Ok(())
}

/// The name of the host's side of a veth, by its other end.
fn host_side(
    rtnl: &mut Rtnl,
    netns: &Path,
    ifname: &str,
) -> Result<Option<String>, netlink::Error> {
    let Ok(netns) = Netns::open(netns) else {
        return Ok(None);
    };
    let Some(id) = rtnl.netnsid_of(&netns)? else {
        return Ok(None);
    };
    let links = link::all_in(rtnl, Some(id))?;
    let Some(pod) = links.into_iter().find(|link| link.name == ifname) else {
        return Ok(None);
    };
    let Some(index) = pod.peer_index else {
        return Ok(None);
    };
    let host = link::get_by_index(rtnl, index)?;
    let is_other_end =
        |host: &link::Link| host.peer_index == Some(pod.index) && host.peer_netnsid == Some(id);
    Ok(host.filter(is_other_end).map(|host| host.name))
}

/// Whether the interface of an attachment is gone: not renamed, and not moved.
///
/// # Errors
/// The kernel does not tell.
pub fn interface_is_gone(
    record: &Record<PolicyKey>,
    rtnl: &mut Rtnl,
) -> Result<bool, netlink::Error> {
    let found = Devices::read(rtnl)?.interface(rtnl, record)?;
    Ok(found == Interface::Gone)
}

#[cfg(test)]
mod tests;
