//! Where packets leave the node: the default route, whose device is the uplink unless the configuration names
//! another, and all other ways out; and what the routing table calls this host's own.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use super::{Error, Rtnl, netlink::Attributes};

/// Length of struct rtmsg.
const HEADER_LENGTH: usize = 12;
/// Length of struct rtnexthop.
const NEXT_HOP_LENGTH: usize = 8;
/// The table of the addresses that lead to this host (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;
/// The index of lo, in every namespace.
const LOOPBACK: u32 = 1;
/// Flag of a next hop whose device is down (linux/rtnetlink.h).
const RTNH_F_DEAD: u8 = 1;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// It is in the main table.
    pub is_main: bool,
    /// It is for all destinations.
    pub is_default: bool,
    /// By a router, and not only to neighbours.
    pub by_router: bool,
    /// The lowest counts.
    pub metric: u32,
    /// The links of its next hops, those that are not dead.
    pub devices: Vec<u32>,
}

/// The index of the link that the main table's default route of a family leaves through.
///
/// Of several routes the one with the lowest metric counts, of several next hops the first
/// that is not dead. A route by a next hop object that the kernel doesn't spell out
/// (net.ipv4.nexthop_compat_mode=0) is not seen.
pub fn default_route_device(rtnl: &mut Rtnl, family: Family) -> Result<Option<u32>, Error> {
    let mut message = of_family(family);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    let routes = dump(
        rtnl,
        &format!("list {} default routes", text(family)),
        message,
    )?;
    Ok(default_device(&routes))
}

/// The link by which the main table's default route leaves, of [`all`] routes of a family.
pub fn default_device(routes: &[Route]) -> Option<u32> {
    let defaults = routes.iter().filter(|route| {
        // Other tables are there if the kernel passed over the filter.
        route.is_main && route.is_default && !route.devices.is_empty()
    });
    let best = defaults.min_by_key(|route| route.metric)?;
    best.devices.first().copied()
}

/// All unicast routes of a family, of all tables.
pub fn all(rtnl: &mut Rtnl, family: Family) -> Result<Vec<Route>, Error> {
    let operation = format!("list {} routes", text(family));
    dump(rtnl, &operation, of_family(family))
}

fn of_family(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message
}

fn text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Where a packet arrives at this host, whatever it is sent by: its own addresses, those to which everybody on
/// one of its links is sent something, and those that it has together with others.
pub fn own_addresses(rtnl: &mut Rtnl) -> Result<Vec<IpAddr>, Error> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RT_TABLE_LOCAL;
        let operation = "list this host's own addresses";
        let message = RouteNetlinkMessage::GetRoute(message);
        match rtnl.dump(operation, message, |payload| {
            own_address(operation, payload)
        }) {
            Ok(found) => all.extend(found),
            // A namespace that never had an address has no such table.
            Err(error) if error.is_any_of(&[libc::ENOENT]) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Has an address lead to this host although no interface has it, so that it is nobody's source. False: it did already.
pub fn lead_here(rtnl: &mut Rtnl, address: IpAddr) -> Result<bool, Error> {
    let operation = format!("lead {address} to this host");
    let message = RouteNetlinkMessage::NewRoute(to_this_host(address));
    match rtnl.change(&operation, message, NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::EEXIST]) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Undoes [`lead_here`]. False: the address did not lead here.
pub fn lead_here_no_more(rtnl: &mut Rtnl, address: IpAddr) -> Result<bool, Error> {
    let operation = format!("lead {address} to this host no more");
    let message = RouteNetlinkMessage::DelRoute(to_this_host(address));
    match rtnl.change(&operation, message, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::ESRCH, libc::ENOENT]) => Ok(false),
        Err(error) => Err(error),
    }
}

fn to_this_host(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, 32, RouteAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(v6)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.table = RT_TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes = vec![
        RouteAttribute::Destination(destination),
        RouteAttribute::Oif(LOOPBACK),
    ];
    message
}

