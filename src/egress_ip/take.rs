//! Taking an address: one that this node has already, or one that nobody has.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::lease::{self, Access, Leases};
use super::{Claim, Held, Owner, choose, give_back, has_record, lock_name, net_error};
use crate::cni::CniError;
use crate::cni::error::code;
use crate::kubernetes::{self, Limit};
use crate::net::link::{self, Link};
use crate::net::{Rtnl, address, neighbour, route};
use crate::nft::Value;
use crate::state::{AttachmentId, StateDir};

/// How long before the deadline the API's answer must be there: the rest of an ADD takes milliseconds.
const REST: Duration = Duration::from_millis(500);

/// How many addresses of a list a message names.
const NAMED: usize = 8;

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
    /// Where the cluster's nodes agree on who has which address; none: this node takes the first.
    pub leases: Option<Access>,
    /// When to give up.
    pub deadline: Instant,
}

/// What was found out about an address before anything was changed.
struct Prepared {
    rtnl: Rtnl,
    uplink: Link,
    owner: Owner,
    /// It is on the uplink already.
    here: bool,
}

impl Request<'_> {
    /// Takes one address of each family in which the pod has one: makes sure that nobody else
    /// answers for it or holds its Lease, adds it to the uplink and announces it.
    ///
    /// # Errors
    /// Code 102: the address can't be had; 11: somebody else has it, or the API does not answer. What
    /// had been taken for this attachment is given back.
    pub fn take(&self, list: &[IpNet], ipv4: bool, ipv6: bool) -> Result<Claim, CniError> {
        // All lock in this order.
        let families: Vec<bool> = [(true, ipv4), (false, ipv6)]
            .into_iter()
            .filter(|(v4, wanted)| *wanted && list.iter().any(|net| net.addr().is_ipv4() == *v4))
            .map(|(v4, _)| v4)
            .collect();
        let mut claim = Claim::default();
        let taken = match &self.leases {
            _ if families.is_empty() => Ok(()),
            None => self.take_first(list, &families, &mut claim),
            Some(access) => self.take_leased(access, list, &families, &mut claim),
        };
        match taken {
            Ok(()) => Ok(claim),
            Err(e) => {
                drop(claim);
                give_back(self.state, self.id, self.deadline);
                Err(e)
            }
        }
    }

    /// Without a cluster: the first address of each family.
    fn take_first(
        &self,
        list: &[IpNet],
        families: &[bool],
        claim: &mut Claim,
    ) -> Result<(), CniError> {
        for v4 in families {
            let nets = list.iter().map(IpNet::network);
            for address in nets.filter(|a| a.is_ipv4() == *v4).take(1) {
                let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
                claim._locks.push(lock);
                claim.uplink = Some(self.take_one(address)?);
                claim.addresses.push(address);
            }
        }
        Ok(())
    }

    /// Takes one address, which must be locked. Returns the uplink's index.
    pub(super) fn take_one(&self, address: IpAddr) -> Result<u32, CniError> {
        let mut prepared = self.prepare(address)?;
        if prepared.here {
            self.state.write_egress(address, &prepared.owner)?;
        } else {
            self.probe(&prepared.uplink, address)?;
            self.add(&mut prepared, address)?;
        }
        Ok(prepared.uplink.index)
    }

    /// In a cluster. Asks the API only if this node has no address yet.
    fn take_leased(
        &self,
        access: &Access,
        list: &[IpNet],
        families: &[bool],
        claim: &mut Claim,
    ) -> Result<(), CniError> {
        // Pods of one namespace that start together choose one after the other.
        let name = format!("egress-of-{}", self.namespace);
        claim
            ._locks
            .push(self.state.lock_named(&name, self.deadline)?);
        let own: Vec<Option<IpAddr>> = families.iter().map(|v4| self.own(list, *v4)).collect();
        if own.iter().all(Option::is_some) {
            let mut joined = Claim::default();
            for address in own.into_iter().flatten() {
                if !self.join(address, &mut joined)? {
                    break;
                }
            }
            if joined.addresses.len() == families.len() {
                claim._locks.append(&mut joined._locks);
                claim.addresses = joined.addresses;
                claim.uplink = joined.uplink;
                return Ok(());
            }
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = Limit::overall(left.saturating_sub(REST), self.deadline);
        kubernetes::run(async {
            let leases = Leases::open(access, limit, lease::DURATION)?;
            let seen = leases.list().await?;
            for v4 in families {
                match self
                    .lease_one(&leases, access, &seen, list, *v4, claim)
                    .await?
                {
                    Ok(()) => {}
                    Err(refused) => return Ok(Err(refused)),
                }
            }
            Ok(Ok(()))
        })
        .map_err(|e| e.cni())?
    }

    /// The address of a family that this node has for the namespace, as far as can be seen without a lock.
    fn own(&self, list: &[IpNet], v4: bool) -> Option<IpAddr> {
        let addresses = self.state.list_egress().ok()?;
        addresses
            .into_iter()
            .filter(|a| a.is_ipv4() == v4 && list.iter().any(|net| net.contains(a)))
            .find(|a| {
                let owner: Option<Owner> = self.state.read_egress(*a).unwrap_or_default();
                owner.is_some_and(|owner| self.may_join(&owner))
            })
    }

    /// The Lease is this node's without asking: the process that stays renews it, and says so.
    fn may_join(&self, owner: &Owner) -> bool {
        let fresh = |held: &Held| {
            let age = Timestamp::now().as_second() - held.renewed;
            !held.lost && u64::try_from(age).is_ok_and(|age| age <= lease::DURATION.as_secs())
        };
        owner.namespace == self.namespace
            && !owner.users.is_empty()
            && owner.lease.as_ref().is_some_and(fresh)
    }

    /// Uses an address that this node has. False: it went meanwhile.
    fn join(&self, address: IpAddr, claim: &mut Claim) -> Result<bool, CniError> {
        let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
        let owner: Option<Owner> = self.state.read_egress(address).unwrap_or_default();
        if !owner.is_some_and(|owner| self.may_join(&owner)) {
            return Ok(false);
        }
        let prepared = self.prepare(address)?;
        if !prepared.here {
            return Ok(false);
        }
        self.state.write_egress(address, &prepared.owner)?;
        claim._locks.push(lock);
        claim.addresses.push(address);
        claim.uplink = Some(prepared.uplink.index);
        Ok(true)
    }

    /// Takes one address of a family, with its Lease. The outer error is the API's.
    async fn lease_one(
        &self,
        leases: &Leases,
        access: &Access,
        seen: &BTreeMap<String, Lease>,
        list: &[IpNet],
        v4: bool,
        claim: &mut Claim,
    ) -> Result<Result<(), CniError>, kubernetes::Error> {
        let mut refusals = Refusals::default();
        let own = seen.values().filter(|lease| {
            leases.is_own(lease) && lease::annotation(lease, lease::FOR) == Some(self.namespace)
        });
        let own = own.filter_map(|lease| lease::annotation(lease, lease::ADDRESS)?.parse().ok());
        let own: Vec<IpAddr> = own
            .filter(|a: &IpAddr| a.is_ipv4() == v4 && list.iter().any(|net| net.contains(a)))
            .collect();
        // What this node had before it was started again; then in the order of its name.
        let others = choose::order(list, v4, &access.node).filter(|a| !own.contains(a));
        for address in own.iter().copied().chain(others) {
            let found = seen.get(&lease::name(address));
            if !leases.is_free(found) {
                let holder = found.and_then(lease::holder).unwrap_or("nobody");
                refusals.add(format!("{address} is held by node {holder}"));
                continue;
            }
            match self
                .lease_this(leases, access, address, found, claim)
                .await?
            {
                Ok(()) => return Ok(Ok(())),
                Err(e) if matches!(e.code, code::TRY_AGAIN | code::EGRESS_IP) => {
                    refusals.add(e.msg);
                }
                Err(e) => return Ok(Err(e)),
            }
            if Instant::now() + REST >= self.deadline {
                refusals.add("there was no time to try the others".to_owned());
                break;
            }
        }
        Ok(Err(CniError::try_again(format!(
            "namespace {} has no free egress IP for this node: {refusals}. List more addresses in its egress-cni.dev/egress-ip",
            self.namespace
        ))))
    }

    async fn lease_this(
        &self,
        leases: &Leases,
        access: &Access,
        address: IpAddr,
        found: Option<&Lease>,
        claim: &mut Claim,
    ) -> Result<Result<(), CniError>, kubernetes::Error> {
        let (lock, mut prepared) = match self.prepare_locked(address) {
            Ok(prepared) => prepared,
            Err(e) => return Ok(Err(e)),
        };
        // Before the Lease: who is silent here may be using the address with an expired one.
        if !prepared.here
            && let Err(e) = self.probe(&prepared.uplink, address)
        {
            return Ok(Err(e));
        }
        if !leases.take(address, self.namespace, found).await? {
            return Ok(Err(CniError::try_again(format!(
                "{address} was taken by another node just now"
            ))));
        }
        prepared.owner.lease = Some(Held {
            kubeconfig: access.kubeconfig.clone(),
            node: access.node.clone(),
            renewed: Timestamp::now().as_second(),
            lost: false,
        });
        let added = if prepared.here {
            let written = self.state.write_egress(address, &prepared.owner);
            written.map_err(CniError::from)
        } else {
            self.add(&mut prepared, address)
        };
        if let Err(e) = added {
            // Nobody knows of it here if its file could not be written.
            if !matches!(self.state.read_egress::<Owner>(address), Ok(Some(_))) {
                leases.give_back(address).await?;
            }
            return Ok(Err(e));
        }
        claim._locks.push(lock);
        claim.addresses.push(address);
        claim.uplink = Some(prepared.uplink.index);
        Ok(Ok(()))
    }

    fn prepare_locked(&self, address: IpAddr) -> Result<(crate::state::Lock, Prepared), CniError> {
        let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
        Ok((lock, self.prepare(address)?))
    }

    /// Looks where the address is and who has it. This attachment becomes one of its users.
    fn prepare(&self, address: IpAddr) -> Result<Prepared, CniError> {
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
        Ok(Prepared {
            here: here == Some(uplink.index),
            rtnl,
            uplink,
            owner,
        })
    }

    /// Adds an address that nobody else has to the uplink, and announces it.
    fn add(&self, prepared: &mut Prepared, address: IpAddr) -> Result<(), CniError> {
        let uplink = &prepared.uplink;
        self.state.write_egress(address, &prepared.owner)?;
        address::add(&mut prepared.rtnl, uplink.index, address).map_err(net_error)?;
        if let Err(e) = neighbour::announce(uplink, &[address]) {
            // Neighbours that never heard of the address will ask; those that did are rare.
            tracing::warn!("cannot announce {address}: {e}");
        }
        tracing::info!(%address, uplink = uplink.name, "took the egress IP");
        Ok(())
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
            (Some(mut owner), Some(device)) if device == uplink.index && !owner.is_lost() => {
                owner.users.retain(|id| self.is_alive(id));
                Ok(owner)
            }
            (_, Some(device)) => Err(CniError::egress_ip(format!(
                "egress IP {address} is already an address of this node (on device {device}): list another one in egress-cni.dev/egress-ip of namespace {}",
                self.namespace
            ))),
            // Somebody took it from the uplink, or this node had lost it: its pods get it back.
            (Some(owner), None) if owner.namespace == self.namespace => {
                let mut users = owner.users;
                users.retain(|id| self.is_alive(id));
                Ok(Owner {
                    users,
                    ..self.new_owner(uplink)
                })
            }
            (_, None) => Ok(self.new_owner(uplink)),
        }
    }

    pub(super) fn new_owner(&self, uplink: &Link) -> Owner {
        Owner {
            namespace: self.namespace.to_owned(),
            uplink: uplink.name.clone(),
            uplink_index: uplink.index,
            users: Vec::new(),
            lease: None,
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

/// Why no address of a list could be had, for a message.
#[derive(Debug, Default)]
struct Refusals {
    named: Vec<String>,
    more: usize,
}

impl Refusals {
    fn add(&mut self, refusal: String) {
        if self.named.len() < NAMED {
            self.named.push(refusal);
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join("; "))?;
        match self.more {
            0 => Ok(()),
            n => write!(f, "; and {n} more"),
        }
    }
}
