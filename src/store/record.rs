//! One attachment: who the pod is, what the kernel holds of it, and where its policy is.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use jiff::Timestamp;
use rules::stored::StoredPolicy;
use serde::{Deserialize, Serialize};

use super::document::{Document, Unknown};
use super::{AttachmentId, Guard, PolicyKey, RecordNames, StateDir, StateError, files, remove};

/// What is kept of an attachment for as long as the kernel's state lives: with its policy, or as the
/// document has it, with that policy's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<P = StoredPolicy> {
    /// The version of what the kernel's objects mean: a program with another one can remove them by
    /// their names, but not compare them.
    pub layout: u32,
    /// The conflist's `name`.
    pub network: String,
    /// `CNI_CONTAINERID`
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `K8S_POD_NAMESPACE`
    pub namespace: Option<String>,
    /// `K8S_POD_NAME`
    pub pod: Option<String>,
    /// `K8S_POD_UID`
    pub uid: Option<String>,
    /// Its namespace is exempt: the policy allows everything.
    pub exempt: bool,
    /// `CNI_NETNS`: the pod's namespace, as long as no other one has come to this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// It is, although the pod has rules: these are ignored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rules_ignored: bool,
    /// The index of the host's side of the veth: its name may be reused, this is not.
    pub veth_index: u32,
    /// The index of the device by which its packets come to the IP layer, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<u32>,
    /// The uplink's index, if there are egress addresses.
    pub uplink: Option<u32>,
    /// The NFLOG group of its log rules.
    pub log_group: u16,
    /// What is done about packets that would be written behind the rules.
    pub guard: Guard,
    /// The attachment, as in the document's own name.
    pub id: AttachmentId,
    /// The name of the host's side of the veth.
    pub veth: String,
    /// The MAC of the pod's side.
    #[serde(with = "mac")]
    pub mac: [u8; 6],
    /// The pod's addresses, link-local ones apart.
    pub addresses: Vec<IpAddr>,
    /// Its link-local IPv6 addresses.
    pub link_local: Vec<Ipv6Addr>,
    /// The bridge to which its packets are sent.
    pub bridge: Option<Bridge>,
    /// The chain at which its policy starts.
    pub policy_chain: String,
    /// The domain names that its rules have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<RecordNames>,
    /// What the outside sees, of each family at most one.
    #[serde(rename = "egressIPs")]
    pub egress: Vec<IpAddr>,
    /// The policy, with its sources.
    pub policy: P,
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl<P> Record<P> {
    /// What it says of names; none: its pod asks whom it wants.
    pub fn names(&self) -> Option<RecordNames> {
        self.names.clone()
    }

    #[cfg(test)]
    pub(crate) fn set_names(&mut self, names: Option<&RecordNames>) {
        self.names = names.cloned();
    }
}

/// A bridge that is its pods' gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its own MAC.
    #[serde(with = "mac")]
    pub mac: [u8; 6],
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Document for Record<PolicyKey> {
    const VERSION: u32 = 1;
}

/// How often a record is read anew whose policy went meanwhile: an ADD has put another in its place.
const READINGS: u32 = 3;

impl Record {
    /// Reads an attachment's record and its policy; none if there is none.
    ///
    /// # Errors
    /// [`StateError::OtherVersion`]: what it says may mean something else; [`StateError::Damaged`];
    /// [`StateError::Io`].
    pub fn read(state: &StateDir, id: &AttachmentId) -> Result<Option<Record>, StateError> {
        for _ in 0..READINGS {
            let Some(record) = Record::read_alone(state, id)? else {
                return Ok(None);
            };
            if let Some(policy) = state.read_policy(id, &record.policy)? {
                return Ok(Some(record.with(policy)));
            }
        }
        Err(StateError::Damaged {
            path: state.attachment_path(id),
            reason: "the file with its rules is missing".to_owned(),
        })
    }
}

impl Record<PolicyKey> {
    /// The same without its policy, for those who need only the rest.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read_alone(
        state: &StateDir,
        id: &AttachmentId,
    ) -> Result<Option<Record<PolicyKey>>, StateError> {
        state.read(&state.attachment_path(id))
    }
}

impl<P> Record<P> {
    /// The same with another form of its policy.
    pub fn with<Q>(self, policy: Q) -> Record<Q> {
        Record {
            layout: self.layout,
            network: self.network,
            container_id: self.container_id,
            ifname: self.ifname,
            namespace: self.namespace,
            pod: self.pod,
            uid: self.uid,
            exempt: self.exempt,
            netns: self.netns,
            rules_ignored: self.rules_ignored,
            veth_index: self.veth_index,
            iif: self.iif,
            uplink: self.uplink,
            log_group: self.log_group,
            guard: self.guard,
            id: self.id,
            veth: self.veth,
            mac: self.mac,
            addresses: self.addresses,
            link_local: self.link_local,
            bridge: self.bridge,
            policy_chain: self.policy_chain,
            names: self.names,
            egress: self.egress,
            policy,
            unknown: self.unknown,
        }
    }

