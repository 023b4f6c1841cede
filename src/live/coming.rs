//! What the rules of pods name that are about to start here: it is followed before these ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::attached::All;
use super::view::View;
use crate::source::known::{self, Annotations};
use crate::source::{Name, PolicyFile};

/// The texts of a pod, and the names in them.
struct Read {
    file: Arc<PolicyFile>,
    texts: [Arc<Annotations>; 2],
    names: BTreeSet<Name>,
}

/// Pods of this node without an attachment, by their UIDs. Texts are read once.
#[derive(Default)]
pub(super) struct Coming(BTreeMap<String, Read>);

impl Coming {
    /// The names of all of them.
    pub(super) fn names(
        &mut self,
        file: &Arc<PolicyFile>,
        all: &All,
        view: &View,
    ) -> BTreeSet<Name> {
        let started: BTreeSet<&str> = all.values().filter_map(|a| a.uid.as_deref()).collect();
        let mut before = std::mem::take(&mut self.0);
        for (uid, pod) in view
            .pods()
            .filter(|(uid, _)| !started.contains(uid.as_str()))
        {
            let namespace = pod.namespace.as_deref().unwrap_or_default();
            let Some(of_namespace) = view.namespace_of(namespace) else {
                continue;
            };
            let texts = [&of_namespace.annotations, &pod.annotations].map(Arc::clone);
            let is_same = |read: &Read| {
                let mut pairs = read.texts.iter().zip(&texts);
                Arc::ptr_eq(&read.file, file) && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
            };
            let read = before.remove(uid).filter(is_same).unwrap_or_else(|| Read {
                names: known::names_for(file, namespace, &texts[0], &texts[1]),
                file: Arc::clone(file),
                texts,
            });
            self.0.insert(uid.clone(), read);
        }
        self.0
            .values()
            .flat_map(|read| read.names.iter().cloned())
            .collect()
    }
}
