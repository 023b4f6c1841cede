//! Each metric with its series. What is added here is explained in docs/metrics.md, which a test compares.

use std::collections::BTreeMap;

use prometheus_client::metrics::MetricType;

use super::Counted;
use super::kernel::{Readings, Sampler};
use crate::agent::seen::Cover;
use crate::cluster;
use crate::enforce;

/// A metric.
pub struct Numbers {
    /// Without `egressway_` before and, of a counter, `_total` behind.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricType,
    /// Labels and value.
    pub series: Vec<Series>,
}

/// One of its series.
pub type Series = (Vec<(&'static str, String)>, f64);

fn one(labels: Vec<(&'static str, &str)>, value: impl Number) -> Series {
    let own = labels
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()));
    (own.collect(), value.number())
}

/// What a series may have.
trait Number {
    fn number(self) -> f64;
}

impl Number for u64 {
    #[allow(clippy::cast_precision_loss)] // exact up to 2^53
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn number(self) -> f64 {
        self
    }
}

/// All of them.
pub fn numbers(shared: &Counted, sampler: &Sampler, now: &Readings) -> Vec<Numbers> {
    let mut all = of_packets(sampler);
    all.extend(of_log(shared));
    all.extend(of_pods(shared, now));
    all.extend(of_policies(shared));
    all.extend(of_names(shared));
    all
}

fn counter(name: &'static str, help: &'static str, series: Vec<Series>) -> Numbers {
    Numbers {
        name,
        help,
        kind: MetricType::Counter,
        series,
    }
}

fn gauge(name: &'static str, help: &'static str, series: Vec<Series>) -> Numbers {
    Numbers {
        name,
        help,
        kind: MetricType::Gauge,
        series,
    }
}

fn of_packets(sampler: &Sampler) -> Vec<Numbers> {
    let of_namespace =
        |(namespace, sum): (&String, u64)| one(vec![("source_namespace", namespace)], sum);
    let evaluated = sampler.evaluated.all().map(of_namespace);
    let denied = sampler.denied.all().map(of_namespace);
    let of_pods = sampler.denied_of_pods.all().map(|((namespace, pod), sum)| {
        one(
            vec![("source_namespace", namespace), ("source_pod", pod)],
            sum,
        )
    });
    let rules = sampler
        .rules
        .all()
        .map(|((namespace, rule, verdict), sum)| {
            one(
                vec![
                    ("source_namespace", namespace),
                    ("rule", rule),
                    ("verdict", verdict),
                ],
                sum,
            )
        });
    vec![
        counter(
            "evaluated_packets",
            "Packets of pods that rules looked at: replies to what was opened towards a pod are not among them",
            evaluated.collect(),
        ),
        counter(
            "namespace_denied_packets",
            "Packets that were denied or rejected or, in audit mode, would have been, of all pods that the namespace has and had on this node",
            denied.collect(),
        ),
        counter(
            "denied_packets",
            "The same of each pod, until it is gone",
            of_pods.collect(),
        ),
        counter(
            "rule_packets",
            "Packets on which a rule decided. The namespace is empty where pods of several have the same policy",
            rules.collect(),
        ),
    ]
}

fn of_log(shared: &Counted) -> Vec<Numbers> {
    let counts = shared.hub.counts();
    let by_verdict = counts
        .by_verdict()
        .map(|(verdict, count)| one(vec![("verdict", verdict.as_str())], count));
    vec![
        counter(
            "log_events",
            "Verdicts that were logged and read",
            by_verdict.collect(),
        ),
        counter(
            "log_events_lost",
            "Logged verdicts that are missing on the agent's stdout: the kernel or stdout could not keep up",
            vec![one(vec![], counts.lost())],
        ),
    ]
}

fn of_pods(shared: &Counted, now: &Readings) -> Vec<Numbers> {
    let mut states = BTreeMap::from([("enforced", now.enforced), ("damaged", now.damaged)]);
    if let Some(pods) = shared.pods.known() {
        states.extend([("uncovered", 0), ("host-network", 0)]);
        for (uid, pod) in &pods {
            if now.attached.has(uid, pod) {
                continue;
            }
            let state = match pod.cover {
                Cover::HostNetwork => "host-network",
                Cover::Missing => "uncovered",
                Cover::Unknown | Cover::Over => continue,
            };
            *states.entry(state).or_default() += 1;
        }
    }
    let states = states
        .into_iter()
        .map(|(state, count)| one(vec![("state", state)], count));
    let egress = now.egress.iter().map(|((namespace, family), held)| {
        one(
            vec![("source_namespace", namespace), ("family", family)],
            u64::from(*held),
        )
    });
    let repairs = shared.counters.all_mended();
    let repairs = repairs.map(|(what, count)| one(vec![("what", what)], count));
    vec![
        counter(
            "repairs",
            "What others broke on the node and was put back",
            repairs.collect(),
        ),
        gauge(
            "pods",
            "Pods of this node by what holds for them",
            states.collect(),
        ),
        gauge(
            "policies",
            "Different policies that pods of this node have",
            vec![one(vec![], now.policies)],
        ),
        gauge(
            "egress_ip",
            "Whether this node holds the namespace's egress IPs that its pods use",
            egress.collect(),
        ),
        counter(
            "snat_port_exhausted",
            "Connections that the node could not take on: no free port for NAT, or a full connection table",
            vec![one(vec![], now.ports_exhausted)],
        ),
    ]
}

fn of_names(shared: &Counted) -> Vec<Numbers> {
    let counts = &shared.resolver.counts;
    let (names, addresses) = shared.resolver.known_counts();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let outcomes = counts.outcomes();
    let outcomes = outcomes.map(|(outcome, count)| one(vec![("outcome", outcome)], count));
    let failures = counts.failures();
    let failures = failures.map(|(reason, count)| one(vec![("reason", reason)], count));
    vec![
        counter(
            "dns_queries",
            "Questions of pods whose rules have domain names",
            outcomes.collect(),
        ),
        counter(
            "dns_bad_answers",
            "Messages from DNS servers that answered no question, or could not be read",
            vec![one(vec![], counts.bad_answers())],
        ),
        counter(
            "learn_failures",
            "Addresses in answers for names that rules have, which stay closed",
            failures.collect(),
        ),
        gauge(
            "names",
            "Domain names whose addresses are allowed now",
            vec![one(vec![], number(names))],
        ),
        gauge(
            "name_addresses",
            "Addresses that are allowed now because of a name, counted for each rule",
            vec![one(vec![], number(addresses))],
        ),
    ]
}

fn of_policies(shared: &Counted) -> Vec<Numbers> {
    let status = shared.status.lock();
    let mut invalid: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in status.at_fault.values().flatten() {
        *invalid.entry(&fault.namespace).or_default() = 1;
    }
    if status.file_is_invalid {
        invalid.insert("", 1);
    }
    let invalid = invalid
        .into_iter()
        .map(|(namespace, one_)| one(vec![("source_namespace", namespace)], one_));
    let mut all = vec![gauge(
        "policy_invalid",
        "1: a text of this namespace, or with an empty name the cluster's policy, cannot be enforced, and pods keep the last valid one",
        invalid.collect(),
    )];
    let time = status.policy_time.map(|time| one(vec![], time));
    all.push(gauge(
        "policy_last_update_timestamp_seconds",
        "When the cluster's policy that is in force here was written",
        time.into_iter().collect(),
    ));
    let contact = cluster::last_contact().map(|time| one(vec![], time));
    all.push(gauge(
        "api_last_contact_timestamp_seconds",
        "When the Kubernetes API answered last",
        contact.into_iter().collect(),
    ));
    all.push(counter(
        "transaction_conflicts",
        "Transactions that were made anew, since another program changed nf_tables at the same moment",
        vec![one(vec![], enforce::conflicts())],
    ));
    let version = one(vec![("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    all.push(gauge(
        "build_info",
        "The version of egressway",
        vec![version],
    ));
    all
}
