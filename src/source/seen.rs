//! What the agent has heard of the API, instead of asking it: for one pod all of it, or nothing. What is lacking, or at
//! fault, is for the API to say: it may be another by now.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::annotation::EGRESS_IP;
use super::api::{Fetched, OwnAnnotations, PodName};
use super::{NamespaceAnnotations, PolicyFile, names, others, pod};
use crate::store::{EgressLists, NamespaceAnswer, NodeView, PodAnswer, ServiceAnswer};

/// What an agent that lives has heard for this pod; none if that is not all of it.
pub fn said(
    view: &NodeView,
    file: &PolicyFile,
    name: &str,
    of_pod: OwnAnnotations<'_>,
) -> Option<Fetched> {
    let NamespaceAnswer(annotations) = view.said(name)?;
    let own = match of_pod {
        OwnAnnotations::HandedOver(annotations) => Cow::Borrowed(annotations),
        OwnAnnotations::Of(pod) => Cow::Owned(of_this_pod(view, name, pod)?),
    };
    let place = format!("namespace {name}");
    let namespace = NamespaceAnnotations::from_map(&place, &annotations).ok()?;
    namespace.check().ok()?;
    let of_pod = Ok(pod::rules(Some(&own)).ok()?);
    let mut facts = file.facts.clone();
    for needed in names::needed(file, &namespace, &of_pod) {
        let behind: ServiceAnswer = view.said(&needed.to_string())?;
        let behind = names::settled(&needed, Some(behind)).ok()?;
        names::learn(&mut facts, needed, behind);
    }
    let mut egress_lists = BTreeMap::new();
    if annotations.contains_key(EGRESS_IP) {
        let EgressLists(texts) = view.said(others::ALL)?;
        // Else it is older than the namespace's.
        texts.contains_key(name).then_some(())?;
        egress_lists = others::lists(file, name, texts);
    }
    Some(Fetched {
        namespace,
        of_pod,
        facts,
        egress_lists,
    })
}

/// Only of the very pod: one of the same name that went before says nothing.
fn of_this_pod(
    view: &NodeView,
    namespace: &str,
    pod: PodName<'_>,
) -> Option<BTreeMap<String, String>> {
    let found: PodAnswer = view.said(pod.uid?)?;
    let is_this = found.namespace == namespace && found.name == pod.name;
    is_this.then_some(found.annotations)
}
