//! Links: which ones there are, what they are, and the few changes that this program makes.
//!
//! The kernel doesn't tell over rtnetlink whether a MAC was set or generated
//! (addr_assign_type), and `/sys` shows the namespace that mounted it, which may be another.
//! [`set_mac`] makes the question moot: setting the MAC that a bridge has pins it.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkLayerType, LinkMessage},
};

use super::{Error, Rtnl, netlink::Attributes};

/// Length of struct ifinfomsg.
const HEADER_LENGTH: usize = 16;
/// linux/if_link.h: settings of the link, one number each.
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_CONF: u16 = 2;
/// Longest name of a link, without the NUL (IFNAMSIZ).
const NAME_MAX: usize = 15;

/// A link as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// The kind of a virtual link: `veth`, `bridge`, `macvlan`, ... None for hardware and lo.
    pub kind: Option<String>,
    /// Its MAC, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// The link that it is tied to, by its index there: a veth's other end, a VLAN's device.
    pub peer_index: Option<u32>,
    /// The namespace of that link as this namespace numbers it; None if it is this one.
    /// See [`Rtnl::netnsid_of`].
    pub peer_netnsid: Option<i32>,
    /// The index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// The other side is there (IFF_LOWER_UP): a cable, a veth's other end that is up.
    pub carrier: bool,
    /// What comes in here for others is routed on: IPv4, IPv6.
    pub forwards: [bool; 2],
    /// Whether ARP and neighbour discovery run on it: Ethernet, neither loopback nor IFF_NOARP.
    pub has_neighbours: bool,
}

/// The link of that name, if there is one.
pub fn get_by_name(rtnl: &mut Rtnl, name: &str) -> Result<Option<Link>, Error> {
    // Longer ones the kernel would refuse; they name nothing.
    if name.is_empty() || name.len() > NAME_MAX {
        return Ok(None);
    }
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.into()), without_statistics()];
    get(rtnl, &format!("read link {name}"), message)
}

/// The link of that index, if there is one.
pub fn get_by_index(rtnl: &mut Rtnl, index: u32) -> Result<Option<Link>, Error> {
    let mut message = with_index(index);
    message.attributes = vec![without_statistics()];
    get(rtnl, &format!("read link {index}"), message)
}

/// The link of that index of another namespace, which this one knows by this number
/// ([`Rtnl::netnsid_of`]), if there is one.
pub fn get_in(rtnl: &mut Rtnl, netnsid: i32, index: u32) -> Result<Option<Link>, Error> {
    let mut message = with_index(index);
    message.attributes = vec![LinkAttribute::IfNetnsId(netnsid), without_statistics()];
    get(
        rtnl,
        &format!("read link {index} of another namespace"),
        message,
    )
}

/// All links of the namespace.
pub fn all(rtnl: &mut Rtnl) -> Result<Vec<Link>, Error> {
    all_in(rtnl, None)
}

/// All links of the namespace that this one knows by this number ([`Rtnl::netnsid_of`]), seen from
/// there; of this one without a number.
pub fn all_in(rtnl: &mut Rtnl, netnsid: Option<i32>) -> Result<Vec<Link>, Error> {
    let mut message = LinkMessage::default();
    message.attributes = vec![without_statistics()];
    // IFLA_TARGET_NETNSID, since Linux 4.20.
    message
        .attributes
        .extend(netnsid.map(LinkAttribute::IfNetnsId));
    let operation = "list links";
    rtnl.dump(
        operation,
        RouteNetlinkMessage::GetLink(message),
        |payload| decode(operation, payload).map(Some),
    )
}

/// The ports of a bridge.
pub fn ports_of(rtnl: &mut Rtnl, bridge: u32) -> Result<Vec<Link>, Error> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::Controller(bridge), without_statistics()];
    let operation = format!("list the ports of bridge {bridge}");
    rtnl.dump(
        &operation,
        RouteNetlinkMessage::GetLink(message),
        |payload| {
            let link = decode(&operation, payload)?;
            Ok((link.master == Some(bridge)).then_some(link))
        },
    )
}