fn own_address(operation: &str, payload: &[u8]) -> Result<Option<IpAddr>, Error> {
    let header =
        RouteHeader::parse(payload).map_err(|_| Error::malformed(operation, "no route header"))?;
    let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
    let is_own = matches!(
        header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast
    );
    if header.table != RT_TABLE_LOCAL || !is_own {
        return Ok(None);
    }
    let address = match (
        attributes.bytes(libc::RTA_DST),
        header.destination_prefix_length,
    ) {
        (Some(bytes), 32) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        (Some(bytes), 128) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    };
    Ok(address)
}

fn dump(rtnl: &mut Rtnl, operation: &str, message: RouteMessage) -> Result<Vec<Route>, Error> {
    let message = RouteNetlinkMessage::GetRoute(message);
    match rtnl.dump(operation, message, |payload| decode(operation, payload)) {
        // A namespace that never had a route has no main table.
        Err(error) if error.is_any_of(&[libc::ENOENT]) => Ok(Vec::new()),
        routes => routes,
    }
}

fn decode(operation: &str, payload: &[u8]) -> Result<Option<Route>, Error> {
    let header =
        RouteHeader::parse(payload).map_err(|_| Error::malformed(operation, "no route header"))?;
    if header.kind != RouteType::Unicast {
        return Ok(None);
    }
    let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
    let by_router = |attributes: &Attributes<'_>| {
        [libc::RTA_GATEWAY, libc::RTA_VIA]
            .iter()
            .any(|kind| attributes.bytes(*kind).is_some())
    };
    let mut route = Route {
        is_main: header.table == RouteHeader::RT_TABLE_MAIN,
        is_default: header.destination_prefix_length == 0,
        by_router: by_router(&attributes),
        metric: attributes.u32(libc::RTA_PRIORITY).unwrap_or(0),
        devices: attributes.u32(libc::RTA_OIF).into_iter().collect(),
    };
    if let (true, Some(hops)) = (
        route.devices.is_empty(),
        attributes.bytes(libc::RTA_MULTIPATH),
    ) {
        for (device, attributes) in live_next_hops(hops) {
            route.devices.push(device);
            route.by_router |= by_router(&attributes);
        }
    }
    Ok(Some(route))
}

