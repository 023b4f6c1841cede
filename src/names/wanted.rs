//! Which names are wanted, and by whom: groups and pods, as the state directory has them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::learn::Tokens;
use crate::store::{AttachmentId, GroupName, NameGroup, Record, StateDir, StateError};

/// A directory that changed so short a time before it was read may have changed since without looking different: file
/// times are as coarse as the kernel's tick, at most 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// A group's patterns, for look-ups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    whole: HashSet<String>,
    /// What stands behind `*.`.
    behind_star: HashSet<String>,
}

impl Patterns {
    /// As rules print them.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Patterns {
        let mut all = Patterns::default();
        for pattern in patterns {
            match pattern.strip_prefix("*.") {
                Some(end) => all.behind_star.insert(end.to_owned()),
                None => all.whole.insert(pattern.to_owned()),
            };
        }
        all
    }

    /// Whether one of them means this name, of a [`Question`](super::message::Question).
    pub fn mean(&self, name: &str) -> bool {
        let mut ends = name.match_indices('.');
        self.whole.contains(name)
            || (!self.behind_star.is_empty()
                && ends.any(|(dot, _)| self.behind_star.contains(&name[dot + 1..])))
    }
}

/// A group.
#[derive(Debug)]
pub struct WantedGroup {
    /// Its name.
    pub name: GroupName,
    /// What it was read from.
    pub document: NameGroup,
    /// Its patterns.
    pub patterns: Patterns,
    /// What to send.
    pub tokens: Tokens,
}

/// A pod whose questions are led here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// What people call it.
    pub title: Arc<str>,
    /// Its UID, as the runtime knows it.
    pub uid: Option<String>,
    /// The groups that its rules have.
    pub groups: Vec<GroupName>,
    /// It may ask for no other names.
    pub only_allowed: bool,
    /// Indexes of interfaces are given in order: of two records with one address, a stale one has the lower.
    veth_index: u32,
}

/// All of them.
#[derive(Debug)]
pub struct WantedNames {
    state: StateDir,
    groups: Directory<GroupName, Arc<WantedGroup>>,
    records: Directory<AttachmentId, Vec<(IpAddr, Arc<Asker>)>>,
    by_address: HashMap<IpAddr, Arc<Asker>>,
}

/// What a look has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Groups whose sets are filled in another way than before: what is known must be put there anew.
    pub anew: Vec<GroupName>,
    /// Groups or pods are others than before.
    pub changed: bool,
}

impl WantedNames {
    /// None yet.
    pub fn new(state: StateDir) -> WantedNames {
        WantedNames {
            groups: Directory::new(state.names_dir()),
            records: Directory::new(state.attachment_dir()),
            by_address: HashMap::new(),
            state,
        }
    }

    /// Reads what has changed. Who makes sets and rules writes these files before.
    pub fn refresh(&mut self) -> News {
        let mut news = News::default();
        let state = &self.state;
        let changed = self.groups.refresh(|name| read_group(state, name));
        news.changed |= !changed.is_empty();
        news.anew = changed;
        let changed = self.records.refresh(|id| read_record(state, id));
        if !changed.is_empty() {
            news.changed = true;
            self.by_address.clear();
            for (address, asker) in self
                .records
                .all
                .values()
                .filter_map(|file| file.read.as_ref())
                .flatten()
            {
                match self.by_address.get(address) {
                    Some(known) if known.veth_index > asker.veth_index => {}
                    _ => drop(self.by_address.insert(*address, Arc::clone(asker))),
                }
            }
        }
        news
    }

    /// The pod that has this address.
    pub fn asker(&self, address: IpAddr) -> Option<&Arc<Asker>> {
        self.by_address.get(&address)
    }

    /// All pods, each with its addresses.
    pub fn askers(&self) -> impl Iterator<Item = (&IpAddr, &Arc<Asker>)> {
        self.by_address.iter()
    }

