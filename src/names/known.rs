//! What is known: which addresses are in which group's sets, for which names, and until when.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::store::{GroupName, KnownAddress, KnownNames};

/// Addresses of one group and family, as many as its set may have.
pub const MOST_ADDRESSES: usize = 4096;
/// Names of one address.
const MOST_NAMES: usize = 16;
/// Names of all.
pub const MOST_OF_ALL: usize = 16 * 1024;

/// Milliseconds since the machine's boot.
pub type Time = u64;

/// An address in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// When the kernel forgets it.
    pub until: Time,
    /// What it was an answer for, the latest last.
    pub names: Vec<Arc<str>>,
    /// Who asked last.
    pub asked_by: Arc<str>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct KnownSets {
    groups: HashMap<GroupName, HashMap<IpAddr, Address>>,
    /// When a name was last heard of.
    names: HashMap<Arc<str>, Time>,
}

impl KnownSets {
    /// Until when the kernel has an address; none: it has not.
    pub fn until(&self, group: &GroupName, address: IpAddr, now: Time) -> Option<Time> {
        let until = self.groups.get(group)?.get(&address)?.until;
        (until > now).then_some(until)
    }

    /// Whether a group's set has room for an address.
    pub fn has_room(&mut self, group: &GroupName, address: IpAddr, now: Time) -> bool {
        let Some(addresses) = self.groups.get_mut(group) else {
            return true;
        };
        if addresses.contains_key(&address) {
            return true;
        }
        let is_full = |addresses: &HashMap<IpAddr, Address>| {
            let same = addresses
                .keys()
                .filter(|known| known.is_ipv4() == address.is_ipv4());
            same.count() >= MOST_ADDRESSES
        };
        if addresses.len() >= MOST_ADDRESSES && is_full(addresses) {
            addresses.retain(|_, known| known.until > now);
            return !is_full(addresses);
        }
        true
    }

    /// An address is in a set until then, at least: it never leaves earlier than was said before.
    pub fn put(
        &mut self,
        group: &GroupName,
        address: IpAddr,
        (name, asked_by): (&str, &Arc<str>),
        (now, until): (Time, Time),
    ) {
        let name = self.name(name, now);
        let addresses = self.groups.entry(group.clone()).or_default();
        let known = addresses.entry(address).or_insert_with(|| Address {
            until,
            names: Vec::new(),
            asked_by: Arc::clone(asked_by),
        });
        known.until = known.until.max(until);
        known.asked_by = Arc::clone(asked_by);
        known.names.retain(|known| *known != name);
        if known.names.len() >= MOST_NAMES {
            known.names.remove(0);
        }
        known.names.push(name);
    }

    /// A name, which all that have it share.
    fn name(&mut self, name: &str, now: Time) -> Arc<str> {
        let shared = self
            .names
            .get_key_value(name)
            .map(|(name, _)| Arc::clone(name));
        let name = shared.unwrap_or_else(|| name.into());
        self.names.insert(Arc::clone(&name), now);
        if self.names.len() > MOST_OF_ALL {
            self.forget_oldest_names();
        }
        name
    }

    /// An eighth of the names at once: who asks for one new name after the other must not make each dear.
    fn forget_oldest_names(&mut self) {
        let mut times: Vec<Time> = self.names.values().copied().collect();
        let last = MOST_OF_ALL / 8;
        let (_, oldest, _) = times.select_nth_unstable(last);
        let oldest = *oldest;
        let mut most = last;
        self.names.retain(|_, heard| {
            let goes = *heard <= oldest && most > 0;
            most -= usize::from(goes);
            !goes
        });
        for known in self.groups.values_mut().flat_map(HashMap::values_mut) {
            known.names.retain(|name| self.names.contains_key(name));
        }
    }

    /// Forgets what the kernel has forgotten, and all of groups that are gone.
    pub fn tidy(&mut self, now: Time, is_wanted: impl Fn(&GroupName) -> bool) {
        self.groups.retain(|group, addresses| {
            addresses.retain(|_, known| known.until > now);
            !addresses.is_empty() && is_wanted(group)
        });
        let of_all = self.groups.values().flat_map(HashMap::values);
        let used: std::collections::HashSet<&Arc<str>> =
            of_all.flat_map(|known| &known.names).collect();
        let unused: Vec<Arc<str>> = self
            .names
            .keys()
            .filter(|name| !used.contains(name))
            .cloned()
            .collect();
        for name in unused {
            self.names.remove(&name);
        }
    }

    /// Nothing is in a group's sets any more; says what was.
    pub fn take(&mut self, group: &GroupName) -> Vec<(IpAddr, Address)> {
        self.groups.remove(group).into_iter().flatten().collect()
    }

    /// What was known before, as it was.
    pub fn put_back(&mut self, group: &GroupName, address: IpAddr, mut known: Address, now: Time) {
        known.names = known
            .names
            .iter()
            .map(|name| self.name(name, now))
            .collect();
        self.groups
            .entry(group.clone())
            .or_default()
            .insert(address, known);
    }

    /// What a group's sets have, in order.
    pub fn of_group(&self, group: &GroupName, now: Time) -> BTreeMap<IpAddr, &Address> {
        let addresses = self.groups.get(group).into_iter().flatten();
        let living = addresses.filter(|(_, known)| known.until > now);
        living.map(|(address, known)| (*address, known)).collect()
    }

    /// The name by which an address was last learned for one of these groups.
    pub fn name_of(&self, groups: &[GroupName], address: IpAddr, now: Time) -> Option<&Arc<str>> {
        let known = groups
            .iter()
            .filter_map(|group| self.groups.get(group)?.get(&address));
        known
            .filter(|known| known.until > now)
            .find_map(|known| known.names.last())
    }

    /// How many names and addresses there are.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.names.len(),
            self.groups.values().map(HashMap::len).sum(),
        )
    }

    /// It as a document.
    pub fn document(&self, now: Time) -> KnownNames {
        let groups = self.groups.keys().map(|group| {
            let addresses = self.of_group(group, now).into_iter();
            let addresses = addresses.map(|(address, known)| KnownAddress {
                address,
                names: known.names.iter().map(|name| name.to_string()).collect(),
                until: known.until,
                asked_by: known.asked_by.to_string(),
            });
            (group.clone(), addresses.collect())
        });
        KnownNames {
            groups: groups.collect(),
        }
    }

    /// Learns what a document says beyond what is known. Nothing in it lives longer than `longest` from now.
    pub fn read(&mut self, document: KnownNames, (now, longest): (Time, Time)) {
        for (group, addresses) in document.groups {
            for KnownAddress {
                address,
                names,
                until,
                asked_by,
            } in addresses
            {
                let until = until.min(now + longest);
                let is_news = self
                    .until(&group, address, now)
                    .is_none_or(|known| known < until);
                if until <= now || !is_news || !self.has_room(&group, address, now) {
                    continue;
                }
                let known = Address {
                    until,
                    names: names
                        .iter()
                        .take(MOST_NAMES)
                        .map(|name| name.as_str().into())
                        .collect(),
                    asked_by: asked_by.into(),
                };
                self.put_back(&group, address, known, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
