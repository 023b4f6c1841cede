//! The pods of this node as the API has them: what made each, and whether it is known here at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;

use crate::live::Object;
use crate::store::Record;

/// The label by which a Deployment's ReplicaSet, whose name ends with it, tells its pods from others.
const TEMPLATE: &str = "pod-template-hash";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID in the API, which of a mirror pod is another one than the runtime's.
    pub uid: String,
    /// `Deployment/web`; none: nothing made it.
    pub workload: Option<String>,
    /// Why it has no record, if it has none.
    pub cover: Cover,
}

/// The pods of this node that have a record, by UID and by name: a runtime may have told no UID.
#[derive(Debug, Default)]
pub struct Attached(BTreeSet<String>);

impl Attached {
    /// One that has.
    pub fn add<P>(&mut self, record: &Record<P>) {
        self.0.extend(record.uid.clone());
        self.0.insert(record.title());
    }

    /// Whether one has, by the UID that runtimes know.
    pub fn has(&self, uid: &str, pod: &Seen) -> bool {
        self.0.contains(uid) || self.0.contains(&format!("{}/{}", pod.namespace, pod.name))
    }
}

/// Why a pod has no record. Its metadata do not say that: who wants to know has to ask for all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cover {
    /// Nobody has asked.
    #[default]
    Unknown,
    /// It is in the node's own network.
    HostNetwork,
    /// It is over.
    Over,
    /// It should have one.
    Missing,
}

/// All of them, by the UIDs that runtimes know; none: they have not been told.
#[derive(Debug, Clone, Default)]
pub struct Pods(Arc<Mutex<Option<BTreeMap<String, Seen>>>>);

impl Pods {
    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<String, Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These, and no others.
    pub fn all(&self, all: &[PartialObjectMeta<Pod>]) {
        let mut pods = self.lock();
        let before = pods.take().unwrap_or_default();
        let all = all.iter().filter_map(|one| seen(&one.metadata));
        *pods = Some(
            all.map(|(uid, pod)| remembered(uid, pod, &before))
                .collect(),
        );
    }

    /// One, as it is now.
    pub fn now(&self, one: &PartialObjectMeta<Pod>) {
        if let (Some(pods), Some((uid, pod))) = (&mut *self.lock(), seen(&one.metadata)) {
            let (uid, pod) = remembered(uid, pod, pods);
            pods.insert(uid, pod);
        }
    }

    /// One is gone.
    pub fn gone(&self, one: &PartialObjectMeta<Pod>) {
        if let (Some(pods), Some((uid, _))) = (&mut *self.lock(), seen(&one.metadata)) {
            pods.remove(&uid);
        }
    }

    /// A pod's UID in the API, by that which runtimes know.
    pub fn uid(&self, known_as: &str) -> Option<String> {
        Some(self.lock().as_ref()?.get(known_as)?.uid.clone())
    }

    /// What made a pod.
    pub fn workload(&self, uid: &str) -> Option<String> {
        self.lock().as_ref()?.get(uid)?.workload.clone()
    }

    /// Why one has no record.
    pub fn set_cover(&self, uid: &str, cover: Cover) {
        if let Some(pod) = self.lock().as_mut().and_then(|pods| pods.get_mut(uid)) {
            pod.cover = cover;
        }
    }

    /// All of them.
    pub fn known(&self) -> Option<BTreeMap<String, Seen>> {
        self.lock().clone()
    }
}

/// With what was found out about it before.
fn remembered(uid: String, pod: Seen, known: &BTreeMap<String, Seen>) -> (String, Seen) {
    let cover = known.get(&uid).map_or(Cover::Unknown, |known| known.cover);
    (uid, Seen { cover, ..pod })
}

fn seen(metadata: &ObjectMeta) -> Option<(String, Seen)> {
    let seen = Seen {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        uid: metadata.uid.clone()?,
        workload: workload(metadata),
        cover: Cover::Unknown,
    };
    let object = Object::of(metadata.clone())?;
    Some((object.hash.unwrap_or(object.uid), seen))
}

/// What made an object: its controller, or the Deployment whose ReplicaSet that is.
fn workload(metadata: &ObjectMeta) -> Option<String> {
    let owners = metadata.owner_references.iter().flatten();
    let controller = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))?;
    let (kind, name) = (&controller.kind, &controller.name);
    let hash = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TEMPLATE));
    let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    Some(match deployment.filter(|_| kind == "ReplicaSet") {
        Some(deployment) => format!("Deployment/{deployment}"),
        None => format!("{kind}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(value: serde_json::Value) -> PartialObjectMeta<Pod> {
        serde_json::from_value(json!({ "metadata": value })).expect("metadata")
    }

    fn owned(kind: &str, name: &str, hash: Option<&str>) -> PartialObjectMeta<Pod> {
        let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "9", "controller": true});
        let labels = hash.map(|hash| json!({ TEMPLATE: hash }));
        pod(
            json!({"namespace": "shop", "name": "web-0", "uid": "1", "labels": labels, "ownerReferences": [owner]}),
        )
    }

    #[test]
    fn a_pod_is_its_deployments() {
        let pods = Pods::default();
        let workload = |one: PartialObjectMeta<Pod>| {
            pods.all(&[one]);
            pods.workload("1")
        };
        let of = |kind, name, hash| owned(kind, name, hash);
        for (one, wanted) in [
            (
                of("ReplicaSet", "web-5d4", Some("5d4")),
                Some("Deployment/web"),
            ),
            (
                of("ReplicaSet", "web-5d4", None),
                Some("ReplicaSet/web-5d4"),
            ),
            (
                of("ReplicaSet", "web-5d4", Some("5d5")),
                Some("ReplicaSet/web-5d4"),
            ),
            (of("StatefulSet", "db", Some("db")), Some("StatefulSet/db")),
            (
                pod(json!({"namespace": "shop", "name": "web-0", "uid": "1"})),
                None,
            ),
        ] {
            assert_eq!(workload(one).as_deref(), wanted);
        }
    }

    #[test]
    fn nothing_is_known_before_all_is() {
        let pods = Pods::default();
        pods.now(&owned("DaemonSet", "log", None));
        assert_eq!(pods.known(), None);
        pods.all(&[]);
        pods.now(&owned("DaemonSet", "log", None));
        assert_eq!(pods.workload("1").as_deref(), Some("DaemonSet/log"));
        pods.gone(&owned("DaemonSet", "log", None));
        assert_eq!(pods.known().map(|all| all.len()), Some(0));
    }
}
