//! The entries of links: whose chains may hang at an interface of the host. Since Linux 6.16 a chain
//! outlives its interface, and catches the next one of that name: an ADD must know of all of them,
//! also of those whose own DEL has failed, or whose ADD was killed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::document::{Document, Unknown};
use super::{AttachmentId, StateDir, StateError, escaped, files, remove, unescaped, unfinished};

/// The attachments that an interface of the host has carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEntry {
    /// Those whose chains may hang there, in the order in which they came: the last one it carries.
    pub attachments: Vec<AttachmentId>,
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An interface's name, and its [`StateDir::link_ids`].
pub type Noted = (String, Result<Vec<AttachmentId>, StateError>);

impl Document for LinkEntry {
    const VERSION: u32 = 1;
}

impl StateDir {
    /// Notes that the host's interface `name` carries the attachment `id` from now on, and returns those
    /// that it carried before, whose chains may still be there; none if its entry can't be read, so that
    /// only the kernel can tell. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn set_link(
        &self,
        name: &str,
        id: &AttachmentId,
    ) -> Result<Option<Vec<AttachmentId>>, StateError> {
        let read = self.link_entry(name).inspect_err(|e| {
            tracing::warn!("{e}; it is rewritten, since {name} now belongs to another pod");
        });
        let is_readable = read.is_ok();
        let mut link = read.unwrap_or_default();
        let is_noted = link.attachments.last() == Some(id);
        link.attachments.retain(|known| known != id);
        let before = is_readable.then(|| link.attachments.clone());
        if !is_noted {
            link.attachments.push(id.clone());
            self.write_link(name, &link)?;
        }
        Ok(before)
    }

    /// Notes that nobody else's chains hang at the host's interface `name` any more. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// As [`StateDir::link_ids`].
    pub fn settle_link(&self, name: &str, id: &AttachmentId) -> Result<(), StateError> {
        let mut link = self.link_entry(name)?;
        link.attachments = vec![id.clone()];
        self.write_link(name, &link)
    }

    /// The attachment that the host's interface `name` carries; none if nobody said so.
    ///
    /// # Errors
    /// As [`StateDir::link_ids`].
    pub fn link(&self, name: &str) -> Result<Option<AttachmentId>, StateError> {
        Ok(self.link_ids(name)?.pop())
    }

    /// The attachments whose chains may hang at the host's interface `name`, the latest last.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn link_ids(&self, name: &str) -> Result<Vec<AttachmentId>, StateError> {
        Ok(self.link_entry(name)?.attachments)
    }

    fn link_entry(&self, name: &str) -> Result<LinkEntry, StateError> {
        Ok(self.read(&self.link_path(name))?.unwrap_or_default())
    }

    /// Forgets that the host's interface `name` carries `id`, or has carried it. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// As [`StateDir::link_ids`].
    pub fn remove_link(&self, name: &str, id: &AttachmentId) -> Result<(), StateError> {
        let mut link = self.link_entry(name)?;
        let before = link.attachments.len();
        link.attachments.retain(|known| known != id);
        match link.attachments.len() {
            0 => remove(&self.link_path(name)),
            // Its ADD may have been killed while it wrote the entry.
            after if after == before => {
                files::remove(&unfinished(&self.link_path(name)))?;
                Ok(())
            }
            _ => self.write_link(name, &link),
        }
    }

    /// All entries, by the names of their interfaces.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn links(&self) -> Result<Vec<Noted>, StateError> {
        let mut names: Vec<String> = self
            .documents("links")?
            .iter()
            .filter_map(|file| unescaped(file))
            .collect();
        names.sort();
        let entry = |name: String| {
            let ids = self.link_ids(&name);
            (name, ids)
        };
        Ok(names.into_iter().map(entry).collect())
    }

    /// Forgets all that the host's interface `name` carries. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn forget_link(&self, name: &str) -> Result<(), StateError> {
        remove(&self.link_path(name))
    }

    fn write_link(&self, name: &str, link: &LinkEntry) -> Result<(), StateError> {
        self.write(&self.link_path(name), link)
    }

    pub(super) fn link_path(&self, name: &str) -> PathBuf {
        let file = format!("{}.json", escaped(name));
        self.root.join("links").join(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::attachment_id;

    /// An ADD that was killed, or a DEL that failed, must not hide whose chain still hangs there.
    #[test]
    fn who_had_a_link_is_known_until_it_is_settled() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        let [old, killed, new] = ["a", "b", "c"].map(|c| attachment_id("net", c, "eth0"));
        let ids = || state.link_ids("veth0").expect("readable");
        state.set_link("veth0", &old).expect("writable");
        state.set_link("veth0", &killed).expect("writable");
        state.set_link("veth0", &killed).expect("writable");
        assert_eq!(ids(), [old.clone(), killed.clone()]);
        assert_eq!(state.link("veth0").expect("readable"), Some(killed.clone()));
        state.remove_link("veth0", &killed).expect("writable");
        state.set_link("veth0", &new).expect("writable");
        assert_eq!(ids(), [old.clone(), new.clone()]);
        state.set_link("veth0", &old).expect("writable");
        assert_eq!(ids(), [new.clone(), old.clone()], "it was added anew");
        state.settle_link("veth0", &new).expect("writable");
        assert_eq!(ids(), std::slice::from_ref(&new));
        state.remove_link("veth0", &new).expect("writable");
        assert!(state.links().expect("readable").is_empty());
    }

    #[test]
    fn what_a_killed_add_has_not_finished_goes_with_its_note() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        let [old, killed] = ["a", "b"].map(|c| attachment_id("net", c, "eth0"));
        state.set_link("veth0", &old).expect("writable");
        let half = state.root.join("links/.new-veth0.json");
        for _ in 0..2 {
            fs::write(&half, "0").expect("writable");
            state.remove_link("veth0", &killed).expect("writable");
            assert!(!half.exists());
            state.remove_link("veth0", &old).expect("writable");
        }
    }

    #[test]
    fn entries_are_listed_by_their_own_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        assert!(state.links().expect("none").is_empty());
        let id = attachment_id("net", "c1", "eth0");
        for name in ["veth.1", "a%b", "veth1"] {
            state.set_link(name, &id).expect("writable");
        }
        fs::write(state.root.join("links/broken.json"), "x").expect("writable");
        fs::write(state.root.join("links/.new-veth1.json"), "x").expect("writable");
        let listed: Vec<_> = state
            .links()
            .expect("readable")
            .into_iter()
            .map(|(name, ids)| (name, ids.ok()))
            .collect();
        let known = |name: &str| (name.to_owned(), Some(vec![id.clone()]));
        let broken = ("broken".to_owned(), None);
        let all = [known("a%b"), broken, known("veth.1"), known("veth1")];
        assert_eq!(listed, all);
    }
}
