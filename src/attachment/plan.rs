//! What the kernel has to hold of an attachment, by its record.

use crate::plan::{AttachmentPlan, Bridge};
use crate::store::{self, Record};

impl<P> From<&Record<P>> for AttachmentPlan {
    fn from(record: &Record<P>) -> Self {
        AttachmentPlan {
            id: record.id.as_str().to_owned(),
            veth: record.veth.clone(),
            mac: record.mac,
            addresses: record.addresses.clone(),
            link_local: record.link_local.clone(),
            iif: record.iif,
            bridge: record.bridge.as_ref().map(Bridge::from),
            policy: record.policy_chain.clone(),
            egress: record.egress.clone(),
        }
    }
}

impl From<&store::Bridge> for Bridge {
    fn from(bridge: &store::Bridge) -> Self {
        Bridge {
            name: bridge.name.clone(),
            index: bridge.index,
            mac: bridge.mac,
        }
    }
}
