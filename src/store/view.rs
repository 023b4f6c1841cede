//! `view/RUN/`: what the agent's watches say, for pods that start, and its sign of life. Each run of an agent has a
//! directory of its own, so that two of them, as during an upgrade, never write one file.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::answers::ApiAnswer;
use super::document::{Document, Unknown};
use super::files::failed;
use super::{StateDir, StateError, escaped, files, remove};

/// The directory of all runs.
pub(super) const FOLDER: &str = "view";

/// How old a sign of life may be.
const LIVES: Duration = Duration::from_secs(3);

/// When the directory of a run without one is removed.
const DEAD: Duration = Duration::from_secs(60);

/// Tells one boot of the machine from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The agent lived at this time: by the clock that nobody can set, which begins with the machine's boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sign {
    boot: String,
    milliseconds: u64,
    #[serde(flatten)]
    unknown: Unknown,
}

impl Document for Sign {
    const VERSION: u32 = 1;
}

#[derive(Serialize, Deserialize)]
struct Told<T> {
    said: T,
}

impl<T: ApiAnswer> Document for Told<T> {
    const VERSION: u32 = 1;
}

/// What one run of the agent tells.
#[derive(Debug, Clone)]
pub struct NodeView {
    state: StateDir,
    dir: PathBuf,
}

impl StateDir {
    /// The view of a run that begins; it lives with its first sign. What is left of runs that have ended is removed.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn new_view(&self) -> Result<NodeView, StateError> {
        for name in files::names(&self.root.join(FOLDER))? {
            let view = self.view(&name);
            if view.age().is_none_or(|age| age > DEAD) && view.is_old() {
                let removed = fs::remove_dir_all(&view.dir);
                removed.unwrap_or_else(|e| tracing::debug!("{}: {e}", view.dir.display()));
            }
        }
        let started = now().unwrap_or_default().as_nanos();
        let view = self.view(&format!("{started:x}-{:x}", std::process::id()));
        self.create(&view.dir)?;
        Ok(view)
    }

    /// The view of an agent that lives.
    pub fn living_view(&self) -> Option<NodeView> {
        let names = files::names(&self.root.join(FOLDER)).ok()?;
        let mut views = names.iter().map(|name| self.view(name));
        views.find(|view| view.age().is_some_and(|age| age <= LIVES))
    }

    fn view(&self, name: &str) -> NodeView {
        NodeView {
            state: self.clone(),
            dir: self.root.join(FOLDER).join(name),
        }
    }
}

impl NodeView {
    /// Says that all of it is what is known now.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn sign(&self) -> Result<(), StateError> {
        let sign = Sign {
            boot: boot()?,
            milliseconds: milliseconds(now().unwrap_or_default()),
            unknown: Unknown::default(),
        };
        self.state.write(&self.sign_path(), &sign)
    }

    /// Writes what is said of a name.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn tell<T: ApiAnswer>(&self, name: &str, said: T) -> Result<(), StateError> {
        self.state.write(&self.path::<T>(name), &Told { said })
    }

    /// Nothing is said of it any more.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn forget<T: ApiAnswer>(&self, name: &str) -> Result<(), StateError> {
        remove(&self.path::<T>(name))
    }

    /// What is said of a name; none if nothing is, or it can't be read.
    pub fn said<T: ApiAnswer>(&self, name: &str) -> Option<T> {
        match self.state.read::<Told<T>>(&self.path::<T>(name)) {
            Ok(told) => Some(told?.said),
            Err(e) => {
                tracing::warn!("{e}: the API is asked");
                None
            }
        }
    }

    /// How old its sign is. One of another boot, of the future, or that can't be read, is none.
    fn age(&self) -> Option<Duration> {
        let sign = self.state.read::<Sign>(&self.sign_path()).ok()??;
        let now = milliseconds(now()?);
        let age = Duration::from_millis(now.checked_sub(sign.milliseconds)?);
        // Read only for one that may live: it costs more than all else.
        let is_here = age > LIVES || boot().is_ok_and(|boot| boot == sign.boot);
        is_here.then_some(age)
    }

    /// It was made a while ago, so that it has no sign because nobody gives one.
    fn is_old(&self) -> bool {
        let made = fs::metadata(&self.dir).and_then(|dir| dir.modified());
        made.is_ok_and(|made| made.elapsed().map_or(true, |since| since > DEAD))
    }

    fn sign_path(&self) -> PathBuf {
        self.dir.join("alive.json")
    }

    fn path<T: ApiAnswer>(&self, name: &str) -> PathBuf {
        self.dir
            .join(T::FOLDER)
            .join(format!("{}.json", escaped(name)))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Since the machine's boot, sleep included.
fn now() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Into::into)
}

fn boot() -> Result<String, StateError> {
    let path = std::path::Path::new(BOOT);
    let read = fs::read_to_string(path).map_err(|e: io::Error| failed("read", path)(e))?;
    Ok(read.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NamespaceAnswer;
    use crate::store::tests::state;
    use std::collections::BTreeMap;

    fn said(view: &NodeView) -> Option<NamespaceAnswer> {
        view.said("shop")
    }

    #[test]
    fn only_what_an_agent_that_lives_says_is_used() {
        let (_dir, state) = state();
        assert!(state.living_view().is_none());
        let view = state.new_view().expect("writable");
        let answer = NamespaceAnswer(BTreeMap::from([("k".to_owned(), "deny".to_owned())]));
        view.tell("shop", answer.clone()).expect("writable");
        assert!(state.living_view().is_none(), "it has given no sign");
        view.sign().expect("writable");
        let living = state.living_view().expect("it lives");
        assert_eq!(said(&living), Some(answer.clone()));
        assert!(living.said::<NamespaceAnswer>("other").is_none());

        let sign = fs::read_to_string(view.sign_path()).expect("a sign");
        let at = now().expect("a clock");
        let old = |by: i64| {
            let mut json: serde_json::Value = serde_json::from_str(&sign).expect("JSON");
            let moved = i64::try_from(milliseconds(at)).expect("small") + by;
            json["milliseconds"] = moved.into();
            json.to_string()
        };
        for hostile in [
            old(-3500),
            old(3_600_000),
            old(i64::MIN / 2),
            sign.replace("\"boot\":\"", "\"boot\":\"x"),
            sign.replace("\"version\":1", "\"version\":2"),
            sign[..sign.len() / 2].to_owned(),
            String::new(),
            "null".to_owned(),
        ] {
            fs::write(view.sign_path(), &hostile).expect("writable");
            assert!(state.living_view().is_none(), "{hostile}");
        }
        view.sign().expect("writable");
        for hostile in ["", "{", r#"{"version":2,"said":{}}"#, r#"{"said":{}}"#] {
            fs::write(view.path::<NamespaceAnswer>("shop"), hostile).expect("writable");
            assert_eq!(said(&view), None, "{hostile}");
        }
        // A second one beside it, which has not given a sign, hides nothing.
        view.tell("shop", answer.clone()).expect("writable");
        let second = state.new_view().expect("writable");
        assert_eq!(said(&state.living_view().expect("it lives")), Some(answer));
        fs::remove_dir_all(&view.dir).expect("removable");
        second.sign().expect("writable");
        assert_eq!(said(&state.living_view().expect("it lives")), None);
        assert_eq!(
            state.strangers().expect("listed"),
            [""; 0].map(PathBuf::from)
        );
    }
}
