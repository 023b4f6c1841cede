//! Keeps our entry in the conflist: puts it back when the primary has written its file anew, and stops
//! when somebody takes it out again and again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::confdir::{ConfDir, Ensured, Look};
use super::conflist::Entry;
use super::files::FileError;

/// An entry that stayed this long is settled: what happens after it begins anew.
const SETTLED: Duration = Duration::from_secs(60);

/// The first wait before an entry that was taken out is put back; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// So many times an entry is put back that never settles. A primary that starts writes its file two or
/// three times.
const ATTEMPTS: u32 = 6;

/// What came of one look at the directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The entry is where it should be.
    Fine(PathBuf),
    /// It was put in.
    Put {
        /// The file.
        path: PathBuf,
        /// It had been there, and somebody took it out.
        again: bool,
    },
    /// It was taken out a moment ago, again: it will be put back at this time.
    Wait(Instant),
    /// There is no file that a runtime could use.
    Nothing,
}

/// Why the entry can't be kept.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error(
        "something takes egressway out of {} as soon as it is put in, {ATTEMPTS} times now: two agents must not write one file. If it is Cilium, set cni.exclusive=false; else let that agent keep the entry, or write the conflist by hand", path.display()
    )]
    Fight { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Remembers how often the entry was taken out.
#[derive(Debug, Default)]
pub struct Keeper {
    last_put: Option<(Instant, PathBuf)>,
    undone: u32,
    wait_until: Option<Instant>,
}

impl Keeper {
    /// Looks at the directory and does what is due `now`.
    ///
    /// # Errors
    /// [`Error::Fight`] when it is time to stop; a file can't be read or written.
    pub fn step(
        &mut self,
        confs: &ConfDir,
        entry: &Entry,
        look: &Look,
        now: Instant,
    ) -> Result<Step, Error> {
        if confs.lacks(entry, look) {
            self.count(now)?;
            if let Some(until) = self.wait_until.filter(|until| now < *until) {
                return Ok(Step::Wait(until));
            }
        }
        match confs.ensure(entry, look)? {
            Ensured::Nothing => Ok(Step::Nothing),
            Ensured::Already(path) => Ok(Step::Fine(path)),
            Ensured::Put(path) => {
                let again = self.last_put.is_some();
                self.last_put = Some((now, path.clone()));
                self.wait_until = None;
                Ok(Step::Put { path, again })
            }
        }
    }

    /// The entry is missing: for how long it had been there decides how long to wait.
    fn count(&mut self, now: Instant) -> Result<(), Error> {
        let Some((put, path)) = &self.last_put else {
            return Ok(());
        };
        if self.wait_until.is_some() {
            return Ok(()); // counted already
        }
        if now.duration_since(*put) >= SETTLED {
            self.undone = 0;
            return Ok(());
        }
        if self.undone == ATTEMPTS {
            return Err(Error::Fight { path: path.clone() });
        }
        self.wait_until = Some(now + FIRST_WAIT * 2u32.pow(self.undone));
        self.undone += 1;
        Ok(())
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
        fn step(&mut self, later: Duration) -> Result<Step, Error> {
            self.now += later;
            let entry = Entry::new(&json!({"type": "egressway"})).unwrap();
            let look = self.confs.look().unwrap();
            self.keeper.step(&self.confs, &entry, &look, self.now)
        }

        fn put(&self, again: bool) -> Step {
            Step::Put {
                path: self.file.clone(),
                again,
            }
        }
    }

    #[test]
    fn what_the_primary_rewrites_gets_our_entry_again() {
        let mut node = Node::new();
        assert_eq!(node.step(Duration::ZERO).unwrap(), node.put(false));
        for _ in 0..20 {
            assert_eq!(node.step(SETTLED).unwrap(), Step::Fine(node.file.clone()));
            fs::write(&node.file, LIST).unwrap();
            assert_eq!(
                node.step(Duration::ZERO).unwrap(),
                node.put(true),
                "at once"
            );
        }
        fs::remove_file(&node.file).unwrap();
        assert_eq!(node.step(Duration::ZERO).unwrap(), Step::Nothing);
    }

    #[test]
    fn who_undoes_it_again_and_again_wins_after_some_tries() {
        let mut node = Node::new();
        assert_eq!(node.step(Duration::ZERO).unwrap(), node.put(false));
        let mut waited = Duration::ZERO;
        for n in 0..ATTEMPTS {
            fs::write(&node.file, LIST).unwrap();
            let wait = FIRST_WAIT * 2u32.pow(n);
            let until = node.now + wait;
            assert_eq!(node.step(Duration::ZERO).unwrap(), Step::Wait(until));
            assert_eq!(
                node.step(wait / 2).unwrap(),
                Step::Wait(until),
                "no earlier"
            );
            assert_eq!(fs::read_to_string(&node.file).unwrap(), LIST);
            assert_eq!(node.step(wait - wait / 2).unwrap(), node.put(true));
            waited += wait;
        }
        fs::write(&node.file, LIST).unwrap();
        let error = node.step(Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.contains("cni.exclusive=false") && error.contains("10-a.conflist"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(&node.file).unwrap(),
            LIST,
            "it is left to the other"
        );
        assert!(waited < Duration::from_secs(20), "{waited:?}");
    }
}
