//! What the agent has done, in numbers for whoever asks for its metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lifecycle::reconcile::Area;

/// What was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// Rules, sets and hooks in the kernel.
    Rules,
    /// Egress addresses.
    EgressIps,
    /// What drops packets with forged checksums.
    Guard,
    /// Documents of the state directory.
    Records,
    /// The plugin's program.
    Program,
    /// Our entry in the conflist.
    Conflist,
}

impl Mended {
    const ALL: [(Mended, &str); 6] = [
        (Mended::Rules, "rules"),
        (Mended::EgressIps, "egress-ip"),
        (Mended::Guard, "checksum-guard"),
        (Mended::Records, "record"),
        (Mended::Program, "program"),
        (Mended::Conflist, "conflist"),
    ];
}

impl From<Area> for Mended {
    fn from(part: Area) -> Self {
        match part {
            Area::Rules => Mended::Rules,
            Area::EgressIps => Mended::EgressIps,
            Area::Guard => Mended::Guard,
            Area::Records => Mended::Records,
        }
    }
}

/// Counted since the agent has started. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<[AtomicU64; Mended::ALL.len()]>);

impl Counters {
    /// One more was put back.
    pub fn mended(&self, what: Mended) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were put back, each kind by its label.
    pub fn all_mended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let number = |what: Mended| self.0[what as usize].load(Ordering::Relaxed);
        let all = Mended::ALL.into_iter();
        all.map(move |(what, label)| (label, number(what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_under_its_own_label() {
        let counters = Counters::default();
        for (n, (what, _)) in Mended::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, n);
            (0..n).for_each(|_| counters.clone().mended(what));
        }
        let numbers: Vec<u64> = counters.all_mended().map(|(_, number)| number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
