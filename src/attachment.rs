//! Who the pod is, and which device of the node carries its packets.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Instant;

use crate::guard;
use crate::store::Bridge;
use crate::store::document::Unknown;
use netlink::address::IfAddr;
use netlink::link::{self, Link};
use netlink::tc::{self, Detour};
use netlink::{self, Netns, Rtnl, address};
use nft::{self, Nft};
use result::PodResult;
use rules::fault::shown;

pub mod now;
mod plan;
pub mod records;
pub mod result;
#[cfg(test)]
pub(crate) mod test_support;
mod who;

pub use who::Who;

/// Why a pod's traffic can't be judged on this node.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Unenforceable {
    #[error(
        "{ifname} is a {kind}, not a veth: its packets do not pass this node's netfilter hooks"
    )]
    Kind { ifname: String, kind: String },
    #[error("there is no interface {ifname} in {netns}")]
    NoInterface { ifname: String, netns: String },
    #[error("{ifname} has no MAC address of six bytes")]
    NoMac { ifname: String },
    #[error("the other end of {ifname} is not in this node's network namespace")]
    PeerElsewhere { ifname: String },
    #[error("the pod has no IP address on {ifname}")]
    NoAddress { ifname: String },
    #[error(
        "the BPF program {program} at the ingress of {veth} may carry packets past netfilter (eBPF host routing)"
    )]
    Bpf { veth: String, program: String },
    #[error(
        "traffic control redirects what comes in by {veth} (a limit of the pod's egress bandwidth does), past netfilter's ingress hook: spoofed packets could not be told from legitimate ones"
    )]
    Redirect { veth: String },
    #[error(
        "a filter of kind {kind} at the ingress of {veth} has preference 1, so that the one that drops packets with forged checksums cannot be the first; give yours another preference, or set `forgedChecksums: resolve` in the conflist"
    )]
    NotFirst { veth: String, kind: String },
    #[error(
        "the flowtable {flowtable} takes what comes in by {device}: the packets of connections in it are forwarded ahead of every rule; take {device} out of its devices"
    )]
    Flowtable { flowtable: String, device: String },
    #[error(
        "{veth} is a port of {master}, a {kind}: its packets do not pass this node's netfilter hooks"
    )]
    Master {
        veth: String,
        master: String,
        kind: String,
    },
    #[error(
        "bridge {bridge} does not forward {family} (net.{family_path}.conf.{bridge}.forwarding is 0), so that what its pods send would be lost where it is filtered, and br_netfilter is off (net.bridge.bridge-nf-call-iptables, bridge-nf-call-ip6tables): let the node forward, or turn br_netfilter on"
    )]
    NotForwarding {
        bridge: String,
        family: &'static str,
        family_path: &'static str,
    },
    #[error(
        "bridge {bridge} is not the gateway of its pods, and br_netfilter is off (net.bridge.bridge-nf-call-iptables, bridge-nf-call-ip6tables): packets between its pods pass no netfilter hook"
    )]
    NotGateway { bridge: String },
    #[error(
        "kube-proxy is in IPVS mode ({IPVS} is there): it translates Services behind all rules, which would see a Service's address where the packet goes to a pod or a node; set kube-proxy's mode to nftables or iptables, and let `kube-proxy --cleanup` take away what is left"
    )]
    Ipvs,
}

/// The device to which kube-proxy in IPVS mode gives the addresses of all Services.
const IPVS: &str = "kube-ipvs0";

/// Whether Services are translated behind all rules on this node, and so why no pod can be enforced.
///
/// # Errors
/// The kernel does not tell.
pub fn ipvs(rtnl: &mut Rtnl) -> Result<Option<Unenforceable>, netlink::Error> {
    Ok(link::get_by_name(rtnl, IPVS)?.map(|_| Unenforceable::Ipvs))
}

