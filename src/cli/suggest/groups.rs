//! Sorts log lines by whose rules would have to allow them.

use std::collections::BTreeMap;

use super::flow::Flow;
use super::metadata;
use super::rules::{Flows, Seen};
use crate::verdicts::Line;
use ::rules::effective::Tier;

/// Whose rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// A namespace, for all of its pods.
    Namespace(String),
    Pod {
        namespace: String,
        pod: String,
    },
    /// The log does not say.
    Unknown,
}

/// What was seen of each owner's pods.
#[derive(Debug, Default)]
pub(super) struct LogGroups {
    pub owners: BTreeMap<Whose, Flows>,
    /// Lines that tell too little to allow just what they were.
    pub too_little: u64,
}

impl LogGroups {
    /// Notes a line. `by_pod`: rules of pods, else of namespaces.
    pub(super) fn add(&mut self, line: &Line, by_pod: bool) {
        let Some(flow) = Flow::of(line) else {
            self.too_little += 1;
            return;
        };
        let owner = match (&line.namespace, &line.pod) {
            (Some(namespace), _) if !by_pod => Whose::Namespace(namespace.clone()),
            (Some(namespace), Some(pod)) => Whose::Pod {
                namespace: namespace.clone(),
                pod: pod.clone(),
            },
            _ => Whose::Unknown,
        };
        let flows = self.owners.entry(owner).or_default();
        let seen = flows.entry(flow).or_insert_with(|| Seen::new(line.time));
        seen.count += 1;
        seen.last = seen.last.max(line.time);
        seen.pods.extend(line.pod.clone());
        seen.metadata |= metadata::is_for(line);
        if is_enforced(&line.rule) {
            seen.enforced_by.insert(line.rule.clone());
        }
    }
}

/// Whether a rule such as `cluster-enforced:2` comes before those of pods and of defaults.
fn is_enforced(rule: &str) -> bool {
    rule.split_once(':').is_some_and(|(tier, _)| {
        [Tier::ClusterEnforced, Tier::NamespaceEnforced]
            .iter()
            .any(|enforced| enforced.as_str() == tier)
    })
}
