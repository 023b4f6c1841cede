//! What has become of an attachment's interface since its record was written. Others rename it, move it to
//! another bridge, give the bridge another MAC; the pod gives itself addresses. It is the same interface as
//! long as the kernel says so: by its index, and by what is at its other end.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Unenforceable, bridge_with, comes_by};
use crate::store::document::Unknown;
use crate::store::{Bridge, Record};
use netlink::address::IfAddr;
use netlink::link::{self, Link};
use netlink::{self, Mac, Netns, Rtnl, address};

/// The node's devices and their addresses at one moment: two dumps, whatever the number of pods.
#[derive(Debug, Default)]
pub struct Devices {
    links: HashMap<u32, Link>,
    addresses: HashMap<u32, Vec<IfAddr>>,
}

/// How an attachment's interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// There is no such interface any more.
    Gone,
    /// The pod has it, but the host's side is not in this node's network namespace any more.
    Elsewhere,
    /// It is there.
    Here(Now),
}

/// An interface as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// The name of the host's side.
    pub veth: String,
    /// The bridge to which its packets have to be sent.
    pub bridge: Option<Bridge>,
    /// The device by which all its packets come to the IP layer, if it is one.
    pub iif: Option<u32>,
    /// What the record says otherwise, so that the kernel's rules are for something else: it can be mended from
    /// the node.
    pub changed: Vec<String>,
    /// What only a new start of the pod mends.
    pub told: Vec<String>,
}

impl Now {
    /// Nothing is to be said.
    pub fn is_as_recorded(&self) -> bool {
        self.changed.is_empty() && self.told.is_empty()
    }
}

impl Devices {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read(rtnl: &mut Rtnl) -> Result<Devices, netlink::Error> {
        let mut devices = Devices::default();
        for link in link::all(rtnl)? {
            devices.links.insert(link.index, link);
        }
        for address in address::all(rtnl)? {
            let of_link = devices.addresses.entry(address.link).or_default();
            of_link.push(address);
        }
        Ok(devices)
    }

    /// The link of that index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The addresses of a link.
    pub fn addresses(&self, index: u32) -> &[IfAddr] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// How an attachment's interface is by now.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn interface<P>(
        &self,
        rtnl: &mut Rtnl,
        record: &Record<P>,
    ) -> Result<Interface, netlink::Error> {
        let veth = self.link(record.veth_index);
        let Some(veth) = veth.filter(|veth| veth.kind.as_deref() == Some("veth")) else {
            return Ok(match pod_has_it(rtnl, record)? {
                true => Interface::Elsewhere,
                false => Interface::Gone,
            });
        };
        let pod = other_end(rtnl, veth)?;
        if !is_of(veth, pod.as_ref(), record) {
            return Ok(Interface::Gone);
        }
        let mut now = self.outside(veth, record);
        if let Some(pod) = pod {
            compare_inside(rtnl, veth, &pod, record, &mut now.told)?;
        }
        Ok(Interface::Here(now))
    }

    /// The same as far as this node's own devices tell, which is all that can be mended; none: it is gone, or
    /// somewhere else.
    pub fn seen<P>(&self, record: &Record<P>) -> Option<Now> {
        let veth = self.link(record.veth_index)?;
        (veth.kind.as_deref() == Some("veth")).then(|| self.outside(veth, record))
    }

    fn outside<P>(&self, veth: &Link, record: &Record<P>) -> Now {
        let mut now = Now {
            veth: veth.name.clone(),
            bridge: record.bridge.clone(),
            iif: record.iif,
            changed: Vec::new(),
            told: Vec::new(),
        };
        if veth.name != record.veth {
            let (old, new) = (&record.veth, &veth.name);
            now.changed
                .push(format!("its veth {old} is now called {new}"));
        }
        self.compare_bridge(veth, record, &mut now);
        if now.told.is_empty() {
            self.compare_iif(veth, record, &mut now);
        }
        now
    }

    fn compare_bridge<P>(&self, veth: &Link, record: &Record<P>, now: &mut Now) {
        let master = veth.master.and_then(|master| self.link(master));
        let before = record.bridge.as_ref();
        let (Some(master), Some(known)) = (master, before) else {
            let found = match master {
                None => Ok(None),
                Some(master) => {
                    let own = self.addresses(master.index);
                    bridge_with(veth, master, own, &record.addresses, &[])
                }
            };
            return self.moved(veth, before, master, found, now);
        };
        if master.index != known.index {
            let own = self.addresses(master.index);
            let found = bridge_with(veth, master, own, &record.addresses, &[]);
            return self.moved(veth, before, Some(master), found, now);
        }
        let Some(mac) = master
            .mac
            .filter(|_| master.kind.as_deref() == Some("bridge"))
        else {
            return;
        };
        if mac != known.mac {
            now.changed.push(format!(
                "bridge {} now has the MAC {}, not {}",
                master.name,
                Mac(mac),
                Mac(known.mac)
            ));
        }
        if master.name != known.name {
            let (old, new) = (&known.name, &master.name);
            now.changed
                .push(format!("its bridge {old} is now called {new}"));
        }
        now.bridge = Some(Bridge {
            name: master.name.clone(),
            index: master.index,
            mac,
            unknown: known.unknown.clone(),
        });
    }

    /// Where ADD has found none, there is none: it has seen more.
    fn compare_iif<P>(&self, veth: &Link, record: &Record<P>, now: &mut Now) {
        let master = veth.master.and_then(|master| self.link(master));
        let found = comes_by(veth, master);
        if record.iif.is_none() || record.iif == found {
            return;
        }
        now.iif = found;
        if now.changed.is_empty() {
            let by = match (master, found) {
                (Some(bridge), Some(_)) => format!("{}, another bridge", bridge.name),
                (Some(bridge), None) => format!("{}, and by its VRF", bridge.name),
                (None, _) => format!("{}, and by no bridge", veth.name),
            };
            now.changed.push(format!("its packets now arrive at {by}"));
        }
    }

    /// The veth has another master than the record says, or none.
    fn moved(
        &self,
        veth: &Link,
        before: Option<&Bridge>,
        master: Option<&Link>,
        found: Result<Option<Bridge>, Unenforceable>,
        now: &mut Now,
    ) {
        match found {
            Ok(found) if found.as_ref().map(|b| b.index) == before.map(|b| b.index) => {}
            Ok(found) => {
                let name = &veth.name;
                now.changed.push(match (before, master) {
                    (Some(before), None) => {
                        format!("{name} is not a port of bridge {} any more", before.name)
                    }
                    (_, Some(master)) => {
                        format!("{name} is now a port of bridge {}", master.name)
                    }
                    (None, None) => format!("{name} has no master any more"),
                });
                now.bridge = found.map(|bridge| Bridge {
                    unknown: before.map_or_else(Unknown::default, |b| b.unknown.clone()),
                    ..bridge
                });
            }
            Err(why) => now.told.push(format!(
                "{why}; put {} back, or recreate the pod",
                veth.name
            )),
        }
    }
}