/// What went wrong while the attachment was looked at.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("cannot be enforced here: {0}")]
    Unenforceable(#[from] Unenforceable),
    #[error(transparent)]
    Net(#[from] netlink::Error),
    #[error(transparent)]
    Nft(#[from] nft::Error),
}

/// An attachment as the node sees it, before any policy.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The host's side of the veth.
    pub veth: Link,
    /// The MAC of the pod's side.
    pub mac: [u8; 6],
    /// The pod's addresses, link-local IPv6 ones apart.
    pub addresses: Vec<IpAddr>,
    /// Its link-local IPv6 addresses, and the one that its MAC gives.
    pub link_local: Vec<Ipv6Addr>,
    /// The bridge to which its packets are sent.
    pub bridge: Option<Bridge>,
    /// The index of the device by which all its packets come to the IP layer, if it is one.
    pub iif: Option<u32>,
}

/// What is seen inside the pod's network namespace.
struct Inside {
    link: Link,
    addresses: Vec<IpAddr>,
    others: Vec<String>,
}

/// Looks into the pod's namespace and at the host's side of its veth. Changes nothing.
///
/// # Errors
/// [`Error::Unenforceable`] says why this pod's traffic would not be seen.
pub fn inspect(
    nft: &mut Nft,
    rtnl: &mut Rtnl,
    netns: &Netns,
    ifname: &str,
    result: &PodResult,
    deadline: Instant,
) -> Result<Attachment, Error> {
    if let Some(why) = ipvs(rtnl)? {
        return Err(why.into());
    }
    let path = netns.path();
    let netnsid = rtnl.netnsid_of(netns)?;
    let inside = match netnsid {
        // Nobody has to go there, on a thread of its own: the kernel tells from here.
        Some(_) => look_inside(rtnl, netnsid, ifname, path)?,
        // So no device of this node that anybody has looked at has its other end there.
        None => netns.run(|| look_inside(&mut Rtnl::open(deadline)?, None, ifname, path))??,
    };
    if !inside.others.is_empty() {
        tracing::warn!(
            interfaces = inside.others.join(","),
            "the pod has other interfaces, whose packets this attachment does not filter"
        );
    }
    let pod = inside.link;
    let mac = pod.mac.ok_or_else(|| Unenforceable::NoMac {
        ifname: ifname.to_owned(),
    })?;
    let veth = host_side(rtnl, netns, netnsid, ifname, &pod)?;
    let name = veth.name.clone();
    match tc::detour(rtnl, veth.index, guard::is_own)? {
        Some(Detour::Bpf(program)) => {
            return Err(Unenforceable::Bpf {
                veth: name,
                program,
            }
            .into());
        }
        Some(Detour::Redirect) => return Err(Unenforceable::Redirect { veth: name }.into()),
        None => {}
    }
    let (mut addresses, mut link_local) = (Vec::new(), vec![eui64(mac)]);
    for address in result.addresses.iter().chain(&inside.addresses) {
        match address {
            IpAddr::V6(a) if a.is_unicast_link_local() => push_new(&mut link_local, *a),
            a if a.is_loopback() || a.is_unspecified() || a.is_multicast() => {}
            a => push_new(&mut addresses, *a),
        }
    }
    if addresses.is_empty() {
        return Err(Unenforceable::NoAddress {
            ifname: ifname.to_owned(),
        }
        .into());
    }
    let master = match veth.master {
        Some(master) => link::get_by_index(rtnl, master)?,
        None => None, // or it went away: the veth is on its own now
    };
    let bridge = match &master {
        Some(master) => {
            let own = address::of_link(rtnl, master.index)?;
            bridge_with(&veth, master, &own, &addresses, &result.gateways)?
        }
        None => None,
    };
    let iif = match (&master, &bridge) {
        (Some(master), None) if leads_on(rtnl, master, &result.gateways)? => None,
        _ => comes_by(&veth, master.as_ref()),
    };
    let attachment = Attachment {
        veth,
        mac,
        addresses,
        link_local,
        bridge,
        iif,
    };
    let bridge = attachment.bridge.as_ref().map(|b| &*b.name);
    let devices = [Some(&*attachment.veth.name), bridge];
    if let Some((flowtable, device)) = nft.flowtable_at(devices.into_iter().flatten())? {
        return Err(Unenforceable::Flowtable { flowtable, device }.into());
    }
    Ok(attachment)
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// `netnsid`: the pod's namespace, as that of the socket numbers it; none if the socket is in there.
fn look_inside(
    rtnl: &mut Rtnl,
    netnsid: Option<i32>,
    ifname: &str,
    netns: &Path,
) -> Result<Inside, Error> {
    let mut links = link::all_in(rtnl, netnsid)?;
    let Some(own) = links.iter().position(|link| link.name == ifname) else {
        return Err(Unenforceable::NoInterface {
            ifname: ifname.to_owned(),
            netns: shown(netns),
        }
        .into());
    };
    let link = links.swap_remove(own);
    match link.kind.as_deref() {
        Some("veth") => {}
        kind => {
            let kind = kind.unwrap_or("physical device").to_owned();
            return Err(Unenforceable::Kind {
                ifname: ifname.to_owned(),
                kind,
            }
            .into());
        }
    }
    let addresses = address::of_link_in(rtnl, netnsid, link.index)?;
    let others = links
        .into_iter()
        .filter(|other| other.up && other.has_neighbours)
        .map(|other| other.name)
        .collect();
    Ok(Inside {
        link,
        addresses: addresses.into_iter().map(|a| a.address).collect(),
        others,
    })
}

/// The host's side, proven: the two ends name each other, and the host's end says that its peer
/// lives in the pod's namespace. An index alone could be that of the node's own uplink.
fn host_side(
    rtnl: &mut Rtnl,
    netns: &Netns,
    netnsid: Option<i32>,
    ifname: &str,
    pod: &Link,
) -> Result<Link, Error> {
    let elsewhere = || Unenforceable::PeerElsewhere {
        ifname: ifname.to_owned(),
    };
    let index = pod.peer_index.ok_or_else(elsewhere)?;
    let veth = link::get_by_index(rtnl, index)?.ok_or_else(elsewhere)?;
    // Reading the veth may have given the namespace its number.
    let netnsid = netnsid.map_or_else(|| rtnl.netnsid_of(netns), |id| Ok(Some(id)))?;
    let lives_there = veth.peer_netnsid.is_some() && veth.peer_netnsid == netnsid;
    if veth.kind.as_deref() != Some("veth") || veth.peer_index != Some(pod.index) || !lives_there {
        return Err(elsewhere().into());
    }
    Ok(veth)
}

/// The device by which the packets that come in by a veth come to the IP layer. None: by more than one. A bridge
/// in a VRF hands them on to that, and they pass all hooks once more.
fn comes_by(veth: &Link, master: Option<&Link>) -> Option<u32> {
    match master {
        None => Some(veth.index),
        Some(bridge) if bridge.master.is_none() => Some(bridge.index),
        Some(_) => None,
    }
}

/// Whether the pods' gateway is behind a bridge, on this node: the bridge plugin puts it there for a `vlan`, at the
/// other end of a veth. What br_netfilter has seen on the bridge comes in there once more.
fn leads_on(rtnl: &mut Rtnl, bridge: &Link, gateways: &[IpAddr]) -> Result<bool, Error> {
    let everywhere = address::all(rtnl)?;
    let is_there = |a: &IfAddr| a.link != bridge.index && gateways.contains(&a.address);
    Ok(everywhere.iter().any(is_there))
}

/// The bridge, if the pod's packets should be sent to it; none if they reach netfilter anyway: for a `master` with
/// these addresses of its `own`.
fn bridge_with(
    veth: &Link,
    master: &Link,
    own: &[IfAddr],
    addresses: &[IpAddr],
    gateways: &[IpAddr],
) -> Result<Option<Bridge>, Unenforceable> {
    let (Some("bridge"), Some(mac)) = (master.kind.as_deref(), master.mac) else {
        return Err(Unenforceable::Master {
            veth: veth.name.clone(),
            master: master.name.clone(),
            kind: master.kind.clone().unwrap_or_else(|| "device".to_owned()),
        });
    };
    let is_gateway = |address: &IpAddr| {
        own.iter().any(|a| {
            gateways.contains(&a.address)
                || ipnet::IpNet::new(a.address, a.prefix_length)
                    .is_ok_and(|net| net.contains(address))
        })
    };
    let is_gateway = addresses.iter().all(is_gateway);
    let stuck = addresses.iter().find(|a| !forwards(master, a.is_ipv4()));
    if is_gateway && stuck.is_none() {
        return Ok(Some(Bridge {
            name: master.name.clone(),
            index: master.index,
            mac,
            unknown: Unknown::default(),
        }));
    }
    if br_netfilter(addresses) {
        return Ok(None);
    }
    if let (true, Some(stuck)) = (is_gateway, stuck) {
        let (family, family_path) = match stuck {
            IpAddr::V4(_) => ("IPv4", "ipv4"),
            IpAddr::V6(_) => ("IPv6", "ipv6"),
        };
        return Err(Unenforceable::NotForwarding {
            bridge: master.name.clone(),
            family,
            family_path,
        });
    }
    Err(Unenforceable::NotGateway {
        bridge: master.name.clone(),
    })
}

/// Whether what comes in by a bridge is routed on. IPv6 asks only whether the node as a whole forwards, which its
/// devices say, too, unless somebody has set one of them apart.
fn forwards(bridge: &Link, ipv4: bool) -> bool {
    let [v4, v6] = bridge.forwards;
    match ipv4 {
        true => v4,
        false => v6 || is_set("/proc/sys/net/ipv6/conf/all/forwarding"),
    }
}

/// Whether a setting of the kernel is on.
fn is_set(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}

/// Whether bridged packets of these addresses' families pass netfilter's IP hooks
/// (`Documentation/networking/ip-sysctl.rst`, `bridge-nf-call-*`).
fn br_netfilter(addresses: &[IpAddr]) -> bool {
    let on = |name: &str| is_set(&format!("/proc/sys/net/bridge/bridge-nf-call-{name}"));
    addresses
        .iter()
        .all(|a| on(if a.is_ipv4() { "iptables" } else { "ip6tables" }))
}

/// The link-local address that a MAC gives (RFC 4291, appendix A).
fn eui64([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

impl Attachment {
    /// Whether the attachment has an address of this family.
    pub fn has_family(&self, ipv4: bool) -> bool {
        self.addresses.iter().any(|a| a.is_ipv4() == ipv4)
    }
}

#[cfg(test)]
mod tests;
