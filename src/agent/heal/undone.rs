//! Who undoes what is put back again and again wins: until the next look at everything it is left alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::lifecycle::reconcile::{Area, Change, Did};

/// What is counted.
const WITHIN: Duration = Duration::from_secs(60);

/// So often one thing is put back within that time as soon as it is broken.
const AT_ONCE: usize = 6;

/// How often each thing was put back, or could not be, within the last minute.
#[derive(Debug, Default)]
pub struct Undone(BTreeMap<(Area, String), VecDeque<Instant>>);

impl Undone {
    /// Counts what has come of a look.
    pub fn note(&mut self, changes: &[Change], now: Instant) {
        self.0.retain(|_, times| {
            while times
                .front()
                .is_some_and(|at| now.duration_since(*at) >= WITHIN)
            {
                times.pop_front();
            }
            !times.is_empty()
        });
        let tried = changes.iter().filter(|change| change.did != Did::Left);
        for change in tried {
            let key = (change.part, change.what.clone());
            self.0.entry(key).or_default().push_back(now);
        }
    }

    /// What is left to the next look at everything.
    pub fn contested(&self) -> BTreeSet<Area> {
        let often = self.often().map(|((part, _), _)| *part);
        often.collect()
    }

    fn often(&self) -> impl Iterator<Item = (&(Area, String), usize)> {
        let all = self.0.iter().map(|(key, times)| (key, times.len()));
        all.filter(|(_, times)| *times >= AT_ONCE)
    }

    /// What people are told.
    pub fn complaint(&self, last: &str, every: Duration) -> Option<String> {
        let ((part, what), times) = self.often().next()?;
        let advice = match part {
            Area::EgressIps => {
                "whatever manages this node's addresses (systemd-networkd, NetworkManager) must leave it alone"
            }
            Area::Rules | Area::Guard => {
                "only egressway may change the tables inet egressway and netdev egressway, and the filters of pods' interfaces"
            }
            Area::Records => "only egressway may change its state directory",
        };
        Some(format!(
            "something undoes egressway's work as soon as it is restored ({what}, {times} times within the last minute{last}): from now on it is restored only every {} s. {advice}",
            every.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(part: Area, what: &str, did: Did) -> Change {
        Change {
            part,
            did,
            what: what.to_owned(),
            why: String::new(),
        }
    }

    #[test]
    fn only_who_undoes_the_same_thing_again_and_again_wins() {
        let (mut undone, start) = (Undone::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let every = Duration::from_secs(30);
        for n in 0..20 {
            // Each another one, as when a whole node is renamed.
            let other = change(Area::Rules, &format!("attachment {n}"), Did::Repaired);
            let left = change(Area::Rules, "left", Did::Left);
            undone.note(&[other, left], at(n));
        }
        assert_eq!(undone.contested(), BTreeSet::new());
        let address = change(Area::EgressIps, "egress IP 192.0.2.1", Did::Repaired);
        for n in 0..6 {
            assert_eq!(undone.complaint("", every), None, "{n}");
            undone.note(std::slice::from_ref(&address), at(30 + n));
        }
        assert_eq!(undone.contested(), BTreeSet::from([Area::EgressIps]));
        let said = undone.complaint(", last by nft", every).unwrap_or_default();
        assert!(
            said.contains("192.0.2.1, 6 times within the last minute, last by nft"),
            "{said}"
        );
        undone.note(&[], at(89));
        assert!(!undone.contested().is_empty());
        undone.note(&[], at(91));
        assert_eq!(undone.contested(), BTreeSet::new());
    }
}
