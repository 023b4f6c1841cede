//! Files on the node's disk: replaced in one step, and whole after a power loss.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError {
        operation,
        path: path.to_owned(),
        source,
    }
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

/// Gives `path` these bytes and this mode in one step: a reader, a crash and a power loss see the old
/// file or the new one. A program that runs from the old one keeps running.
///
/// It is written beside its place, under a name that no runtime takes for a configuration, and
/// renamed: containerd does not notice files that are moved in from elsewhere.
///
/// # Errors
/// The system refuses; the old file is untouched.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let new = beside(path, "new");
    let written = write(&new, bytes, mode)
        .map_err(failed("write", &new))
        .and_then(|()| fs::rename(&new, path).map_err(failed("replace", path)));
    if let Err(error) = written {
        let _ = fs::remove_file(&new); // the failure itself is what matters
        return Err(error);
    }
    sync_dir(dir)
}

/// `NAME.egressway-WHAT` in the same directory.
pub fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".egressway-{what}"));
    path.with_file_name(name)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // What a killed process left may have another mode, and may be a running program.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?; // whatever the umask is
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames a file in its directory, and waits until that can't be lost any more.
///
/// # Errors
/// The system refuses.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(failed("rename", from))?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))
}

/// Removes a file, if there is one. True if there was.
///
/// # Errors
/// The system refuses.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("remove", path)(e)),
    }
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

fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

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
