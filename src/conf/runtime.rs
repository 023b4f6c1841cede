//! What the runtime itself adds to our entry for one call.

use std::collections::BTreeMap;

use crate::json::{self, JsonObject};
use crate::refusal::{CniError, quoted};

/// The capability by which runtimes hand over the pod's annotations.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// The pod's annotations, as the runtime gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PodAnnotations {
    /// The runtime doesn't hand annotations over: nobody knows whether there are any.
    #[default]
    Absent,
    /// All annotations that the pod has; none is an answer, too.
    Present(BTreeMap<String, String>),
}

/// GC's list of attachments that still exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ValidAttachments {
    /// The runtime gave no list. That is not the same as an empty one.
    #[default]
    Absent,
    /// Everything else of this network is garbage.
    Listed(Vec<AttachmentRef>),
}

/// One attachment, as the runtime names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentRef {
    /// As in `CNI_CONTAINERID`.
    pub container_id: String,
    /// As in `CNI_IFNAME`.
    pub ifname: String,
}

/// # Errors
/// Code 7: not an object of strings.
pub fn pod_annotations(entry: &JsonObject<'_>) -> Result<PodAnnotations, CniError> {
    let Some(config) = json::object(entry, "runtimeConfig", "runtimeConfig")? else {
        return Ok(PodAnnotations::Absent);
    };
    let at = format!("runtimeConfig[{POD_ANNOTATIONS:?}]");
    // containerd writes null for a pod that was started without any, by others than kubelet.
    let Some(object) = json::object(&config, POD_ANNOTATIONS, &at)? else {
        return Ok(PodAnnotations::Absent);
    };
    let mut annotations = BTreeMap::new();
    for key in object.keys() {
        let at = format!("{at}[{}]", quoted(key));
        let value: Option<String> = json::value(&object, key, &at, "a string")?;
        let value = value.ok_or_else(|| json::invalid(&at, "expected a string, got null"))?;
        annotations.insert(key.clone(), value);
    }
    Ok(PodAnnotations::Present(annotations))
}

/// The spec's 1.1.0 text and its correction name two different keys; libcni sends one or both.
///
/// # Errors
/// Code 7: not a list of attachments. Removing by a guess would leave pods without policy.
pub fn valid_attachments(entry: &JsonObject<'_>) -> Result<ValidAttachments, CniError> {
    let key = ["cni.dev/valid-attachments", "cni.dev/attachments"]
        .into_iter()
        .find(|key| entry.contains_key(*key));
    let Some(key) = key else {
        return Ok(ValidAttachments::Absent);
    };
    // ocicni writes null when no pod is left.
    let list = json::objects(entry, key, key)?.unwrap_or_default();
    let mut attachments = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let field = |name: &str| {
            let at = format!("{key}[{i}].{name}");
            json::value(item, name, &at, "a string")?
                .ok_or_else(|| json::invalid(&at, "expected a string, got nothing"))
        };
        attachments.push(AttachmentRef {
            container_id: field("containerID")?,
            ifname: field("ifname")?,
        });
    }
    Ok(ValidAttachments::Listed(attachments))
}
