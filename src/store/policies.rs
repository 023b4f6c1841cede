//! The rules of attachments, stored once for all that have the same policy.
//!
//! `policies/KEY` has two lines of JSON: what ADD has to know of a policy, and all else. Each user has
//! a name of its own for that file, a hard link `attachments/ID.KEY`: so the file system counts the
//! users, and whatever is removed at the same moment, no record ever lacks its rules.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use rules::stored::StoredPolicy;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::files::{self, failed};
use super::{AttachmentId, RecordNames, StateDir, StateError, UNFINISHED, decode, encode};

/// How many hex digits a key has: enough that nobody can make two policies with the same one.
const DIGITS: usize = 32;

/// Which policy a file has: the beginning of a SHA-256 over what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyKey(String);

/// A text that is no policy's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a policy's key has 32 hex digits in lower case")]
pub struct NotAKey;

impl PolicyKey {
    /// The key of what is made from these parts, and only from them.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> PolicyKey {
        let mut digest = Sha256::new();
        for part in parts {
            // A length before each: no two lists of parts read the same.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        PolicyKey(crate::hex::hex(&digest.finalize()[..DIGITS / 2]))
    }
}

impl FromStr for PolicyKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for PolicyKey {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Self, NotAKey> {
        let is_digit = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == DIGITS && text.as_bytes().iter().all(is_digit) {
            Ok(PolicyKey(text))
        } else {
            Err(NotAKey)
        }
    }
}

impl From<PolicyKey> for String {
    fn from(key: PolicyKey) -> Self {
        key.0
    }
}

/// What ADD has to know of a policy whose rules are in the kernel already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyHead {
    /// The chain at which it starts.
    pub chain: String,
    /// The set whose existence says that the base for it is in the kernel.
    pub base: String,
    /// Its pods' namespace is exempt.
    pub exempt: bool,
    /// The egress addresses that its pods may have.
    pub egress: Vec<IpNet>,
    /// Its domain names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<RecordNames>,
    /// With domain names, its pods start although nobody resolves them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_without_agent: bool,
}

/// Its version is that of the whole file: what comes behind it is a [`StoredPolicy`].
impl Document for PolicyHead {
    const VERSION: u32 = 1;
}

impl StateDir {
    /// What ADD has to know of a policy, if some attachment has it. A damaged file says nothing.
    pub fn policy_head(&self, key: &PolicyKey) -> Option<PolicyHead> {
        let path = self.policy_path(key);
        decode(&path, &head_of(&path)?)
            .inspect_err(|e| tracing::warn!("{e}: the policy is read from its texts"))
            .ok()
    }

    /// Makes an attachment a user of a policy. `parts`, its head and the rest, is asked only if
    /// nobody has it yet, or if it is to be written `anew`. To be called under [`StateDir::lock`], before the record is written.
    ///
    /// # Errors
    /// [`StateError::Io`], or what `parts` says.
    pub fn keep_policy<E: From<StateError>>(
        &self,
        id: &AttachmentId,
        key: &PolicyKey,
        anew: bool,
        parts: impl FnOnce() -> Result<(PolicyHead, StoredPolicy), E>,
    ) -> Result<(), E> {
        if !anew && self.link_policy(id, key)? {
            return Ok(());
        }
        let path = self.policy_path(key);
        let (head, rest) = parts()?;
        let mut bytes = encode(&path, &head)?;
        bytes.push(b'\n');
        serde_json::to_writer(&mut bytes, &rest)
            .map_err(|e| StateError::from(failed("encode", &path)(e.into())))?;
        let own = self.policy_link(id, key);
        files::remove(&own).map_err(StateError::from)?; // what it has may be damaged
        if self.is_others(&path) {
            self.put(&own, &bytes)?;
            return Ok(());
        }
        self.put(&path, &bytes)?;
        if self.link_policy(id, key)? {
            return Ok(());
        }
        Err(StateError::from(failed("link", &path)(io::ErrorKind::NotFound.into())).into())
    }

    /// Whether the policy there is of a version that is left alone.
    fn is_others(&self, path: &Path) -> bool {
        let head = head_of(path).map(|head| decode::<PolicyHead>(path, &head));
        head.is_some_and(|head| head.is_err_and(|e| e.is_other_version()))
    }

