//! What the log lines come to.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::verdicts::Line;
use rules::verdict::Verdict;

/// What became of packets, for the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Allowed,
    /// In audit mode: it went, but a rule would have stopped it.
    Audited,
    Denied,
}

impl Fate {
    pub(super) const ALL: [Fate; 3] = [Fate::Allowed, Fate::Audited, Fate::Denied];

    fn of(verdict: Verdict) -> Fate {
        match verdict {
            Verdict::Allow => Fate::Allowed,
            Verdict::Deny | Verdict::Reject => Fate::Denied,
            Verdict::WouldDeny | Verdict::WouldReject => Fate::Audited,
        }
    }

    /// Its heading, and what it is called in style sheets.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Fate::Allowed => ("allowed", "allowed"),
            Fate::Audited => ("would be denied", "audited"),
            Fate::Denied => ("denied", "denied"),
        }
    }
}

/// Log lines by what became of the packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByFate([u64; 3]);

impl ByFate {
    pub(super) fn add(&mut self, fate: Fate) {
        self.0[fate as usize] += 1;
    }

    pub(super) fn join(&mut self, other: &ByFate) {
        for (own, others) in self.0.iter_mut().zip(other.0) {
            *own += others;
        }
    }

    pub(super) fn of(&self, fate: Fate) -> u64 {
        self.0[fate as usize]
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was stopped, or would have been.
    pub(super) fn stopped(&self) -> u64 {
        self.of(Fate::Denied) + self.of(Fate::Audited)
    }
}

/// An address and what was asked for there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reached {
    pub address: IpAddr,
    /// `443/tcp`, `icmp/8`, `proto/47`; empty if it is not known.
    pub service: String,
}

impl Reached {
    fn of(line: &Line) -> Reached {
        let protocol = line.protocol.clone().unwrap_or_default();
        let service = match (line.destination_port, line.icmp_type) {
            (Some(port), _) => format!("{port}/{protocol}"),
            (None, Some(kind)) => format!("{protocol}/{kind}"),
            (None, None) => protocol,
        };
        Reached {
            address: line.destination,
            service,
        }
    }
}

/// One pod and one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Talk {
    pub counts: ByFate,
    pub last: Timestamp,
}

/// What happened to a destination that was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stopped {
    pub counts: ByFate,
    pub pods: BTreeSet<String>,
    pub rules: BTreeSet<String>,
}

/// Everything about the lines that the page shows.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub lines: u64,
    /// Lines that were none.
    pub skipped: u64,
    /// What the log itself says was lost: `8 log messages`.
    pub lost: Option<String>,
    pub counts: ByFate,
    /// By pod, as `namespace/pod`, or the source's address.
    pub talks: BTreeMap<(String, Reached), Talk>,
    pub stopped: BTreeMap<Reached, Stopped>,
    /// By second.
    pub times: BTreeMap<i64, ByFate>,
    /// Namespace, pod and rule of every line.
    pub matched: HashSet<(Option<String>, Option<String>, String)>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

impl Summary {
    pub(super) fn add(&mut self, line: &Line) {
        self.lines += 1;
        self.first = Some(self.first.map_or(line.time, |first| first.min(line.time)));
        self.last = Some(self.last.map_or(line.time, |last| last.max(line.time)));
        self.matched
            .insert((line.namespace.clone(), line.pod.clone(), line.rule.clone()));
        let fate = Fate::of(line.verdict);
        self.counts.add(fate);
        let second = self.times.entry(line.time.as_second()).or_default();
        second.add(fate);
        let pod = match (&line.namespace, &line.pod) {
            (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
            _ => line.source.to_string(),
        };
        let destination = Reached::of(line);
        if fate != Fate::Allowed {
            let stopped = self.stopped.entry(destination.clone()).or_default();
            stopped.counts.add(fate);
            stopped.pods.insert(pod.clone());
            stopped.rules.insert(line.rule.clone());
        }
        let talk = self
            .talks
            .entry((pod, destination))
            .or_insert_with(|| Talk {
                counts: ByFate::default(),
                last: line.time,
            });
        talk.counts.add(fate);
        talk.last = talk.last.max(line.time);
    }

    /// How many pods are seen.
    pub(super) fn pods(&self) -> usize {
        let pods: HashSet<&str> = self.talks.keys().map(|(pod, _)| pod.as_str()).collect();
        pods.len()
    }

    /// How many addresses are seen.
    pub(super) fn addresses(&self) -> usize {
        let all: HashSet<IpAddr> = self.talks.keys().map(|(_, to)| to.address).collect();
        all.len()
    }
}
