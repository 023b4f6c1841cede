//! Egress addresses: taken for the first pod of a namespace on this node, given back with the last.
//!
//! Who uses an address is written to `stateDir/egress/ADDRESS.json` before the address is added,
//! so that whatever dies on the way, a DEL finds what there is to give back. Every step happens
//! under the address's own lock: taking one waits for answers from the network, and other pods
//! must not wait with it.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::cni::CniError;
use crate::net::link::{self, Link};
use crate::net::{self, Rtnl, address, neighbour, route};
use crate::nft::Value;
use crate::state::{AttachmentId, Lock, StateDir};

mod sync;

pub use sync::{Reconcile, known};

/// What is known of an egress address that this node has, or is about to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    namespace: String,
    uplink: String,
    uplink_index: u32,
    users: Vec<AttachmentId>,
}

/// Addresses that an attachment uses. They stay locked for as long as this lives.
#[derive(Debug, Default)]
pub struct Claim {
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The uplink's index.
    pub uplink: Option<u32>,
    _locks: Vec<Lock>,
}

/// Who wants an egress address.
pub struct Request<'a> {
    /// Where it is written who uses an address.
    pub state: &'a StateDir,
    /// The attachment that wants one.
    pub id: &'a AttachmentId,
    /// Its namespace.
    pub namespace: &'a str,
    /// The conflist's `uplink`.
    pub uplink: Option<&'a str>,
    /// When to give up.
    pub deadline: Instant,
}

impl Request<'_> {
    /// Takes the first address of each family in which the pod has one: makes sure that nobody
    /// else answers for it, adds it to the uplink and announces it.
    ///
    /// # Errors
    /// Code 102: the address can't be had; 11: somebody else on the network has it. What had been
    /// taken for this attachment is given back.
    pub fn take(&self, list: &[IpNet], ipv4: bool, ipv6: bool) -> Result<Claim, CniError> {
        let first = |v4: bool| {
            list.iter()
                .map(|net| net.network())
                .find(|a| a.is_ipv4() == v4)
        };
        let mut wanted: Vec<IpAddr> = [ipv4.then(|| first(true)), ipv6.then(|| first(false))]
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        wanted.sort(); // all lock in the same order
        let mut claim = Claim::default();
        for address in wanted {
            let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
            claim._locks.push(lock);
            match self.take_one(address) {
                Ok(uplink) => {
                    claim.addresses.push(address);
                    claim.uplink = Some(uplink);
                }
                Err(e) => {
                    drop(claim);
                    give_back(self.state, self.id, self.deadline);
                    return Err(e);
                }
            }
        }
        Ok(claim)
    }

    /// The index of the uplink that now has the address.
    fn take_one(&self, address: IpAddr) -> Result<u32, CniError> {
        let mut rtnl = Rtnl::open(self.deadline).map_err(net_error)?;
        let uplink = self.uplink(&mut rtnl, address)?;
        let known: Option<Owner> = self.state.read_egress(address).unwrap_or_else(|e| {
            tracing::warn!("{e}; it is written anew");
            None
        });
        let here = address::all(&mut rtnl)
            .map_err(net_error)?
            .into_iter()
            .find(|a| a.address == address)
            .map(|a| a.link);
        let mut owner = self.owner(address, known, here, &uplink)?;
        if !owner.users.contains(self.id) {
            owner.users.push(self.id.clone());
        }
        if here == Some(uplink.index) {
            self.state.write_egress(address, &owner)?;
            return Ok(uplink.index);
        }
        self.probe(&uplink, address)?;
        self.state.write_egress(address, &owner)?;
        address::add(&mut rtnl, uplink.index, address).map_err(net_error)?;
        if let Err(e) = neighbour::announce(&uplink, &[address]) {
            // Neighbours that never heard of the address will ask; those that did are rare.
            tracing::warn!("cannot announce {address}: {e}");
        }
        tracing::info!(%address, uplink = uplink.name, "took the egress IP");
        Ok(uplink.index)
    }

    /// The owner to write, if the address may be taken.
    fn owner(
        &self,
        address: IpAddr,
        known: Option<Owner>,
        here: Option<u32>,
        uplink: &Link,
    ) -> Result<Owner, CniError> {
        match (known, here) {
            (Some(owner), Some(_)) if owner.namespace != self.namespace => {
                let users: Vec<_> = owner.users.iter().filter(|id| self.is_alive(id)).collect();
                if users.is_empty() {
                    return Ok(self.new_owner(uplink));
                }
                Err(CniError::egress_ip(format!(
                    "egress IP {address}: namespace {} on this node uses it ({} pods)",
                    owner.namespace,
                    users.len()
                )))
            }
            (Some(mut owner), Some(device)) if device == uplink.index => {
                owner.users.retain(|id| self.is_alive(id));
                Ok(owner)
            }
            (_, Some(device)) => Err(CniError::egress_ip(format!(
                "egress IP {address} is already an address of this node (on device {device}): list another one in egress-cni.dev/egress-ip of namespace {}",
                self.namespace
            ))),
            (_, None) => Ok(self.new_owner(uplink)),
        }
    }

    fn new_owner(&self, uplink: &Link) -> Owner {
        Owner {
            namespace: self.namespace.to_owned(),
            uplink: uplink.name.clone(),
            uplink_index: uplink.index,
            users: Vec::new(),
        }
    }

    /// Users are written with their address locked until their record is there, too.
    fn is_alive(&self, id: &AttachmentId) -> bool {
        id == self.id || has_record(self.state, id)
    }

    fn uplink(&self, rtnl: &mut Rtnl, address: IpAddr) -> Result<Link, CniError> {
        let link = match self.uplink {
            Some(name) => link::get_by_name(rtnl, name).map_err(net_error)?,
            None => {
                let families = match address {
                    IpAddr::V4(_) => [route::Family::V4, route::Family::V6],
                    IpAddr::V6(_) => [route::Family::V6, route::Family::V4],
                };
                let mut found = None;
                for family in families {
                    found = match found {
                        None => route::default_route_device(rtnl, family).map_err(net_error)?,
                        found => found,
                    };
                }
                match found {
                    Some(index) => link::get_by_index(rtnl, index).map_err(net_error)?,
                    None => None,
                }
            }
        };
        link.ok_or_else(|| {
            CniError::egress_ip(match self.uplink {
                Some(name) => format!(
                    "egress IP {address}: the conflist's `uplink` {name:?} does not exist on this node"
                ),
                None => format!(
                    "egress IP {address}: this node has no default route; name the device in `uplink` of the conflist"
                ),
            })
        })
    }

    fn probe(&self, uplink: &Link, address: IpAddr) -> Result<(), CniError> {
        let conflicts = neighbour::probe(
            uplink,
            &[address],
            neighbour::Timing::default(),
            self.deadline,
        )
        .map_err(net_error)?;
        match conflicts.first() {
            None => Ok(()),
            Some(conflict) => Err(CniError::try_again(format!(
                "egress IP {address} of namespace {}: {} on {} answers for it; free it there, or list another address",
                self.namespace,
                Value::Mac(conflict.mac),
                uplink.name
            ))),
        }
    }
}