    /// What people call it: `payments/web-0`, or by its container where the runtime names no pod.
    pub fn title(&self) -> String {
        title(
            self.namespace.as_deref(),
            self.pod.as_deref(),
            &self.container_id,
        )
    }
}

fn title(namespace: Option<&str>, pod: Option<&str>, container_id: &str) -> String {
    match (namespace, pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        _ => format!("container {container_id}"),
    }
}

impl StateDir {
    /// All records that can be read, without their policies. What can't be is for `sync` to say.
    ///
    /// # Errors
    /// [`StateError::Io`]: they can't be listed.
    pub fn records(&self) -> Result<Vec<(AttachmentId, Record<PolicyKey>)>, StateError> {
        let mut records = Vec::new();
        for id in self.list_attachments()? {
            if let Ok(Some(record)) = Record::read_alone(self, &id) {
                records.push((id, record));
            }
        }
        Ok(records)
    }

    /// Writes an attachment's record in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// [`StateError::Io`]; then the old record, if any, is untouched.
    pub fn write_attachment(
        &self,
        id: &AttachmentId,
        record: &Record<PolicyKey>,
    ) -> Result<(), StateError> {
        self.write(&self.attachment_path(id), record)
    }

    /// Since when an attachment has its record as it is, which is written anew with each other policy.
    pub fn attachment_time(&self, id: &AttachmentId) -> Option<Timestamp> {
        let written = fs::metadata(self.attachment_path(id)).and_then(|file| file.modified());
        Timestamp::try_from(written.ok()?).ok()
    }

    /// Whether an attachment has a record, be it a damaged one: that is somebody's, too.
    pub fn has_attachment(&self, id: &AttachmentId) -> bool {
        let found = fs::symlink_metadata(self.attachment_path(id));
        !matches!(found, Err(e) if e.kind() == io::ErrorKind::NotFound)
    }

    /// What people call an attachment whose record is of another version, as far as that still says it
    /// in the same words.
    pub fn title_of(&self, id: &AttachmentId) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Who {
            namespace: Option<String>,
            pod: Option<String>,
            #[serde(rename = "containerID")]
            container_id: String,
        }
        let bytes = files::read(&self.attachment_path(id)).ok()??;
        let who: Who = serde_json::from_slice(&bytes).ok()?;
        Some(title(
            who.namespace.as_deref(),
            who.pod.as_deref(),
            &who.container_id,
        ))
    }

    /// Removes an attachment's record, if there is one.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn remove_attachment(&self, id: &AttachmentId) -> Result<(), StateError> {
        remove(&self.attachment_path(id))
    }

    /// The ids of all records, in order. Files that are no record are left out.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn list_attachments(&self) -> Result<Vec<AttachmentId>, StateError> {
        let mut ids: Vec<AttachmentId> = self
            .documents("attachments")?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// The directory of all records, whether or not there is one.
    pub fn attachment_dir(&self) -> PathBuf {
        self.root.join("attachments")
    }

    /// The directory of all records, made if it is not there: for whoever waits for a new one.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn attachments_dir(&self) -> Result<PathBuf, StateError> {
        let dir = self.root.join("attachments");
        self.create(&dir)?;
        Ok(dir)
    }

    /// The directories whose documents matter as long as pods run, made if they are not there: for whoever wants to
    /// hear of it when others change them.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn watched_dirs(&self) -> Result<Vec<PathBuf>, StateError> {
        ["attachments", "egress"]
            .into_iter()
            .map(|name| {
                let dir = self.root.join(name);
                self.create(&dir).map(|()| dir)
            })
            .collect()
    }

    /// The file of an attachment's record, whether or not there is one.
    pub fn attachment_path(&self, id: &AttachmentId) -> PathBuf {
        self.root.join("attachments").join(format!("{id}.json"))
    }
}

/// A MAC address in JSON: `06:8f:f8:62:38:a5`.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mac: &[u8; 6], serializer: S) -> Result<S::Ok, S::Error> {
        let [a, b, c, d, e, f] = mac;
        serializer.collect_str(&format_args!(
            "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"
        ))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 6], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Option<Vec<u8>> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a MAC address")))
    }
}
