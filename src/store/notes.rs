//! The notes of links: whose chains may hang at an interface of the host. Since Linux 6.16 a chain
//! outlives its interface, and catches the next one of that name: an ADD must know of all of them,
//! also of those whose own DEL has failed, or whose ADD was killed.

use std::path::PathBuf;

use super::tidy::{names, remove_file};
use super::{AttachmentId, NotAnId, StateDir, StateError, read, remove, unfinished};

impl StateDir {
    /// Notes that the host's interface `name` carries the attachment `id` from now on. Those that it
    /// carried before may still have their chains there. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn set_link(&self, name: &str, id: &AttachmentId) -> Result<Vec<AttachmentId>, StateError> {
        let mut ids = self.link_ids(name).unwrap_or_else(|e| {
            tracing::warn!("{e}; it is written anew");
            Vec::new()
        });
        let is_noted = ids.last() == Some(id);
        ids.retain(|known| known != id);
        if !is_noted {
            ids.push(id.clone());
            self.write_link(name, &ids)?;
            ids.pop();
        }
        Ok(ids)
    }

    /// Notes that nobody else's chains hang at the host's interface `name` any more. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn settle_link(&self, name: &str, id: &AttachmentId) -> Result<(), StateError> {
        self.write_link(name, std::slice::from_ref(id))
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
    /// [`StateError::Io`]; [`StateError::Damaged`] if a line of the note is no id.
    pub fn link_ids(&self, name: &str) -> Result<Vec<AttachmentId>, StateError> {
        let path = self.link_path(name);
        let Some(bytes) = read(&path)? else {
            return Ok(Vec::new());
        };
        let text = str::from_utf8(&bytes).ok().filter(|text| !text.is_empty());
        let ids = text.and_then(|text| text.lines().map(|line| line.parse().ok()).collect());
        ids.ok_or_else(|| StateError::Damaged {
            path,
            reason: NotAnId.to_string(),
        })
    }

    /// Forgets that the host's interface `name` carries `id`, or has carried it. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// As [`StateDir::link_ids`].
    pub fn remove_link(&self, name: &str, id: &AttachmentId) -> Result<(), StateError> {
        let mut ids = self.link_ids(name)?;
        let before = ids.len();
        ids.retain(|known| known != id);
        match ids.len() {
            0 => remove(&self.link_path(name)),
            // Its ADD may have been killed while it wrote the note.
            after if after == before => remove_file(&unfinished(&self.link_path(name))),
            _ => self.write_link(name, &ids),
        }
    }

    /// All notes, each with its [`StateDir::link_ids`]; none where a note can't be read.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn links(&self) -> Result<Vec<(String, Vec<AttachmentId>)>, StateError> {
        let mut links: Vec<_> = names(&self.root.join("links"))?
            .iter()
            .filter_map(|file| unescaped(file))
            .map(|name| {
                let ids = self.link_ids(&name).unwrap_or_default();
                (name, ids)
            })
            .collect();
        links.sort();
        Ok(links)
    }

    /// Forgets all that the host's interface `name` carries. To be called under [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn forget_link(&self, name: &str) -> Result<(), StateError> {
        remove(&self.link_path(name))
    }

    fn write_link(&self, name: &str, ids: &[AttachmentId]) -> Result<(), StateError> {
        let lines: Vec<&str> = ids.iter().map(AttachmentId::as_str).collect();
        self.write(&self.link_path(name), lines.join("\n").as_bytes())
    }

    pub(super) fn link_path(&self, name: &str) -> PathBuf {
        self.root.join("links").join(super::escaped(name))
    }
}

/// The text of which [`super::escaped`] made this file name; none if it did not.
fn unescaped(file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = file.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    let text = String::from_utf8(bytes).ok()?;
    (super::escaped(&text) == file).then_some(text)
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
        assert_eq!(state.links().expect("readable"), []);
    }

    #[test]
    fn what_a_killed_add_has_not_finished_goes_with_its_note() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        let [old, killed] = ["a", "b"].map(|c| attachment_id("net", c, "eth0"));
        state.set_link("veth0", &old).expect("writable");
        let half = state.root.join("links/.new-veth0");
        for _ in 0..2 {
            fs::write(&half, "0").expect("writable");
            state.remove_link("veth0", &killed).expect("writable");
            assert!(!half.exists());
            state.remove_link("veth0", &old).expect("writable");
        }
    }

    #[test]
    fn notes_of_links_are_listed_by_their_own_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        assert_eq!(state.links().expect("none"), []);
        let id = attachment_id("net", "c1", "eth0");
        for name in ["veth.1", "a%b", "veth1"] {
            state.set_link(name, &id).expect("writable");
        }
        fs::write(state.root.join("links/broken"), "x").expect("writable");
        fs::write(state.root.join("links/.new-veth1"), "x").expect("writable");
        let known = |name: &str| (name.to_owned(), vec![id.clone()]);
        let broken = ("broken".to_owned(), Vec::new());
        let all = [known("a%b"), broken, known("veth.1"), known("veth1")];
        assert_eq!(state.links().expect("readable"), all);
    }
}
