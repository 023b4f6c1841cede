//! The difference between what is written and what running pods have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::attached::{self, Attached};
use super::coming::Coming;
use super::view::{Part, View};
use crate::lifecycle::switch::{self, PolicyChange, Wanted};
use crate::refusal::CniError;
use crate::source::known::{self, Annotations, Author, Known, Lack, Names};
use crate::source::{Name, PolicyFile, SourceError};
use crate::store::{AttachmentId, StateDir, StateError};
use rules::effective::Tier;
use rules::stored::StoredPolicy;

/// A text of which running pods have an older one, since what is written now can't be enforced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Whose it is.
    pub author: Author,
    /// The namespace; empty if it is the cluster's.
    pub namespace: String,
    /// The pod, and its UID, if the text is its own.
    pub pod: Option<(String, String)>,
    /// What is wrong with it, and where.
    pub why: String,
}

/// What has come of a look.
#[derive(Debug, Default)]
pub struct News {
    /// The pods that have other policies by now: `shop/web-0`.
    pub switched: Vec<String>,
    /// The pods for which the kernel or the disk refused that.
    pub failed: Vec<(String, CniError)>,
    /// Texts that are at fault by now.
    pub faults: Vec<Fault>,
    /// Texts that were at fault.
    pub mended: Vec<Fault>,
    /// All that are at fault, by the attachments that have something older.
    pub at_fault: BTreeMap<AttachmentId, Vec<Fault>>,
    /// The names that rules of this node's pods say.
    pub needed: BTreeSet<Name>,
    /// Pods whose rules name something of which the API has not told yet what it stands for.
    pub waiting: BTreeSet<String>,
    /// Why nothing could be looked at.
    pub stopped: Option<String>,
}

/// Keeps running pods' policies as they are written.
pub struct Live {
    state: StateDir,
    policy_file: PathBuf,
    /// Annotations come from the API; else the policy file and the runtime have said them.
    by_api: bool,
    file: Option<(String, Arc<PolicyFile>)>,
    all: attached::All,
    at_fault: BTreeMap<AttachmentId, Vec<Fault>>,
    waiting: BTreeSet<AttachmentId>,
    needed: BTreeMap<AttachmentId, BTreeSet<Name>>,
    /// What an attachment has says the same as the policy of this key.
    same: BTreeMap<AttachmentId, crate::store::PolicyKey>,
    /// Those whose change was refused: tried again with the next look.
    again: BTreeSet<AttachmentId>,
    coming: Coming,
}

/// All on which a running pod's policy depends beside the policy file and names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Texts {
    namespace: String,
    of_namespace: Option<Arc<Annotations>>,
    of_pod: Arc<Annotations>,
    egress: Vec<IpNet>,
    log_group: u16,
}

impl Live {
    /// Of this node. `by_api`: namespaces and pods are in the view; else only the policy file says anything.
    pub fn new(state: StateDir, policy_file: PathBuf, by_api: bool) -> Live {
        Live {
            state,
            policy_file,
            by_api,
            file: None,
            all: attached::All::new(),
            at_fault: BTreeMap::new(),
            waiting: BTreeSet::new(),
            needed: BTreeMap::new(),
            same: BTreeMap::new(),
            again: BTreeSet::new(),
            coming: Coming::default(),
        }
    }

    /// Looks at what has changed since the last look, and has it enforced. What can't be read, is not known
    /// yet, or is at fault leaves pods as they are.
    pub fn look(&mut self, view: &Mutex<View>) -> News {
        let mut news = News::default();
        if let Err(why) = self.read(view, &mut news) {
            news.stopped = Some(why);
        }
        news.at_fault = self.at_fault.clone();
        news.waiting = self.waiting.iter().map(|id| self.title(id)).collect();
        news.needed = self.needed.values().flatten().cloned().collect();
        if let Some((_, file)) = self.file.as_ref().filter(|_| self.by_api) {
            let view = view.lock().unwrap_or_else(PoisonError::into_inner);
            news.needed
                .extend(self.coming.names(file, &self.all, &view));
        }
        news
    }

