//! Taking an address in a cluster, where nodes agree on who has which.

use std::fmt;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use nft::Family;

use super::take::{Claimant, Miss};
use super::{Claim, Member, Ownership, Standing, choose, is_fresh, lock_name};
use crate::refusal::CniError;
use crate::store::{Held, Owner};

/// How long before the deadline the last answer must be there: the rest of an ADD takes milliseconds.
const REST: Duration = Duration::from_millis(500);

/// How many addresses of a list a message names.
const NAMED: usize = 8;

impl Claimant<'_> {
    /// In a cluster. Asks the API only if this node has no address yet.
    pub(super) fn take_leased(
        &self,
        member: &Member,
        list: &[IpNet],
        families: &[Family],
        claim: &mut Claim,
    ) -> Result<(), CniError> {
        // Pods of one namespace that start together choose one after the other.
        let name = format!("egress-of-{}", self.namespace);
        claim
            .locks
            .push(self.state.lock_named(&name, self.deadline)?);
        if self.join_all(list, families, claim)? {
            return Ok(());
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut ownership = self.registry.open(member, left.saturating_sub(REST));
        ownership.look()?;
        for family in families {
            self.lease_one(&mut *ownership, member, list, *family, claim)?;
        }
        Ok(())
    }

    /// Uses the addresses that this node has for the namespace already. False: it lacks one.
    fn join_all(
        &self,
        list: &[IpNet],
        families: &[Family],
        claim: &mut Claim,
    ) -> Result<bool, CniError> {
        let mut joined = Claim::default();
        for family in families {
            match self.own(list, *family) {
                Some(address) if self.join(address, &mut joined)? => {}
                _ => return Ok(false),
            }
        }
        claim.locks.append(&mut joined.locks);
        claim.addresses = joined.addresses;
        claim.uplink = joined.uplink;
        Ok(true)
    }

    /// The address of a family that this node has for the namespace, as far as can be seen without a lock.
    fn own(&self, list: &[IpNet], family: Family) -> Option<IpAddr> {
        let addresses = self.state.list_egress().ok()?;
        addresses
            .into_iter()
            .filter(|a| Family::of(a) == family && list.iter().any(|net| net.contains(a)))
            .find(|a| {
                let owner = self.state.read_egress(*a).unwrap_or_default();
                owner.is_some_and(|owner| self.may_join(&owner))
            })
    }

    /// The Lease is this node's without asking: the agent renews it, and says so.
    fn may_join(&self, owner: &Owner) -> bool {
        let fresh = |held: &Held| is_fresh(held, Timestamp::now().as_second());
        owner.namespace == self.namespace
            && !owner.users.is_empty()
            && owner.lease.as_ref().is_some_and(fresh)
    }

    /// Uses an address that this node has. False: it went meanwhile.
    fn join(&self, address: IpAddr, claim: &mut Claim) -> Result<bool, CniError> {
        let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
        let owner = self.state.read_egress(address).unwrap_or_default();
        if !owner.is_some_and(|owner| self.may_join(&owner)) {
            return Ok(false);
        }
        let mut prepared = self.prepare(address, false).map_err(CniError::from)?;
        match (prepared.here, prepared.moves_from) {
            (true, _) => self.state.write_egress(address, &prepared.owner)?,
            (false, Some(_)) => {
                self.probe(&mut prepared, address)?;
                self.add(&mut prepared, address)?;
            }
            (false, None) => return Ok(false),
        }
        claim.locks.push(lock);
        claim.addresses.push(address);
        claim.uplink = Some(prepared.uplink.index);
        Ok(true)
    }

    /// Takes one address of a family. If all are taken, and one will be free soon, because its node has
    /// gone, it is waited for.
    fn lease_one(
        &self,
        ownership: &mut dyn Ownership,
        member: &Member,
        list: &[IpNet],
        family: Family,
        claim: &mut Claim,
    ) -> Result<(), CniError> {
        loop {
            let mut refusals = Refusals::default();
            if self.try_all(ownership, member, list, family, claim, &mut refusals)? {
                return Ok(());
            }
            let wait = refusals.soonest.filter(|wait| self.has_time(*wait));
            let Some(wait) = wait else {
                return Err(CniError::try_again(format!(
                    "namespace {} has no free egress IP for this node: {refusals}. List more addresses in its egressway.dev/egress-ip",
                    self.namespace
                )));
            };
            tracing::info!("waiting {wait:?} for an egress IP whose node does not renew its Lease");
            thread::sleep(wait);
            ownership.look()?;
        }
    }

    fn has_time(&self, wait: Duration) -> bool {
        Instant::now() + wait + REST * 2 < self.deadline
    }

    /// Tries each address once. False: none can be had.
    fn try_all(
        &self,
        ownership: &mut dyn Ownership,
        member: &Member,
        list: &[IpNet],
        family: Family,
        claim: &mut Claim,
        refusals: &mut Refusals,
    ) -> Result<bool, CniError> {
        let own: Vec<IpAddr> = ownership
            .own(self.namespace)
            .into_iter()
            .filter(|a| Family::of(a) == family && list.iter().any(|net| net.contains(a)))
            .collect();
        // What this node had before it was started again; then in the order of its name.
        let others = choose::order(list, family, &member.node).filter(|a| !own.contains(a));
        for address in own.iter().copied().chain(others) {
            if let Standing::Held { by, ends_in } = ownership.standing(address) {
                refusals.add(format!("{address} is held by node {by}"));
                refusals.may_end(ends_in);
                continue;
            }
            match self.lease_this(ownership, member, address, own.contains(&address), claim) {
                Ok(()) => return Ok(true),
                Err(Miss::This(e)) => refusals.add(e.msg),
                Err(Miss::All(e)) => return Err(e),
            }
            if !self.has_time(Duration::ZERO) {
                refusals.add("there was no time to try the others".to_owned());
                break;
            }
        }
        Ok(false)
    }

    /// `own`: this node's Lease says that it is the namespace's.
    fn lease_this(
        &self,
        ownership: &mut dyn Ownership,
        member: &Member,
        address: IpAddr,
        own: bool,
        claim: &mut Claim,
    ) -> Result<(), Miss> {
        let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
        let mut prepared = self.prepare(address, own)?;
        // Before the Lease: who is silent here may be using the address with an expired one.
        if !prepared.here {
            self.probe(&mut prepared, address)?;
        }
        if !ownership.take(address, self.namespace).map_err(Miss::All)? {
            return Err(Miss::This(CniError::try_again(format!(
                "another node has just acquired {address}"
            ))));
        }
        let before = prepared.owner.lease.take().map(|held| held.unknown);
        prepared.owner.lease = Some(Held {
            kubeconfig: member.kubeconfig.clone(),
            node: member.node.clone(),
            renewed: Timestamp::now().as_second(),
            lost: false,
            // Of a Lease that this node had before.
            unknown: before.unwrap_or_default(),
        });
        let added = if prepared.here {
            let written = self.state.write_egress(address, &prepared.owner);
            written.map_err(Miss::from)
        } else {
            self.add(&mut prepared, address)
        };
        if let Err(e) = added {
            // Nobody knows of it here if its file could not be written.
            if !matches!(self.state.read_egress(address), Ok(Some(_))) {
                ownership.give_back(address).map_err(Miss::All)?;
            }
            return Err(e);
        }
        claim.locks.push(lock);
        claim.addresses.push(address);
        claim.uplink = Some(prepared.uplink.index);
        Ok(())
    }
}

/// Why no address of a list could be had, for a message.
#[derive(Debug, Default)]
struct Refusals {
    named: Vec<String>,
    more: usize,
    /// When the first of them may be free.
    soonest: Option<Duration>,
}

impl Refusals {
    fn add(&mut self, refusal: String) {
        if self.named.len() < NAMED {
            self.named.push(refusal);
        } else {
            self.more += 1;
        }
    }

    fn may_end(&mut self, ends_in: Option<Duration>) {
        self.soonest = match (self.soonest, ends_in) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
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
