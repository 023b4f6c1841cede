//! Network namespaces: opening one, telling two apart, working inside one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
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

    /// Whether the socket is in this namespace.
    ///
    /// # Errors
    /// As [`identity_of`].
    pub fn has(&self, socket: &impl AsFd) -> Result<bool, Error> {
        Ok(self.identity()? == identity_of(socket)?)
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
        let failed = |cause| {
            Error::system(
                format!("identify network namespace {}", self.path.display()),
                cause,
            )
        };
        identity(&self.file).map_err(failed)
    }
}

/// Device and inode of a socket's network namespace: no other one has both for as long as it lives.
///
/// The socket is asked, since looking at `/proc` of a process that has just started costs more than
/// everything else that is asked of the kernel for a pod.
///
/// # Errors
/// No CAP_NET_ADMIN in the socket's namespace.
pub fn identity_of(socket: &impl AsFd) -> Result<(u64, u64), Error> {
    let failed = |cause: io::Error| {
        let operation = "identify its own network namespace, for which CAP_NET_ADMIN is needed";
        Error::system(operation, cause)
    };
    // SAFETY: SIOCGSKNS takes no argument and touches no memory of ours; the descriptor is open for
    // as long as `socket` is borrowed.
    let opened = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGSKNS) };
    if opened < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just opened this descriptor, and nobody else knows of it.
    let namespace = File::from(unsafe { OwnedFd::from_raw_fd(opened) });
    identity(&namespace).map_err(failed)
}

fn identity(namespace: &File) -> io::Result<(u64, u64)> {
    let metadata = namespace.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
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
    use crate::test_support::{in_fresh_netns, new_netns};
    use nft::Nft;

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
            assert_ne!(here.identity().unwrap(), there.identity().unwrap());
            let entered = there.run(|| Netns::current().unwrap()).unwrap();
            assert_eq!(entered.identity().unwrap(), there.identity().unwrap());
            assert_eq!(
                Netns::current().unwrap().identity().unwrap(),
                here.identity().unwrap()
            );
        });
    }

    #[test]
    fn a_socket_tells_where_it_is() {
        in_fresh_netns(|| {
            let (here, there) = (Netns::current().unwrap(), new_netns());
            let [inner, outer] = [&there, &here].map(|n| n.run(|| Nft::open().unwrap()).unwrap());
            assert!(here.has(&outer).unwrap() && there.has(&inner).unwrap());
            assert!(!here.has(&inner).unwrap() && !there.has(&outer).unwrap());
            assert_eq!(identity_of(&outer).unwrap(), here.identity().unwrap());
            let no_socket = std::fs::File::open("/dev/null").unwrap();
            assert!(identity_of(&no_socket).is_err());
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
            assert_eq!(
                Netns::current().unwrap().identity().unwrap(),
                here.identity().unwrap()
            );
        });
    }
}
