//! Taking an address in a cluster, where nodes agree by Leases on who has which.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::lease::{self, Access, Leases};
use super::take::{Prepared, Request};
use super::{Claim, Held, Owner, choose, lock_name};
use crate::cluster::{self, Limit};
use crate::refusal::CniError;
use crate::refusal::code;
use crate::store::Lock;

/// How long before the deadline the API's answer must be there: the rest of an ADD takes milliseconds.
const REST: Duration = Duration::from_millis(500);

/// How many addresses of a list a message names.
const NAMED: usize = 8;

impl Request<'_> {
    /// In a cluster. Asks the API only if this node has no address yet.
    pub(super) fn take_leased(
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
        cluster::run(async {
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
        let fresh = |held: &Held| held.is_fresh(Timestamp::now().as_second());
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
        let prepared = self.prepare(address, false)?;
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
    ) -> Result<Result<(), CniError>, cluster::Error> {
        let mut refusals = Refusals::default();
        let own = seen.values().filter(|lease| self.is_held(leases, lease));
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
            "namespace {} has no free egress IP for this node: {refusals}. List more addresses in its egressway.dev/egress-ip",
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
    ) -> Result<Result<(), CniError>, cluster::Error> {
        let leased = found.is_some_and(|lease| self.is_held(leases, lease));
        let (lock, mut prepared) = match self.prepare_locked(address, leased) {
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

    fn prepare_locked(&self, address: IpAddr, leased: bool) -> Result<(Lock, Prepared), CniError> {
        let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
        Ok((lock, self.prepare(address, leased)?))
    }

    /// Whether this node has the Lease for this namespace.
    fn is_held(&self, leases: &Leases, lease: &Lease) -> bool {
        leases.is_own(lease) && lease::annotation(lease, lease::FOR) == Some(self.namespace)
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