/// The next hops that aren't dead: a list of struct rtnexthop, each with its own attributes behind it.
fn live_next_hops(mut bytes: &[u8]) -> Vec<(u32, Attributes<'_>)> {
    let mut live = Vec::new();
    while let Some(hop) = bytes.first_chunk::<NEXT_HOP_LENGTH>() {
        let [length_0, length_1, flags, _hops, device @ ..] = *hop;
        let length = usize::from(u16::from_ne_bytes([length_0, length_1])).max(NEXT_HOP_LENGTH);
        if flags & RTNH_F_DEAD == 0 {
            let attributes = bytes.get(NEXT_HOP_LENGTH..length).unwrap_or_default();
            live.push((u32::from_ne_bytes(device), Attributes::new(attributes)));
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, new_netns, rtnl, until, veth};

    #[test]
    fn own_addresses_are_also_those_of_everybody() {
        in_fresh_netns(|| {
            let other = new_netns();
            veth("va", "va1", &other);
            ip("addr add 10.0.1.1/24 dev va broadcast +");
            ip("addr add fd01::1/64 dev va nodad");
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            // The kernel adds the routers' anycast address by and by.
            let all = ["10.0.1.1", "10.0.1.255", "fd01::1", "fd01::"];
            let all = all.map(|address| address.parse().unwrap());
            let own = until("all are its own", || {
                let own = own_addresses(&mut rtnl()).unwrap();
                all.iter()
                    .all(|address| own.contains(address))
                    .then_some(own)
            });
            assert!(!own.contains(&"10.0.1.2".parse().unwrap()));
        });
    }

    #[test]
    fn an_address_leads_here_that_no_interface_has() {
        in_fresh_netns(|| {
            for address in ["169.254.20.11", "fd00:20::11"] {
                let address: IpAddr = address.parse().unwrap();
                // There is no other route at all; to bind to such an address IPv6 asks for more.
                let any: IpAddr = match address {
                    IpAddr::V4(_) => [0; 4].into(),
                    IpAddr::V6(_) => [0; 16].into(),
                };
                let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
                let is_here = || socket.connect((address, 5300)).is_ok();
                assert!(!is_here());
                assert!(!lead_here_no_more(&mut rtnl(), address).unwrap());
                assert!(lead_here(&mut rtnl(), address).unwrap());
                assert!(!lead_here(&mut rtnl(), address).unwrap());
                assert!(is_here(), "{address}");
                let own = own_addresses(&mut rtnl()).unwrap();
                assert!(own.contains(&address), "{address}: {own:?}");
                assert!(lead_here_no_more(&mut rtnl(), address).unwrap());
                assert!(!is_here());
            }
        });
    }

    fn device(family: Family) -> Option<u32> {
        default_route_device(&mut rtnl(), family).unwrap()
    }

    #[test]
    fn none_without_a_default_route() {
        in_fresh_netns(|| {
            assert_eq!((device(Family::V4), device(Family::V6)), (None, None));
        });
    }

    #[test]
    fn the_lowest_metric_wins_in_both_families() {
        in_fresh_netns(|| {
            let other = new_netns();
            veth("va", "va1", &other);
            veth("vb", "vb1", &other);
            ip("route add default dev va metric 200");
            ip("route add default dev vb metric 100");
            ip("route add 10.0.0.0/8 dev va metric 1");
            ip("route add default dev va table 77 metric 1");
            ip("route add unreachable default metric 5");
            ip("-6 route add default dev vb metric 200");
            ip("-6 route add default dev va metric 100");
            ip("-6 route add default dev vb table 77 metric 1");
            assert_eq!(device(Family::V4), Some(link("vb").index));
            assert_eq!(device(Family::V6), Some(link("va").index));
            // No metric means 0 for IPv4.
            ip("route add default dev va");
            assert_eq!(device(Family::V4), Some(link("va").index));
        });
    }

    #[test]
    fn multipath_takes_the_first_next_hop_that_lives() {
        in_fresh_netns(|| {
            let other = new_netns();
            for (name, peer, subnet) in [("va", "va1", 1), ("vb", "vb1", 2)] {
                veth(name, peer, &other);
                ip(&format!("addr add 10.0.{subnet}.1/24 dev {name}"));
                ip(&format!("addr add fd0{subnet}::1/64 dev {name} nodad"));
            }
            ip("route add default nexthop via 10.0.1.2 dev va nexthop via 10.0.2.2 dev vb");
            ip("-6 route add default nexthop via fd02::2 dev vb nexthop via fd01::2 dev va");
            assert_eq!(device(Family::V4), Some(link("va").index));
            assert_eq!(device(Family::V6), Some(link("vb").index));
            ip("link set va down");
            assert_eq!(device(Family::V4), Some(link("vb").index));
        });
    }

    #[test]
    fn next_hop_lists_that_end_early_are_no_device() {
        let devices = |bytes| live_next_hops(bytes).into_iter().map(|(device, _)| device);
        for dead in [
            &[][..],
            &[8, 0, RTNH_F_DEAD, 0, 3, 0, 0, 0],
            &[0, 0, RTNH_F_DEAD, 0, 3, 0, 0, 0],
        ] {
            assert_eq!(devices(dead).count(), 0);
        }
        let cut = [16, 0, 0, 0, 3, 0, 0, 0, 8, 0];
        assert_eq!(
            devices(&cut).collect::<Vec<_>>(),
            [u32::from_ne_bytes([3, 0, 0, 0])]
        );
    }
}
