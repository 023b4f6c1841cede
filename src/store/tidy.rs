//! What a clean-up needs of the state directory: files that a killed call has not finished, and those
//! that are nobody's here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::names::GroupName;
use super::policies::{PolicyKey, policy_user};
use super::{
    AttachmentId, StateDir, StateError, UNFINISHED, answers, files, unescaped, unfinished,
};

type IsDocument = fn(&str) -> bool;

/// Where each kind of document is, and which files there are one by their names.
const PLACES: [(&str, IsDocument); 6] = [
    ("attachments", |name| {
        document(name).is_some_and(|id| id.parse::<AttachmentId>().is_ok())
            || policy_user(name).is_some()
    }),
    ("policies", |name| name.parse::<PolicyKey>().is_ok()),
    ("links", |name| document(name).and_then(unescaped).is_some()),
    (super::names::FOLDER, |name| {
        document(name).is_some_and(|group| group.parse::<GroupName>().is_ok())
    }),
    (super::guard::FOLDER, |name| name == "program.json"),
    ("egress", |name| {
        document(name).is_some_and(|address| address.parse::<IpAddr>().is_ok())
    }),
];

/// What else there is; where the agent listens, and did when it was killed before that had its name.
const OTHERS: [&str; 7] = [
    "lock",
    "locks",
    "whole.json",
    super::names::KNOWN,
    "agent.sock",
    "agent.sock.new",
    super::view::FOLDER,
];

fn document(name: &str) -> Option<&str> {
    name.strip_suffix(".json")
}

impl StateDir {
    /// Files of records, policies and links that were never finished. Under [`StateDir::lock`] nobody is
    /// at work on them.
    ///
    /// # Errors
    /// [`StateError::Io`]: a directory can't be listed.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>, StateError> {
        let mut found = Vec::new();
        for dir in ["attachments", "links", "policies", super::names::FOLDER]
            .map(|dir| self.root.join(dir))
        {
            let names = files::names(&dir)?;
            let unfinished = names.iter().filter(|name| name.starts_with(UNFINISHED));
            found.extend(unfinished.map(|name| dir.join(name)));
        }
        Ok(found)
    }

    /// Egress addresses with a file that was never finished. Under the address's own lock nobody is
    /// at work on it.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn unfinished_egress(&self) -> Result<Vec<IpAddr>, StateError> {
        let names = files::names(&self.root.join("egress"))?;
        let address = |name: &String| document(name.strip_prefix(UNFINISHED)?)?.parse().ok();
        Ok(names.iter().filter_map(address).collect())
    }

    /// Removes the unfinished file of an egress address, if there is one.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn remove_unfinished_egress(&self, address: IpAddr) -> Result<(), StateError> {
        remove_file(&unfinished(&self.egress_path(address)))
    }

    /// Files and directories that no document of this version is called like, in order: somebody else's,
    /// or those of another version.
    ///
    /// # Errors
    /// [`StateError::Io`]: a directory can't be listed.
    pub fn strangers(&self) -> Result<Vec<PathBuf>, StateError> {
        let mut strangers = Vec::new();
        for name in files::names(&self.root)? {
            let is_place = PLACES.iter().any(|(place, _)| *place == name);
            if !is_place && !OTHERS.contains(&&*name) && !answers::FOLDERS.contains(&&*name) {
                strangers.push(self.root.join(name));
            }
        }
        for (place, is_document) in PLACES {
            let dir = self.root.join(place);
            let names = files::names(&dir)?;
            let strange = |name: &&String| !name.starts_with(UNFINISHED) && !is_document(name);
            strangers.extend(names.iter().filter(strange).map(|name| dir.join(name)));
        }
        strangers.sort();
        Ok(strangers)
    }
}

/// Removes a file of the state directory, if it is there.
///
/// # Errors
/// [`StateError::Io`]
pub fn remove_file(path: &Path) -> Result<(), StateError> {
    files::remove(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::tests::{id, owner, record, state};

    #[test]
    fn unfinished_files_are_found_and_only_they_go() {
        let (_dir, state) = state();
        let (id, address) = (id("c1"), IpAddr::from([1; 4]));
        state
            .write_attachment(&id, &record("c1"))
            .expect("writable");
        state
            .write_egress(address, &owner("shop"))
            .expect("writable");
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
