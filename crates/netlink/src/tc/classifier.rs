//! A classifier of our own at the ingress of a link, and the qdisc in which it hangs.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};

use super::{Error, HEADER_LENGTH, INGRESS, Rtnl};
use crate::{bpf::Program, netlink::Attributes};

/// Every packet, whatever its ethertype (ETH_P_ALL), as the kernel writes it.
const EVERY_PROTOCOL: u16 = 3u16.to_be();
/// The handle of each clsact or ingress qdisc.
const QDISC: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// linux/gen_stats.h
const TCA_STATS_QUEUE: u16 = 3;
/// Where struct gnet_stats_queue has its `drops`.
const DROPS: usize = 8;

/// Where a classifier hangs, and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classifier {
    /// Its place among filters: the lowest sees packets first. From 1.
    pub preference: u16,
    /// Its number among the filters of that preference.
    pub handle: u32,
    /// What `tc` calls it.
    pub name: &'static str,
}

impl Classifier {
    fn message(&self, link: u32) -> TcMessage {
        let mut message = TcMessage::with_index(link.cast_signed());
        message.header.parent = INGRESS;
        message.header.handle = self.handle.into();
        message.header.info = u32::from(self.preference) << 16 | u32::from(EVERY_PROTOCOL);
        let kind = TcAttribute::Kind(TcFilterBpf::KIND.to_owned());
        message.attributes = vec![kind];
        message
    }
}

/// Gives a link a clsact qdisc, in which filters of its ingress hang. False: it has one already, or an
/// ingress qdisc, which is as good.
///
/// # Errors
/// ENOENT: this kernel has none (CONFIG_NET_SCH_INGRESS).
pub fn add_clsact(rtnl: &mut Rtnl, link: u32) -> Result<bool, Error> {
    let operation = format!("add a clsact qdisc to link {link}");
    let mut message = clsact(link);
    message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
    let message = RouteNetlinkMessage::NewQueueDiscipline(message);
    match rtnl.change(&operation, message, NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::EEXIST]) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the clsact qdisc of a link away, with all filters in it. Nothing there, or no link, is as good.
pub fn remove_clsact(rtnl: &mut Rtnl, link: u32) -> Result<(), Error> {
    let operation = format!("remove the clsact qdisc of link {link}");
    let message = RouteNetlinkMessage::DelQueueDiscipline(clsact(link));
    gone(rtnl.change(&operation, message, 0))
}

/// Hangs a program into the ingress qdisc of a link. One that hangs there by the same preference and
/// handle is replaced in one step.
///
/// # Errors
/// ENOENT: this kernel has no such classifier (CONFIG_NET_CLS_BPF); EINVAL, EEXIST: the preference is
/// taken by a filter of another kind.
pub fn put(
    rtnl: &mut Rtnl,
    link: u32,
    classifier: &Classifier,
    program: &Program,
) -> Result<(), Error> {
    let operation = format!("put the filter {} at link {link}", classifier.name);
    let mut message = classifier.message(link);
    let descriptor = program.as_fd().as_raw_fd().cast_unsigned();
    let options = [
        TcFilterBpfOption::ProgFd(descriptor),
        TcFilterBpfOption::ProgName(classifier.name.to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let options = options.into_iter().map(TcOption::Bpf).collect();
    message.attributes.push(TcAttribute::Options(options));
    let message = RouteNetlinkMessage::NewTrafficFilter(message);
    rtnl.change(&operation, message, NLM_F_CREATE)
}

/// Takes a classifier away from a link. Nothing there, or no link, is as good.
pub fn remove(rtnl: &mut Rtnl, link: u32, classifier: &Classifier) -> Result<(), Error> {
    let operation = format!("remove the filter {} from link {link}", classifier.name);
    let message = RouteNetlinkMessage::DelTrafficFilter(classifier.message(link));
    gone(rtnl.change(&operation, message, 0))
}

/// How many packets the ingress qdisc of each link has dropped, which is how many its filters have: by
/// the link's index. Links without one are left out.
pub fn dropped(rtnl: &mut Rtnl) -> Result<HashMap<u32, u64>, Error> {
    let operation = "read the statistics of qdiscs";
    let message = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let found = rtnl.dump(operation, message, |payload| {
        let Some(header) = payload.first_chunk::<HEADER_LENGTH>() else {
            return Err(Error::malformed(operation, "a qdisc is cut off"));
        };
        let attributes = Attributes::new(&payload[HEADER_LENGTH..]);
        let kind = attributes.string(libc::TCA_KIND);
        if !matches!(kind.as_deref(), Some("clsact" | "ingress")) {
            return Ok(None);
        }
        let link = header[4..]
            .first_chunk()
            .map(|index| u32::from_ne_bytes(*index));
        let statistics = attributes.nested(libc::TCA_STATS2);
        let queue = statistics.and_then(|s| s.bytes(TCA_STATS_QUEUE));
        let drops = queue.and_then(|queue| queue.get(DROPS..)?.first_chunk());
        let drops = drops.map_or(0, |drops| u32::from_ne_bytes(*drops));
        Ok(link.map(|link| (link, u64::from(drops))))
    })?;
    Ok(found.into_iter().collect())
}

fn clsact(link: u32) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = QDISC;
    message
}

/// What is not there need not be removed: no filter or qdisc (ENOENT), no qdisc in which it could be
/// (EINVAL), no link (ENODEV).
fn gone(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(error) if error.is_any_of(&[libc::ENOENT, libc::EINVAL, libc::ENODEV]) => Ok(()),
        outcome => outcome,
    }
}
