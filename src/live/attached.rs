//! What each attachment of the node has. Records are read anew only when their files are others.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::plan::LAYOUT;
use crate::store::{AttachmentId, PolicyKey, Record, Stamp, StateDir, StateError};

/// What is remembered of an attachment's record.
#[derive(Debug, Clone)]
pub struct Attached {
    /// `K8S_POD_NAMESPACE`
    pub namespace: String,
    /// `K8S_POD_NAME`
    pub pod: String,
    /// `K8S_POD_UID`
    pub uid: Option<String>,
    /// The policy that it has.
    pub policy: PolicyKey,
    /// The egress addresses that its namespace listed when it started.
    pub egress: Vec<IpNet>,
    /// The NFLOG group of its log rules.
    pub log_group: u16,
    file: Stamp,
}

impl Attached {
    /// `shop/web-0`
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.pod)
    }
}

/// All attachments that a program of this version can give another policy.
pub type All = BTreeMap<AttachmentId, Attached>;

/// Brings `all` up to date; the ids of those that were not known, or have another record.
///
/// # Errors
/// The directory can't be listed.
pub fn read(state: &StateDir, all: &mut All) -> Result<Vec<AttachmentId>, StateError> {
    let ids = state.list_attachments()?;
    all.retain(|id, _| ids.binary_search(id).is_ok());
    let mut news = Vec::new();
    for id in ids {
        // Before it is read: what is written meanwhile is read with the next call.
        let Some(file) = Stamp::of(&state.attachment_path(&id)) else {
            continue;
        };
        if all.get(&id).is_some_and(|known| known.file == file) {
            continue;
        }
        let Ok(Some(record)) = Record::read_alone(state, &id) else {
            all.remove(&id); // `sync` says what is wrong with it
            continue;
        };
        let (Some(namespace), Some(pod), LAYOUT) = (record.namespace, record.pod, record.layout)
        else {
            all.remove(&id);
            continue;
        };
        let head = state.policy_head(&record.policy);
        let attached = Attached {
            namespace,
            pod,
            uid: record.uid,
            egress: head.map(|head| head.egress).unwrap_or_default(),
            policy: record.policy,
            log_group: record.log_group,
            file,
        };
        all.insert(id.clone(), attached);
        news.push(id);
    }
    Ok(news)
}
