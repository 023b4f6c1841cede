//! Word of what happens in directories, and a look every ten seconds in any case.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often everything is looked at, even if nothing seems to have happened.
pub const TICK: Duration = Duration::from_secs(10);

/// Directories that are watched, as far as the kernel has a watch to give.
#[derive(Debug)]
pub struct Dirs {
    dirs: Vec<PathBuf>,
    inotify: Option<AsyncFd<Watched>>,
    said: bool,
}

impl Dirs {
    /// Begins to watch. To be called inside the runtime.
    pub fn new(dirs: impl IntoIterator<Item = PathBuf>) -> Dirs {
        let mut dirs = Dirs {
            dirs: dirs.into_iter().collect(),
            inotify: None,
            said: false,
        };
        dirs.watch();
        dirs
    }

    /// Without a watch (`fs.inotify.max_user_instances` is used up, a directory is not there yet) the
    /// looks at every [`TICK`] have to do.
    fn watch(&mut self) {
        match watch(&self.dirs) {
            Ok(inotify) => {
                self.inotify = Some(inotify);
                self.said = false;
            }
            Err(e) if !self.said => {
                tracing::warn!(
                    "cannot watch this node's files ({e}): checking every {} s instead",
                    TICK.as_secs()
                );
                self.said = true;
            }
            Err(_) => {}
        }
    }

    /// Returns when a file was or may have been written, moved or removed since the last call, and after `longest`.
    /// This may be dropped at any time.
    pub async fn changed(&mut self, longest: Duration) {
        if self.inotify.is_none() {
            self.watch();
            if self.inotify.is_some() {
                return; // nobody was told of what has happened before
            }
        }
        let Some(inotify) = &self.inotify else {
            return tokio::time::sleep(longest.min(TICK)).await;
        };
        let read = inotify.async_io(Interest::READABLE, drain);
        match tokio::time::timeout(longest.min(TICK), read).await {
            Ok(Ok(Replaced::No)) | Err(_) => {}
            // A directory was replaced: the new one has no watch yet.
            Ok(Ok(Replaced::Yes) | Err(_)) => self.inotify = None,
        }
    }
}

/// What the runtime polls by its number.
#[derive(Debug)]
struct Watched(Inotify);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Whether a directory is not the one any more that was watched.
enum Replaced {
    No,
    Yes,
}

fn watch(dirs: &[PathBuf]) -> io::Result<AsyncFd<Watched>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    for dir in dirs {
        add(&inotify, dir)?;
    }
    // SAFETY: the descriptor is the inotify's own, which lives as long as what holds it here, and nobody
    // else closes it.
    let watched = unsafe { AsyncFd::register_with_interest(Watched(inotify), Interest::READABLE) };
    Ok(watched?)
}

fn add(inotify: &Inotify, dir: &Path) -> Result<(), Errno> {
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(dir, flags).map(drop)
}

/// Whoever waits looks at everything anyway: what happened does not matter.
fn drain(inotify: &Watched) -> io::Result<Replaced> {
    let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
    let mut lost = Replaced::No;
    let mut some = false;
    loop {
        match inotify.0.read_events() {
            Ok(events) => {
                some = true;
                if events.iter().any(|event| event.mask.intersects(gone)) {
                    lost = Replaced::Yes;
                }
            }
            Err(Errno::EAGAIN) if some => return Ok(lost),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    fn run<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    #[test]
    fn what_happens_in_a_directory_ends_the_wait() {
        let root = tempfile::tempdir().expect("a directory");
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        for dir in [&a, &b] {
            fs::create_dir(dir).expect("make a directory");
        }
        run(async {
            let mut dirs = Dirs::new([a.clone(), b.clone()]);
            let began = Instant::now();
            fs::write(a.join("file"), "x").expect("write");
            dirs.changed(TICK).await;
            fs::rename(a.join("file"), b.join("file")).expect("rename");
            dirs.changed(TICK).await;
            fs::remove_file(b.join("file")).expect("remove");
            dirs.changed(TICK).await;
            // A directory that is replaced is watched again.
            fs::rename(&a, root.path().join("old")).expect("rename");
            fs::create_dir(&a).expect("make a directory");
            dirs.changed(TICK).await;
            let mut waits = 0;
            fs::write(a.join("new"), "x").expect("write");
            while dirs.inotify.is_none() || waits == 0 {
                dirs.changed(Duration::from_millis(10)).await;
                waits += 1;
            }
            fs::write(a.join("newer"), "x").expect("write");
            dirs.changed(TICK).await;
            assert!(began.elapsed() < TICK, "{:?}", began.elapsed());
            let quiet = Instant::now();
            dirs.changed(Duration::from_millis(20)).await;
            assert!(quiet.elapsed() >= Duration::from_millis(20));
        });
    }

    #[test]
    fn what_cannot_be_watched_is_looked_at_from_time_to_time() {
        let root = tempfile::tempdir().expect("a directory");
        let later = root.path().join("later");
        run(async {
            let mut dirs = Dirs::new([later.clone()]);
            dirs.changed(Duration::from_millis(5)).await;
            assert!(dirs.inotify.is_none());
            fs::create_dir(&later).expect("make a directory");
            dirs.changed(Duration::from_millis(5)).await;
            assert!(dirs.inotify.is_some());
        });
    }
}
