//! Each record against its interface and what the kernel holds of it.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use super::{Did, Error, STEP, Sync, Which, title};
use crate::attachment::now::{Devices, Interface, Now};
use crate::enforce::{self, Ledger, Shared};
use crate::lifecycle::detach;
use crate::lifecycle::install::install;
use crate::lifecycle::node::Node;
use crate::lifecycle::owners;
use crate::plan::names::{pod_chain, veth_chain};
use crate::plan::{self, AttachmentPlan, Base, Compiled, INET, LAYOUT, NETDEV};
use crate::source::PolicyFile;
use crate::store::{AttachmentId, PolicyKey, Record, StateError};
use netlink::link;

/// An attachment of which a DEL may be at work: its rules are gone, its record is still there.
pub(super) struct Pending {
    id: AttachmentId,
    what: String,
    why: String,
}

/// How long a DEL may take from its transaction to its end.
pub(super) const DEL_ENDS: Duration = Duration::from_secs(5);

/// Compiled policies by their names: many pods have the same.
type Policies = HashMap<String, Compiled>;

impl Sync<'_> {
    /// Compares every attachment, and mends it or removes it.
    pub(super) fn attachments(&mut self, which: &Which) -> Result<(), Error> {
        let mut ids = self.options.state.list_attachments()?;
        let base = self.current_base(&ids)?;
        if let Which::These(these) = which {
            ids.retain(|id| these.contains(id));
        }
        let mut policies = Policies::new();
        let mut unreadable = Vec::new();
        for id in ids {
            match self.attachment(&id, &base, &mut policies) {
                Ok(None) => {}
                Ok(Some(error)) => unreadable.push((id, error)),
                Err(e) => self.failed(&id, &e),
            }
        }
        // What the others have, they have again by now: that tells what is these ones'.
        for (id, error) in unreadable {
            self.unreadable(&id, &error)
                .unwrap_or_else(|e| self.failed(&id, &e));
        }
        Ok(())
    }

    fn failed(&mut self, id: &AttachmentId, error: &Error) {
        let what = format!("attachment {id}");
        self.report.note(Did::Failed, what, error.to_string());
    }

    /// The base that the node should have: the one that it has, if anybody has asked for it; else
    /// the policy file's, else that of the newest attachment.
    pub(super) fn current_base(&mut self, ids: &[AttachmentId]) -> Result<Base, Error> {
        let state = self.options.state;
        let read = |id| Record::read_alone(state, id).ok().flatten();
        let mut records: Vec<Record<PolicyKey>> = ids.iter().filter_map(read).collect();
        // Indexes are given in order, and no clock can jump.
        records.sort_by_key(|record| std::cmp::Reverse(record.veth_index));
        let file = self
            .options
            .policy_file
            .and_then(|path| PolicyFile::load(path).ok());
        let of_file = file.iter().map(|file| Base::new(&file.facts.cluster));
        // Few policies, as a rule the same base: read until one is there.
        let mut keys = BTreeSet::new();
        records.retain(|record| keys.insert(record.policy.clone()));
        let of_records = records.iter().filter_map(|record| {
            let policy = state.read_policy(&record.id, &record.policy).ok()??;
            Some(Base::new(&policy.facts.cluster))
        });
        let mut wanted: Vec<Base> = Vec::new();
        for base in of_file.chain(of_records) {
            if wanted.iter().any(|known| known.marker() == base.marker()) {
                continue;
            }
            if self.nft.has_set(&INET, base.marker())? {
                return Ok(base);
            }
            wanted.push(base);
        }
        Ok(wanted.into_iter().next().unwrap_or_else(|| Base::new(&[])))
    }

    /// Returns why its record can't be read, if that is so.
    fn attachment(
        &mut self,
        id: &AttachmentId,
        base: &Base,
        policies: &mut Policies,
    ) -> Result<Option<StateError>, Error> {
        let lock = self.lock()?;
        let state = self.options.state;
        let mut record = match Record::read_alone(state, id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None), // it went meanwhile
            Err(e @ (StateError::Damaged { .. } | StateError::OtherVersion { .. })) => {
                return Ok(Some(e));
            }
            Err(e) => return Err(e.into()),
        };
        self.report.compared += 1;
        let what = title(&record);
        if record.id != *id {
            let why = format!("its file is called {id}: somebody has moved it");
            self.report.note(Did::Left, what, why);
            return Ok(None);
        }
        let why = match self.interface(&record)? {
            Interface::Gone => format!("its interface {} is gone", record.veth),
            Interface::Elsewhere => {
                let why = format!(
                    "its veth {} is now in another network namespace, and the pod still has it: its packets are not filtered there; move it back, or recreate the pod",
                    record.veth
                );
                self.report.note(Did::Left, what, why);
                return Ok(None);
            }
            Interface::Here(now) => match self.other_at(id, &record, &now)? {
                None if self.options.repair => {
                    let is_noted = state.link(&record.veth).ok().flatten().as_ref() == Some(id);
                    if record.layout == LAYOUT && is_noted {
                        self.guard(id, &mut record)?;
                    }
                    for why in &now.told {
                        self.report.note(Did::Left, &what, why);
                    }
                    self.compare(id, record, now, base, policies)?;
                    return Ok(None);
                }
                None => return Ok(None),
                Some(other) => format!(
                    "its interface {} now belongs to attachment {other}",
                    record.veth
                ),
            },
        };
        drop(lock); // removing takes it
        let (registry, deadline) = (self.options.registry, self.deadline());
        self.remove(what, &why, |_, state| {
            detach::remove_stale(state, registry, id, &record, deadline)
        });
        Ok(None)
    }

    /// How the attachment's interface is: as all were when they were looked at, unless that was before the record.
    fn interface(&mut self, record: &Record<PolicyKey>) -> Result<Interface, Error> {
        let mut rtnl = self.rtnl()?;
        let found = self.ways.devices.interface(&mut rtnl, record)?;
        if matches!(&found, Interface::Here(now) if now.is_as_recorded()) {
            return Ok(found);
        }
        self.ways.devices = Devices::read(&mut rtnl)?;
        Ok(self.ways.devices.interface(&mut rtnl, record)?)
    }

    /// The attachment that was given the same interface later. One that has another name was found by what is at
    /// its other end: the names' notes are of others.
    fn other_at(
        &mut self,
        id: &AttachmentId,
        record: &Record<PolicyKey>,
        now: &Now,
    ) -> Result<Option<AttachmentId>, Error> {
        match now.veth == record.veth {
            true => self.carries_another(&record.veth, id),
            false => Ok(None),
        }
    }

    /// A record that can't be read: only what else is there tells whether the pod is.
    fn unreadable(&mut self, id: &AttachmentId, error: &StateError) -> Result<(), Error> {
        if error.is_other_version() {
            let what = match self.options.state.title_of(id) {
                Some(title) => format!("attachment {title} ({id})"),
                None => format!("attachment {id}"),
            };
            self.report.note(Did::Left, what, error.to_string());
            return Ok(());
        }
        let chain = self.nft.chain(&NETDEV, &veth_chain(id.as_str()))?;
        let links = self.options.state.links()?;
        let noted = links
            .into_iter()
            .find(|(_, found)| found.as_ref().is_ok_and(|found| found.contains(id)));
        let device = noted.map(|(name, _)| name);
        let device = chain.and_then(|chain| chain.device).or(device);
        let is_there = match &device {
            Some(name) => {
                link::get_by_name(&mut self.rtnl()?, name)?.is_some()
                    && self.carries_another_for_sure(name, id)?.is_none()
            }
            None => self.is_judged(id)?,
        };
        let what = format!("attachment {id}");
        if is_there {
            let why = format!("{error}; what the kernel has of it stays: recreate the pod");
            self.report.note(Did::Left, what, why);
        } else {
            let (registry, deadline) = (self.options.registry, self.deadline());
            let why = format!("{error}; it has no interface any more");
            self.remove(what, &why, |_, state| {
                detach::remove_unreadable(state, registry, id, deadline)
            });
        }
        Ok(())
    }

    /// Under the state directory's lock.
    fn compare(
        &mut self,
        id: &AttachmentId,
        before: Record<PolicyKey>,
        now: Now,
        base: &Base,
        policies: &mut Policies,
    ) -> Result<(), Error> {
        let mut record = before.clone();
        (record.veth, record.bridge, record.iif) = (now.veth, now.bridge, now.iif);
        let what = title(&record);
        if record.layout != LAYOUT {
            let why = "it was added by another version of egressway, and is not compared";
            self.report.note(Did::Left, what, why);
            return Ok(());
        }
        let compiled = match policies.entry(record.policy_chain.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let read = match self.options.state.read_policy(id, &record.policy) {
                    Ok(Some(stored)) => stored
                        .rebuild()
                        .map_err(|faults| format!("this version cannot read its rules: {faults}")),
                    // DEL removes record and rules without the directory's lock: it went meanwhile.
                    Ok(None) if !self.options.state.has_attachment(id) => return Ok(()),
                    Ok(None) => Err("the file with its rules is missing".to_owned()),
                    Err(e) => Err(e.to_string()),
                };
                match read {
                    Ok(policy) => entry.insert(plan::compile(&policy, record.log_group)),
                    Err(why) => {
                        self.report.note(Did::Left, what, why);
                        return Ok(());
                    }
                }
            }
        };
        // Another version may compile the same rules to other chains. They are as good.
        let same_compiler = compiled.name == record.policy_chain;
        let found = if !now.changed.is_empty() {
            Some(now.changed.join("; "))
        } else if same_compiler {
            let plan = AttachmentPlan::from(&record);
            enforce::verify(
                &mut self.nft,
                self.options.state,
                base,
                compiled,
                &plan,
                &mut self.whole,
            )?
        } else {
            enforce::leads_somewhere(&mut self.nft, &AttachmentPlan::from(&record))?
        };
        let state = self.options.state;
        let noted = state.link(&before.veth).ok().flatten();
        let Some(why) = found else {
            if noted.as_ref() != Some(id) {
                let veth = &record.veth;
                let outcome = match self.options.dry_run {
                    true => Ok(()),
                    false => state.set_link(veth, id).map(drop),
                };
                let did = self.repaired();
                let why = format!("the link entry of {veth} is missing");
                self.report.outcome(did, what, &why, outcome);
            }
            return Ok(());
        };
        if noted.is_none()
            && self
                .nft
                .chain(&INET, &pod_chain(record.id.as_str()))?
                .is_none()
        {
            let id = id.clone();
            self.pending.push(Pending { id, what, why });
            return Ok(());
        }
        let did = self.repaired();
        let mut rtnl = self.rtnl()?;
        let mut node = Node {
            state,
            rtnl: &mut rtnl,
            nft: &mut self.nft,
            deadline: Instant::now() + STEP,
        };
        // Whoever came first has it, for as long as it is there.
        match owners::others(&mut node, &record, true).map(|others| others.holder) {
            Ok(None) => {}
            Ok(Some(holder)) => {
                self.report.note(Did::Left, what, holder.words());
                return Ok(());
            }
            Err(e) => {
                self.report.note(Did::Failed, what, e.to_string());
                return Ok(());
            }
        }
        let outcome = match did {
            Did::Repaired => {
                record.policy_chain.clone_from(&compiled.name);
                let seen = std::mem::take(&mut self.whole);
                if !seen.has(base.marker()) || !seen.has(&compiled.name) {
                    // Else it might be taken for whole, and only be said to be mended.
                    Ledger::open(state, node.nft)?.distrust(node.nft)?;
                }
                let shared = Shared {
                    marker: base.marker(),
                    base: &|| Ok(Cow::Borrowed(base)),
                    policy: &|| Ok(Cow::Borrowed(&*compiled)),
                };
                install(&mut node, id, &record, Some(&before), &shared)
            }
            _ => Ok(()),
        };
        self.report.outcome(did, what, &why, outcome);
        Ok(())
    }

    pub(super) fn repaired(&self) -> Did {
        if self.options.dry_run {
            Did::WouldRepair
        } else {
            Did::Repaired
        }
    }

    /// Those of which a DEL was at work are gone by now, or soon.
    pub(super) fn settle_pending(&mut self) {
        let deadline = Instant::now() + DEL_ENDS;
        for Pending { id, what, why } in std::mem::take(&mut self.pending) {
            while self.options.state.has_attachment(&id) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            if self.options.state.has_attachment(&id) {
                let why = format!(
                    "{why}, nor is there a link entry of its interface: its DEL or ADD was cut short. Delete the pod"
                );
                self.report.note(Did::Left, what, why);
            }
        }
    }
}
