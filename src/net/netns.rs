//! Network namespaces: opening one, telling two apart, working inside one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use super::Error;

/// An open network namespace. It stays alive, if no longer reachable by its path, while this is
/// open.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace behind a path such as `/var/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// Fails with [`Error::NoSuchNetns`] if nothing is there and with [`Error::NotANetns`] if
    /// something else is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        // O_NONBLOCK: opening a FIFO must not wait for a writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Error::NoSuchNetns { path: path.clone() }
                }
                _ => Error::system(format!("open network namespace {}", path.display()), cause),
            })?;
        if is_network_namespace(&file) {
            Ok(Netns { file, path })
        } else {
            Err(Error::NotANetns { path })
        }
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new, empty namespace. It goes when this is dropped.
    ///
    /// # Errors
    /// No CAP_SYS_ADMIN, or a kernel without network namespaces.
    pub fn scratch() -> Result<Self, Error> {
        let failed = |cause: io::Error| Error::system("make a network namespace", cause);
        // On a thread of its own: the caller stays where it is.
        let worker = thread::Builder::new()
            .name("scratch-netns".into())
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| Error::system("make a network namespace", errno))?;
                Self::current()
            })
            .map_err(failed)?;
        match worker.join() {
            Ok(made) => made,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether both are the same namespace, by whatever paths they were opened.
    pub fn same_as(&self, other: &Netns) -> Result<bool, Error> {
        Ok(self.identity()? == other.identity()?)
    }

    /// Runs the closure inside the namespace and returns what it returns.
    ///
    /// It runs on a thread of its own, so the calling thread never leaves its namespace, and a
    /// panic of the closure goes on in the caller. Sockets opened by the closure stay in the
    /// namespace when they are returned.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let failed = |cause: io::Error| {
            Error::system(
                format!("enter network namespace {}", self.path.display()),
                cause,
            )
        };
        thread::scope(|scope| {
            let worker = thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })
                .map_err(failed)?;
            match worker.join() {
                Ok(result) => result.map_err(|errno: nix::Error| failed(errno.into())),
                Err(payload) => panic::resume_unwind(payload),
            }
        })
    }

    fn identity(&self) -> Result<(u64, u64), Error> {
        let metadata = self.file.metadata().map_err(|cause| {
            Error::system(
                format!("identify network namespace {}", self.path.display()),
                cause,
            )
        })?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn is_network_namespace(file: &File) -> bool {
    // Only nsfs is asked for its type: the same number may mean anything to another driver.
    if !fstatfs(file).is_ok_and(|status| status.filesystem_type() == NSFS_MAGIC) {
        return false;
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the descriptor is
    // open for as long as `file` is borrowed.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::test_support::{in_fresh_netns, new_netns};

    #[test]
    fn tells_what_a_path_is() {
        let missing = Netns::open("/nonexistent/netns");
        assert!(matches!(missing, Err(Error::NoSuchNetns { .. })));
        assert_eq!(
            missing.map(|_| ()).map_err(|error| error.to_string()),
            Err("no such network namespace: /nonexistent/netns".to_string())
        );
        let plain = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            Netns::open(plain.path()),
            Err(Error::NotANetns { .. })
        ));
        let below_a_file = plain.path().join("net");
        assert!(matches!(
            Netns::open(below_a_file),
            Err(Error::NoSuchNetns { .. })
        ));
        assert!(matches!(
            Netns::open("/proc/self/ns/mnt"),
            Err(Error::NotANetns { .. })
        ));
        assert!(Netns::open("/proc/self/ns/net").is_ok());
    }

    #[test]
    fn runs_inside_and_leaves_the_caller_where_it_was() {
        in_fresh_netns(|| {
            let here = Netns::current().unwrap();
            let there = new_netns();
            assert!(!here.same_as(&there).unwrap());
            let entered = there.run(|| Netns::current().unwrap()).unwrap();
            assert!(entered.same_as(&there).unwrap());
            assert!(Netns::current().unwrap().same_as(&here).unwrap());
        });
    }

    #[test]
    fn a_panic_inside_reaches_the_caller_in_its_own_namespace() {
        in_fresh_netns(|| {
            let here = Netns::current().unwrap();
            let there = new_netns();
            let result = panic::catch_unwind(|| there.run(|| panic!("inside")));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"inside"));
            assert!(Netns::current().unwrap().same_as(&here).unwrap());
        });
    }
}
