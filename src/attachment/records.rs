//! This node's attachments, from the state directory's records.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::store::{Record, StateDir, StateError};
use rules::fault::shown;

/// All records that can be read, in the order of their pods' names.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    /// Those that could be read.
    pub list: Vec<Record>,
    /// Why the others could not.
    pub unreadable: Vec<StateError>,
}

/// Why there are no records, or no single attachment of that name.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("{cause}{}", hint(.cause))]
    State {
        #[from]
        cause: StateError,
    },
    #[error("no pod {name} is attached on this node, by {}", shown(dir))]
    NotFound { name: String, dir: PathBuf },
    #[error("{name} has several attachments: name one by its ID\n{}", list.join("\n"))]
    Several { name: String, list: Vec<String> },
}

fn hint(error: &StateError) -> &'static str {
    match error {
        StateError::Io(e) if e.source.kind() == io::ErrorKind::PermissionDenied => {
            " (run it as root)"
        }
        _ => "",
    }
}

impl Records {
    /// # Errors
    /// The directory can't be listed, such as for want of permission. None at all is no error.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let state = StateDir::new(dir);
        let mut records = Records {
            dir: dir.to_owned(),
            list: Vec::new(),
            unreadable: Vec::new(),
        };
        for id in state.list_attachments()? {
            match Record::read(&state, &id) {
                Ok(record) => records.list.extend(record), // None: it has just gone
                Err(error) => records.unreadable.push(error),
            }
        }
        records.list.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        Ok(records)
    }

    /// The attachment that is called `name`: `NAMESPACE/POD`, `POD`, an attachment's id or an
    /// address.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, name: &str, namespace: Option<&str>) -> Result<&Record, Error> {
        let mut found: Vec<&Record> = self
            .list
            .iter()
            .filter(|record| is_called(record, name, namespace))
            .collect();
        if name.parse::<IpAddr>().is_ok() {
            // Indexes are given in order: of two records, a stale one has the lower.
            found.sort_by_key(|record| record.veth_index);
            found.drain(..found.len().saturating_sub(1));
        }
        match found[..] {
            [] => Err(Error::NotFound {
                name: name.to_owned(),
                dir: self.dir.clone(),
            }),
            [record] => Ok(record),
            _ => Err(Error::Several {
                name: name.to_owned(),
                list: found.into_iter().map(one_line).collect(),
            }),
        }
    }
}

fn sort_key(record: &Record) -> (&Option<String>, &Option<String>, &str) {
    (&record.namespace, &record.pod, record.id.as_str())
}

/// Whether the record is still there.
pub fn exists(dir: &Path, record: &Record) -> bool {
    StateDir::new(dir).has_attachment(&record.id)
}

fn is_called(record: &Record, name: &str, namespace: Option<&str>) -> bool {
    if namespace.is_some() && namespace != record.namespace.as_deref() {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return record.addresses.contains(&address);
    }
    let pod = record.pod.as_deref();
    match name.split_once('/') {
        Some((namespace, name)) => {
            record.namespace.as_deref() == Some(namespace) && pod == Some(name)
        }
        None => pod == Some(name) || record.id.as_str() == name,
    }
}

fn one_line(record: &Record) -> String {
    let addresses: Vec<String> = record.addresses.iter().map(IpAddr::to_string).collect();
    format!(
        "  {}  {}  interface {}  {}",
        record.id,
        record.title(),
        record.ifname,
        addresses.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::attachment::test_support::{record, store};

    #[test]
    fn attachments_have_several_names() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(
            Records::read(&dir.path().join("none"))
                .expect("none")
                .list
                .is_empty()
        );
        let web = record("web", 7, &["10.0.0.2", "fd00::2"], "");
        store(dir.path(), &web);
        store(dir.path(), &record("db", 8, &["10.0.0.3"], ""));
        store(dir.path(), &record("newer", 9, &["10.0.0.3"], ""));
        fs::write(dir.path().join("attachments/0000000000000000.json"), "{").expect("writable");

        let records = Records::read(dir.path()).expect("readable");
        let pods: Vec<_> = records
            .list
            .iter()
            .filter_map(|r| r.pod.as_deref())
            .collect();
        assert_eq!(pods, ["db", "newer", "web"]);
        assert_eq!(records.unreadable.len(), 1);
        for name in ["web", "shop/web", web.id.as_str(), "10.0.0.2", "fd00::2"] {
            let found = records.find(name, None).expect("is there");
            assert_eq!(found.id, web.id, "{name}");
        }
        let newest = records.find("10.0.0.3", None).expect("is there");
        assert_eq!(newest.pod.as_deref(), Some("newer"));
        for name in ["shop", "shop/", "other/web", "10.0.0.9", ""] {
            assert!(
                matches!(records.find(name, None), Err(Error::NotFound { .. })),
                "{name}"
            );
        }
        assert!(records.find("web", Some("other")).is_err());
    }

    #[test]
    fn of_several_each_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut second = record("web", 8, &["10.0.0.3"], "");
        second.ifname = "net1".to_owned();
        second.id = "0123456789abcdef".parse().expect("an id");
        let first = record("web", 7, &["10.0.0.2"], "");
        store(dir.path(), &first);
        store(dir.path(), &second);
        let records = Records::read(dir.path()).expect("readable");
        let error = records.find("shop/web", None).expect_err("two");
        assert_eq!(
            error.to_string(),
            format!(
                "shop/web has several attachments: name one by its ID\n  \
                 0123456789abcdef  shop/web  interface net1  10.0.0.3\n  \
                 {}  shop/web  interface eth0  10.0.0.2",
                first.id
            )
        );
        let found = records.find("0123456789abcdef", None).expect("one");
        assert_eq!(found.ifname, "net1");
    }

    #[test]
    fn a_record_is_there_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let web = record("web", 7, &["10.0.0.2"], "");
        store(dir.path(), &web);
        assert!(exists(dir.path(), &web));
        StateDir::new(dir.path())
            .remove_attachment(&web.id)
            .expect("removable");
        assert!(!exists(dir.path(), &web));
    }
}