    fn read(&mut self, view: &Mutex<View>, news: &mut News) -> Result<(), String> {
        let is_other_file = self.read_file().map_err(|e| e.to_string())?;
        let new = attached::read(&self.state, &mut self.all).map_err(|e| e.to_string())?;
        self.forget_gone();
        let Some((_, file)) = self.file.clone() else {
            return Ok(());
        };
        let (groups, names) = {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            if self.by_api && !view.is_whole() {
                return Ok(());
            }
            let mut due: BTreeSet<AttachmentId> = new.into_iter().collect();
            due.append(&mut self.again);
            self.add_due(&view.changed(), is_other_file, &mut due);
            if due.is_empty() {
                return Ok(());
            }
            (self.grouped(due, &view), view.names().clone())
        };
        let before = self.faults();
        let mut changes = Vec::new();
        for (texts, ids) in groups {
            self.settle(&file, &texts, ids, &names, &mut changes);
        }
        let after = self.faults();
        news.faults = after.difference(&before).cloned().collect();
        news.mended = before.difference(&after).cloned().collect();
        self.enforce(&changes, news);
        Ok(())
    }

    /// True: it is another one than at the last look. A faulty one leaves the last good one in force.
    fn read_file(&mut self) -> Result<bool, SourceError> {
        let text = PolicyFile::read(&self.policy_file)?;
        if self.file.as_ref().is_some_and(|(known, _)| *known == text) {
            return Ok(false);
        }
        let source = rules::fault::shown(&self.policy_file);
        let file = PolicyFile::parse(&source, &text)?;
        self.file = Some((text, Arc::new(file)));
        Ok(true)
    }

    fn forget_gone(&mut self) {
        let all = &self.all;
        self.at_fault.retain(|id, _| all.contains_key(id));
        self.waiting.retain(|id| all.contains_key(id));
        self.needed.retain(|id, _| all.contains_key(id));
        self.same.retain(|id, _| all.contains_key(id));
        self.again.retain(|id| all.contains_key(id));
    }

    fn add_due(
        &self,
        parts: &BTreeSet<Part>,
        is_other_file: bool,
        due: &mut BTreeSet<AttachmentId>,
    ) {
        let is_due = |attached: &Attached| {
            let uid = attached.uid.clone().map(Part::Pod);
            parts.contains(&Part::Namespace(attached.namespace.clone()))
                || uid.is_some_and(|uid| parts.contains(&uid))
        };
        let everything = is_other_file || parts.contains(&Part::All);
        let ids = self.all.iter();
        let ids =
            ids.filter(|(_, attached)| everything || attached.uid.is_none() || is_due(attached));
        due.extend(ids.map(|(id, _)| id.clone()));
    }

    /// Those whose texts are known, by these.
    fn grouped(
        &self,
        due: BTreeSet<AttachmentId>,
        view: &View,
    ) -> BTreeMap<Texts, Vec<AttachmentId>> {
        let mut groups: BTreeMap<Texts, Vec<AttachmentId>> = BTreeMap::new();
        for id in due {
            let Some(attached) = self.all.get(&id) else {
                continue;
            };
            let texts = match self.by_api {
                true => of_view(attached, view),
                false => self.of_record(&id, attached),
            };
            if let Some((of_namespace, of_pod)) = texts {
                let texts = Texts {
                    namespace: attached.namespace.clone(),
                    of_namespace,
                    of_pod,
                    egress: attached.egress.clone(),
                    log_group: attached.log_group,
                };
                groups.entry(texts).or_default().push(id);
            }
        }
        groups
    }

    /// What the runtime said when the pod started. Of a pod that was exempt then nothing was kept.
    fn of_record(
        &self,
        id: &AttachmentId,
        attached: &Attached,
    ) -> Option<(Option<Arc<Annotations>>, Arc<Annotations>)> {
        let stored = self.state.read_policy(id, &attached.policy).ok()??;
        if stored.exempt {
            return None;
        }
        let own = stored.tiers.iter().find(|tier| tier.tier == Tier::Pod);
        let own = own.map(|tier| known::of_rules(&tier.text));
        Some((None, Arc::new(own.unwrap_or_default())))
    }

