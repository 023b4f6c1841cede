//! What the API said, kept on the node for the time when it says nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::store::{ApiAnswer, Snapshot, StateDir};

/// What is kept, and for how long it may be used.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a> {
    /// Where they are kept.
    pub state: &'a StateDir,
    /// How old one may be at most.
    pub max_age: Duration,
    /// Whether they are used at all. They are kept in any case, so that this can be changed in the
    /// hour of need.
    pub used: bool,
}

impl Snapshots<'_> {
    /// Keeps what the API has just said of `name`.
    ///
    /// A pod does not fail for want of space here, but then what was said before goes, too: it is
    /// known to be outdated.
    pub(super) fn keep<T: ApiAnswer>(&self, name: &str, said: T) {
        let snapshot = Snapshot {
            read_at: Timestamp::now(),
            said,
        };
        if let Err(e) = self.state.write_snapshot(name, &snapshot) {
            tracing::warn!("{e}: the API's answer for {name} is not cached");
            self.forget::<T>(name);
        }
        // A node may see many namespaces come and go.
        if let Err(e) = self.state.prune_snapshots::<T>(self.max_age) {
            tracing::warn!("{e}");
        }
    }

    /// Forgets what was said: by now it is known to be wrong.
    pub(super) fn forget<T: ApiAnswer>(&self, name: &str) {
        if let Err(e) = self.state.remove_snapshot::<T>(name) {
            tracing::warn!("{e}");
        }
    }

    /// What was said of `name`, if snapshots are used, this one can be read and is young enough, and
    /// how old it is.
    pub(super) fn young<T: ApiAnswer>(&self, name: &str) -> Option<(T, SignedDuration)> {
        if !self.used {
            return None;
        }
        let snapshot: Snapshot<T> = match self.state.read_snapshot(name) {
            Ok(found) => found?,
            Err(e) => {
                tracing::warn!("{e}: it is not used");
                return None;
            }
        };
        let age = Timestamp::now().duration_since(snapshot.read_at);
        if !is_young(age, self.max_age) {
            tracing::warn!(
                "the cached answer of the API for {name} is {age:#} old, older than the allowed {:?}: it is not used",
                self.max_age
            );
            return None;
        }
        Some((snapshot.said, age))
    }
}

/// A time in the future is no age: then the clock was changed, and nobody knows.
fn is_young(age: SignedDuration, max_age: Duration) -> bool {
    Duration::try_from(age).is_ok_and(|age| age <= max_age)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::store::NamespaceAnswer;

    /// The answer of a namespace with this annotation.
    fn saying(rules: &str) -> NamespaceAnswer {
        let key = "egressway.dev/default-rules".to_owned();
        NamespaceAnswer(BTreeMap::from([(key, rules.to_owned())]))
    }

    fn read_at(text: &str) -> String {
        let read: serde_json::Value = serde_json::from_str(text).expect("JSON");
        read["readAt"].as_str().expect("a time").to_owned()
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    struct NoJson(BTreeMap<Vec<u8>, String>);

    impl ApiAnswer for NoJson {
        const FOLDER: &'static str = NamespaceAnswer::FOLDER;
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// Asked for, if they are no older than an hour.
    fn snapshots(state: &StateDir) -> Snapshots<'_> {
        Snapshots {
            state,
            max_age: HOUR,
            used: true,
        }
    }

    #[test]
    fn an_age_from_the_future_is_not_young() {
        for (seconds, young) in [
            (0, true),
            (3600, true),
            (3601, false),
            (-1, false),
            (-9999, false),
        ] {
            assert_eq!(
                is_young(SignedDuration::from_secs(seconds), HOUR),
                young,
                "{seconds}"
            );
        }
    }

    #[test]
    fn kept_until_it_is_forgotten_and_given_only_when_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let used = snapshots(&state);
        let said =
            |from: Snapshots<'_>| from.young::<NamespaceAnswer>("shop").map(|(said, _)| said);
        assert_eq!(said(used), None);
        used.keep("shop", saying("deny"));
        assert_eq!(said(used), Some(saying("deny")));
        assert_eq!(
            said(Snapshots {
                used: false,
                ..used
            }),
            None
        );

        let path = dir.path().join("namespaces/shop.json");
        let text = fs::read_to_string(&path).expect("is kept");
        for damaged in [&text[..text.len() / 2], "", "{}", "null"] {
            fs::write(&path, damaged).expect("writable");
            assert_eq!(said(used), None, "{damaged}");
        }
        for moved in ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
            let moved = text.replace(&read_at(&text), moved);
            fs::write(&path, &moved).expect("writable");
            assert_eq!(said(used), None, "{moved}");
        }
        used.forget::<NamespaceAnswer>("shop");
        assert!(!path.exists());
        used.forget::<NamespaceAnswer>("shop");
    }

    #[test]
    fn old_ones_go_when_others_come() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let snapshots = snapshots(&state);
        for name in ["old", "young"] {
            snapshots.keep(name, saying("x"));
        }
        let old = fs::File::open(dir.path().join("namespaces/old.json")).expect("is kept");
        let long_ago = std::time::SystemTime::now() - 2 * HOUR;
        old.set_modified(long_ago).expect("settable");
        snapshots.keep("newest", saying("x"));
        let mut left: Vec<_> = fs::read_dir(dir.path().join("namespaces"))
            .expect("is there")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["newest.json", "young.json"]);
    }

    #[test]
    fn what_cannot_be_kept_does_not_leave_what_was_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let snapshots = snapshots(&state);
        snapshots.keep("shop", saying("before"));
        // JSON has no such keys.
        let after = BTreeMap::from([(vec![1], String::new())]);
        snapshots.keep("shop", NoJson(after));
        assert!(snapshots.young::<NamespaceAnswer>("shop").is_none());
    }
}
