//! One egress address against its file, its users' records and the uplink.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use super::{Did, Error, Report};
use crate::egress::place::Ways;
use crate::egress::remains::{self, Remains};
use crate::egress::{Claimant, Registry, Release, lock_name, net_error};
use crate::enforce::Remove;
use crate::refusal::CniError;
use crate::store::document::Unknown;
use crate::store::{AttachmentId, Lock, Owner, PolicyKey, Record, StateDir, StateError};
use netlink::{Rtnl, address, link};
use nft::Nft;

/// All addresses of which a file, a record or the kernel speaks.
///
/// # Errors
/// The state directory can't be listed, or the kernel does not tell.
pub fn known(state: &StateDir, nft: &mut Nft) -> Result<BTreeSet<IpAddr>, Error> {
    let mut addresses: BTreeSet<IpAddr> = state.list_egress()?.into_iter().collect();
    addresses.extend(state.unfinished_egress()?);
    addresses.extend(state.records()?.into_iter().flat_map(|(_, r)| r.egress));
    addresses.extend(remains::guarded(nft)?);
    Ok(addresses)
}

/// Whose records name which address.
///
/// # Errors
/// The state directory can't be listed.
pub fn users(state: &StateDir) -> Result<HashMap<IpAddr, Vec<AttachmentId>>, StateError> {
    let mut users: HashMap<IpAddr, Vec<AttachmentId>> = HashMap::new();
    for (id, record) in state.records()? {
        for address in record.egress {
            users.entry(address).or_default().push(id.clone());
        }
    }
    Ok(users)
}

/// Whether there is nothing to do about an address, as far as can be seen without its lock.
pub fn is_fine(
    state: &StateDir,
    address: IpAddr,
    users: Option<&Vec<AttachmentId>>,
    ways: &Ways,
) -> bool {
    let (Some(users), Ok(Some(owner))) = (users, state.read_egress(address)) else {
        return false;
    };
    let is_unfinished = state
        .unfinished_egress()
        .map_or(true, |unfinished| unfinished.contains(&address));
    !is_unfinished
        && !owner.is_lost()
        && owner.users.len() == users.len()
        && users.iter().all(|user| owner.users.contains(user))
        && ways.faults(address, &owner).is_empty()
}

/// What shall be done about one address.
pub struct Reconcile<'a> {
    /// The state directory.
    pub state: &'a StateDir,
    /// Where addresses are given back.
    pub registry: &'a dyn Registry,
    /// The address.
    pub address: IpAddr,
    /// Puts it back where it is missing.
    pub repair: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// Until when its lock is waited for.
    pub lock_by: Instant,
    /// When to give up.
    pub deadline: Instant,
}

