//! The Kubernetes objects in a document, and what kind each of them is of.

use std::collections::HashSet;

use super::yaml::{Document, NodeView};
use crate::source::KIND;

/// Where an object keeps its template of pods.
const TEMPLATE: &[&str] = &["spec", "template"];
pub(super) const JOB_TEMPLATE: &[&str] = &["spec", "jobTemplate"];
pub(super) const CRON_TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template"];
const POD_TEMPLATE: &[&str] = &["template"];

/// Lists in lists, at most.
const DEEPEST: usize = 16;

/// The objects in a document: itself, or a list's items, each once.
pub(super) fn all(document: &Document) -> Vec<NodeView<'_>> {
    let mut objects = Vec::new();
    if let Some(root) = document.root() {
        collect(root, 0, &mut HashSet::new(), &mut objects);
    }
    objects
}

/// The objects of a kind in a document.
pub(super) fn of_kind<'d>(document: &'d Document, kind: &str) -> Vec<NodeView<'d>> {
    let mut objects = all(document);
    objects.retain(|object| kind_of(*object) == kind);
    objects
}

/// Whether this is a policy for the node, in or outside a cluster.
pub(super) fn is_policy(root: NodeView<'_>) -> bool {
    kind_of(root) == KIND || string(root, "apiVersion").starts_with("egressway.dev/")
}

/// The pod that an object is, or the template of those that it makes.
pub(super) fn pod_of(object: NodeView<'_>) -> Option<NodeView<'_>> {
    match kind_of(object) {
        "Pod" => Some(object),
        kind => object.path(template_of(kind, object)?),
    }
}

/// All containers of a pod.
pub(super) fn containers(spec: NodeView<'_>) -> impl Iterator<Item = NodeView<'_>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    let lists = lists.filter_map(move |list| spec.get(list));
    lists.flat_map(NodeView::items)
}

/// Where this object keeps a template of pods. Kinds that we do not know are told by what they hold.
pub(super) fn template_of(kind: &str, object: NodeView<'_>) -> Option<&'static [&'static str]> {
    match kind {
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => Some(TEMPLATE),
        "CronJob" => Some(CRON_TEMPLATE),
        "PodTemplate" => Some(POD_TEMPLATE),
        _ => object
            .path(TEMPLATE)
            .and_then(|template| template.path(&["spec", "containers"]))
            .map(|_| TEMPLATE),
    }
}

fn collect<'d>(
    view: NodeView<'d>,
    depth: usize,
    seen: &mut HashSet<usize>,
    objects: &mut Vec<NodeView<'d>>,
) {
    if depth > DEEPEST || !seen.insert(view.id()) {
        return;
    }
    let items = view.get("items").filter(|items| items.is_sequence());
    match items {
        Some(items) if kind_of(view).ends_with("List") => {
            for item in items.items() {
                collect(item, depth + 1, seen, objects);
            }
        }
        _ => {
            let is_object = !kind_of(view).is_empty() && !string(view, "apiVersion").is_empty();
            if is_object || is_policy(view) {
                objects.push(view);
            }
        }
    }
}

/// Nothing is of no kind.
pub(super) fn kind_of(view: NodeView<'_>) -> &str {
    string(view, "kind")
}

/// What stands there as text; else nothing.
pub(super) fn string<'d>(view: NodeView<'d>, key: &str) -> &'d str {
    view.get(key).and_then(NodeView::as_str).unwrap_or_default()
}