    /// The policy of those with these texts: a change for each that has another one.
    fn settle(
        &mut self,
        file: &PolicyFile,
        texts: &Texts,
        ids: Vec<AttachmentId>,
        names: &Names,
        changes: &mut Vec<PolicyChange>,
    ) {
        let of_namespace = texts.of_namespace.as_deref();
        let Known { needed, policy } =
            known::policy(file, &texts.namespace, of_namespace, &texts.of_pod, names);
        for id in &ids {
            self.needed.insert(id.clone(), needed.clone());
            self.waiting.remove(id);
        }
        match policy {
            Ok(mut policy) => {
                policy.egress.clone_from(&texts.egress);
                let wanted = Arc::new(Wanted::new(policy, texts.log_group));
                for id in ids {
                    self.at_fault.remove(&id);
                    if !self.has(&id, &wanted) {
                        let wanted = Arc::clone(&wanted);
                        changes.push(PolicyChange { id, wanted });
                    }
                }
            }
            // Whoever follows them tells soon.
            Err(Lack::Names(_)) => self.waiting.extend(ids),
            Err(Lack::Faults(all)) => {
                for id in ids {
                    let all = all.iter();
                    let faults = all.map(|(author, error)| self.fault(&id, *author, error));
                    let faults = faults.collect();
                    self.at_fault.insert(id, faults);
                }
            }
        }
    }

    fn faults(&self) -> BTreeSet<Fault> {
        self.at_fault.values().flatten().cloned().collect()
    }

    fn fault(&self, id: &AttachmentId, author: Author, error: &SourceError) -> Fault {
        let attached = self.all.get(id);
        let of_pod = attached.filter(|_| author == Author::Pod);
        let of_namespace = attached.filter(|_| author != Author::Cluster);
        Fault {
            author,
            namespace: of_namespace.map_or_else(String::new, |a| a.namespace.clone()),
            pod: of_pod.map(|a| (a.pod.clone(), a.uid.clone().unwrap_or_default())),
            why: error.to_string(),
        }
    }

    /// Whether the attachment has this policy, be it under another key: one of texts, say.
    fn has(&mut self, id: &AttachmentId, wanted: &Wanted) -> bool {
        let Some(attached) = self.all.get(id) else {
            return true; // it is gone
        };
        if attached.policy == wanted.key || self.same.get(id) == Some(&wanted.key) {
            return true;
        }
        let head = self.state.policy_head(&attached.policy);
        let stored = self.state.read_policy(id, &attached.policy);
        let is_same = head.as_ref() == Some(&wanted.head)
            && matches!(stored, Ok(Some(stored)) if stored == StoredPolicy::from(&wanted.policy.effective));
        if is_same {
            self.same.insert(id.clone(), wanted.key.clone());
        }
        is_same
    }

    fn enforce(&mut self, changes: &[PolicyChange], news: &mut News) {
        if changes.is_empty() {
            return;
        }
        let outcome = match switch::switch(&self.state, changes) {
            Ok(outcome) => outcome,
            Err(e) => {
                self.again = changes.iter().map(|change| change.id.clone()).collect();
                news.stopped = Some(e.to_string());
                return;
            }
        };
        news.switched = outcome.done.iter().map(|id| self.title(id)).collect();
        for id in &outcome.done {
            self.same.remove(id);
        }
        for (id, error) in outcome.failed {
            news.failed.push((self.title(&id), error));
            self.again.insert(id);
        }
        // What was just written needs no further look.
        if let Err(e) = attached::read(&self.state, &mut self.all) {
            let e: StateError = e;
            tracing::debug!("{e}");
        }
    }

    fn title(&self, id: &AttachmentId) -> String {
        let attached = self.all.get(id);
        attached.map_or_else(|| id.to_string(), Attached::title)
    }

    /// Whether something is to be tried again.
    pub fn is_unfinished(&self) -> bool {
        !self.again.is_empty()
    }
}

/// What the API says of a pod and its namespace, if both are known.
fn of_view(
    attached: &Attached,
    view: &View,
) -> Option<(Option<Arc<Annotations>>, Arc<Annotations>)> {
    let pod = view.pod_of(attached.uid.as_deref(), &attached.namespace, &attached.pod)?;
    let namespace = view.namespace_of(&attached.namespace)?;
    Some((
        Some(Arc::clone(&namespace.annotations)),
        Arc::clone(&pod.annotations),
    ))
}
