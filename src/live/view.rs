//! What is written, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::source::Name;
use crate::source::known::{Annotations, Names};
use crate::store::ServiceAnswer;

/// kubelet writes here what it gives runtimes as UID for a pod of its own manifests: the API's object, which only
/// mirrors that pod, has another UID.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// An object of the API, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Its namespace; none of a namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Those of its annotations that are ours.
    pub annotations: Arc<Annotations>,
    /// Of a mirror pod: the UID that runtimes know.
    pub hash: Option<String>,
}

impl Object {
    /// An object's metadata.
    pub fn of(
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    ) -> Option<Object> {
        let annotations = metadata.annotations;
        let hash = annotations.as_ref().and_then(|all| all.get(CONFIG_HASH));
        Some(Object {
            hash: hash.cloned(),
            namespace: metadata.namespace,
            name: metadata.name?,
            uid: metadata.uid?,
            annotations: Arc::new(crate::source::known::ours(annotations)),
        })
    }
}

/// What may have changed of pods' policies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Those of one pod, by the UID that runtimes know.
    Pod(String),
    /// Those of a namespace's pods.
    Namespace(String),
    /// Any.
    All,
}

/// What is known. Everything is unknown until it has been told once.
#[derive(Debug, Default)]
pub struct View {
    namespaces: Option<BTreeMap<String, Object>>,
    /// By the UIDs that runtimes know.
    pods: Option<BTreeMap<String, Object>>,
    names: Names,
    changed: BTreeSet<Part>,
}

impl View {
    /// All namespaces. One that is not among them is being deleted: what is known of it stays for its last
    /// pods, since nothing must open for these.
    pub fn all_namespaces(&mut self, all: Vec<Object>) {
        let before = self.namespaces.take();
        let is_first = before.is_none();
        let mut namespaces = before.unwrap_or_default();
        for object in all {
            let name = object.name.clone();
            let old = namespaces.insert(name.clone(), object);
            let is_same = old.is_some_and(|old| old.annotations == namespaces[&name].annotations);
            if !is_first && !is_same {
                self.changed.insert(Part::Namespace(name));
            }
        }
        if is_first {
            self.changed.insert(Part::All);
        }
        self.namespaces = Some(namespaces);
    }

    /// A namespace, as it is now.
    pub fn namespace(&mut self, object: Object) {
        let Some(namespaces) = &mut self.namespaces else {
            return; // the list comes first
        };
        let name = object.name.clone();
        let is_same = namespaces
            .get(&name)
            .is_some_and(|old| old.annotations == object.annotations);
        namespaces.insert(name.clone(), object);
        if !is_same {
            self.changed.insert(Part::Namespace(name));
        }
    }

    /// All pods of this node. One that is not among them is gone, and DEL takes its rules away.
    pub fn all_pods(&mut self, all: Vec<Object>) {
        let before = self.pods.take().unwrap_or_default();
        let all = all.into_iter().map(|object| (known_as(&object), object));
        let pods: BTreeMap<String, Object> = all.collect();
        for (uid, object) in &pods {
            let old = before.get(uid);
            if old.is_none_or(|old| old.annotations != object.annotations) {
                self.changed.insert(Part::Pod(uid.clone()));
            }
        }
        self.pods = Some(pods);
    }

    /// A pod of this node, as it is now.
    pub fn pod(&mut self, object: Object) {
        let Some(pods) = &mut self.pods else { return };
        let uid = known_as(&object);
        let is_same = pods
            .get(&uid)
            .is_some_and(|old| old.annotations == object.annotations);
        pods.insert(uid.clone(), object);
        if !is_same {
            self.changed.insert(Part::Pod(uid));
        }
    }

    /// A pod is gone.
    pub fn no_pod(&mut self, object: &Object) {
        if let Some(pods) = &mut self.pods {
            pods.remove(&known_as(object));
        }
    }

    /// What a name in rules stands for; nothing: the API does not have it.
    pub fn name(&mut self, name: Name, behind: Option<ServiceAnswer>) {
        if self.names.get(&name) != Some(&behind) {
            self.names.insert(name, behind);
            self.changed.insert(Part::All);
        }
    }

