//! What is written and not in force, for `show` and for metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::seen::{Attached, Cover, Pods, Seen};
use super::verdicts::denials::Denials;
use crate::live::Fault;
use crate::store::{AttachmentId, StateDir};
use crate::verdicts::node::{Node, Pod, Uncovered};
use crate::verdicts::wire;

/// Shared by who finds it out and who tells it.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Known>>);

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Texts at fault, by the attachments that have something older.
    pub at_fault: BTreeMap<AttachmentId, Vec<Fault>>,
    /// The policy file, or the ConfigMap, can't be used.
    pub file_is_invalid: bool,
    /// When the cluster's policy that is in force was written, in seconds since 1970.
    pub policy_time: Option<f64>,
    /// Why running pods may have older rules than what is written.
    pub pending: Option<String>,
}

impl Status {
    /// For a moment.
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `show` asks for.
pub fn node(
    state: &StateDir,
    name: Option<String>,
    status: &Status,
    pods: &Pods,
    denials: &Denials,
) -> Node {
    let known = status.lock().clone();
    let (mut told, mut attached) = (Vec::new(), Attached::default());
    for (id, record) in state.records().unwrap_or_default() {
        attached.add(&record);
        let faults = known.at_fault.get(&id).into_iter().flatten();
        let last_deny = record.uid.as_deref().and_then(|uid| denials.last(uid));
        told.push(Pod {
            id: id.to_string(),
            namespace: record.namespace.unwrap_or_default(),
            pod: record.pod.unwrap_or_default(),
            uid: record.uid,
            invalid: faults.map(|fault| fault.why.clone()).collect(),
            last_deny,
        });
    }
    let uncovered = pods.known().map(|pods| {
        let pods = pods.into_iter();
        let is_told = |seen: &Seen| !matches!(seen.cover, Cover::Over | Cover::Unknown);
        let uncovered = pods.filter(|(uid, seen)| is_told(seen) && !attached.has(uid, seen));
        let uncovered = uncovered.map(|(_, seen)| Uncovered {
            namespace: seen.namespace,
            pod: seen.name,
            host_network: seen.cover == Cover::HostNetwork,
        });
        let mut uncovered: Vec<Uncovered> = uncovered.collect();
        uncovered.sort();
        uncovered
    });
    Node {
        v: wire::VERSION,
        node: name,
        pending: known.pending,
        pods: told,
        uncovered,
    }
}
