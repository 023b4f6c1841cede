//! Which pod an address belongs to, from the state directory's records.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::places::{Places, Policies};
use crate::store::{Record, StateDir};

/// A directory that changed so short a time before it was read may have changed since without
/// looking different: file times are as coarse as the kernel's tick, at most 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// What a line says of a pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name in that; `None`: the runtime tells none.
    pub name: Option<String>,
    /// Its UID, as the runtime knows it.
    pub uid: Option<String>,
    /// What the outside sees, of each family at most one.
    pub egress: Vec<IpAddr>,
    /// Where its rules stand.
    pub places: Arc<Places>,
    veth_index: u32,
}

/// The pods of this node by their addresses.
///
/// Pods that have gone stay known until another has their address: their last packets may be
/// read later than their records are removed.
#[derive(Debug)]
pub struct Pods {
    state: StateDir,
    records: PathBuf,
    /// When the directory of records changed last. None: not known, or not long enough ago.
    read: Option<SystemTime>,
    by_address: HashMap<IpAddr, Pod>,
    policies: Policies,
}

impl Pods {
    /// Reads `state_dir`, the conflist's, when it is refreshed first.
    pub fn new(state_dir: &Path) -> Self {
        Pods {
            state: StateDir::new(state_dir),
            records: state_dir.join("attachments"),
            read: None,
            by_address: HashMap::new(),
            policies: Policies::default(),
        }
    }

    /// Reads the records again if one came, changed or went. An address that a new pod has from
    /// an old one is that of the new one from then on: records are there before rules are.
    pub fn refresh(&mut self) {
        let now = SystemTime::now();
        let changed = fs::metadata(&self.records).and_then(|data| data.modified());
        let Ok(changed) = changed else {
            return; // no pod has been attached yet
        };
        if self.read == Some(changed) {
            return;
        }
        self.read_all();
        let settled = now.duration_since(changed).is_ok_and(|age| age > TICK);
        self.read = settled.then_some(changed);
    }

    /// The pod that has this address, or had it last.
    pub fn of(&self, address: IpAddr) -> Option<&Pod> {
        self.by_address.get(&address)
    }

    /// A record that can't be read, such as one of another version, leaves its pod unnamed: lines
    /// are printed all the same.
    fn read_all(&mut self) {
        for id in self.state.list_attachments().unwrap_or_default() {
            if let Ok(Some(record)) = Record::read(&self.state, &id) {
                self.learn(record);
            }
        }
        self.policies.tidy();
    }

    fn learn(&mut self, record: Record) {
        let pod = Pod {
            namespace: record.namespace,
            name: record.pod,
            uid: record.uid,
            egress: record.egress,
            places: self.policies.learn(record.policy_chain, record.policy),
            veth_index: record.veth_index,
        };
        let link_local = record.link_local.into_iter().map(IpAddr::V6);
        for address in record.addresses.into_iter().chain(link_local) {
            // Indexes are given in order: of two records, a stale one has the lower.
            match self.by_address.get(&address) {
                Some(known) if known.veth_index > pod.veth_index => {}
                _ => drop(self.by_address.insert(address, pod.clone())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::store::attachment_id;
    use crate::verdicts::test_support::attach;

    fn detach(state: &Path, pod: &str) {
        let id = attachment_id("net", pod, "eth0");
        StateDir::new(state).remove_attachment(&id).unwrap();
    }

    fn name(pods: &mut Pods, address: &str) -> Option<String> {
        pods.refresh();
        pods.of(address.parse().unwrap())?.name.clone()
    }

    #[test]
    fn pods_are_known_as_soon_as_they_are_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let mut pods = Pods::new(&dir.path().join("state"));
        assert_eq!(name(&mut pods, "10.0.0.2"), None);
        // Faster than the file system's clock ticks.
        for number in 0..50 {
            let (pod, address) = (format!("web-{number}"), format!("10.0.0.{number}"));
            attach(
                &dir.path().join("state"),
                &pod,
                number,
                &[&address],
                &[],
                "",
            );
            assert_eq!(name(&mut pods, &address), Some(pod));
        }
    }

    #[test]
    fn an_address_is_its_last_owners() {
        let dir = tempfile::tempdir().unwrap();
        let mut pods = Pods::new(dir.path());
        attach(dir.path(), "old", 7, &["10.0.0.2", "10.0.0.3"], &[], "");
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("old"));
        attach(dir.path(), "new", 8, &["10.0.0.2"], &["203.0.113.10"], "");
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("new"));
        assert_eq!(name(&mut pods, "10.0.0.3").as_deref(), Some("old"));
        assert_eq!(name(&mut pods, "fe80::1").as_deref(), Some("new"));
        // Gone, but its last packets may still be on their way here.
        detach(dir.path(), "new");
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("new"));
        // Another reader has never seen the new one.
        let mut pods = Pods::new(dir.path());
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("old"));
    }

    #[test]
    fn nothing_is_read_again_without_a_change() {
        let dir = tempfile::tempdir().unwrap();
        attach(dir.path(), "web", 7, &["10.0.0.2"], &[], "");
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let records = File::open(dir.path().join("attachments")).unwrap();
        records.set_modified(an_hour_ago).unwrap();
        let mut pods = Pods::new(dir.path());
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("web"));
        attach(dir.path(), "other", 8, &["10.0.0.3"], &[], "");
        records.set_modified(an_hour_ago).unwrap();
        assert_eq!(name(&mut pods, "10.0.0.3"), None);
        records.set_modified(an_hour_ago + TICK).unwrap();
        assert_eq!(name(&mut pods, "10.0.0.3").as_deref(), Some("other"));
    }

    #[test]
    fn a_damaged_record_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        attach(dir.path(), "web", 7, &["10.0.0.2"], &[], "");
        let damaged = dir.path().join("attachments/0000000000000000.json");
        fs::write(damaged, "{").unwrap();
        let mut pods = Pods::new(dir.path());
        assert_eq!(name(&mut pods, "10.0.0.2").as_deref(), Some("web"));
    }
}
