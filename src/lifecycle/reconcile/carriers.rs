//! Which attachment an interface carries, whichever of its traces is lost: the link's entry tells, or else
//! the records of those whose interface it is, and where the kernel sends their addresses.

use super::{Error, Sync};
use crate::plan::names::pod_chain;
use crate::plan::{INET, base};
use crate::store::{AttachmentId, Record};
use netlink::link;
use nft::Family;

impl Sync<'_> {
    /// The attachment that an interface carries, if it is not this one.
    pub(super) fn carries_another(
        &mut self,
        veth: &str,
        id: &AttachmentId,
    ) -> Result<Option<AttachmentId>, Error> {
        let state = self.options.state;
        match state.link(veth).ok().flatten() {
            Some(noted) if noted == *id => Ok(None),
            Some(noted) if state.has_attachment(&noted) => Ok(Some(noted)),
            _ => self.is_known_to_carry_another(veth, id),
        }
    }

    /// The same for an attachment that has no readable record: what is noted of it may be as wrong.
    pub(super) fn carries_another_for_sure(
        &mut self,
        veth: &str,
        id: &AttachmentId,
    ) -> Result<Option<AttachmentId>, Error> {
        match self.carries_another(veth, id)? {
            Some(other) => Ok(Some(other)),
            None => self.is_known_to_carry_another(veth, id),
        }
    }

    /// By other traces than the link's entry: no address leads to this attachment, and some do to another
    /// one, whose record names the very interface that is there.
    fn is_known_to_carry_another(
        &mut self,
        veth: &str,
        id: &AttachmentId,
    ) -> Result<Option<AttachmentId>, Error> {
        let Some(there) = link::get_by_name(&mut self.rtnl()?, veth)? else {
            return Ok(None);
        };
        let judged = self.judged()?;
        let leads_to = |id: &AttachmentId| judged.contains(&pod_chain(id.as_str()));
        if leads_to(id) {
            return Ok(None);
        }
        let state = self.options.state;
        let others = state.list_attachments()?.into_iter();
        let mut others = others.filter(|other| other != id && leads_to(other));
        Ok(others.find(|other| {
            let record = Record::read_alone(state, other).ok().flatten();
            record.is_some_and(|record| record.veth_index == there.index)
        }))
    }

    /// Whether some address leads to the attachment's chain.
    pub(super) fn is_judged(&mut self, id: &AttachmentId) -> Result<bool, Error> {
        Ok(self.judged()?.contains(&pod_chain(id.as_str())))
    }

    /// The chains to which addresses lead.
    fn judged(&mut self) -> Result<Vec<String>, Error> {
        let mut chains = Vec::new();
        for family in [Family::V4, Family::V6] {
            let pods = self.nft.vmap_elements(&INET, base::pods(family))?;
            chains.extend(pods.into_iter().map(|(_, chain)| chain));
        }
        Ok(chains)
    }
}
