//! The program as a classifier at the ingress of a veth.
//!
//! Whether the qdisc was there before is kept in the kernel, beside what it is about: in the handle.

use netlink::bpf::{Program, Tag};
use netlink::link::Link;
use netlink::tc::{self, Classifier, Filter};
use netlink::{self, Rtnl};

use super::Error;
use super::kernel::{self, Unavailable};
use super::program::NAME;
use crate::store::StateDir;

/// No filter sees a packet before this one.
const FIRST: u16 = 1;
/// In a qdisc that came with it, and goes with it.
const WITH_QDISC: Classifier = Classifier {
    preference: FIRST,
    handle: 1,
    name: NAME,
};
/// In a qdisc that somebody else has put there.
const AS_GUEST: Classifier = Classifier {
    handle: 2,
    ..WITH_QDISC
};

/// Whether it is a guard that this program has put, in whatever version.
pub fn is_own(filter: &Filter) -> bool {
    as_own(filter).is_some()
}

fn as_own(filter: &Filter) -> Option<Classifier> {
    let own = filter.is_bpf()
        && filter.chain == 0
        && filter.preference == FIRST
        && filter.name.as_deref() == Some(NAME);
    let places = [WITH_QDISC, AS_GUEST].into_iter();
    places
        .filter(|_| own)
        .find(|own| own.handle == filter.handle)
}

/// Puts it, unless it is there; also over one of another version. A kernel that can't have it is
/// [`Error::Unavailable`].
pub(super) fn put(state: &StateDir, rtnl: &mut Rtnl, veth: &Link) -> Result<Tag, Error> {
    let program = kernel::program(state)?;
    hang(rtnl, veth.index, &veth.name, &program)
}

/// Puts a program there.
pub(super) fn hang(
    rtnl: &mut Rtnl,
    index: u32,
    name: &str,
    program: &Program,
) -> Result<Tag, Error> {
    let made = match tc::add_clsact(rtnl, index) {
        Ok(made) => made,
        Err(e) => return Err(missing("the clsact qdisc (CONFIG_NET_SCH_INGRESS)", e)),
    };
    let place = if made {
        WITH_QDISC
    } else {
        let filters = tc::filters(rtnl, index)?;
        let own = filters
            .iter()
            .find_map(|f| as_own(f).map(|own| (own, f.tag)));
        match own {
            Some((_, tag)) if tag == Some(program.tag) => return Ok(program.tag),
            Some((own, _)) => own,
            None => {
                let taken = |f: &&Filter| f.chain == 0 && f.preference <= FIRST && !f.is_bpf();
                if let Some(other) = filters.iter().find(taken) {
                    return Err(Error::NotFirst {
                        veth: name.to_owned(),
                        kind: other.kind.clone(),
                    });
                }
                AS_GUEST
            }
        }
    };
    match tc::put(rtnl, index, &place, program) {
        Ok(()) => Ok(program.tag),
        Err(e) => {
            if made {
                tc::remove_clsact(rtnl, index)?;
            }
            Err(missing("the classifier cls_bpf (CONFIG_NET_CLS_BPF)", e))
        }
    }
}

/// An error that says that the kernel has no such thing, told from others.
fn missing(what: &'static str, error: netlink::Error) -> Error {
    match error.errno() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) => Error::Unavailable(Unavailable::NoClassifier {
            what,
            source: error,
        }),
        _ => error.into(),
    }
}

/// Whether it is there, is the first, and is the program of this tag: what is not so, in words.
pub(super) fn verify(rtnl: &mut Rtnl, veth: u32, tag: &str) -> Result<Option<String>, Error> {
    let filters = tc::filters(rtnl, veth)?;
    let Some(at) = filters.iter().position(is_own) else {
        return Ok(Some(format!("the filter {NAME} at the veth is missing")));
    };
    let found = filters[at]
        .tag
        .map(|tag| tag.to_string())
        .unwrap_or_default();
    if found != tag {
        return Ok(Some(format!(
            "the filter {NAME} at the veth is another program ({found}, not {tag})"
        )));
    }
    if at != 0 {
        return Ok(Some(format!(
            "a filter of kind {} is ahead of the filter {NAME} at the veth",
            filters[0].kind
        )));
    }
    Ok(None)
}

/// Takes it away, and the qdisc if that came with it and nobody else uses it by now.
pub(super) fn remove(rtnl: &mut Rtnl, veth: u32) -> Result<(), netlink::Error> {
    let filters = tc::filters(rtnl, veth)?;
    let Some(own) = filters.iter().find_map(as_own) else {
        return Ok(());
    };
    let alone = filters.len() == 1 && tc::egress_filters(rtnl, veth)?.is_empty();
    if own == WITH_QDISC && alone {
        return tc::remove_clsact(rtnl, veth);
    }
    tc::remove(rtnl, veth, &own)
}
