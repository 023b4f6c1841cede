//! What is remembered of each attachment, so that a look need not read it again, and so that a record that
//! somebody removes is not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::super::reconcile::{Change, Error, title};
use super::{PATIENCE, restored};
use crate::attachment::now::Devices;
use crate::plan::names::pod_chain;
use crate::plan::{INET, LAYOUT};
use crate::store::{AttachmentId, PolicyKey, Record, Stamp, StateDir, StateError};
use nft::Nft;

/// Bytes of policies that are remembered in all. What is beyond has its record put back only as long as the file with
/// its rules is there.
const POLICIES: usize = 8 * 1024 * 1024;

struct RememberedRecord {
    record: Record<PolicyKey>,
    file: Stamp,
    /// What only a new start of the pod mends, as it was when it was said.
    told: Vec<String>,
}

pub(super) struct Remembered {
    state: StateDir,
    known: BTreeMap<AttachmentId, RememberedRecord>,
    policies: BTreeMap<PolicyKey, Vec<u8>>,
    /// The directory of records, as it was when all had been read.
    read: Option<Stamp>,
}

impl Remembered {
    pub(super) fn new(state: StateDir) -> Remembered {
        Remembered {
            state,
            known: BTreeMap::new(),
            policies: BTreeMap::new(),
            read: None,
        }
    }

    /// Reads records that are new, and puts back those that somebody has removed.
    pub(super) fn update(&mut self, nft: &mut Nft, changes: &mut Vec<Change>) -> Result<(), Error> {
        let dir = Stamp::of(&self.state.attachments_dir()?);
        if dir.is_some() && dir == self.read {
            return Ok(());
        }
        let dir = dir.filter(Stamp::is_settled);
        let ids = self.state.list_attachments()?;
        let gone: Vec<AttachmentId> = self.known.keys().cloned().collect();
        for id in gone.iter().filter(|id| ids.binary_search(id).is_err()) {
            self.lost(nft, id, changes)?;
        }
        for id in &ids {
            self.read(id);
        }
        self.lost_rules(changes)?;
        let used: BTreeSet<&PolicyKey> = self.known.values().map(|k| &k.record.policy).collect();
        self.policies.retain(|key, _| used.contains(key));
        self.read = dir;
        Ok(())
    }

    fn read(&mut self, id: &AttachmentId) {
        // Before it is read: what is written meanwhile is read with the next call.
        let Some(file) = Stamp::of(&self.state.attachment_path(id)) else {
            return;
        };
        if self.known.get(id).is_some_and(|known| known.file == file) {
            return;
        }
        let record = match Record::read_alone(&self.state, id) {
            Ok(Some(record)) if record.layout == LAYOUT && record.id == *id => record,
            // Nothing is known of it: `sync` says what is wrong with it.
            _ => {
                self.known.remove(id);
                return;
            }
        };
        let held: usize = self.policies.values().map(Vec::len).sum();
        if !self.policies.contains_key(&record.policy)
            && let Ok(Some(file)) = self.state.policy_file(&record.policy)
            && held + file.len() <= POLICIES
        {
            self.policies.insert(record.policy.clone(), file);
        }
        let known = RememberedRecord {
            record,
            file,
            told: Vec::new(),
        };
        self.known.insert(id.clone(), known);
    }

    /// A DEL removes a record after the chains: while these are there, somebody else has removed it.
    fn lost(
        &mut self,
        nft: &mut Nft,
        id: &AttachmentId,
        changes: &mut Vec<Change>,
    ) -> Result<(), Error> {
        let _lock = self.state.lock(Instant::now() + PATIENCE)?;
        if self.state.has_attachment(id) {
            return Ok(());
        }
        let is_enforced = nft.chain(&INET, &pod_chain(id.as_str()))?.is_some();
        let Some(known) = self.known.get(id).filter(|_| is_enforced) else {
            self.known.remove(id);
            return Ok(());
        };
        let record = &known.record;
        let put = || -> Result<(), StateError> {
            // Without it, the file is there or nobody can put it back.
            if let Some(file) = self.policies.get(&record.policy) {
                self.state.put_policy_back(id, &record.policy, file)?;
            }
            self.state.write_attachment(id, record)?;
            self.state.set_link(&record.veth, id).map(drop)
        };
        let outcome = put();
        changes.push(restored(title(record), "its record was removed", outcome));
        Ok(())
    }

    /// Records of which somebody has removed the file with the rules.
    fn lost_rules(&self, changes: &mut Vec<Change>) -> Result<(), Error> {
        let users: BTreeSet<(AttachmentId, PolicyKey)> =
            self.state.policy_users()?.into_iter().collect();
        for (id, RememberedRecord { record, .. }) in &self.known {
            let key = &record.policy;
            let Some(file) = self.policies.get(key) else {
                continue;
            };
            if users.contains(&(id.clone(), key.clone())) {
                continue;
            }
            let _lock = self.state.lock(Instant::now() + PATIENCE)?;
            let now = Record::read_alone(&self.state, id).ok().flatten();
            if now.is_none_or(|now| now.policy != *key) {
                continue; // it has another one by now, or is gone
            }
            let outcome = self.state.put_policy_back(id, key, file);
            changes.push(restored(
                title(record),
                "the file with its rules was removed",
                outcome,
            ));
        }
        Ok(())
    }

    /// The attachments whose interfaces are not as their records say.
    pub(super) fn others(&mut self, devices: &Devices) -> BTreeSet<AttachmentId> {
        let mut others = BTreeSet::new();
        for (id, known) in &mut self.known {
            let Some(now) = devices.seen(&known.record) else {
                continue; // it goes
            };
            if !now.changed.is_empty() || now.told != known.told {
                others.insert(id.clone());
            }
            known.told = now.told;
        }
        others
    }

    /// The attachments at these links.
    pub(super) fn at(&self, links: &BTreeSet<u32>) -> BTreeSet<AttachmentId> {
        if links.is_empty() {
            return BTreeSet::new();
        }
        let all = self.known.iter();
        let at = all.filter(|(_, known)| links.contains(&known.record.veth_index));
        at.map(|(id, _)| id.clone()).collect()
    }

    /// The egress addresses that attachments use.
    pub(super) fn egress(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.known.values();
        all.flat_map(|known| known.record.egress.iter().copied())
    }

    pub(super) fn use_egress(&self) -> bool {
        self.egress().next().is_some()
    }
}
