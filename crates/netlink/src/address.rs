//! Addresses of links: reading them, and adding and deleting egress IPs.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeader, AddressMessage, CacheInfo},
};

pub use netlink_packet_route::address::AddressScope;

use super::{Error, Rtnl, netlink::Attributes};

/// In whose namespace, by number (`include/uapi/linux/if_addr.h`, since Linux 4.20).
const IFA_TARGET_NETNSID: u16 = 10;
/// Length of struct ifaddrmsg.
const HEADER_LENGTH: usize = 8;
/// A lifetime without end (INFINITY_LIFE_TIME).
const FOREVER: u32 = u32::MAX;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IfAddr {
    /// The index of the link.
    pub link: u32,
    /// The address itself; on a point-to-point link the near end.
    pub address: IpAddr,
    /// Bits of the subnet.
    pub prefix_length: u8,
    /// How far it is valid: everywhere, on the link, on the host.
    pub scope: AddressScope,
    /// IPv6: duplicate address detection hasn't finished, the address can't be used yet.
    pub tentative: bool,
    /// IPv6: duplicate address detection found another owner, the address can't be used.
    pub dad_failed: bool,
    /// IPv6: no new connection takes it for its source by itself.
    pub deprecated: bool,
}

/// The addresses of one link. No such link: none.
pub fn of_link(rtnl: &mut Rtnl, link: u32) -> Result<Vec<IfAddr>, Error> {
    of_link_in(rtnl, None, link)
}

/// The addresses of a link of the namespace that this one knows by this number
/// ([`Rtnl::netnsid_of`]); of this one without a number.
pub fn of_link_in(rtnl: &mut Rtnl, netnsid: Option<i32>, link: u32) -> Result<Vec<IfAddr>, Error> {
    let operation = format!("list the addresses of link {link}");
    match dump(rtnl, &operation, netnsid, link) {
        Err(error) if error.is_any_of(&[libc::ENODEV]) => Ok(Vec::new()),
        // Link 0 would ask for all.
        other => other.map(|mut found| {
            found.retain(|address| address.link == link);
            found
        }),
    }
}

/// The addresses of all links of the namespace.
pub fn all(rtnl: &mut Rtnl) -> Result<Vec<IfAddr>, Error> {
    dump(rtnl, "list addresses", None, 0)
}

/// Gives a link an address of its own: /32, or /128 that is never preferred as a source
/// and is not checked for duplicates (the caller has probed). False: the link had it already.
pub fn add(rtnl: &mut Rtnl, link: u32, address: IpAddr) -> Result<bool, Error> {
    let mut message = single(link, address);
    if address.is_ipv6() {
        // Otherwise the node would take it as the source of its own connections.
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = 0;
        lifetime.ifa_valid = FOREVER;
        message.attributes.extend([
            AddressAttribute::Flags(AddressFlags::Nodad),
            AddressAttribute::CacheInfo(lifetime),
        ]);
    }
    let operation = format!("add address {address} to link {link}");
    let message = RouteNetlinkMessage::NewAddress(message);
    match rtnl.change(&operation, message, NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::EEXIST]) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes an address that [`add`] gave away from a link. False: it wasn't there, or the link
/// isn't.
pub fn delete(rtnl: &mut Rtnl, link: u32, address: IpAddr) -> Result<bool, Error> {
    let operation = format!("delete address {address} from link {link}");
    let message = RouteNetlinkMessage::DelAddress(single(link, address));
    match rtnl.change(&operation, message, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::EADDRNOTAVAIL, libc::ENODEV]) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The address alone: /32 or /128.
