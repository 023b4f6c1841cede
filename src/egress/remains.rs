//! What records and the kernel still tell of an address whose file is gone or damaged.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::plan::{INET, base};
use crate::refusal::CniError;
use crate::store::{AttachmentId, PolicyKey, Record, StateDir};
use nft::{self, Family, Nft};

/// An address that is this node's for its pods.
pub(crate) struct Remains {
    /// The namespace of its users.
    pub namespace: Option<String>,
    /// Attachments whose records name it.
    pub users: Vec<AttachmentId>,
    /// Addresses of pods that leave with it in the kernel, and of which no record speaks.
    pub strangers: Vec<IpAddr>,
}

impl Remains {
    /// None: neither the kernel nor a record knows it as an egress address. Records are looked at
    /// only if the kernel knows it, or if it is `here`, on some device of this node: that takes a
    /// while.
    pub fn find(
        state: &StateDir,
        address: IpAddr,
        here: bool,
    ) -> Result<Option<Remains>, CniError> {
        let mut nft = Nft::open().map_err(kernel)?;
        let set = base::egress(Family::of(&address));
        let guarded = nft.has_element(&INET, set, address).map_err(kernel)?;
        if !guarded && !here {
            return Ok(None);
        }
        let records = state.records()?;
        let mut users = records.iter().filter(|(_, r)| r.egress.contains(&address));
        let namespace = users.clone().next().and_then(|(_, r)| r.namespace.clone());
        let users: Vec<AttachmentId> = users.by_ref().map(|(id, _)| id.clone()).collect();
        if !guarded && users.is_empty() {
            return Ok(None);
        }
        Ok(Some(Remains {
            namespace,
            users,
            strangers: strangers(&mut nft, address, &records).map_err(kernel)?,
        }))
    }

    /// The strangers, for a message.
    pub fn name_strangers(&self) -> String {
        let names: Vec<String> = self.strangers.iter().map(IpAddr::to_string).collect();
        names.join(", ")
    }
}

/// Pods that are judged, leave with this address, and have no record.
fn strangers(
    nft: &mut Nft,
    address: IpAddr,
    records: &[(AttachmentId, Record<PolicyKey>)],
) -> Result<Vec<IpAddr>, nft::Error> {
    let family = Family::of(&address);
    let known: BTreeSet<&IpAddr> = records.iter().flat_map(|(_, r)| &r.addresses).collect();
    let mut strangers = Vec::new();
    for pod in nft.addresses(&INET, base::pods(family))? {
        if !known.contains(&pod) && nft.mapped(&INET, base::snat(family), pod)? == Some(address) {
            strangers.push(pod);
        }
    }
    Ok(strangers)
}

/// All addresses that the kernel guards as egress addresses.
pub(crate) fn guarded(nft: &mut Nft) -> Result<Vec<IpAddr>, nft::Error> {
    let mut addresses = nft.addresses(&INET, base::egress(Family::V4))?;
    addresses.extend(nft.addresses(&INET, base::egress(Family::V6))?);
    Ok(addresses)
}

fn kernel(error: nft::Error) -> CniError {
    CniError::kernel(error.to_string())
}