    /// No rule says this name any more, and nobody tells what it stands for.
    pub fn forget(&mut self, name: &Name) {
        self.names.remove(name);
    }

    /// Both lists have been told.
    pub const fn is_whole(&self) -> bool {
        self.namespaces.is_some() && self.pods.is_some()
    }

    /// A namespace.
    pub fn namespace_of(&self, name: &str) -> Option<&Object> {
        self.namespaces.as_ref()?.get(name)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Object> {
        self.namespaces.iter().flat_map(BTreeMap::values)
    }

    /// This node's pods, by the UIDs that runtimes know.
    pub fn pods(&self) -> impl Iterator<Item = (&String, &Object)> {
        self.pods.iter().flatten()
    }

    /// A pod by the UID that runtimes know or, where a runtime tells none, by its name.
    pub fn pod_of(&self, uid: Option<&str>, namespace: &str, name: &str) -> Option<&Object> {
        let pods = self.pods.as_ref()?;
        match uid {
            Some(uid) => pods.get(uid),
            None => {
                let is_named =
                    |pod: &&Object| pod.namespace.as_deref() == Some(namespace) && pod.name == name;
                pods.values().find(is_named)
            }
        }
    }

    /// What the names in rules stand for.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// What may have changed since the last call.
    pub fn changed(&mut self) -> BTreeSet<Part> {
        std::mem::take(&mut self.changed)
    }

    /// Whether anything has changed since then.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}

/// The UID that runtimes know.
fn known_as(object: &Object) -> String {
    object.hash.as_ref().unwrap_or(&object.uid).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: Option<&str>, name: &str, rules: &str) -> Object {
        Object {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            annotations: Arc::new(crate::source::known::of_rules(rules)),
            hash: None,
        }
    }

    #[test]
    fn only_what_says_something_else_is_a_change() {
        let mut view = View::default();
        view.all_namespaces(vec![object(None, "shop", "a")]);
        assert!(!view.is_whole());
        view.all_pods(vec![object(Some("shop"), "web", "a")]);
        assert!(view.is_whole());
        assert_eq!(
            view.changed(),
            BTreeSet::from([Part::All, Part::Pod("uid-web".to_owned())])
        );
        view.namespace(object(None, "shop", "a"));
        view.pod(object(Some("shop"), "web", "a"));
        view.all_pods(vec![object(Some("shop"), "web", "a")]);
        view.all_namespaces(vec![object(None, "shop", "a")]);
        assert!(!view.has_changed());
        view.namespace(object(None, "shop", "b"));
        view.pod(object(Some("shop"), "web", "b"));
        assert_eq!(
            view.changed(),
            BTreeSet::from([
                Part::Namespace("shop".to_owned()),
                Part::Pod("uid-web".to_owned())
            ])
        );
    }

    #[test]
    fn a_namespace_that_is_deleted_says_to_the_end_what_it_said() {
        let mut view = View::default();
        view.all_namespaces(vec![object(None, "shop", "deny"), object(None, "b", "")]);
        view.changed();
        view.all_namespaces(vec![object(None, "b", "")]);
        assert!(!view.has_changed());
        let said = view.namespace_of("shop").map(|shop| shop.annotations.len());
        assert_eq!(said, Some(1));
        // One of that name that is made anew is what it says.
        view.namespace(object(None, "shop", "allow"));
        assert!(view.has_changed());
    }

    #[test]
    fn a_mirror_pod_is_known_by_the_uid_that_the_runtime_has() {
        let mut view = View::default();
        let mirror = Object {
            hash: Some("from-kubelet".to_owned()),
            ..object(Some("kube-system"), "etcd", "allow")
        };
        view.all_pods(vec![mirror.clone()]);
        let found = |view: &View, uid| view.pod_of(uid, "kube-system", "etcd").is_some();
        assert!(found(&view, Some("from-kubelet")) && found(&view, None));
        assert!(!found(&view, Some("uid-etcd")));
        view.no_pod(&mirror);
        assert!(!found(&view, None));
    }
}
