//! What was denied last, and what is denied for the first time: for `show` and for Events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::verdicts::Line;
use crate::verdicts::node::Deny;
use rules::verdict::Verdict;

/// A rule's denials of one pod are told once in this time.
const ONCE_IN: Duration = Duration::from_secs(3600);

/// Of so many pods the last denial is known, and of so many pairs of pod and rule when it was told.
const MOST: usize = 4096;

/// So many may wait to be told.
const WAITING: usize = 64;

/// Sees every line, and never waits.
#[derive(Debug, Clone)]
pub struct Denials {
    known: Arc<Mutex<DeniedSoFar>>,
    first: mpsc::Sender<Line>,
}

#[derive(Debug, Default)]
struct DeniedSoFar {
    /// By UID.
    last: HashMap<String, Deny>,
    told: HashMap<(String, String), Instant>,
}

/// First denials, for whoever tells them.
pub type First = mpsc::Receiver<Line>;

impl Denials {
    /// Both ends.
    pub fn new() -> (Denials, First) {
        let (first, told) = mpsc::channel(WAITING);
        let known = Arc::default();
        (Denials { known, first }, told)
    }

    /// Sees a line.
    pub fn see(&self, line: &Line) {
        let (Some(uid), true) = (&line.pod_uid, line.verdict != Verdict::Allow) else {
            return;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.last.len() >= MOST && !known.last.contains_key(uid) {
            known.last.clear(); // pods of this node are fewer by far: it is full of those that are gone
        }
        known.last.insert(uid.clone(), Deny::of(line));
        if !matches!(line.verdict, Verdict::Deny | Verdict::Reject) {
            return;
        }
        let now = Instant::now();
        let is_due = |told: &Instant| now.saturating_duration_since(*told) >= ONCE_IN;
        let key = (uid.clone(), line.rule.clone());
        if known.told.get(&key).is_some_and(|told| !is_due(told)) {
            return;
        }
        if known.told.len() >= MOST {
            known.told.retain(|_, told| !is_due(told));
            if known.told.len() >= MOST {
                return; // more than anybody would be told
            }
        }
        // What finds no room is told with a later packet.
        if self.first.try_send(line.clone()).is_ok() {
            known.told.insert(key, now);
        }
    }

    /// The last denied packet of a pod.
    pub fn last(&self, uid: &str) -> Option<Deny> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.last.get(uid).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, uid: &str) -> Line {
        Line {
            pod_uid: Some(uid.to_owned()),
            ..crate::verdicts::test_support::line(1, text)
        }
    }

    #[test]
    fn the_first_of_a_rule_is_told_and_the_last_of_all_is_known() {
        let (denials, mut first) = Denials::new();
        denials.see(&line("shop/web deny pod:1 tcp 203.0.113.9 443", "1"));
        denials.see(&line("shop/web deny pod:1 tcp 203.0.113.9 444", "1"));
        denials.see(&line("shop/web reject pod:2 tcp 203.0.113.9 445", "1"));
        denials.see(&line("shop/web would-deny pod:3 tcp 203.0.113.9 446", "1"));
        denials.see(&line("shop/web allow pod:4 tcp 203.0.113.9 447", "1"));
        denials.see(&line("shop/db deny pod:1 tcp 203.0.113.9 448", "2"));
        let ports = std::iter::from_fn(|| first.try_recv().ok()?.destination_port);
        assert_eq!(ports.collect::<Vec<u16>>(), [443, 445, 448]);
        let last = denials.last("1").map(|deny| (deny.to(), deny.rule));
        let expected = ("203.0.113.9:446/tcp".to_owned(), "pod:3".to_owned());
        assert_eq!(last, Some(expected));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (denials, mut first) = Denials::new();
        for n in 0..3 * MOST {
            denials.see(&line(
                "shop/web deny pod:1 tcp 203.0.113.9 443",
                &n.to_string(),
            ));
            while first.try_recv().is_ok() {}
        }
        let known = denials.known.lock().expect("no panic");
        assert!(known.last.len() <= MOST && known.told.len() <= MOST);
    }
}
