//! Keeps our entry in the conflist: puts it back when somebody has written the file anew, at once as long
//! as that is now and then, and never stops, since pods that start without it are not enforced.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::setup::confdir::{ConfDir, Ensured, Look};
use crate::setup::conflist::{EntryFault, PluginEntry};
use crate::setup::files::FileError;
use rules::fault::shown;

/// An entry that stayed this long is settled: what happens after it begins anew.
const SETTLED: Duration = Duration::from_secs(60);

/// So often the entry is put back at once. A primary that starts writes its file two or three times.
const AT_ONCE: usize = 6;

/// From then on, once in this time: two agents that undo each other's work must not keep a node busy.
const EVERY: Duration = Duration::from_secs(2);

/// So often within [`SETTLED`] it may be undone before people are told.
const TOLD_AFTER: usize = 3;

/// What came of one look at the directory.
#[derive(Debug, PartialEq, Eq)]
pub enum AtConflist {
    /// The entry is where it should be.
    Fine(PathBuf),
    /// It was put in.
    Put {
        /// The file.
        path: PathBuf,
        /// What had been wrong.
        lack: EntryFault,
        /// It had been put there before.
        again: bool,
    },
    /// It was undone a moment ago, again: it will be put back at this time.
    Wait(Instant),
    /// There is no file that a runtime could use.
    Nothing,
}

/// Remembers how often the entry was undone.
#[derive(Debug, Default)]
pub struct Keeper {
    /// When it was put in, for the last [`SETTLED`]; the first time does not count.
    undone: VecDeque<Instant>,
    /// It was put in, or found there.
    had: bool,
}

impl Keeper {
    /// Looks at the directory and does what is due `now`.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn step(
        &mut self,
        confs: &ConfDir,
        entry: &PluginEntry,
        look: &Look,
        now: Instant,
    ) -> Result<AtConflist, FileError> {
        while self
            .undone
            .front()
            .is_some_and(|at| now.duration_since(*at) >= SETTLED)
        {
            self.undone.pop_front();
        }
        let lack = confs.lack(entry, look);
        if let (Some(_), Some(due)) = (&lack, self.due())
            && now < due
        {
            return Ok(AtConflist::Wait(due));
        }
        match (confs.ensure(entry, look)?, lack) {
            (Ensured::Nothing, _) => Ok(AtConflist::Nothing),
            (Ensured::Put(path), Some(lack)) => {
                let again = self.had;
                self.had = true;
                if again {
                    self.undone.push_back(now);
                }
                Ok(AtConflist::Put { path, lack, again })
            }
            (Ensured::Already(path) | Ensured::Put(path), _) => {
                self.had = true;
                Ok(AtConflist::Fine(path))
            }
        }
    }

    /// When the entry may be put back.
    fn due(&self) -> Option<Instant> {
        if self.undone.len() < AT_ONCE {
            return None;
        }
        self.undone.back().map(|last| *last + EVERY)
    }

    /// What to tell people if the entry does not stay.
    pub fn complaint(&self, path: &Path) -> Option<String> {
        (self.undone.len() >= TOLD_AFTER).then(|| {
            format!(
                "something undoes egressway's entry in {} as soon as it is restored, {} times within the last minute, and pods that start meanwhile are not enforced: two agents must not write one file. If it is Cilium, set cni.exclusive=false; else let that agent keep the entry, or write the conflist by hand",
                shown(path),
                self.undone.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const LIST: &str = r#"{"name":"pods","plugins":[{"type":"bridge"}]}"#;

    struct Node {
        _root: tempfile::TempDir,
        confs: ConfDir,
        file: PathBuf,
        keeper: Keeper,
        now: Instant,
    }

    impl Node {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().to_owned();
            fs::write(dir.join("bridge"), "").unwrap();
            fs::set_permissions(dir.join("bridge"), fs::Permissions::from_mode(0o755)).unwrap();
            let file = dir.join("10-a.conflist");
            fs::write(&file, LIST).unwrap();
            Node {
                _root: root,
                confs: ConfDir {
                    dir: dir.clone(),
                    bin_dirs: vec![dir],
                },
                file,
                keeper: Keeper::default(),
                now: Instant::now(),
            }
        }

        /// One look, `later` after the one before.
        fn step(&mut self, later: Duration) -> AtConflist {
            self.now += later;
            let entry = PluginEntry::new(&json!({"type": "egressway"})).unwrap();
            let look = self.confs.look().unwrap();
            let step = self.keeper.step(&self.confs, &entry, &look, self.now);
            step.unwrap()
        }

        fn put(&self, again: bool) -> AtConflist {
            AtConflist::Put {
                path: self.file.clone(),
                lack: EntryFault::Missing,
                again,
            }
        }

        /// As the primary does.
        fn rewrite(&self) {
            fs::write(&self.file, LIST).unwrap();
        }

        fn complaint(&self) -> Option<String> {
            self.keeper.complaint(&self.file)
        }
    }

    #[test]
    fn what_the_primary_rewrites_gets_our_entry_again_at_once() {
        let mut node = Node::new();
        assert_eq!(node.step(Duration::ZERO), node.put(false));
        for _ in 0..20 {
            assert_eq!(node.step(SETTLED), AtConflist::Fine(node.file.clone()));
            node.rewrite();
            assert_eq!(node.step(Duration::ZERO), node.put(true));
            assert_eq!(node.complaint(), None);
        }
        fs::remove_file(&node.file).unwrap();
        assert_eq!(node.step(Duration::ZERO), AtConflist::Nothing);
    }

    #[test]
    fn who_undoes_it_every_few_seconds_is_answered_at_once_each_time() {
        let mut node = Node::new();
        assert_eq!(node.step(Duration::ZERO), node.put(false));
        for n in 1..=40 {
            node.rewrite();
            assert_eq!(node.step(Duration::from_secs(5)), node.put(true), "{n}");
            assert_eq!(node.complaint().is_some(), n >= TOLD_AFTER, "{n}");
        }
        let said = node.complaint().unwrap();
        assert!(
            said.contains("cni.exclusive=false") && said.contains("10-a.conflist"),
            "{said}"
        );
        assert_eq!(node.step(SETTLED), AtConflist::Fine(node.file.clone()));
        assert_eq!(node.complaint(), None, "it has stayed");
    }

    #[test]
    fn who_undoes_it_at_once_is_answered_from_time_to_time_for_ever() {
        let mut node = Node::new();
        assert_eq!(node.step(Duration::ZERO), node.put(false));
        for _ in 0..AT_ONCE {
            node.rewrite();
            assert_eq!(node.step(Duration::ZERO), node.put(true));
        }
        for _ in 0..100 {
            node.rewrite();
            let due = node.now + EVERY;
            assert_eq!(node.step(Duration::ZERO), AtConflist::Wait(due));
            assert_eq!(node.step(EVERY / 2), AtConflist::Wait(due), "no earlier");
            assert_eq!(fs::read_to_string(&node.file).unwrap(), LIST);
            assert_eq!(node.step(EVERY / 2), node.put(true));
        }
        assert!(node.complaint().is_some());
    }
}
