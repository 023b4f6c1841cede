//! Whose interface an attachment is.

use crate::store::{AttachmentId, attachment_id};

/// An attachment, as the runtime names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// The conflist's `name`.
    pub network: &'a str,
    /// `CNI_CONTAINERID`
    pub container_id: &'a str,
    /// `CNI_IFNAME`
    pub ifname: &'a str,
    /// `K8S_POD_NAMESPACE`
    pub namespace: Option<&'a str>,
    /// `K8S_POD_NAME`
    pub pod: Option<&'a str>,
    /// `K8S_POD_UID`
    pub uid: Option<&'a str>,
}

impl Who<'_> {
    /// The name of all that belongs to it.
    pub fn id(&self) -> AttachmentId {
        attachment_id(self.network, self.container_id, self.ifname)
    }
}
