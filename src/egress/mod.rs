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
use std::time::Duration;

use crate::refusal::CniError;
use crate::store::{Held, Lock};

mod choose;
pub mod held;
mod leased;
mod ownership;
pub mod place;
mod release;
pub(crate) mod remains;
mod take;
mod uplink;

pub use ownership::{Member, Ownership, Registry, Standing};
pub use release::{Release, give_back, give_back_all, release};
pub use take::Claimant;

/// How long this node's word counts that it has an address, without asking: as long as a Lease that nobody
/// renews may last.
const FRESH: Duration = Duration::from_secs(60);

/// Whether a Lease can't have ended yet, at `now`, in seconds since 1970. A renewal in the future
/// is none: a clock was changed, and nobody knows.
fn is_fresh(held: &Held, now: i64) -> bool {
    let age = now.checked_sub(held.renewed);
    let age = age.and_then(|age| u64::try_from(age).ok());
    !held.lost && age.is_some_and(|age| age <= FRESH.as_secs())
}

fn member(held: &Held) -> Member {
    Member {
        kubeconfig: held.kubeconfig.clone(),
        node: held.node.clone(),
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
    use std::path::PathBuf;

    use super::*;
    use crate::store::document::Unknown;

    #[test]
    fn a_lease_is_fresh_for_its_time_and_never_of_the_future() {
        let held = |renewed, lost| Held {
            kubeconfig: PathBuf::new(),
            node: "node".to_owned(),
            renewed,
            lost,
            unknown: Unknown::default(),
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
            assert_eq!(is_fresh(&held(renewed, false), now), fresh, "{renewed}");
        }
        assert!(!is_fresh(&held(now, true), now));
    }
}
