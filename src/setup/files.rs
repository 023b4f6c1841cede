//! Files on the node's disk: replaced in one step, and whole after a power loss.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::files::{self, Outlives, failed};
pub use crate::store::files::{FileError, list, read, remove};

/// Gives `path` these bytes and this mode in one step, so that a power loss leaves the old file or the
/// new one.
///
/// It is written beside its place, under a name that no runtime takes for a configuration, and
/// renamed: containerd does not notice files that are moved in from elsewhere.
///
/// # Errors
/// The system refuses; the old file is untouched.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let new = beside(path, "new");
    files::replace(path, &new, bytes, mode, Outlives::PowerLoss)
}

/// `NAME.egressway-WHAT` in the same directory.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".egressway-{what}"));
    path.with_file_name(name)
}

/// Renames a file in its directory, and waits until that can't be lost any more.
///
/// # Errors
/// The system refuses.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(failed("rename", from))?;
    files::sync_parent(to)
}

/// Removes a directory with all that is in it, if there is one.
///
/// # Errors
/// The system refuses.
pub fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // The place where a directory of the node is mounted can't be removed; it is empty now.
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        outcome => outcome.map_err(failed("remove", path)),
    }
}

/// Makes a directory and those above it, if they are missing.
///
/// # Errors
/// The system refuses.
pub fn create_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10-x.conflist");
        fs::write(beside(&path, "new"), "of a killed process").unwrap();
        replace(&path, b"one", 0o644).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read(&dir.path().join("none")).unwrap().is_none());
        let error = replace(&dir.path().join("no/such/dir"), b"", 0o644).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
    }
}