    /// False: nobody has this policy.
    fn link_policy(&self, id: &AttachmentId, key: &PolicyKey) -> Result<bool, StateError> {
        let (path, link) = (self.policy_path(key), self.policy_link(id, key));
        let made = fs::hard_link(&path, &link).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                self.create(&self.root.join("attachments"))?;
                Ok(fs::hard_link(&path, &link).map_err(failed("link", &link))?)
            }
            _ => Err(failed("link", &link)(e).into()),
        });
        match made {
            Ok(()) => Ok(true),
            Err(StateError::Io(e)) if e.source.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(StateError::Io(e)) if e.source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The rules of an attachment; none if they are gone.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_policy(
        &self,
        id: &AttachmentId,
        key: &PolicyKey,
    ) -> Result<Option<StoredPolicy>, StateError> {
        let path = self.policy_link(id, key);
        let Some(bytes) = files::read(&path)? else {
            return Ok(None);
        };
        let (head, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&bytes[..end], &bytes[end + 1..]),
            None => (&bytes[..], &[][..]),
        };
        decode::<PolicyHead>(&path, head)?;
        match serde_json::from_slice(rest) {
            Ok(policy) => Ok(Some(policy)),
            Err(e) => Err(StateError::Damaged {
                path,
                reason: e.to_string(),
            }),
        }
    }

    /// A policy's file as it is, for [`put_policy_back`](Self::put_policy_back).
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn policy_file(&self, key: &PolicyKey) -> Result<Option<Vec<u8>>, StateError> {
        Ok(files::read(&self.policy_path(key))?)
    }

    /// Makes an attachment a user of its policy again, whose file somebody has removed. To be called under
    /// [`StateDir::lock`].
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn put_policy_back(
        &self,
        id: &AttachmentId,
        key: &PolicyKey,
        file: &[u8],
    ) -> Result<(), StateError> {
        if !self.link_policy(id, key)? {
            self.put(&self.policy_path(key), file)?;
            self.link_policy(id, key)?;
        }
        Ok(())
    }

    /// Makes an attachment a user of this policy no more. The last one's goes.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn release_policy(&self, id: &AttachmentId, key: &PolicyKey) -> Result<(), StateError> {
        let (path, link) = (self.policy_path(key), self.policy_link(id, key));
        // Its own name and that of all. Should somebody become a user just now, that one has a name
        // for the file, too, and the next ADD writes it anew. A file that came in its place is not its.
        let is_last = match (fs::metadata(&link), fs::metadata(&path)) {
            (Ok(own), Ok(all)) => own.nlink() <= 2 && own.ino() == all.ino(),
            _ => false,
        };
        files::remove(&link)?;
        if is_last {
            files::remove(&path)?;
        }
        Ok(())
    }

    /// The same for an attachment whose record does not tell.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn release_policies(&self, id: &AttachmentId) -> Result<(), StateError> {
        for (user, key) in self.policy_users()? {
            if user == *id {
                self.release_policy(id, &key)?;
            }
        }
        Ok(())
    }

    /// All attachments' names for their policies.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn policy_users(&self) -> Result<Vec<(AttachmentId, PolicyKey)>, StateError> {
        let names = files::names(&self.root.join("attachments"))?;
        Ok(names.iter().filter_map(|name| policy_user(name)).collect())
    }

    /// Policies that no attachment has. Under [`StateDir::lock`] none is about to.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn unused_policies(&self) -> Result<Vec<PathBuf>, StateError> {
        let names = files::names(&self.root.join("policies"))?;
        Ok(self.unused_of(&names).collect())
    }

    /// Those of these files' names under which nobody's policy is.
    fn unused_of(&self, names: &[String]) -> impl Iterator<Item = PathBuf> {
        let keys = names.iter().filter_map(|name| name.parse().ok());
        let paths = keys.map(|key: PolicyKey| self.policy_path(&key));
        let is_unused = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.nlink() == 1);
        // Another version may count its users in another way.
        paths.filter(move |path| is_unused(path) && !self.is_others(path))
    }

    /// Removes policies that were never finished, or never got their first user. To be called under
    /// [`StateDir::lock`]: nobody is at work on them.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn tidy_policies(&self) -> Result<(), StateError> {
        let dir = self.root.join("policies");
        let names = files::names(&dir)?;
        let unfinished = names.iter().filter(|name| name.starts_with(UNFINISHED));
        let unfinished = unfinished.map(|name| dir.join(name));
        for path in unfinished.chain(self.unused_of(&names)) {
            files::remove(&path)?;
        }
        Ok(())
    }

    fn policy_path(&self, key: &PolicyKey) -> PathBuf {
        self.root.join("policies").join(&key.0)
    }

    /// The attachment's own name for a policy.
    pub fn policy_link(&self, id: &AttachmentId, key: &PolicyKey) -> PathBuf {
        self.root
            .join("attachments")
            .join(format!("{id}.{}", key.0))
    }
}

/// Whose policy a file of the records' directory is.
pub(super) fn policy_user(name: &str) -> Option<(AttachmentId, PolicyKey)> {
    let (id, key) = name.split_once('.')?;
    Some((id.parse().ok()?, key.parse().ok()?))
}

