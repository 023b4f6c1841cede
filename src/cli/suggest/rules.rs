//! From flows to the shortest rules that allow them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use super::flow::{AskedFor, Flow, ports};
use super::targets::targets;

/// How a flow was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// In how many log lines.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
    /// Names of the pods that sent it.
    pub pods: BTreeSet<String>,
    /// The enforced rules that stopped it, such as `cluster-enforced:no-metadata`.
    pub enforced_by: BTreeSet<String>,
    /// It went to a metadata service, at least once.
    pub metadata: bool,
}

impl Seen {
    pub(super) fn new(last: Timestamp) -> Seen {
        Seen {
            count: 0,
            last,
            pods: BTreeSet::new(),
            enforced_by: BTreeSet::new(),
            metadata: false,
        }
    }

    fn add(&mut self, other: &Seen) {
        self.count += other.count;
        self.last = self.last.max(other.last);
        self.pods.extend(other.pods.iter().cloned());
        self.enforced_by.extend(other.enforced_by.iter().cloned());
        self.metadata |= other.metadata;
    }
}

/// Everything that one group of pods needs.
pub(super) type Flows = BTreeMap<Flow, Seen>;

/// One rule, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suggestion {
    /// `allow 443/tcp to 203.0.113.7`
    pub rule: String,
    pub seen: Seen,
}

/// The rules that allow the flows, the most frequent first. What an enforced rule stops comes last,
/// in rules of its own: only another enforced rule can allow it. So does what is for metadata services.
pub(super) fn rules(flows: &Flows, generalise: Option<usize>) -> Vec<Suggestion> {
    let is_metadata = |(_, seen): &(&Flow, &Seen)| seen.metadata;
    let is_free = |(_, seen): &(&Flow, &Seen)| seen.enforced_by.is_empty();
    let (metadata, others): (Vec<_>, Vec<_>) = flows.iter().partition(is_metadata);
    let (free, enforced): (Vec<_>, Vec<_>) = others.into_iter().partition(is_free);
    let mut all = shortest(&free, generalise);
    all.extend(shortest(&enforced, generalise));
    // Never widened: that could open the rest of link-local, too.
    all.extend(shortest(&metadata, None));
    all
}

type SeenFlows<'a> = [(&'a Flow, &'a Seen)];

/// Destinations with the same services share a rule, or services with the same destinations do:
/// whichever is shorter.
fn shortest(flows: &SeenFlows, generalise: Option<usize>) -> Vec<Suggestion> {
    let length = |rules: &[Suggestion]| rules.iter().map(|one| one.rule.len() + 1).sum::<usize>();
    let by_destination = by_destination(flows, generalise);
    let by_service = by_service(flows, generalise);
    let mut rules = if length(&by_service) < length(&by_destination) {
        by_service
    } else {
        by_destination
    };
    rules.sort_by(|a, b| (b.seen.count, &a.rule).cmp(&(a.seen.count, &b.rule)));
    rules
}

fn by_destination(flows: &SeenFlows, generalise: Option<usize>) -> Vec<Suggestion> {
    let mut services: BTreeMap<IpAddr, BTreeSet<AskedFor>> = BTreeMap::new();
    for (flow, _) in flows {
        let of_destination = services.entry(flow.destination).or_default();
        of_destination.insert(flow.service);
    }
    let mut groups: BTreeMap<&BTreeSet<AskedFor>, Vec<(&Flow, &Seen)>> = BTreeMap::new();
    for (flow, seen) in flows {
        if let Some(services) = services.get(&flow.destination) {
            groups.entry(services).or_default().push((flow, seen));
        }
    }
    groups
        .values()
        .map(|flows| suggestion(flows, &text_of_targets(flows, generalise)))
        .collect()
}

fn by_service(flows: &SeenFlows, generalise: Option<usize>) -> Vec<Suggestion> {
    let mut services: BTreeMap<AskedFor, Vec<(&Flow, &Seen)>> = BTreeMap::new();
    for (flow, seen) in flows {
        services.entry(flow.service).or_default().push((flow, seen));
    }
    let mut groups: BTreeMap<String, Vec<(&Flow, &Seen)>> = BTreeMap::new();
    for flows in services.values() {
        let targets = text_of_targets(flows, generalise);
        groups.entry(targets).or_default().extend(flows);
    }
    groups
        .iter()
        .map(|(targets, flows)| suggestion(flows, targets))
        .collect()
}

fn text_of_targets(flows: &SeenFlows, generalise: Option<usize>) -> String {
    let addresses: Vec<IpAddr> = flows.iter().map(|(flow, _)| flow.destination).collect();
    list(&targets(&addresses, generalise))
}

/// One rule for all these flows.
fn suggestion(flows: &SeenFlows, targets: &str) -> Suggestion {
    let services: BTreeSet<AskedFor> = flows.iter().map(|(flow, _)| flow.service).collect();
    let mut all = Seen::new(Timestamp::MIN);
    for (_, seen) in flows {
        all.add(seen);
    }
    Suggestion {
        rule: format!("allow {} to {targets}", list(&ports(services))),
        seen: all,
    }
}

fn list(entries: &[impl ToString]) -> String {
    let all: Vec<String> = entries.iter().map(ToString::to_string).collect();
    all.join(",")
}
