//! `/metrics`: what this node enforces, in numbers. docs/metrics.md explains each.
//!
//! Packets are counted by the kernel and read when somebody asks: no packet costs anything for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::counters::Counters;
use super::seen::Pods;
use super::status::Status;
use super::verdicts::hub::Hub;
use crate::enforce;
use crate::names::Resolver;
use crate::store::StateDir;
use kernel::Sampler;
use numbers::{Numbers, numbers};

mod kernel;
mod numbers;
mod sums;

/// Who asks again so soon gets the same answer.
const FRESH: Duration = Duration::from_secs(1);

/// How the answer is written.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From an edit to its enforcement, in seconds.
const UPDATES: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

type Restarts = Family<[(&'static str, String); 1], Counter>;

/// Shared by those who have something to count, and who answers.
#[derive(Clone)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    updates: Histogram,
    restarts: Restarts,
    asked: Mutex<Asked>,
    status: Status,
    pods: Pods,
    hub: Hub,
    counters: Counters,
    resolver: Arc<Resolver>,
}

struct Asked {
    sampler: Sampler,
    last: Option<(Instant, String)>,
}

impl Metrics {
    /// Nothing was counted yet.
    pub fn new(
        state: StateDir,
        resolver: Arc<Resolver>,
        status: Status,
        pods: Pods,
        hub: Hub,
        counters: Counters,
    ) -> Metrics {
        let restarts = Restarts::default();
        for resource in ["namespaces", "pods"] {
            drop(restarts.get_or_create(&[("resource", resource.to_owned())]));
        }
        Metrics(Arc::new(Counted {
            updates: Histogram::new(UPDATES),
            restarts,
            asked: Mutex::new(Asked {
                sampler: Sampler::new(state),
                last: None,
            }),
            status,
            pods,
            hub,
            counters,
            resolver,
        }))
    }

    /// Running pods got other rules, which took so long.
    pub fn updated(&self, took: Duration) {
        self.0.updates.observe(took.as_secs_f64());
    }

    /// What is followed by this name had to be asked for anew.
    pub fn restarted(&self, resource: &str) {
        let labels = [("resource", resource.to_owned())];
        self.0.restarts.get_or_create(&labels).inc();
    }

    /// The answer; it asks the kernel, and waits for that.
    ///
    /// # Errors
    /// Why there is none.
    pub fn text(&self) -> Result<String, String> {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &asked.last
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let now = asked.sampler.look()?;
        let mut registry = Registry::with_prefix("egressway");
        registry.register(
            "policy_update_seconds",
            "From the news of an edit to its enforcement on running pods",
            self.0.updates.clone(),
        );
        registry.register(
            "watch_restarts",
            "Watches of the API that were started again after a failure",
            self.0.restarts.clone(),
        );
        registry.register(
            "dns_added_seconds",
            "How long questions of pods whose rules have domain names were here, beside waiting for the DNS server",
            self.0.resolver.counts.added.clone(),
        );
        let told = Collected(numbers(&self.0, &asked.sampler, &now));
        registry.register_collector(Box::new(told));
        let mut text = String::new();
        text::encode(&mut text, &registry).map_err(|e| e.to_string())?;
        asked.last = Some((Instant::now(), text.clone()));
        Ok(text)
    }

    /// Sees what the kernel has counted so far, from which on it is counted here.
    pub fn begin(&self) {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = asked.sampler.look() {
            tracing::debug!("the kernel's counters cannot be read yet: {e}");
        }
    }
}

/// What this process's transactions took.
fn transactions(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "transaction_seconds",
        "How long the kernel took for the agent's transactions, by what they were for",
        None,
        MetricType::Histogram,
    )?;
    for (kind, label) in enforce::TransactionKind::ALL {
        let measured = kind.measured();
        let bounds = enforce::BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(measured.by_bound).collect();
        let count = measured.by_bound.iter().sum();
        let sum = measured.sum.as_secs_f64();
        let labels = [("kind", label)];
        let mut one = family.encode_family(&labels)?;
        one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

struct Collected(Vec<Numbers>);

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        transactions(&mut encoder)?;
        for numbers in &self.0 {
            let mut family =
                encoder.encode_descriptor(numbers.name, numbers.help, None, numbers.kind)?;
            for (labels, value) in &numbers.series {
                let one = family.encode_family(labels)?;
                match numbers.kind {
                    MetricType::Counter => ConstCounter::new(*value as u64).encode(one)?,
                    _ => ConstGauge::new(*value).encode(one)?,
                }
            }
        }
        Ok(())
    }
}