    /// A group.
    pub fn group(&self, name: &GroupName) -> Option<&Arc<WantedGroup>> {
        self.groups.all.get(name)?.read.as_ref()
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<WantedGroup>> {
        self.groups
            .all
            .values()
            .filter_map(|file| file.read.as_ref())
    }

    /// Those of a pod's groups that a name is in.
    pub fn meant<'a>(
        &'a self,
        asker: &'a Asker,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Arc<WantedGroup>> {
        let groups = asker.groups.iter().filter_map(|group| self.group(group));
        groups.filter(move |group| group.patterns.mean(name))
    }
}

fn read_group(state: &StateDir, name: &GroupName) -> Option<Arc<WantedGroup>> {
    let document = told(state.read_name_group(name))?;
    Some(Arc::new(WantedGroup {
        name: name.clone(),
        patterns: Patterns::new(document.patterns.iter().map(String::as_str)),
        tokens: Tokens::read(&document),
        document,
    }))
}

fn read_record(state: &StateDir, id: &AttachmentId) -> Option<Vec<(IpAddr, Arc<Asker>)>> {
    let record = told(Record::read_alone(state, id))?;
    let names = record.names()?;
    let asker = Arc::new(Asker {
        title: record.title().into(),
        uid: record.uid.clone(),
        groups: names.groups,
        only_allowed: names.only_allowed,
        veth_index: record.veth_index,
    });
    let link_local = record.link_local.into_iter().map(IpAddr::V6);
    let addresses = record.addresses.into_iter().chain(link_local);
    Some(
        addresses
            .map(|address| (address, Arc::clone(&asker)))
            .collect(),
    )
}

/// What can't be read is for `sync` to say; here it is as if it were not there, and what it wants stays closed.
fn told<T>(read: Result<Option<T>, StateError>) -> Option<T> {
    read.unwrap_or_else(|e| {
        tracing::debug!("{e}");
        None
    })
}

/// A directory of documents, of which only those are read that have changed.
#[derive(Debug)]
struct Directory<K, T> {
    path: PathBuf,
    /// When it changed last. None: not known, or not long enough ago.
    read: Option<SystemTime>,
    all: HashMap<K, FileOf<T>>,
}

#[derive(Debug)]
struct FileOf<T> {
    /// Of the file that was read: each that replaces it is another.
    stamp: Stamp,
    read: Option<T>,
}

/// Tells a file from the one that had its name before.
type Stamp = (u64, SystemTime);

impl<K: std::str::FromStr + Clone + Eq + std::hash::Hash, T> Directory<K, T> {
    fn new(path: PathBuf) -> Self {
        Directory {
            path,
            read: None,
            all: HashMap::new(),
        }
    }

    /// Reads anew what has changed, and says what that is. What is gone, too.
    fn refresh(&mut self, mut read: impl FnMut(&K) -> Option<T>) -> Vec<K> {
        let now = SystemTime::now();
        let changed = fs::metadata(&self.path)
            .and_then(|data| data.modified())
            .ok();
        if changed.is_some() && self.read == changed {
            return Vec::new();
        }
        let found = files(&self.path);
        let mut news: Vec<K> = Vec::new();
        self.all.retain(|name, _| {
            let stays = found.contains_key(name);
            if !stays {
                news.push(name.clone());
            }
            stays
        });
        for (name, stamp) in found {
            if self
                .all
                .get(&name)
                .is_some_and(|known| known.stamp == stamp)
            {
                continue;
            }
            let read = read(&name);
            self.all.insert(name.clone(), FileOf { stamp, read });
            news.push(name);
        }
        let settled =
            changed.filter(|changed| now.duration_since(*changed).is_ok_and(|age| age > TICK));
        self.read = settled;
        news
    }
}

fn files<K: std::str::FromStr + Eq + std::hash::Hash>(path: &Path) -> HashMap<K, Stamp> {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
        let data = entry.metadata().ok()?;
        Some((name, (data.ino(), data.modified().ok()?)))
    });
    files.collect()
}

#[cfg(test)]
mod tests;