/// The first line of a policy's file.
fn head_of(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut line = Vec::new();
    BufReader::with_capacity(4096, file)
        .read_until(b'\n', &mut line)
        .ok()?;
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attachment_id;

    fn head(chain: &str) -> PolicyHead {
        PolicyHead {
            chain: chain.to_owned(),
            base: "inside4-0".to_owned(),
            exempt: false,
            egress: vec!["203.0.113.0/29".parse().expect("a network")],
            names: None,
            start_without_agent: false,
        }
    }

    /// A policy whose only tier has this text.
    fn policy(text: &str) -> StoredPolicy {
        let stored = serde_json::json!({
            "tiers": [{"tier": "pod", "source": "somewhere", "text": text, "audit": false}],
            "defaultAction": "allow", "defaultAudit": false, "facts": {"cluster": [], "dns": []},
        });
        serde_json::from_value(stored).expect("a policy")
    }

    fn key(text: &str) -> PolicyKey {
        PolicyKey::of([text.as_bytes()])
    }

    #[test]
    fn a_key_tells_where_its_parts_end() {
        let of = |parts: &[&str]| PolicyKey::of(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        let text = String::from(of(&["a"]));
        assert_eq!(text.parse(), Ok(of(&["a"])));
        for wrong in ["", "../../etc/passwd", &text[1..], &text.to_uppercase()] {
            assert_eq!(PolicyKey::from_str(wrong), Err(NotAKey), "{wrong}");
        }
    }

    #[test]
    fn stored_once_and_gone_with_the_last_user() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        let [one, two] = ["c1", "c2"].map(|c| attachment_id("net", c, "eth0"));
        let web = key("web");
        let keep = |id: &AttachmentId, asked: &mut bool| {
            state.keep_policy(id, &web, false, || {
                *asked = true;
                Ok::<_, StateError>((head("pol-1"), policy("deny\nallow")))
            })
        };
        let (mut first, mut second) = (false, false);
        assert_eq!(state.policy_head(&web), None);
        keep(&one, &mut first).expect("writable");
        keep(&two, &mut second).expect("writable");
        keep(&two, &mut second).expect("again is no fault");
        assert_eq!((first, second), (true, false), "written once");
        assert_eq!(state.policy_head(&web), Some(head("pol-1")));
        let rules = |id| state.read_policy(id, &web).expect("readable");
        assert_eq!(rules(&two), Some(policy("deny\nallow")));
        assert_eq!(state.list_attachments().expect("readable"), []);

        state.release_policy(&one, &web).expect("removable");
        assert_eq!(rules(&one), None);
        assert!(rules(&two).is_some() && state.policy_head(&web).is_some());
        assert!(state.unused_policies().expect("readable").is_empty());
        state.release_policies(&two).expect("removable");
        assert_eq!(state.policy_head(&web), None);
        assert_eq!(state.policy_users().expect("readable"), []);
        state.release_policy(&two, &web).expect("nothing is left");
    }

    /// An attachment keeps a policy.
    fn keep(state: &StateDir, is_new: bool) -> (AttachmentId, PolicyKey) {
        let (one, web) = (attachment_id("net", "c1", "eth0"), key("web"));
        let parts = || Ok::<_, StateError>((head("pol-1"), policy("deny")));
        let kept = state.keep_policy(&one, &web, is_new, parts);
        kept.expect("writable");
        (one, web)
    }

    #[test]
    fn what_a_killed_call_leaves_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let (one, web) = keep(&state, false);
        assert_eq!(
            state.policy_users().expect("readable"),
            [(one.clone(), web.clone())]
        );
        fs::remove_file(state.policy_link(&one, &web)).expect("removable");
        assert_eq!(
            state.unused_policies().expect("readable"),
            [state.policy_path(&web)]
        );
        let unfinished = dir.path().join("policies/.new-x");
        fs::write(&unfinished, "{").expect("writable");
        state.tidy_policies().expect("removable");
        assert!(!unfinished.exists() && !state.policy_path(&web).exists());
    }

    #[test]
    fn a_damaged_policy_is_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let (one, web) = keep(&state, false);
        fs::write(state.policy_path(&web), "{").expect("writable");
        assert_eq!(state.policy_head(&web), None);
        let damaged = state.read_policy(&one, &web);
        assert!(matches!(damaged, Err(StateError::Damaged { .. })));
        keep(&state, true);
        assert_eq!(state.policy_head(&web), Some(head("pol-1")));
        let rules = state.read_policy(&one, &web).expect("readable");
        assert_eq!(rules, Some(policy("deny")));
    }
}
