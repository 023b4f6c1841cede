//! Files: the one way in which this program replaces a file, reads one, and lists a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", rules::fault::shown(path))]
pub struct FileError {
    /// What was being done, such as `write`.
    pub operation: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Adds to an I/O error what was being done, to which path.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// What a file has to outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlives {
    /// This process. Where nothing outlives a reboot, as on a tmpfs, there is nothing to wait for.
    Process,
    /// A power loss: the old file or the new one is there afterwards, whole.
    PowerLoss,
}

/// Gives `path` these bytes and this mode in one step: a reader, a crash and a power loss (as far as
/// asked for) see the old file or the new one. A program that runs from the old one keeps running.
///
/// It is written as `new` first, which must be in the same directory: a rename works inside one file
/// system only. What an earlier call that was killed has left there is overwritten.
///
/// # Errors
/// The system refuses; the old file is untouched.
pub fn replace(
    path: &Path,
    new: &Path,
    bytes: &[u8],
    mode: u32,
    outlives: Outlives,
) -> Result<(), FileError> {
    let written = write(new, bytes, mode, outlives)
        .map_err(failed("write", path))
        .and_then(|()| fs::rename(new, path).map_err(failed("replace", path)));
    if written.is_err() {
        let _ = fs::remove_file(new); // the failure itself is what matters
        return written;
    }
    match outlives {
        Outlives::Process => Ok(()),
        Outlives::PowerLoss => sync_parent(path),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32, outlives: Outlives) -> io::Result<()> {
    if outlives == Outlives::Process {
        return rewriting(mode).open(path)?.write_all(bytes);
    }
    // What a killed process left may have another mode, and may be a running program.
    remove_any(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?; // whatever the umask is
    file.write_all(bytes)?;
    file.sync_all()
}

/// How a file is opened that is written from its beginning.
pub(super) fn rewriting(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
}

/// Waits until what happened to the name `path` can't be lost any more.
///
/// # Errors
/// The system refuses.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

/// Reads a whole file; none if there is none.
///
/// # Errors
/// It is there and can't be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// The paths of a directory's entries, in no order. One that is missing is empty.
///
/// # Errors
/// It can't be read.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", dir)(e)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed("list", dir)))
        .collect()
}

/// The names of a directory's entries, in no order; those that are no text are left out.
///
/// # Errors
/// As [`list`].
pub(super) fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    let name = |path: PathBuf| path.file_name()?.to_str().map(str::to_owned);
    Ok(list(dir)?.into_iter().filter_map(name).collect())
}

/// Removes a file, if there is one. True if there was.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    remove_any(path).map_err(failed("remove", path))
}

fn remove_any(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of writing: whole or not at all, whatever a killed call has left.
    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside() {
        for outlives in [Outlives::Process, Outlives::PowerLoss] {
            let dir = tempfile::tempdir().expect("a directory");
            let (path, new) = (dir.path().join("file"), dir.path().join("new"));
            fs::write(&new, "of a killed process, and longer").expect("writable");
            for text in ["one", "two"] {
                replace(&path, &new, text.as_bytes(), 0o600, outlives).expect("writable");
                assert_eq!(
                    read(&path).expect("readable").expect("there"),
                    text.as_bytes()
                );
            }
            assert_eq!(
                list(dir.path()).expect("readable"),
                std::slice::from_ref(&path)
            );
            assert!(remove(&path).expect("removable"));
            assert!(!remove(&path).expect("gone"));
            assert!(read(&path).expect("gone").is_none());
            assert!(list(&path).expect("gone").is_empty());
            let nowhere = dir.path().join("no/such/dir");
            let error = replace(
                &nowhere,
                &nowhere.with_file_name("new"),
                b"",
                0o644,
                outlives,
            );
            let error = error.expect_err("there is no such directory");
            assert!(error.to_string().contains("cannot write"), "{error}");
        }
    }

    /// A directory stands where the file should: the rename fails, and what was written goes.
    #[test]
    fn a_failed_replacement_leaves_the_old() {
        for outlives in [Outlives::Process, Outlives::PowerLoss] {
            let dir = tempfile::tempdir().expect("a directory");
            let (path, new) = (dir.path().join("taken"), dir.path().join("new"));
            fs::create_dir(&path).expect("a directory");
            let error = replace(&path, &new, b"x", 0o600, outlives).expect_err("a directory");
            assert_eq!(error.operation, "replace");
            assert!(path.is_dir() && !new.exists());
        }
    }
}