/// The host's side of an attachment's veth, if it still is that, whatever it is called.
///
/// # Errors
/// The kernel does not tell.
pub fn own_veth<P>(rtnl: &mut Rtnl, record: &Record<P>) -> Result<Option<Link>, netlink::Error> {
    let veth = link::get_by_index(rtnl, record.veth_index)?;
    let Some(veth) = veth.filter(|veth| veth.kind.as_deref() == Some("veth")) else {
        return Ok(None);
    };
    let is_own = veth.name == record.veth || {
        let pod = other_end(rtnl, &veth)?;
        is_of(&veth, pod.as_ref(), record)
    };
    Ok(is_own.then_some(veth))
}

/// An index alone is not enough: after a boot, another pod's veth may have it.
fn is_of<P>(veth: &Link, pod: Option<&Link>, record: &Record<P>) -> bool {
    veth.name == record.veth || pod.is_some_and(|pod| pod.mac == Some(record.mac))
}

/// The pod's side of a veth, wherever it lives. None: it has no other end.
fn other_end(rtnl: &mut Rtnl, veth: &Link) -> Result<Option<Link>, netlink::Error> {
    let Some(index) = veth.peer_index else {
        return Ok(None);
    };
    match veth.peer_netnsid {
        None => link::get_by_index(rtnl, index),
        Some(id) => link::get_in(rtnl, id, index).or_else(|e| match e.errno() {
            Some(libc::EINVAL) => Ok(None), // its namespace goes at this moment
            _ => Err(e),
        }),
    }
}

/// What is sent from an address or a MAC that is not in the record is dropped at the veth: to allow it
/// because it is there would let every pod choose whose it is.
fn compare_inside<P>(
    rtnl: &mut Rtnl,
    veth: &Link,
    pod: &Link,
    record: &Record<P>,
    told: &mut Vec<String>,
) -> Result<(), netlink::Error> {
    if let Some(mac) = pod.mac.filter(|mac| *mac != record.mac) {
        told.push(format!(
            "the pod's {} now has the MAC {}: what it sends with it is dropped. Set it to {} again, or recreate the pod",
            pod.name,
            Mac(mac),
            Mac(record.mac)
        ));
    }
    let there = address::of_link_in(rtnl, veth.peer_netnsid, pod.index);
    let there = there.or_else(|e| match e.errno() {
        Some(libc::EINVAL) => Ok(Vec::new()),
        _ => Err(e),
    })?;
    let is_known = |address: &IpAddr| match address {
        IpAddr::V6(a) if a.is_unicast_link_local() => record.link_local.contains(a),
        a => a.is_loopback() || record.addresses.contains(a),
    };
    let unknown: Vec<String> = there
        .iter()
        .filter(|a| !a.dad_failed && !is_known(&a.address))
        .map(|a| a.address.to_string())
        .collect();
    if !unknown.is_empty() {
        told.push(format!(
            "the pod has {} since it was added: what it sends from there is dropped. Start the pod again, or take the address away",
            unknown.join(", ")
        ));
    }
    Ok(())
}

/// Whether the pod still has the interface, whose host's side is not here: by the namespace that ADD was given,
/// as far as that is there. It is not entered.
fn pod_has_it<P>(rtnl: &mut Rtnl, record: &Record<P>) -> Result<bool, netlink::Error> {
    let Some(netns) = &record.netns else {
        return Ok(false);
    };
    let Ok(netns) = Netns::open(netns) else {
        return Ok(false);
    };
    let Some(id) = rtnl.netnsid_of(&netns)? else {
        return Ok(false);
    };
    let links = link::all_in(rtnl, Some(id))?;
    Ok(links.iter().any(|link| {
        let is_pods = link.name == record.ifname && link.mac == Some(record.mac);
        is_pods && link.kind.as_deref() == Some("veth")
    }))
}
