//! What a clean-up needs of the state directory: files that a killed call has not finished.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{StateDir, StateError, failed};

/// How the name of a file begins that has not got its place yet.
pub(super) const UNFINISHED: &str = ".new-";

impl StateDir {
    /// Files of records and notes that were never finished. Under [`StateDir::lock`] nobody is at
    /// work on them.
    ///
    /// # Errors
    /// [`StateError::Io`]: a directory can't be listed.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>, StateError> {
        let mut files = Vec::new();
        for dir in ["attachments", "links", "policies"].map(|dir| self.root.join(dir)) {
            let names = names(&dir)?;
            let unfinished = names.iter().filter(|name| name.starts_with(UNFINISHED));
            files.extend(unfinished.map(|name| dir.join(name)));
        }
        Ok(files)
    }

    /// Egress addresses with a file that was never finished. Under the address's own lock nobody is
    /// at work on it.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn unfinished_egress(&self) -> Result<Vec<IpAddr>, StateError> {
        let names = names(&self.root.join("egress"))?;
        let address = |name: &String| {
            let name = name.strip_prefix(UNFINISHED)?.strip_suffix(".json")?;
            name.parse().ok()
        };
        Ok(names.iter().filter_map(address).collect())
    }

    /// Removes the unfinished file of an egress address, if there is one.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn remove_unfinished_egress(&self, address: IpAddr) -> Result<(), StateError> {
        remove_file(&super::unfinished(&self.egress_path(address)))
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// [`StateError::Io`]
pub fn remove_file(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

/// The names of a directory's files; none if there is no such directory.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, StateError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed("list", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", dir))?.file_name();
        names.extend(name.to_str().map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attachment_id;

    #[test]
    fn unfinished_files_are_found_and_only_they_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let (id, address) = (attachment_id("net", "c1", "eth0"), IpAddr::from([1; 4]));
        state.write_attachment(&id, &1).expect("writable");
        state.write_egress(address, &1).expect("writable");
        assert!(state.unfinished().expect("readable").is_empty());
        let file = state.root.join(format!("attachments/.new-{id}.json"));
        let egress = state.root.join("egress/.new-1.1.1.1.json");
        for path in [&file, &egress] {
            fs::write(path, "{").expect("writable");
        }
        assert_eq!(
            state.unfinished().expect("readable"),
            std::slice::from_ref(&file)
        );
        assert_eq!(state.unfinished_egress().expect("readable"), [address]);
        remove_file(&file).expect("removable");
        state.remove_unfinished_egress(address).expect("removable");
        assert!(!file.exists() && !egress.exists());
        assert_eq!(state.list_attachments().expect("readable"), [id]);
        assert_eq!(state.list_egress().expect("readable"), [address]);
    }
}
