//! The default route, whose device is the uplink unless the configuration names another; and what the routing
//! table calls this host's own.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteHeader, RouteMessage, RouteType},
};

use super::{Error, Rtnl, netlink::Attributes};

/// Length of struct rtmsg.
const HEADER_LENGTH: usize = 12;
/// Length of struct rtnexthop.
const NEXT_HOP_LENGTH: usize = 8;
/// The table of the addresses that lead to this host (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;
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

/// The index of the link that the main table's default route of a family leaves through.
///
/// Of several routes the one with the lowest metric counts, of several next hops the first
/// that is not dead. A route by a next hop object that the kernel doesn't spell out
/// (net.ipv4.nexthop_compat_mode=0) is not seen.
pub fn default_route_device(rtnl: &mut Rtnl, family: Family) -> Result<Option<u32>, Error> {
    let (address_family, text) = match family {
        Family::V4 => (AddressFamily::Inet, "IPv4"),
        Family::V6 => (AddressFamily::Inet6, "IPv6"),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = address_family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    let operation = format!("list {text} default routes");
    let found = rtnl.dump(
        &operation,
        RouteNetlinkMessage::GetRoute(message),
        |payload| decode(&operation, payload),
    );
    match found {
        Ok(routes) => Ok(routes
            .into_iter()
            .min_by_key(|route| route.metric)
            .map(|route| route.device)),
        // A namespace that never had a route has no main table.
        Err(error) if error.is_any_of(&[libc::ENOENT]) => Ok(None),
        Err(error) => Err(error),
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

struct DefaultRoute {
    metric: u32,
    device: u32,
}

fn decode(operation: &str, payload: &[u8]) -> Result<Option<DefaultRoute>, Error> {
    let header =
        RouteHeader::parse(payload).map_err(|_| Error::malformed(operation, "no route header"))?;
    let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
    // Other tables are there if the kernel passed over the filter.
    let is_main = header.table == RouteHeader::RT_TABLE_MAIN;
    let is_default = header.destination_prefix_length == 0 && header.kind == RouteType::Unicast;
    if !is_main || !is_default {
        return Ok(None);
    }
    let single = attributes.u32(libc::RTA_OIF);
    let device = single.or_else(|| {
        attributes
            .bytes(libc::RTA_MULTIPATH)
            .and_then(live_next_hop)
    });
    Ok(device.map(|device| DefaultRoute {
        metric: attributes.u32(libc::RTA_PRIORITY).unwrap_or(0),
        device,
    }))
}

/// The device of the first next hop that isn't dead: a list of struct rtnexthop, each with its
/// own attributes behind it.
fn live_next_hop(mut bytes: &[u8]) -> Option<u32> {
    while let Some(hop) = bytes.first_chunk::<NEXT_HOP_LENGTH>() {
        let [length_0, length_1, flags, _hops, device @ ..] = *hop;
        if flags & RTNH_F_DEAD == 0 {
            return Some(u32::from_ne_bytes(device));
        }
        let length = usize::from(u16::from_ne_bytes([length_0, length_1]));
        bytes = bytes.get(length.max(NEXT_HOP_LENGTH).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, new_netns, rtnl, veth};

    #[test]
    fn own_addresses_are_also_those_of_everybody() {
        in_fresh_netns(|| {
            let other = new_netns();
            veth("va", "va1", &other);
            ip("addr add 10.0.1.1/24 dev va broadcast +");
            ip("addr add fd01::1/64 dev va nodad");
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            let own = own_addresses(&mut rtnl()).unwrap();
            for address in ["10.0.1.1", "10.0.1.255", "fd01::1", "fd01::"] {
                assert!(
                    own.contains(&address.parse().unwrap()),
                    "{address}: {own:?}"
                );
            }
            assert!(!own.contains(&"10.0.1.2".parse().unwrap()));
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
        assert_eq!(live_next_hop(&[]), None);
        assert_eq!(live_next_hop(&[8, 0, RTNH_F_DEAD, 0, 3, 0, 0, 0]), None);
        assert_eq!(live_next_hop(&[0, 0, RTNH_F_DEAD, 0, 3, 0, 0, 0]), None);
    }
}
