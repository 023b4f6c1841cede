//! How long the kernel took for this process's transactions, and how often another program was faster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nft::{self, Nft, Transaction};

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionKind {
    /// All that one pod has of its own.
    Attach,
    /// A policy or a base, to which nobody is led yet.
    Put,
    /// Running pods are led to what is there.
    Switch,
    /// What nobody is led to any more.
    TakeAway,
    /// What a pod had of its own, or what was left over.
    Remove,
}

impl TransactionKind {
    /// All of them, with their labels.
    pub const ALL: [(TransactionKind, &str); 5] = [
        (TransactionKind::Attach, "attach"),
        (TransactionKind::Put, "put"),
        (TransactionKind::Switch, "switch"),
        (TransactionKind::TakeAway, "take-away"),
        (TransactionKind::Remove, "remove"),
    ];

    /// Commits `ops` as they are.
    pub(super) fn commit(self, nft: &mut Nft, ops: &Transaction) -> Result<(), nft::Error> {
        self.measure(|| nft.commit(ops))
    }

    /// Does it, and counts how long it took, or that somebody else was faster.
    pub(super) fn measure(
        self,
        commit: impl FnOnce() -> Result<(), nft::Error>,
    ) -> Result<(), nft::Error> {
        let began = Instant::now();
        let done = commit();
        match &done {
            Ok(()) => ALL[self as usize].add(began.elapsed()),
            Err(e) if e.is_conflict() => {
                CONFLICTS.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        done
    }

    /// What was measured so far.
    pub fn measured(self) -> Measured {
        let times = &ALL[self as usize];
        Measured {
            by_bound: times.by_bound.each_ref().map(|n| n.load(Ordering::Relaxed)),
            sum: Duration::from_nanos(times.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// Up to so many seconds, each; what took longer than the last comes behind these.
pub const BOUNDS: [f64; 9] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

/// What transactions of one kind took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// How many took up to each of [`BOUNDS`] and longer than the one before; the last: longer than all.
    pub by_bound: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

/// How many transactions the kernel refused since another program changed the tables at the same moment. Each is made
/// anew.
pub fn conflicts() -> u64 {
    CONFLICTS.load(Ordering::Relaxed)
}

static CONFLICTS: AtomicU64 = AtomicU64::new(0);
static ALL: [Times; TransactionKind::ALL.len()] =
    [const { Times::new() }; TransactionKind::ALL.len()];

struct Times {
    by_bound: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Times {
    const fn new() -> Times {
        Times {
            by_bound: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            nanoseconds: AtomicU64::new(0),
        }
    }

    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BOUNDS.partition_point(|bound| *bound < seconds);
        self.by_bound[place].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::INET;
    use netlink::test_support::in_fresh_netns;
    use nft::{Chain, Object};

    #[test]
    fn each_kind_has_its_own_place_and_label() {
        for (n, (kind, _)) in TransactionKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, n);
        }
    }

    #[test]
    fn a_time_belongs_to_the_first_bound_that_is_not_below_it() {
        let times = Times::new();
        for micros in [0, 100, 101, 1_000_000, 1_000_001] {
            times.add(Duration::from_micros(micros));
        }
        let counts = times.by_bound.map(AtomicU64::into_inner);
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.nanoseconds.into_inner(), 2_000_202_000);
    }

    /// Other tests of this process make transactions, too: so nothing is compared but what these add at least.
    #[test]
    fn what_is_done_is_measured_and_what_meets_another_change_is_counted() {
        in_fresh_netns(|| {
            let mut nft = Nft::open().expect("a socket");
            let count = || {
                TransactionKind::Remove
                    .measured()
                    .by_bound
                    .iter()
                    .sum::<u64>()
            };
            let before = (count(), conflicts());
            let mut table = Transaction::new();
            table.add(&INET, Object::Table);
            TransactionKind::Remove
                .commit(&mut nft, &table)
                .expect("taken");
            assert!(count() > before.0 && TransactionKind::Remove.measured().sum > Duration::ZERO);
            let mut gone = Transaction::new();
            gone.delete(&INET, Chain::new("gone"));
            assert!(TransactionKind::Remove.commit(&mut nft, &gone).is_err());
            assert!(conflicts() > before.1);
        });
    }
}