fn single(link: u32, address: IpAddr) -> AddressMessage {
    let (family, prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = prefix_len;
    message.header.index = link;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

/// Link 0: all links.
fn dump(
    rtnl: &mut Rtnl,
    operation: &str,
    netnsid: Option<i32>,
    link: u32,
) -> Result<Vec<IfAddr>, Error> {
    let mut message = AddressMessage::default();
    message.header.index = link;
    let target = netnsid.map(|id| DefaultNla::new(IFA_TARGET_NETNSID, id.to_ne_bytes().to_vec()));
    message
        .attributes
        .extend(target.map(AddressAttribute::Other));
    let message = RouteNetlinkMessage::GetAddress(message);
    rtnl.dump(operation, message, |payload| decode(operation, payload))
}

fn decode(operation: &str, payload: &[u8]) -> Result<Option<IfAddr>, Error> {
    let malformed = |what: &str| Error::malformed(operation, what);
    let header = AddressHeader::parse(payload).map_err(|_| malformed("no address header"))?;
    // An address of neither IP version: a dump of all families holds phones' as well.
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return Ok(None);
    }
    let attributes = Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default());
    // With a far end, IFA_ADDRESS is that one.
    let address = attributes
        .bytes(libc::IFA_LOCAL)
        .or_else(|| attributes.bytes(libc::IFA_ADDRESS))
        .and_then(ip_address)
        .ok_or_else(|| malformed("an address record without an address"))?;
    let flags = match attributes.u32(libc::IFA_FLAGS) {
        Some(flags) => AddressFlags::from_bits_retain(flags),
        None => AddressFlags::from_bits_retain(u32::from(header.flags.bits())),
    };
    Ok(Some(IfAddr {
        link: header.index,
        address,
        prefix_length: header.prefix_len,
        scope: header.scope,
        tentative: flags.contains(AddressFlags::Tentative),
        dad_failed: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
    }))
}

/// An address in network byte order, 4 or 16 bytes.
pub(super) fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, new_netns, rtnl, run, until, veth};

    fn on(link_name: &str) -> Vec<(String, u8)> {
        of_link(&mut rtnl(), link(link_name).index)
            .unwrap()
            .into_iter()
            .map(|found| (found.address.to_string(), found.prefix_length))
            .collect()
    }

    #[test]
    fn adds_and_deletes_both_families() {
        in_fresh_netns(|| {
            let other = new_netns();
            veth("uplink", "eth0", &other);
            let index = link("uplink").index;
            let mut rtnl = rtnl();
            for (text, length) in [("203.0.113.10", 32), ("2001:db8::10", 128)] {
                let address = text.parse().unwrap();
                assert!(add(&mut rtnl, index, address).unwrap());
                assert!(!add(&mut rtnl, index, address).unwrap());
                assert_eq!(on("uplink"), [(text.to_string(), length)]);
                let shown = run("ip", &["addr", "show", "dev", "uplink"]);
                assert!(!shown.contains("tentative"), "{shown}");
                assert_eq!(shown.contains("deprecated"), address.is_ipv6(), "{shown}");
                assert!(shown.contains("valid_lft forever"), "{shown}");
                assert!(delete(&mut rtnl, index, address).unwrap());
                assert!(!delete(&mut rtnl, index, address).unwrap());
                assert!(!delete(&mut rtnl, 4711, address).unwrap());
                assert_eq!(on("uplink"), []);
            }
        });
    }

    #[test]
    fn deletes_only_the_single_address_not_the_subnets() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("addr add 203.0.113.10/24 dev v0");
            let (index, address) = (link("v0").index, "203.0.113.10".parse().unwrap());
            assert!(!delete(&mut rtnl(), index, address).unwrap());
            assert_eq!(on("v0"), [("203.0.113.10".to_string(), 24)]);
        });
    }

    #[test]
    fn the_near_end_of_a_point_to_point_link_counts() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev v0");
            assert_eq!(on("v0"), [("10.0.0.1".to_string(), 32)]);
        });
    }

    #[test]
    fn lists_one_link_or_all() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("addr add 10.0.0.1/24 dev v0");
            ip("addr add 10.0.1.1/24 dev v1");
            assert_eq!(on("v1"), [("10.0.1.1".to_string(), 24)]);
            let mut found: Vec<String> = all(&mut rtnl())
                .unwrap()
                .iter()
                .map(|found| found.address.to_string())
                .collect();
            found.sort();
            assert_eq!(found, ["10.0.0.1", "10.0.1.1", "127.0.0.1", "::1"]);
            assert_eq!(of_link(&mut rtnl(), 4711).unwrap(), []);
            assert_eq!(of_link(&mut rtnl(), 0).unwrap(), []);
        });
    }

    #[test]
    fn a_duplicate_is_seen_as_dad_failed() {
        in_fresh_netns(|| {
            let other = new_netns();
            veth("uplink", "eth0", &other);
            other
                .run(|| ip("addr add fd00::1/64 dev eth0 nodad"))
                .unwrap();
            ip("addr add fd00::1/64 dev uplink");
            let index = link("uplink").index;
            until("duplicate address detection ends", || {
                let found = of_link(&mut rtnl(), index).unwrap();
                assert!(found[0].tentative, "{found:?}");
                found[0].dad_failed.then_some(())
            });
        });
    }
}
