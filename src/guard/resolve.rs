//! No checksum offload at the pod's end: what reaches the node is finished, and nobody writes into it
//! later. A pod without NET_ADMIN can't switch it on again.

use std::path::Path;

use netlink::link::{self, Link};
use netlink::offload::Offload;
use netlink::{self, Netns, Rtnl};

use super::{Ends, Error, Guard};
use rules::fault::shown;

pub(super) fn put(
    rtnl: &mut Rtnl,
    place: &Ends<'_>,
    reason: Option<String>,
    before: Option<&Guard>,
) -> Result<Guard, Error> {
    set_checksums(rtnl, place, false)?;
    let veth = &place.veth.name;
    // To have one large packet of many costs less on the way than many; what it was must be known later.
    let had = Offload::ReceiveJoining.get(veth)?;
    if !had && let Err(e) = Offload::ReceiveJoining.set(veth, true) {
        tracing::debug!("{e}");
    }
    let own = matches!(before, Some(Guard::Resolve { joining: true, .. }));
    Ok(Guard::Resolve {
        netns: place.netns.path().to_owned(),
        joining: own || (!had && Offload::ReceiveJoining.get(veth)?),
        reason,
    })
}

pub(super) fn remove(rtnl: &mut Rtnl, place: &Ends<'_>, joining: bool) -> Result<(), Error> {
    set_checksums(rtnl, place, true)?;
    if joining {
        Offload::ReceiveJoining.set(&place.veth.name, false)?;
    }
    Ok(())
}

/// As [`remove`], where the record alone tells of the pod.
pub(super) fn undo(rtnl: &mut Rtnl, veth: u32, netns: &Path, joining: bool) -> Result<(), Error> {
    let Some(veth) = link::get_by_index(rtnl, veth)? else {
        return Ok(());
    };
    let Some(netns) = still(rtnl, &veth, netns)? else {
        return Ok(()); // the pod's end goes with its namespace
    };
    let place = Ends {
        veth: &veth,
        netns: &netns,
    };
    remove(rtnl, &place, joining)
}

pub(super) fn verify(rtnl: &mut Rtnl, veth: u32, path: &Path) -> Result<Option<String>, Error> {
    let Some(veth) = link::get_by_index(rtnl, veth)? else {
        return Ok(Some("the veth is missing".to_owned()));
    };
    let Some(netns) = still(rtnl, &veth, path)? else {
        return Ok(Some(format!(
            "{} is not the pod's network namespace any more: whether its TX checksum offload is off cannot be seen",
            shown(path)
        )));
    };
    let place = Ends {
        veth: &veth,
        netns: &netns,
    };
    let name = pod_end(rtnl, &place)?;
    let on = netns.run(|| Offload::TransmitChecksums.get(&name))??;
    Ok(on.then(|| format!("the TX checksum offload of the pod's {name} is on")))
}

/// The namespace behind a path, which must be the one where the veth's other end is.
pub(super) fn netns_of(rtnl: &mut Rtnl, veth: &Link, path: &Path) -> Result<Netns, Error> {
    still(rtnl, veth, path)?.ok_or_else(|| gone(veth, path))
}

fn gone(veth: &Link, path: &Path) -> Error {
    Error::NotThere {
        netns: shown(path),
        veth: veth.name.clone(),
    }
}

/// The namespace behind a path, if the veth's other end is in it: by now it may be another pod's.
fn still(rtnl: &mut Rtnl, veth: &Link, path: &Path) -> Result<Option<Netns>, Error> {
    let netns = match Netns::open(path) {
        Ok(netns) => netns,
        Err(netlink::Error::NoSuchNetns { .. } | netlink::Error::NotANetns { .. }) => {
            return Ok(None);
        }
        Err(e) => return Err(e.into()),
    };
    let number = rtnl.netnsid_of(&netns)?;
    Ok((number.is_some() && number == veth.peer_netnsid).then_some(netns))
}

fn set_checksums(rtnl: &mut Rtnl, place: &Ends<'_>, on: bool) -> Result<(), Error> {
    let name = pod_end(rtnl, place)?;
    place
        .netns
        .run(|| Offload::TransmitChecksums.set(&name, on))??;
    Ok(())
}

/// What the pod calls its end by now: its number stays.
fn pod_end(rtnl: &mut Rtnl, place: &Ends<'_>) -> Result<String, Error> {
    let gone = || gone(place.veth, place.netns.path());
    let number = rtnl.netnsid_of(place.netns)?.ok_or_else(gone)?;
    let links = link::all_in(rtnl, Some(number))?;
    let is_pods = |link: &Link| Some(link.index) == place.veth.peer_index;
    let link = links.into_iter().find(is_pods);
    link.map(|link| link.name).ok_or_else(gone)
}
