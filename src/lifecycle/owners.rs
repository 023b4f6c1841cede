//! Who holds an address. While the interface of an attachment is up and has it, no other attachment gets it:
//! its pod would be judged by the other's rules, and by none once that one is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::node::Node;
use crate::enforce;
use crate::plan::NETDEV;
use crate::plan::names::{Purpose, veth_chain};
use crate::refusal::{CniError, net_failure, nft_failure};
use crate::store::{AttachmentId, PolicyKey, Record};
use netlink::link::{self, Link};
use netlink::{Rtnl, address};

/// What other attachments have of an attachment's addresses.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// One that is up and holds one of them.
    pub holder: Option<Holder>,
    /// Some address leads to another attachment, be it a dead one.
    pub any: bool,
}

/// An attachment that is up and holds an address.
#[derive(Debug)]
pub(crate) struct Holder {
    address: IpAddr,
    id: AttachmentId,
    title: Option<String>,
    veth: String,
}

impl Holder {
    /// Whose it is, as a sentence.
    pub fn words(&self) -> String {
        let Self {
            address, id, veth, ..
        } = self;
        let title = self.title.as_deref().unwrap_or("a pod without a record");
        format!(
            "the address {address} is that of {title} (attachment {id}), whose interface {veth} is up and has it"
        )
    }

    /// Why another attachment is not given the address.
    pub fn refusal(&self) -> CniError {
        CniError::try_again(format!(
            "{}: delete that pod, or correct the networks that give out the same addresses",
            self.words()
        ))
    }
}

/// Looks for others that have addresses of this attachment. `is_known`: the base is there, and with it the map
/// of addresses. If not, somebody may have removed it, and the records tell, too.
pub(crate) fn others(
    node: &mut Node<'_>,
    record: &Record<PolicyKey>,
    is_known: bool,
) -> Result<Others, CniError> {
    let mut others = Others::default();
    let mut found: BTreeSet<(IpAddr, AttachmentId)> = BTreeSet::new();
    for address in &record.addresses {
        let chain = enforce::owner_of(node.nft, *address).map_err(nft_failure)?;
        let owner = chain.as_deref().and_then(Purpose::of);
        let owner = owner.and_then(Purpose::attachment);
        if let Some(id) = owner.and_then(|id| id.parse::<AttachmentId>().ok())
            && id != record.id
        {
            others.any = true;
            found.insert((*address, id));
        }
    }
    if !is_known {
        for id in node.state.list_attachments()? {
            let other = Record::read_alone(node.state, &id).ok().flatten();
            let shared = other.iter().flat_map(|other| &other.addresses);
            let shared = shared.filter(|address| record.addresses.contains(address));
            if id != record.id {
                found.extend(shared.map(|address| (*address, id.clone())));
            }
        }
    }
    for (address, id) in found {
        if let Some(veth) = interface(node, &id)?
            && veth.index != record.veth_index
            && holds(node.rtnl, &veth, address)
        {
            others.holder = Some(Holder {
                address,
                title: node.state.title_of(&id),
                id,
                veth: veth.name,
            });
            break;
        }
    }
    Ok(others)
}

/// The host's interface of another attachment, if it is there and up: by its record, else by where its chain
/// hangs.
fn interface(node: &mut Node<'_>, id: &AttachmentId) -> Result<Option<Link>, CniError> {
    let failed = |e| net_failure("look for the interface of another pod", e);
    let link = match Record::read_alone(node.state, id) {
        Ok(Some(record)) => link::get_by_index(node.rtnl, record.veth_index).map_err(failed)?,
        _ => {
            let chain = node.nft.chain(&NETDEV, &veth_chain(id.as_str()));
            match chain.map_err(nft_failure)?.and_then(|chain| chain.device) {
                Some(name) => link::get_by_name(node.rtnl, &name).map_err(failed)?,
                None => None,
            }
        }
    };
    let is_up = |link: &Link| link.up && link.kind.as_deref() == Some("veth");
    Ok(link.filter(is_up))
}

/// Whether the pod's side of a veth has the address. One that can't be asked may well have it.
fn holds(rtnl: &mut Rtnl, veth: &Link, address: IpAddr) -> bool {
    let Some(peer) = veth.peer_index else {
        return true;
    };
    let found = address::of_link_in(rtnl, veth.peer_netnsid, peer);
    found.map_or(true, |found| found.iter().any(|a| a.address == address))
}