/// Sets a link down.
pub fn set_down(rtnl: &mut Rtnl, index: u32) -> Result<(), Error> {
    let mut message = with_index(index);
    message.header.change_mask = LinkFlags::Up;
    let operation = format!("set link {index} down");
    rtnl.change(&operation, RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets a link up.
pub fn set_up(rtnl: &mut Rtnl, index: u32) -> Result<(), Error> {
    let mut message = with_index(index);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let operation = format!("set link {index} up");
    rtnl.change(&operation, RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets a link's MAC.
///
/// On a bridge it pins the MAC, also when it is the one that the bridge has: from then on
/// (NET_ADDR_SET) ports that come and go don't change it.
pub fn set_mac(rtnl: &mut Rtnl, index: u32, mac: [u8; 6]) -> Result<(), Error> {
    let mut message = with_index(index);
    message.attributes = vec![LinkAttribute::Address(mac.to_vec())];
    let operation = format!("set the MAC of link {index}");
    rtnl.change(&operation, RouteNetlinkMessage::SetLink(message), 0)
}

fn with_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// Statistics are most of a link's answer, and collecting them costs time.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn get(rtnl: &mut Rtnl, operation: &str, message: LinkMessage) -> Result<Option<Link>, Error> {
    let message = RouteNetlinkMessage::GetLink(message);
    match rtnl.get(operation, message, |payload| decode(operation, payload)) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.is_any_of(&[libc::ENODEV]) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(operation: &str, payload: &[u8]) -> Result<Link, Error> {
    let malformed = |what: &str| Error::malformed(operation, what);
    let header = LinkHeader::parse(payload).map_err(|_| malformed("no link header"))?;
    let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
    let is_ethernet = header.link_layer_type == LinkLayerType::Ether;
    let opts_out = LinkFlags::Loopback | LinkFlags::Noarp;
    Ok(Link {
        index: header.index,
        name: attributes
            .string(libc::IFLA_IFNAME)
            .ok_or_else(|| malformed("a link without a name"))?,
        kind: attributes
            .nested(libc::IFLA_LINKINFO)
            .and_then(|info| info.string(libc::IFLA_INFO_KIND)),
        mac: attributes
            .bytes(libc::IFLA_ADDRESS)
            .and_then(|bytes| bytes.try_into().ok()),
        peer_index: attributes.u32(libc::IFLA_LINK).filter(|index| *index != 0),
        peer_netnsid: attributes.i32(libc::IFLA_LINK_NETNSID),
        master: attributes.u32(libc::IFLA_MASTER),
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        forwards: forwards(&attributes),
        has_neighbours: is_ethernet && !header.flags.intersects(opts_out),
    })
}

/// What the link's settings say of forwarding: IPv4's are an array from 1 on (`linux/ip.h`), IPv6's from 0
/// (`linux/ipv6.h`).
fn forwards(attributes: &Attributes<'_>) -> [bool; 2] {
    const FAMILIES: [(i32, u16); 2] = [
        (libc::AF_INET, IFLA_INET_CONF),
        (libc::AF_INET6, IFLA_INET6_CONF),
    ];
    let families = attributes.nested(libc::IFLA_AF_SPEC);
    FAMILIES.map(|(family, settings)| {
        let family = u16::try_from(family).ok();
        let family = families
            .as_ref()
            .and_then(|families| families.nested(family?));
        let settings = family.and_then(|family| family.bytes(settings));
        let first = settings.and_then(|settings| settings.first_chunk());
        first.is_some_and(|first| u32::from_ne_bytes(*first) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, new_netns, rtnl, veth};

    #[test]
    fn reads_what_a_link_is() {
        in_fresh_netns(|| {
            let pod = new_netns();
            veth("host0", "eth0", &pod);
            ip("link add br0 address 02:00:00:00:00:01 type bridge");
            ip("link set host0 master br0");
            let bridge = link("br0");
            assert_eq!(bridge.kind.as_deref(), Some("bridge"));
            assert_eq!(bridge.mac, Some([2, 0, 0, 0, 0, 1]));
            assert_eq!((bridge.up, bridge.master), (false, None));
            let port = link("host0");
            assert_eq!(port.kind.as_deref(), Some("veth"));
            assert_eq!((port.up, port.master), (true, Some(bridge.index)));
            assert!(port.has_neighbours && port.peer_index.is_some());
            let found = get_by_index(&mut rtnl(), port.index).unwrap();
            assert_eq!(found, Some(port));
            let lo = link("lo");
            assert_eq!((lo.kind, lo.has_neighbours), (None, false));
            ip("link set host0 arp off");
            assert!(!link("host0").has_neighbours);
        });
    }

    #[test]
    fn a_veth_within_one_namespace_has_no_peer_namespace() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            let (v0, v1) = (link("v0"), link("v1"));
            assert_eq!(v0.peer_index, Some(v1.index));
            assert_eq!(v0.peer_netnsid, None);
        });
    }

    #[test]
    fn missing_links_are_none() {
        in_fresh_netns(|| {
            let mut rtnl = rtnl();
            for name in ["eth9", "", "sixteen-letters-"] {
                assert_eq!(get_by_name(&mut rtnl, name).unwrap(), None, "{name}");
            }
            assert_eq!(get_by_index(&mut rtnl, 4711).unwrap(), None);
            let error = set_down(&mut rtnl, 4711).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
        });
    }

    #[test]
    fn lists_ports_of_one_bridge_only() {
        in_fresh_netns(|| {
            ip("link add br0 type bridge");
            ip("link add br1 type bridge");
            for (a, b, bridge) in [("a0", "a1", "br0"), ("b0", "b1", "br1")] {
                ip(&format!("link add {a} type veth peer name {b}"));
                ip(&format!("link set {a} master {bridge}"));
            }
            let mut rtnl = rtnl();
            let ports = ports_of(&mut rtnl, link("br0").index).unwrap();
            let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            assert_eq!(names, ["a0"]);
            assert_eq!(all(&mut rtnl).unwrap().len(), 7);
            // A bridge that has gone has no ports.
            assert_eq!(ports_of(&mut rtnl, 4711).unwrap(), []);
        });
    }

    #[test]
    fn lists_more_links_than_fit_into_one_datagram() {
        in_fresh_netns(|| {
            for number in 0..60 {
                ip(&format!("link add v{number} type veth peer name w{number}"));
            }
            let links = all(&mut rtnl()).unwrap();
            assert_eq!(links.len(), 121);
        });
    }

    #[test]
    fn tells_carrier_and_forwarding() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("link set v0 up");
            assert_eq!((link("v0").up, link("v0").carrier), (true, false));
            ip("link set v1 up");
            assert!(link("v0").carrier);
            let set = |path: &str| std::fs::write(format!("/proc/sys/net/{path}"), "1").unwrap();
            // Those who forward by default, in new namespaces.
            let off = |path: &str| std::fs::write(format!("/proc/sys/net/{path}"), "0").unwrap();
            off("ipv4/conf/v0/forwarding");
            off("ipv6/conf/v0/forwarding");
            assert_eq!(link("v0").forwards, [false, false]);
            set("ipv4/conf/v0/forwarding");
            assert_eq!(link("v0").forwards, [true, false]);
            set("ipv6/conf/v0/forwarding");
            assert_eq!(link("v0").forwards, [true, true]);
        });
    }

    #[test]
    fn sets_up_and_down() {
        in_fresh_netns(|| {
            ip("link set lo down");
            let mut rtnl = rtnl();
            set_up(&mut rtnl, link("lo").index).unwrap();
            assert!(link("lo").up);
            set_down(&mut rtnl, link("lo").index).unwrap();
            assert!(!link("lo").up);
            set_down(&mut rtnl, link("lo").index).unwrap();
        });
    }

    /// Without the pin, a bridge takes the lowest MAC of its ports.
    #[test]
    fn setting_the_same_mac_pins_a_bridge() {
        in_fresh_netns(|| {
            ip("link add br0 type bridge");
            ip("link add v0 address 02:00:00:00:00:02 type veth peer name v1");
            ip("link add w0 address 00:00:00:00:00:01 type veth peer name w1");
            ip("link set v0 master br0");
            let generated = link("br0");
            assert_eq!(generated.mac, Some([2, 0, 0, 0, 0, 2]));
            let mac = generated.mac.unwrap();
            set_mac(&mut rtnl(), generated.index, mac).unwrap();
            ip("link set w0 master br0");
            ip("link set v0 nomaster");
            assert_eq!(link("br0").mac, Some(mac));
            set_mac(&mut rtnl(), generated.index, mac).unwrap();
        });
    }
}
