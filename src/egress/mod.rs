//! Egress addresses: taken for the first pod of a namespace on this node, given back with the last.
//!
//! Who uses an address is written to `stateDir/egress/ADDRESS.json` before the address is added,
//! so that whatever dies on the way, a DEL finds what there is to give back. Every step happens
//! under the address's own lock: taking one waits for answers from the network, and other pods
//! must not wait with it.
//!
//! In a cluster, a node may use an address while it [owns](Ownership) it. The rules in the kernel name
//! an address only while it is on the uplink, and it is on the uplink only while the node owns it. How
//! that is agreed upon is not known here: an address is chosen by what the registry says, and then
//! probed, added and announced, one step after the other, in the caller's thread.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::refusal::CniError;
use crate::store::{AttachmentId, Lock, StateDir};

mod choose;
pub mod held;
mod leased;
mod ownership;
mod release;
pub(crate) mod remains;
mod take;

pub use ownership::{Member, Ownership, Registry, Standing};
pub use release::{Release, give_back, give_back_all, release};
pub use take::Claimant;

/// How long this node's word counts that it has an address, without asking: as long as a Lease that nobody
/// renews may last.
const FRESH: Duration = Duration::from_secs(60);

/// What is known of an egress address that this node has, or is about to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) uplink: String,
    pub(crate) uplink_index: u32,
    /// None are left: only the Lease is still to be given back.
    pub(crate) users: Vec<AttachmentId>,
    /// The Lease by which this node has it, in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lease: Option<Held>,
}

/// A Lease of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Held {
    /// The way to the API, for a DEL that is not told it.
    kubeconfig: PathBuf,
    /// The holder: this node's name.
    node: String,
    /// When it was renewed, in seconds since 1970.
    renewed: i64,
    /// Another node has it: the address is not used here any more.
    #[serde(default)]
    lost: bool,
}

impl Owner {
    pub(crate) fn is_lost(&self) -> bool {
        self.lease.as_ref().is_some_and(|held| held.lost)
    }
}

impl Held {
    /// Whether the Lease can't have ended yet, at `now`, in seconds since 1970. A renewal in the future
    /// is none: a clock was changed, and nobody knows.
    fn is_fresh(&self, now: i64) -> bool {
        let age = now.checked_sub(self.renewed);
        let age = age.and_then(|age| u64::try_from(age).ok());
        !self.lost && age.is_some_and(|age| age <= FRESH.as_secs())
    }

    fn member(&self) -> Member {
        Member {
            kubeconfig: self.kubeconfig.clone(),
            node: self.node.clone(),
        }
    }
}

/// Addresses that an attachment uses. They stay locked for as long as this lives.
#[derive(Debug, Default)]
pub struct Claim {
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The uplink's index.
    pub uplink: Option<u32>,
    locks: Vec<Lock>,
}

pub(crate) fn lock_name(address: IpAddr) -> String {
    format!("egress-{address}")
}

fn has_record(state: &StateDir, id: &AttachmentId) -> bool {
    // A damaged record is somebody's, too.
    !matches!(state.read_attachment::<serde::de::IgnoredAny>(id), Ok(None))
}

pub(crate) fn net_error(error: netlink::Error) -> CniError {
    match error {
        netlink::Error::Timeout { .. } | netlink::Error::Unstable { .. } => {
            CniError::try_again(format!("egress IP: {error}"))
        }
        _ => CniError::egress_ip(format!("egress IP: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_fresh_for_its_time_and_never_of_the_future() {
        let held = |renewed, lost| Held {
            kubeconfig: PathBuf::new(),
            node: "node".to_owned(),
            renewed,
            lost,
        };
        let now = 1_000_000;
        for (renewed, fresh) in [
            (now, true),
            (now - 60, true),
            (now - 61, false),
            (now + 1, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            assert_eq!(held(renewed, false).is_fresh(now), fresh, "{renewed}");
        }
        assert!(!held(now, true).is_fresh(now));
    }
}
