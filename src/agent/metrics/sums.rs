//! Counters that only grow, from those of the kernel, which begin anew whenever what counts is put anew.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Sums by series. What counts is known by `K`; when it goes, what it had counted stays in its series.
#[derive(Debug)]
pub struct Sums<K, L> {
    counting: HashMap<K, u64>,
    series: BTreeMap<L, Series>,
    /// How long a series stays for which nothing counts any more.
    stays: Duration,
    /// What was there when this process began has been seen: from then on, everything is counted from nothing.
    has_begun: bool,
}

#[derive(Debug)]
struct Series {
    sum: u64,
    last: Instant,
}

impl<K: Eq + Hash, L: Ord> Sums<K, L> {
    /// None yet.
    pub fn new(stays: Duration) -> Self {
        Sums {
            counting: HashMap::new(),
            series: BTreeMap::new(),
            stays,
            has_begun: false,
        }
    }

    /// All that counts `now`, each with its series and the kernel's counter.
    ///
    /// What was counted before the first of these is in no sum: another process may have told it, and who adds
    /// increases up must not do so twice.
    pub fn see(&mut self, all: impl IntoIterator<Item = (K, L, u64)>, now: Instant) {
        let mut counting = HashMap::new();
        for (counts, series, counter) in all {
            let before = match (self.counting.get(&counts), self.has_begun) {
                (Some(before), _) => *before,
                (None, true) => 0,
                (None, false) => counter,
            };
            // Less than before: it was put anew.
            let since = counter.checked_sub(before).unwrap_or(counter);
            let series = self
                .series
                .entry(series)
                .or_insert(Series { sum: 0, last: now });
            series.sum += since;
            series.last = now;
            counting.insert(counts, counter);
        }
        self.counting = counting;
        self.has_begun = true;
        let stays = self.stays;
        self.series.retain(|_, series| {
            series.last == now || now.saturating_duration_since(series.last) < stays
        });
    }

    /// Whether there is such a series.
    pub fn has(&self, series: &L) -> bool {
        self.series.contains_key(series)
    }

    /// All series, in order.
    pub fn all(&self) -> impl Iterator<Item = (&L, u64)> {
        self.series.iter().map(|(series, of)| (series, of.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(sums: &Sums<u32, &'static str>) -> Vec<(&'static str, u64)> {
        sums.all().map(|(series, sum)| (*series, sum)).collect()
    }

    #[test]
    fn a_sum_never_goes_down() {
        let hour = Duration::from_secs(3600);
        let mut sums = Sums::new(hour);
        let now = Instant::now();
        sums.see([(1, "a", 100)], now);
        assert_eq!(all(&sums), [("a", 0)], "an earlier process has told these");
        sums.see([(1, "a", 110), (2, "a", 5), (3, "b", 7)], now);
        assert_eq!(all(&sums), [("a", 15), ("b", 7)]);
        // One is put anew, one is gone.
        sums.see([(1, "a", 4), (3, "b", 8)], now);
        assert_eq!(all(&sums), [("a", 19), ("b", 8)]);
        // All of a series are gone, for a while; and something else is counted in it.
        sums.see([(1, "a", 4)], now + hour / 2);
        assert_eq!(all(&sums), [("a", 19), ("b", 8)]);
        sums.see([(1, "b", 6)], now + hour);
        assert_eq!(all(&sums), [("a", 19), ("b", 10)]);
        sums.see([(1, "b", 6)], now + 2 * hour);
        assert_eq!(all(&sums), [("b", 10)]);
    }

    #[test]
    fn series_that_go_at_once_leave_nothing() {
        let mut sums = Sums::new(Duration::ZERO);
        sums.see([], Instant::now());
        for n in 0..1000 {
            sums.see([(n, n, 1)], Instant::now());
            assert_eq!(sums.all().count(), 1);
        }
        assert_eq!(sums.counting.len(), 1);
    }
}
