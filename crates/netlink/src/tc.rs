//! What traffic control does at the ingress of a link, before netfilter's ingress hook.
//!
//! A CNI that forwards in BPF from there (eBPF host routing) takes packets past the hooks in which
//! this program judges them. So does a redirect to an ifb device, by which the `bandwidth` plugin
//! limits what a pod sends: a packet that comes back from there skips the ingress hook
//! (`net/core/dev.c`, `skb_skip_tc_classify`). A classifier of our own goes to the same place: [`put`].

use std::fmt;

use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcHandle, TcMessage},
};

use super::{
    Error, Rtnl,
    bpf::{Tag, at_tcx_ingress},
    netlink::Attributes,
};

mod classifier;

pub use classifier::{Classifier, add_clsact, dropped, put, remove, remove_clsact};

/// Length of struct tcmsg.
const HEADER_LENGTH: usize = 20;
/// Where ingress filters hang, of a clsact and of an ingress qdisc alike (TC_H_CLSACT,
/// TC_H_MIN_INGRESS).
const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: TcHandle::MIN_INGRESS,
};
/// Where filters of a clsact's egress hang (TC_H_MIN_EGRESS).
const EGRESS: TcHandle = TcHandle {
    minor: TcHandle::MIN_EGRESS,
    ..INGRESS
};
/// linux/pkt_cls.h
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_TAG: u16 = 10;
/// linux/rtnetlink.h
const TCA_CHAIN: u16 = 11;
/// The kind of a redirecting action (net/sched/act_mirred.c), as it stands in TCA_ACT_KIND.
const MIRRED: &[u8] = b"mirred\0";

/// A filter at the ingress of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Which chain it is in: 0, the one where packets begin, unless a filter leads elsewhere.
    pub chain: u32,
    /// Its place in the chain: lower ones see packets first. From 1.
    pub preference: u16,
    /// The ethertype of the packets that it sees, as the kernel writes it (ETH_P_ALL: each).
    pub protocol: u16,
    /// Its number among those of one preference.
    pub handle: u32,
    /// `bpf`, `u32`, `matchall`, ...
    pub kind: String,
    /// What a BPF program was called by who put it there.
    pub name: Option<String>,
    /// Which program it is.
    pub tag: Option<Tag>,
    /// Whether it redirects to another device (tc-mirred).
    pub redirects: bool,
}

impl Filter {
    /// Whether it is a BPF program, which may do anything.
    pub fn is_bpf(&self) -> bool {
        self.kind == "bpf"
    }
}

/// The filters at the ingress of a link, in the order in which packets meet them; none if there is no
/// such link.
pub fn filters(rtnl: &mut Rtnl, link: u32) -> Result<Vec<Filter>, Error> {
    list(rtnl, link, INGRESS, "ingress")
}

/// The same of what leaves by the link, which hangs in the same qdisc if that is a clsact.
pub fn egress_filters(rtnl: &mut Rtnl, link: u32) -> Result<Vec<Filter>, Error> {
    list(rtnl, link, EGRESS, "egress")
}

fn list(rtnl: &mut Rtnl, link: u32, parent: TcHandle, side: &str) -> Result<Vec<Filter>, Error> {
    let operation = format!("list the {side} filters of link {link}");
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = parent;
    let message = RouteNetlinkMessage::GetTrafficFilter(message);
    rtnl.dump(&operation, message, |payload| {
        let Some(header) = payload.first_chunk::<HEADER_LENGTH>() else {
            return Err(Error::malformed(&operation, "a filter is cut off"));
        };
        let word = |at: usize| {
            let bytes = header[at..].first_chunk();
            bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
        };
        let (handle, info) = (word(8), word(16));
        let attributes = Attributes::new(&payload[HEADER_LENGTH..]);
        let kind = attributes.string(libc::TCA_KIND).unwrap_or_default();
        // The kernel lists the head of each preference, too, which is no filter.
        let Some(options) = attributes.nested(libc::TCA_OPTIONS) else {
            return Ok(None);
        };
        let of_bpf = (kind == "bpf").then_some(options);
        let tag = of_bpf.and_then(|o| o.bytes(TCA_BPF_TAG));
        Ok(Some(Filter {
            chain: attributes.u32(TCA_CHAIN).unwrap_or_default(),
            preference: (info >> 16) as u16,
            protocol: info as u16,
            handle,
            name: of_bpf.and_then(|o| o.string(TCA_BPF_NAME)),
            tag: tag.and_then(|tag| tag.try_into().ok()).map(Tag),
            // Each kind of filter has its actions at another place; the action's own name is the same.
            redirects: payload.windows(MIRRED.len()).any(|bytes| bytes == MIRRED),
            kind,
        }))
    })
}

/// What takes packets past netfilter's ingress hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    /// A BPF program, in words.
    Bpf(String),
    /// A filter that redirects to another device (tc-mirred).
    Redirect,
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detour::Bpf(program) => f.write_str(program),
            Detour::Redirect => f.write_str("a filter that redirects to another device"),
        }
    }
}

/// What takes packets past the ingress hook of a link, but for filters that are our own; None if
/// nothing does, or no such link.
///
/// The calling thread has to be in the namespace of `rtnl`: bpf(2) looks in the thread's own.
pub fn detour(
    rtnl: &mut Rtnl,
    link: u32,
    is_own: impl Fn(&Filter) -> bool,
) -> Result<Option<Detour>, Error> {
    let mut filters = filters(rtnl, link)?;
    filters.retain(|filter| !is_own(filter));
    // BPF first: it may do anything.
    if let Some(program) = filters.iter().find(|filter| filter.is_bpf()) {
        return Ok(Some(Detour::Bpf(match &program.name {
            Some(name) => format!("tc filter {name}"),
            None => "tc filter without a name".into(),
        })));
    }
    if filters.iter().any(|filter| filter.redirects) {
        return Ok(Some(Detour::Redirect));
    }
    let program = at_tcx_ingress(link)
        .map_err(|cause| Error::system(format!("list the BPF programs of link {link}"), cause))?;
    Ok(program.map(|id| Detour::Bpf(format!("tcx program {id}"))))
}

#[cfg(test)]
mod tests;
