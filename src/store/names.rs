//! Domain names in rules: `names/GROUP.json` says which names a pair of live sets stands for, and how the agent puts
//! addresses into them; `names.json` what it has put there, for its successor.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::{StateDir, StateError, remove};

/// The directory of groups.
pub(super) const FOLDER: &str = "names";
/// What is known of all.
pub(super) const KNOWN: &str = "names.json";

/// How many hex digits a group's name has.
const DIGITS: usize = 16;

/// Names that are looked up together: those of one rule, or of several that stand side by side and differ in nothing
/// else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// A text that is no group's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a group's name has 16 hex digits in lower case")]
pub struct NotAGroup;

impl GroupName {
    /// Of the group of these patterns, as rules print them, in whatever order.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> GroupName {
        let mut patterns: Vec<&str> = patterns.into_iter().collect();
        patterns.sort_unstable();
        patterns.dedup();
        let digest = Sha256::digest(patterns.join("\n"));
        GroupName(crate::hex::hex(&digest[..DIGITS / 2]))
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupName {
    type Err = NotAGroup;

    fn from_str(text: &str) -> Result<Self, NotAGroup> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for GroupName {
    type Error = NotAGroup;

    fn try_from(text: String) -> Result<Self, NotAGroup> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == DIGITS && text.bytes().all(is_digit) {
            true => Ok(GroupName(text)),
            false => Err(NotAGroup),
        }
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> String {
        name.0
    }
}

/// What a record says of names: its pod's questions are led to the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordNames {
    /// The groups that its rules have.
    pub groups: Vec<GroupName>,
    /// It may ask for no other names.
    #[serde(default)]
    pub only_allowed: bool,
}

/// A group. It is written as a whole, by whoever makes its sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameGroup {
    /// As rules print them.
    pub patterns: Vec<String>,
    /// By family, `4` or `6`, and how long an address stays, `90s`: what has to be sent to an address so that the
    /// kernel puts it into the set, in hex.
    pub tokens: BTreeMap<String, BTreeMap<String, String>>,
}

impl Document for NameGroup {
    const VERSION: u32 = 1;
}

/// What is in the sets. The agent alone writes and reads it, as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownNames {
    /// By group.
    pub groups: BTreeMap<GroupName, Vec<KnownAddress>>,
}

impl Document for KnownNames {
    const VERSION: u32 = 1;
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownAddress {
    /// It.
    pub address: IpAddr,
    /// The names that it was an answer for, the latest last.
    pub names: Vec<String>,
    /// When the kernel forgets it, in milliseconds since the machine's boot.
    pub until: u64,
    /// Who asked last: `shop/web-0`.
    pub asked_by: String,
}

impl StateDir {
    /// The directory of groups, whether or not there is one.
    pub fn names_dir(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// The names of all groups, in order.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn list_name_groups(&self) -> Result<Vec<GroupName>, StateError> {
        let names = self.documents(FOLDER)?;
        let mut groups: Vec<GroupName> =
            names.iter().filter_map(|name| name.parse().ok()).collect();
        groups.sort();
        Ok(groups)
    }

    /// Reads a group; none if there is none.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_name_group(&self, group: &GroupName) -> Result<Option<NameGroup>, StateError> {
        self.read(&self.name_group_path(group))
    }

    /// Writes a group. To be called under [`StateDir::lock`], before the kernel has its sets.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_name_group(&self, name: &GroupName, group: &NameGroup) -> Result<(), StateError> {
        self.write(&self.name_group_path(name), group)
    }

    /// Removes a group, if there is one. To be called under [`StateDir::lock`], when the kernel has its sets no more.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn remove_name_group(&self, group: &GroupName) -> Result<(), StateError> {
        remove(&self.name_group_path(group))
    }

    /// The file of a group.
    pub fn name_group_path(&self, group: &GroupName) -> PathBuf {
        self.names_dir().join(format!("{group}.json"))
    }

    /// What an agent had put into the sets; none if nobody said.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_known_names(&self) -> Result<Option<KnownNames>, StateError> {
        self.read(&self.root.join(KNOWN))
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_known_names(&self, known: &KnownNames) -> Result<(), StateError> {
        self.write(&self.root.join(KNOWN), known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::state;

    #[test]
    fn a_group_is_called_after_its_patterns_in_whatever_order() {
        // printf '*.example.org\napi.example.com' | sha256sum
        let name = GroupName::of(["api.example.com", "*.example.org", "api.example.com"]);
        assert_eq!(name.as_str(), "8ac2f8a2140bc34f");
        assert_ne!(name, GroupName::of(["api.example.com"]));
        assert_eq!(name.as_str().parse(), Ok(name));
        for text in [
            "",
            "8ac2f8a2140bc34",
            "8AC2F8A2140BC34F",
            "../../../../etcx",
        ] {
            assert_eq!(text.parse::<GroupName>(), Err(NotAGroup), "{text}");
        }
    }

    #[test]
    fn groups_are_written_read_listed_and_removed() {
        let (_dir, state) = state();
        let name = GroupName::of(["api.example.com"]);
        assert_eq!(state.read_name_group(&name).unwrap(), None);
        let tokens = BTreeMap::from([("90s".to_owned(), "00".repeat(16))]);
        let group = NameGroup {
            patterns: vec!["api.example.com".to_owned()],
            tokens: BTreeMap::from([("4".to_owned(), tokens)]),
        };
        state.write_name_group(&name, &group).unwrap();
        state.write_known_names(&KnownNames::default()).unwrap();
        assert_eq!(state.read_name_group(&name).unwrap(), Some(group));
        assert_eq!(
            state.list_name_groups().unwrap(),
            std::slice::from_ref(&name)
        );
        assert_eq!(state.strangers().unwrap(), [""; 0].map(PathBuf::from));
        std::fs::write(state.names_dir().join("x.json"), "").unwrap();
        assert_eq!(
            state.strangers().unwrap(),
            [state.names_dir().join("x.json")]
        );
        state.remove_name_group(&name).unwrap();
        assert_eq!(state.list_name_groups().unwrap(), []);
        assert_eq!(
            state.read_known_names().unwrap(),
            Some(KnownNames::default())
        );
    }
}
