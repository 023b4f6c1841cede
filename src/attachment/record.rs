//! What is kept of an attachment in the state directory.

use serde::{Deserialize, Serialize};

use crate::plan::AttachmentPlan;
use crate::store::{AttachmentId, PolicyKey, StateDir, StateError};
use rules::stored::StoredPolicy;

/// The version of what a record and the kernel's objects mean. A plugin of another version can
/// remove them by their names, but not compare them.
pub const LAYOUT: u32 = 3;

/// What is kept in `stateDir/attachments/ID.json` for as long as the kernel's state lives: with its
/// rules, or as the file has it, with a note where they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<P = StoredPolicy> {
    /// [`LAYOUT`] of the plugin that wrote it.
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
    /// The index of the host's side of the veth: its name may be reused, this is not.
    pub veth_index: u32,
    /// The uplink's index, if there are egress addresses.
    pub uplink: Option<u32>,
    /// The NFLOG group of its log rules.
    pub log_group: u16,
    /// What the kernel holds.
    #[serde(flatten)]
    pub plan: AttachmentPlan,
    /// The rules, with their sources.
    pub policy: P,
}

/// Where a record has its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rules {
    /// In a file, which pods with the same rules share.
    File(PolicyKey),
    /// In the record itself: of layout 1.
    Here(StoredPolicy),
}

/// How often a record is read anew whose rules went meanwhile: an ADD has put others in their place.
const READINGS: u32 = 3;

impl Record {
    /// Reads an attachment's record and its rules; none if there is none. One of an older layout is
    /// read as far as its fields are the same.
    ///
    /// # Errors
    /// [`StateError::Newer`]: what it says may mean something else; [`StateError::Damaged`].
    pub fn read(state: &StateDir, id: &AttachmentId) -> Result<Option<Record>, StateError> {
        for _ in 0..READINGS {
            let Some(record) = Record::read_alone(state, id)? else {
                return Ok(None);
            };
            if let Some(policy) = record.rules(state, id)? {
                return Ok(Some(record.with(policy)));
            }
        }
        Err(StateError::Damaged {
            path: state.attachment_path(id),
            reason: "the file with its rules is missing".to_owned(),
        })
    }
}

impl Record<Rules> {
    /// The same without its rules, for those who need only the rest.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read_alone(
        state: &StateDir,
        id: &AttachmentId,
    ) -> Result<Option<Record<Rules>>, StateError> {
        #[derive(Deserialize)]
        struct Head {
            layout: u32,
        }
        match state.read_attachment::<Record<Rules>>(id) {
            Ok(Some(record)) if record.layout <= LAYOUT => Ok(Some(record)),
            Ok(None) => Ok(None),
            unknown => match state.read_attachment::<Head>(id) {
                Ok(Some(Head { layout })) if layout > LAYOUT => Err(StateError::Newer {
                    path: state.attachment_path(id),
                    layout,
                    known: LAYOUT,
                }),
                _ => unknown,
            },
        }
    }

    /// Its rules; none if their file is gone, and then, but for damage, the record is as well.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::Io`]
    pub fn rules(
        &self,
        state: &StateDir,
        id: &AttachmentId,
    ) -> Result<Option<StoredPolicy>, StateError> {
        match &self.policy {
            Rules::Here(policy) => Ok(Some(policy.clone())),
            Rules::File(key) => state.read_policy(id, key),
        }
    }

    /// The file with its rules, if it is not the record itself.
    pub fn policy_key(&self) -> Option<&PolicyKey> {
        match &self.policy {
            Rules::File(key) => Some(key),
            Rules::Here(_) => None,
        }
    }
}

impl<P> Record<P> {
    fn with<Q>(self, policy: Q) -> Record<Q> {
        Record {
            layout: self.layout,
            network: self.network,
            container_id: self.container_id,
            ifname: self.ifname,
            namespace: self.namespace,
            pod: self.pod,
            uid: self.uid,
            exempt: self.exempt,
            veth_index: self.veth_index,
            uplink: self.uplink,
            log_group: self.log_group,
            plan: self.plan,
            policy,
        }
    }
}
