//! Giving addresses back: rules first, which is the caller's, then the address, then its Lease.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Registry, lock_name, member};
use crate::store::{AttachmentId, Lock, Owner, StateDir};
use netlink::{Rtnl, address};

/// How long a DEL waits for the API. If it does not answer, the process that stays gives the Lease back
/// later, or the Lease ends by itself.
const API: Duration = Duration::from_secs(2);

/// Addresses that an attachment stops using.
#[derive(Debug, Default)]
pub struct Release {
    /// Those of which it was the last user: they go, once no rule names them.
    pub last: Vec<IpAddr>,
    /// Those that others still use.
    pub(crate) shared: Vec<(IpAddr, Owner)>,
    /// What is known of `last`.
    pub(crate) owners: Vec<Owner>,
    pub(crate) locks: Vec<Lock>,
}

/// Finds the addresses that an attachment uses, and locks them. Does what it can.
pub fn release(state: &StateDir, id: &AttachmentId, deadline: Instant) -> Release {
    let mut release = Release::default();
    let addresses = state.list_egress().unwrap_or_else(|e| {
        tracing::warn!("{e}");
        Vec::new()
    });
    for address in addresses {
        let uses = |owner: &Option<Owner>| owner.as_ref().is_some_and(|o| o.users.contains(id));
        if !uses(&state.read_egress(address).unwrap_or_default()) {
            continue;
        }
        match state.lock_named(&lock_name(address), deadline) {
            Ok(lock) => release.locks.push(lock),
            Err(e) => tracing::warn!("{e}"),
        }
        let owner = state.read_egress(address).unwrap_or_default();
        let Some(mut owner) = owner.filter(|o| o.users.contains(id)) else {
            continue;
        };
        owner
            .users
            .retain(|user| user != id && state.has_attachment(user));
        if owner.users.is_empty() {
            release.last.push(address);
            release.owners.push(owner);
        } else {
            release.shared.push((address, owner));
        }
    }
    release
}

impl Release {
    /// Takes the addresses from the uplink, and writes down who is left. Does what it can. The
    /// addresses stay locked until what is returned goes: before, the attachment's record has to,
    /// or `sync` would find a user of which the file says nothing.
    pub fn finish(self, state: &StateDir, registry: &dyn Registry, deadline: Instant) -> Vec<Lock> {
        let note = |outcome: Result<(), String>| {
            if let Err(e) = outcome {
                tracing::warn!("{e}");
            }
        };
        let mut owed = Vec::new();
        for (address, owner) in self.last.into_iter().zip(self.owners) {
            match take_down(state, address, owner, deadline) {
                Ok(lease) => owed.extend(lease.map(|owner| (address, owner))),
                Err(e) => note(Err(e)),
            }
        }
        for (address, owner) in &self.shared {
            note(
                state
                    .write_egress(*address, owner)
                    .map_err(|e| e.to_string()),
            );
        }
        note(give_leases_back(state, registry, &owed, deadline));
        self.locks
    }
}

/// Takes an address from the uplink. Returns its owner if there is a Lease to be given back, too: that
/// is written down, for the case that the API does not answer.
fn take_down(
    state: &StateDir,
    address: IpAddr,
    mut owner: Owner,
    deadline: Instant,
) -> Result<Option<Owner>, String> {
    Rtnl::open(deadline)
        .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address))
        .map_err(|e| e.to_string())?;
    tracing::info!(%address, "released the egress IP");
    if owner.lease.as_ref().is_none_or(|held| held.lost) {
        state.remove_egress(address).map_err(|e| e.to_string())?;
        return Ok(None);
    }
    owner.users.clear();
    state
        .write_egress(address, &owner)
        .map_err(|e| e.to_string())?;
    Ok(Some(owner))
}

fn give_leases_back(
    state: &StateDir,
    registry: &dyn Registry,
    owed: &[(IpAddr, Owner)],
    deadline: Instant,
) -> Result<(), String> {
    // All of a node's Leases are of one cluster.
    let Some(held) = owed.iter().find_map(|(_, owner)| owner.lease.as_ref()) else {
        return Ok(());
    };
    let limit = API.min(deadline.saturating_duration_since(Instant::now()));
    let mut ownership = registry.open(&member(held), limit);
    for (address, _) in owed {
        ownership
            .give_back(*address)
            .map_err(|e| format!("the egress IP's Lease is released later, or expires: {e}"))?;
        if let Err(e) = state.remove_egress(*address) {
            tracing::warn!("{e}");
        }
    }
    Ok(())
}

/// Gives back what an ADD had taken before it failed: no rule names it yet.
pub fn give_back(state: &StateDir, registry: &dyn Registry, id: &AttachmentId, deadline: Instant) {
    drop(release(state, id, deadline).finish(state, registry, deadline));
}

/// Gives back every address that this node has, whoever uses it. Its rules must be gone. Returns what
/// could not be done.
pub fn give_back_all(state: &StateDir, registry: &dyn Registry, deadline: Instant) -> Vec<String> {
    let addresses = match state.list_egress() {
        Ok(addresses) => addresses,
        Err(e) => return vec![e.to_string()],
    };
    let (mut failures, mut owed, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    for address in addresses {
        locks.extend(state.lock_named(&lock_name(address), deadline));
        let taken_down = state
            .read_egress(address)
            .map_err(|e| e.to_string())
            .and_then(|owner| match owner {
                Some(owner) => take_down(state, address, owner, deadline),
                None => Ok(None),
            });
        match taken_down {
            Ok(lease) => owed.extend(lease.map(|owner| (address, owner))),
            Err(e) => failures.push(e),
        }
    }
    if let Err(e) = give_leases_back(state, registry, &owed, deadline) {
        tracing::warn!("{e}");
    }
    failures
}
