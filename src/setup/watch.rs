//! Waits until something happens in a directory.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A directory that is watched.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Begins to watch `dir`, which must exist.
    ///
    /// # Errors
    /// It does not, or no watch is left (`fs.inotify.max_user_watches`).
    pub fn new(dir: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(
            dir,
            AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVED_TO
                | AddWatchFlags::IN_MOVED_FROM
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_ATTRIB,
        )?;
        Ok(Watch { inotify })
    }

    /// Returns when a file was written, moved or removed since the last call, or after `longest`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self, longest: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        // Rounded up: a wait that ends too early would be taken for news.
        let timeout =
            PollTimeout::try_from(longest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Whoever waits looks at everything anyway: what happened does not matter.
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    #[test]
    fn what_happens_in_the_directory_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new(dir.path()).unwrap();
        let long = Duration::from_secs(60);
        let began = Instant::now();
        let file = dir.path().join("a");
        fs::write(&file, "x").unwrap();
        watch.wait(long).unwrap();
        fs::rename(&file, dir.path().join("b")).unwrap();
        watch.wait(long).unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        watch.wait(long).unwrap();
        assert!(began.elapsed() < long);
        watch.wait(Duration::from_millis(20)).unwrap();
        assert!(Watch::new(&file).is_err());
    }
}
