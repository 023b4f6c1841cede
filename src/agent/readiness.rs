//! Whether the agent is ready: each task says so of its own part, by name, with the reason if not.

use std::collections::BTreeMap;
use std::fmt;

use tokio::sync::watch;

/// How one part stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ready,
    /// Pods that start now are enforced, but not as they should be: with an older policy, say.
    Behind(String),
    /// Pods that start now may not be enforced.
    Failed(String),
}

type Parts = BTreeMap<&'static str, Status>;

/// All parts.
#[derive(Debug, Clone)]
pub struct Readiness(watch::Sender<Parts>);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(watch::Sender::new(Parts::new()))
    }
}

impl Readiness {
    /// A new part, which is not ready yet.
    pub fn part(&self, name: &'static str) -> TaskReadiness {
        let part = TaskReadiness {
            name,
            all: self.clone(),
        };
        part.set(Status::Failed("has not been looked at yet".to_owned()));
        part
    }

    /// How all parts stand, and word of each change.
    pub fn follow(&self) -> watch::Receiver<Parts> {
        self.0.subscribe()
    }

    /// How all parts stand now.
    pub fn now(&self) -> Summary {
        Summary(self.0.borrow().clone())
    }
}

/// One task's part.
#[derive(Debug, Clone)]
pub struct TaskReadiness {
    name: &'static str,
    all: Readiness,
}

impl TaskReadiness {
    /// Says how it stands. The same as before is no news.
    pub fn set(&self, status: Status) {
        self.all.0.send_if_modified(|parts| {
            let before = parts.insert(self.name, status);
            before.as_ref() != parts.get(self.name)
        });
    }

    /// It is as it should be.
    pub fn ready(&self) {
        self.set(Status::Ready);
    }

    /// Pods are enforced, but not as they should be.
    pub fn behind(&self, why: impl ToString) {
        self.set(Status::Behind(why.to_string()));
    }

    /// Pods may not be enforced.
    pub fn failed(&self, why: impl ToString) {
        self.set(Status::Failed(why.to_string()));
    }
}

/// How all parts stand, at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary(Parts);

impl Summary {
    /// All parts are as they should be.
    pub fn is_ready(&self) -> bool {
        self.0.values().all(|status| *status == Status::Ready)
    }

    /// Some part says that pods that start now may not be enforced.
    pub fn lets_pods_through(&self) -> bool {
        let mut all = self.0.values();
        all.any(|status| matches!(status, Status::Failed(_)))
    }

    /// What is not as it should be: `conflist: ...`, one line each.
    pub fn reasons(&self) -> Vec<String> {
        let reason = |(name, status): (&&str, &Status)| match status {
            Status::Ready => None,
            Status::Behind(why) | Status::Failed(why) => Some(format!("{name}: {why}")),
        };
        self.0.iter().filter_map(reason).collect()
    }
}

impl From<&Parts> for Summary {
    fn from(parts: &Parts) -> Self {
        Summary(parts.clone())
    }
}

impl fmt::Display for Summary {
    /// `ready`, or the reasons, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ready() {
            return f.write_str("ready\n");
        }
        self.reasons()
            .iter()
            .try_for_each(|why| writeln!(f, "{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_all_parts_are() {
        let readiness = Readiness::default();
        let (policy, conflist) = (readiness.part("policy"), readiness.part("conflist"));
        assert!(!readiness.now().is_ready());
        policy.ready();
        conflist.failed("no file");
        assert_eq!(readiness.now().to_string(), "conflist: no file\n");
        assert!(readiness.now().lets_pods_through());
        conflist.ready();
        policy.behind("an older one");
        assert!(!readiness.now().lets_pods_through());
        assert_eq!(readiness.now().to_string(), "policy: an older one\n");
        assert!(!readiness.now().is_ready());
        policy.ready();
        assert_eq!(readiness.now().to_string(), "ready\n");
    }

    #[test]
    fn the_same_again_is_no_news() {
        let readiness = Readiness::default();
        let part = readiness.part("policy");
        part.ready();
        let mut follower = readiness.follow();
        follower.mark_unchanged();
        part.ready();
        assert!(!follower.has_changed().expect("the sender lives"));
        part.failed("gone");
        assert!(follower.has_changed().expect("the sender lives"));
    }
}