/// Addresses that an attachment stops using.
#[derive(Debug, Default)]
pub struct Release {
    /// Those of which it was the last user: they go, once no rule names them.
    pub last: Vec<IpAddr>,
    /// Those that others still use.
    shared: Vec<(IpAddr, Owner)>,
    links: Vec<u32>,
    _locks: Vec<Lock>,
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
            Ok(lock) => release._locks.push(lock),
            Err(e) => tracing::warn!("{e}"),
        }
        let owner: Option<Owner> = state.read_egress(address).unwrap_or_default();
        let Some(mut owner) = owner.filter(|o| o.users.contains(id)) else {
            continue;
        };
        owner
            .users
            .retain(|user| user != id && has_record(state, user));
        if owner.users.is_empty() {
            release.last.push(address);
            release.links.push(owner.uplink_index);
        } else {
            release.shared.push((address, owner));
        }
    }
    release
}

impl Release {
    /// Takes the addresses from the uplink, and writes down who is left. Does what it can.
    pub fn finish(self, state: &StateDir, deadline: Instant) {
        let note = |outcome: Result<(), String>| {
            if let Err(e) = outcome {
                tracing::warn!("{e}");
            }
        };
        for (address, link) in self.last.iter().zip(&self.links) {
            let deleted = Rtnl::open(deadline)
                .and_then(|mut rtnl| address::delete(&mut rtnl, *link, *address));
            match deleted {
                Ok(_) => {
                    tracing::info!(%address, "gave the egress IP back");
                    note(state.remove_egress(*address).map_err(|e| e.to_string()));
                }
                Err(e) => note(Err(e.to_string())),
            }
        }
        for (address, owner) in &self.shared {
            note(
                state
                    .write_egress(*address, owner)
                    .map_err(|e| e.to_string()),
            );
        }
    }
}

/// Gives back what an ADD had taken before it failed: no rule names it yet.
pub fn give_back(state: &StateDir, id: &AttachmentId, deadline: Instant) {
    release(state, id, deadline).finish(state, deadline);
}

/// Gives back every address that this node has, whoever uses it. Its rules must be gone. Returns what
/// could not be done.
pub fn give_back_all(state: &StateDir, deadline: Instant) -> Vec<String> {
    let addresses = match state.list_egress() {
        Ok(addresses) => addresses,
        Err(e) => return vec![e.to_string()],
    };
    let mut failures = Vec::new();
    for address in addresses {
        let _lock = state.lock_named(&lock_name(address), deadline);
        let given_back = state
            .read_egress::<Owner>(address)
            .map_err(|e| e.to_string())
            .and_then(|owner| {
                let Some(owner) = owner else { return Ok(()) };
                Rtnl::open(deadline)
                    .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address))
                    .map_err(|e| e.to_string())?;
                tracing::info!(%address, "gave the egress IP back");
                state.remove_egress(address).map_err(|e| e.to_string())
            });
        failures.extend(given_back.err());
    }
    failures
}

fn lock_name(address: IpAddr) -> String {
    format!("egress-{address}")
}

fn has_record(state: &StateDir, id: &AttachmentId) -> bool {
    // A damaged record is somebody's, too.
    !matches!(state.read_attachment::<serde::de::IgnoredAny>(id), Ok(None))
}

fn net_error(error: net::Error) -> CniError {
    match error {
        net::Error::Timeout { .. } | net::Error::Unstable { .. } => {
            CniError::try_again(format!("egress IP: {error}"))
        }
        _ => CniError::egress_ip(format!("egress IP: {error}")),
    }
}
