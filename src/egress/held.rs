//! The addresses that this node holds by a Lease, as the agent tends them: what is to be renewed, what is to
//! be given back, and what another node has by now.
//!
//! Each of these waits for locks and the kernel, and asks nobody: whoever asks the API does it between two of them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::lock_name;
use crate::enforce::Remove;
use crate::store::{Lock, Owner, StateDir};
use netlink::{Rtnl, address};
use nft::Nft;

/// How long an ADD or DEL may hold an address before something else is done first.
const PATIENCE: Duration = Duration::from_secs(1);

/// An address with its Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAddress {
    /// The address.
    pub address: IpAddr,
    /// The namespace whose pods have it.
    pub namespace: String,
    /// A pod uses it. Else a DEL took it away while the API did not answer, or was killed before.
    pub in_use: bool,
}

/// All that this node holds, and has not lost.
pub fn all(state: &StateDir) -> Vec<HeldAddress> {
    let addresses = state.list_egress().unwrap_or_else(|e| {
        tracing::warn!("{e}");
        Vec::new()
    });
    let held = |address| {
        let owner = match state.read_egress(address) {
            Ok(owner) => owner?,
            Err(e) => {
                tracing::warn!("{e}");
                return None;
            }
        };
        owner.lease.as_ref().filter(|held| !held.lost)?;
        Some(HeldAddress {
            address,
            in_use: owner.users.iter().any(|user| state.has_attachment(user)),
            namespace: owner.namespace,
        })
    };
    addresses.into_iter().filter_map(held).collect()
}

/// Notes that a Lease was renewed `at` this second since 1970. If an ADD or DEL has the address right now,
/// the next time does.
pub fn renewed(state: &StateDir, address: IpAddr, at: i64) {
    let changed = change(state, address, |owner| {
        if let Some(held) = &mut owner.lease {
            held.renewed = at;
        }
    });
    if let Err(e) = changed {
        tracing::debug!("{e}");
    }
}

/// Another node has the address: this one stops using it. First of all no packet leaves with it any more:
/// what the pods send is dropped, since no other source is theirs. Then nobody is answered that this node
/// has it.
///
/// # Errors
/// An ADD or DEL has the address right now, or the kernel refuses: to be tried again.
pub fn lost(state: &StateDir, address: IpAddr) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut failures = Vec::new();
    change(state, address, |owner| {
        failures.extend(forget_in_kernel(state, address, deadline).err());
        let deleted = Rtnl::open(deadline)
            .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address));
        failures.extend(deleted.err().map(|e| e.to_string()));
        if let (Some(held), true) = (&mut owner.lease, failures.is_empty()) {
            held.lost = true;
        }
    })?;
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ")),
    }
}

/// Takes an address away that no pod uses. It stays locked until what is returned goes, so that its Lease
/// can be given back meanwhile; none: a pod uses it by now.
///
/// # Errors
/// An ADD or DEL has the address right now, or the kernel refuses. While the address is here, its Lease is
/// not another node's business.
pub fn take_away(state: &StateDir, address: IpAddr) -> Result<Option<Lock>, String> {
    let deadline = Instant::now() + PATIENCE;
    let (lock, owner) = locked(state, address, deadline)?;
    let Some(owner) = owner.filter(|o| !o.users.iter().any(|user| state.has_attachment(user)))
    else {
        return Ok(None);
    };
    forget_in_kernel(state, address, deadline)?;
    Rtnl::open(deadline)
        .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address))
        .map_err(|e| e.to_string())?;
    Ok(Some(lock))
}

/// Its Lease was given back: nothing is left to be known of it.
pub fn forget(state: &StateDir, address: IpAddr, lock: Lock) {
    if let Err(e) = state.remove_egress(address) {
        tracing::warn!("{e}");
    }
    drop(lock);
}

/// Locks an address of which nothing is known here; none: something is, by now. An ADD that takes it writes its
/// file before it lets the lock go.
///
/// # Errors
/// An ADD or DEL has the address right now.
pub fn unknown(state: &StateDir, address: IpAddr) -> Result<Option<Lock>, String> {
    let (lock, owner) = locked(state, address, Instant::now() + PATIENCE)?;
    Ok(owner.is_none().then_some(lock))
}

/// Locks an address that pods use; none: they do not any more.
///
/// # Errors
/// An ADD or DEL has the address right now.
pub fn still_used(state: &StateDir, address: IpAddr) -> Result<Option<Lock>, String> {
    let (lock, owner) = locked(state, address, Instant::now() + PATIENCE)?;
    let used = owner.is_some_and(|o| o.users.iter().any(|user| state.has_attachment(user)));
    Ok(used.then_some(lock))
}

fn locked(
    state: &StateDir,
    address: IpAddr,
    deadline: Instant,
) -> Result<(Lock, Option<Owner>), String> {
    let lock = state.lock_named(&lock_name(address), deadline);
    let lock = lock.map_err(|e| e.to_string())?;
    let owner = state.read_egress(address).map_err(|e| e.to_string())?;
    Ok((lock, owner))
}

fn change(
    state: &StateDir,
    address: IpAddr,
    change: impl FnOnce(&mut Owner),
) -> Result<(), String> {
    let (_lock, owner) = locked(state, address, Instant::now() + PATIENCE)?;
    let Some(mut owner) = owner else {
        return Ok(()); // it went meanwhile
    };
    change(&mut owner);
    state
        .write_egress(address, &owner)
        .map_err(|e| e.to_string())
}

/// The base's `leak-stop` drops whatever leaves with a source that is not among the node's egress
/// addresses, open connections included.
fn forget_in_kernel(state: &StateDir, address: IpAddr, deadline: Instant) -> Result<(), String> {
    let _lock = state.lock(deadline).map_err(|e| e.to_string())?;
    let remove = Remove {
        egress: &[address],
        ..Remove::default()
    };
    Nft::open()
        .and_then(|mut nft| remove.commit(&mut nft, None))
        .map_err(|e| e.to_string())
}
