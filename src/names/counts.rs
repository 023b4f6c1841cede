//! What is counted, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::learn::Failure;

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsOutcome {
    /// It was answered, and nothing in it is for a rule.
    Relayed,
    /// It was answered, for a name that a rule has.
    Learned,
    /// Its pod may ask only for names that its rules have.
    NotAllowed,
    /// It was no question.
    Malformed,
    /// Its pod had too many others, or all pods together.
    Limited,
    /// No answer came in time.
    Timeout,
    /// The server can't be reached, or this system could not ask it.
    Unreachable,
}

/// How long a question was here, beside waiting for the server, in seconds.
const BUCKETS: [f64; 9] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.01, 0.1,
];

/// All of it.
#[derive(Debug)]
pub struct DnsCounts {
    outcomes: [AtomicU64; DnsOutcome::ALL.len()],
    failures: [AtomicU64; Failure::ALL.len()],
    bad_answers: AtomicU64,
    /// How long questions were here.
    pub added: Histogram,
}

impl DnsOutcome {
    /// All of them.
    pub const ALL: [DnsOutcome; 7] = [
        DnsOutcome::Relayed,
        DnsOutcome::Learned,
        DnsOutcome::NotAllowed,
        DnsOutcome::Malformed,
        DnsOutcome::Limited,
        DnsOutcome::Timeout,
        DnsOutcome::Unreachable,
    ];

    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DnsOutcome::Relayed => "relayed",
            DnsOutcome::Learned => "learned",
            DnsOutcome::NotAllowed => "not-allowed",
            DnsOutcome::Malformed => "malformed",
            DnsOutcome::Limited => "limited",
            DnsOutcome::Timeout => "timeout",
            DnsOutcome::Unreachable => "unreachable",
        }
    }
}

impl Default for DnsCounts {
    fn default() -> Self {
        DnsCounts {
            outcomes: Default::default(),
            failures: Default::default(),
            bad_answers: AtomicU64::default(),
            added: Histogram::new(BUCKETS),
        }
    }
}

fn add(counts: &[AtomicU64], at: Option<usize>) {
    if let Some(count) = at.and_then(|at| counts.get(at)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn all(counts: &[AtomicU64]) -> impl Iterator<Item = u64> {
    counts.iter().map(|count| count.load(Ordering::Relaxed))
}

impl DnsCounts {
    /// A question is over.
    pub fn question(&self, outcome: DnsOutcome) {
        let at = DnsOutcome::ALL.iter().position(|known| *known == outcome);
        add(&self.outcomes, at);
    }

    /// An address is not in a set.
    pub fn failed(&self, failure: Failure) {
        let at = Failure::ALL.iter().position(|known| *known == failure);
        add(&self.failures, at);
    }

    /// Something came from a server that answers nothing, or can't be read.
    pub fn bad_answer(&self) {
        self.bad_answers.fetch_add(1, Ordering::Relaxed);
    }

    /// A question was here so long, beside waiting.
    pub fn took(&self, time: Duration) {
        self.added.observe(time.as_secs_f64());
    }

    /// Questions by what became of them.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DnsOutcome::ALL
            .iter()
            .map(|outcome| outcome.as_str())
            .zip(all(&self.outcomes))
    }

    /// Addresses that are in no set, by why.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::ALL
            .iter()
            .map(|failure| failure.as_str())
            .zip(all(&self.failures))
    }

    /// What came from servers and was of no use.
    pub fn bad_answers(&self) -> u64 {
        self.bad_answers.load(Ordering::Relaxed)
    }
}