impl Reconcile<'_> {
    /// Compares, and mends. Under the address's own lock no ADD or DEL is at work on it, so that a
    /// user without a record is one that was never finished.
    pub fn run(&self, nft: &mut Nft, report: &mut Report) {
        let what = format!("egress IP {}", self.address);
        let outcome = self.reconcile(nft, report, &what);
        if let Err(e) = outcome {
            report.note(Did::Failed, what, e.msg);
        }
    }

    fn reconcile(&self, nft: &mut Nft, report: &mut Report, what: &str) -> Result<(), CniError> {
        // The lock's file would be left where there is nothing else.
        let lock = match self.dry_run {
            true => None,
            false => Some(
                self.state
                    .lock_named(&lock_name(self.address), self.lock_by)?,
            ),
        };
        if !self.dry_run {
            self.state.remove_unfinished_egress(self.address)?;
        }
        let (owner, damaged) = match self.state.read_egress(self.address) {
            Ok(owner) => (owner, None),
            Err(e @ StateError::Damaged { .. }) => (None, Some(e.to_string())),
            Err(e) if e.is_other_version() => {
                report.note(Did::Left, what, e.to_string());
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let mut users = self.state.records()?;
        users.retain(|(_, record)| record.egress.contains(&self.address));
        let mut ids: Vec<AttachmentId> = users.iter().map(|(id, _)| id.clone()).collect();
        // Whoever has a record that can't be read uses what the file says: nobody knows better.
        let unreadable = owner.iter().flat_map(|owner| &owner.users);
        let unreadable = unreadable.filter(|id| Record::read_alone(self.state, id).is_err());
        ids.extend(unreadable.cloned());
        match (owner, users.first()) {
            (Some(owner), Some(_)) if owner.is_lost() => {
                report.note(Did::Left, what, "another node now holds it");
            }
            (None, None) => self.forgotten(nft, report, what, damaged, lock)?,
            (Some(_), None) if !ids.is_empty() => {}
            (Some(owner), None) => {
                let did = self.word(Did::Removed);
                let outcome = match did {
                    Did::Removed => self.give_back(nft, owner, lock),
                    _ => Ok(()),
                };
                report.outcome(did, what, "no pod uses it", outcome);
            }
            (owner, Some((id, record))) => {
                let missing = match self.repair {
                    true => self.missing(report, what, owner.as_ref(), &ids, damaged)?,
                    false => None,
                };
                if let Some(why) = missing {
                    let did = self.word(Did::Repaired);
                    let outcome = match did {
                        Did::Repaired => self.put_back(owner, id, record, ids),
                        _ => Ok(()),
                    };
                    report.outcome(did, what, &why, outcome);
                } else if let Some(mut owner) = owner
                    && owner.users.iter().any(|user| !ids.contains(user))
                {
                    owner.users.retain(|user| ids.contains(user));
                    let did = self.word(Did::Removed);
                    let outcome = match did {
                        Did::Removed => self.state.write_egress(self.address, &owner),
                        _ => Ok(()),
                    };
                    let what = format!("users of {what}");
                    report.outcome(did, what, "they have no records", outcome);
                }
            }
        }
        Ok(())
    }

    /// Neither a file nor a record speaks of it. If the kernel guards it, it is this node's.
    fn forgotten(
        &self,
        nft: &mut Nft,
        report: &mut Report,
        what: &str,
        damaged: Option<String>,
        lock: Option<Lock>,
    ) -> Result<(), CniError> {
        let Some(remains) = Remains::find(self.state, self.address, false)? else {
            if let Some(why) = damaged {
                // Where it was is not known: a person has to look at the uplink.
                report.note(Did::Left, what, format!("{why}; no pod uses it"));
            }
            return Ok(());
        };
        let why = damaged.unwrap_or_else(|| "its file is gone".to_owned());
        if !remains.strangers.is_empty() {
            let pods = remains.name_strangers();
            let why = format!("{why}; pods without records use it ({pods}): recreate them");
            report.note(Did::Left, what, why);
            return Ok(());
        }
        let did = self.word(Did::Removed);
        let outcome = match did {
            Did::Removed => self
                .where_it_is()
                .and_then(|owner| self.give_back(nft, owner, lock)),
            _ => Ok(()),
        };
        report.outcome(did, what, &format!("{why}, and no pod uses it"), outcome);
        Ok(())
    }

    /// What can still be told of who has an address that nobody uses: the device.
    fn where_it_is(&self) -> Result<Owner, CniError> {
        let mut rtnl = Rtnl::open(self.deadline).map_err(net_error)?;
        let everywhere = address::all(&mut rtnl).map_err(net_error)?;
        let found = everywhere.iter().find(|a| a.address == self.address);
        Ok(Owner {
            namespace: String::new(),
            uplink: String::new(),
            uplink_index: found.map_or(0, |a| a.link),
            follows_route: false,
            arp_probe: true,
            users: Vec::new(),
            lease: None,
            unknown: Unknown::default(),
        })
    }

    fn word(&self, did: Did) -> Did {
        match did {
            Did::Repaired if self.dry_run => Did::WouldRepair,
            Did::Removed if self.dry_run => Did::WouldRemove,
            did => did,
        }
    }

    /// What has to be put back. What only others can mend is said.
    fn missing(
        &self,
        report: &mut Report,
        what: &str,
        owner: Option<&Owner>,
        users: &[AttachmentId],
        damaged: Option<String>,
    ) -> Result<Option<String>, CniError> {
        let Some(owner) = owner else {
            return Ok(Some(
                damaged.unwrap_or_else(|| "its file is missing".to_owned()),
            ));
        };
        let mut rtnl = Rtnl::open(self.deadline).map_err(net_error)?;
        let ways = Ways::read(&mut rtnl).map_err(net_error)?;
        let (mends, stays): (Vec<_>, Vec<_>) = ways
            .faults(self.address, owner)
            .into_iter()
            .partition(|fault| fault.mends);
        // Nothing can be put on a device that does not carry.
        let is_hopeless = !stays.is_empty();
        for fault in stays {
            report.note(Did::Left, what, fault.why);
        }
        if let Some(fault) = mends.into_iter().next().filter(|_| !is_hopeless) {
            return Ok(Some(fault.why));
        }
        let unknown = users.iter().any(|user| !owner.users.contains(user));
        Ok(unknown.then(|| "its file lacks a user".to_owned()))
    }

    /// Rules, then address, as DEL does it.
    fn give_back(&self, nft: &mut Nft, owner: Owner, lock: Option<Lock>) -> Result<(), CniError> {
        let release = Release {
            last: vec![self.address],
            owners: vec![owner],
            locks: lock.into_iter().collect(),
            ..Release::default()
        };
        {
            let _lock = self.state.lock(self.deadline)?;
            let remove = Remove {
                egress: &release.last,
                ..Remove::default()
            };
            remove
                .commit(nft, None)
                .map_err(|e| CniError::kernel(e.to_string()))?;
        }
        let _locks = release.finish(self.state, self.registry, self.deadline);
        match self.state.read_egress(self.address)? {
            None => Ok(()),
            Some(_) => Err(CniError::kernel("it could not be released; see the log")),
        }
    }

    /// As the first user's ADD took it: after a look whether somebody else has it by now.
    fn put_back(
        &self,
        owner: Option<Owner>,
        id: &AttachmentId,
        record: &Record<PolicyKey>,
        users: Vec<AttachmentId>,
    ) -> Result<(), CniError> {
        let mut rtnl = Rtnl::open(self.deadline).map_err(net_error)?;
        let index = owner.as_ref().map(|o| o.uplink_index).or(record.uplink);
        let uplink = match index {
            Some(index) => link::get_by_index(&mut rtnl, index).map_err(net_error)?,
            None => None,
        };
        let follows_route = owner.as_ref().is_some_and(|owner| owner.follows_route);
        let named = uplink.as_ref().filter(|_| !follows_route);
        let claimant = Claimant {
            state: self.state,
            id,
            namespace: record.namespace.as_deref().unwrap_or_default(),
            uplink: named.map(|link| link.name.as_str()),
            member: None, // whether it still is this node's, the agent finds out
            registry: self.registry,
            arp_probe: owner.as_ref().is_none_or(|owner| owner.arp_probe),
            deadline: self.deadline,
        };
        let there = match &uplink {
            Some(link) => address::of_link(&mut rtnl, link.index).map_err(net_error)?,
            None => Vec::new(),
        };
        let there = there.iter().any(|a| a.address == self.address);
        let is_known = owner.is_some();
        let (lease, unknown) = owner
            .map(|owner| (owner.lease, owner.unknown))
            .unwrap_or_default();
        match &uplink {
            // With a file the address is known to be ours; without one it would look like the node's.
            Some(link) if there && !is_known => self
                .state
                .write_egress(self.address, &claimant.new_owner(link))?,
            _ => {
                claimant.take_one(self.address)?;
            }
        }
        let owner = self.state.read_egress(self.address)?;
        let Some(mut owner) = owner else {
            return Err(CniError::egress_ip(
                "its file does not say which namespace holds it",
            ));
        };
        owner.users = users;
        owner.lease = lease;
        owner.unknown = unknown;
        Ok(self.state.write_egress(self.address, &owner)?)
    }
}
