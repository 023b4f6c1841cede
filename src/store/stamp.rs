//! Which file it was that somebody has read: each is written once, and renamed to its name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More than a step of that clock (100 Hz is the slowest).
const STEP: Duration = Duration::from_millis(50);

/// A file, or a directory with its names, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Whether a change from now on would be seen by it: the system's clock for files goes by steps of milliseconds,
    /// so that two changes may have the same time.
    pub fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
        let changed = changed.map(|(seconds, nanos)| UNIX_EPOCH + Duration::new(seconds, nanos));
        // A clock that was set back makes it unsettled until it has caught up.
        changed.is_some_and(|at| {
            let since = SystemTime::now().duration_since(at);
            since.is_ok_and(|since| since >= STEP)
        })
    }

    /// Of what is there; none if that is nothing.
    pub fn of(path: &Path) -> Option<Stamp> {
        let file = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}
