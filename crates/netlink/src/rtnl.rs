//! The routing socket: links, addresses, routes, traffic control (rtnetlink(7)).

use std::{
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidHeader, NsidMessage},
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    Error, Netns,
    netlink::{Attributes, Netlink},
};

/// Length of struct rtgenmsg, padded.
const NSID_HEADER_LENGTH: usize = 4;
/// linux/net_namespace.h
const NETNSA_NSID: u16 = 1;

/// A routing socket in the namespace of the thread that opened it.
///
/// The functions of [`link`](super::link), [`address`](super::address),
/// [`route`](super::route) and [`tc`](super::tc) work on it.
#[derive(Debug)]
pub struct Rtnl(Netlink);

impl Rtnl {
    /// Opens the socket. After the deadline each request fails with [`Error::Timeout`].
    pub fn open(deadline: Instant) -> Result<Self, Error> {
        Netlink::open(NETLINK_ROUTE, deadline).map(Rtnl)
    }

    /// The number by which this namespace knows another one, if it has one.
    ///
    /// Equal to [`Link::peer_netnsid`](super::link::Link::peer_netnsid), it proves that a veth's
    /// other end lives there. The kernel gives the number when a link into that namespace is
    /// first read, so read the link first.
    pub fn netnsid_of(&mut self, netns: &Netns) -> Result<Option<i32>, Error> {
        let operation = format!(
            "read the id of network namespace {}",
            netns.path().display()
        );
        let descriptor = netns.as_fd().as_raw_fd();
        let mut message = NsidMessage::default();
        message.header = NsidHeader {
            family: AddressFamily::Unspec,
        };
        message.attributes = vec![NsidAttribute::Fd(descriptor.cast_unsigned())];
        let id = self.get(
            &operation,
            RouteNetlinkMessage::GetNsId(message),
            |payload| {
                payload
                    .get(NSID_HEADER_LENGTH..)
                    .and_then(|bytes| Attributes::new(bytes).i32(NETNSA_NSID))
                    .ok_or_else(|| Error::malformed(&operation, "no id in it"))
            },
        )?;
        // -1: none given so far.
        Ok((id >= 0).then_some(id))
    }

    pub(super) fn change(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), Error> {
        self.0.change(operation, &message, flags)
    }

    pub(super) fn get<T>(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        decode: impl FnMut(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.0.get(operation, &message, decode)
    }

    pub(super) fn dump<T>(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        decode: impl FnMut(&[u8]) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        self.0.dump(operation, &message, decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address;
    use crate::link::{self, Link};
    use crate::test_support::{self, in_fresh_netns, ip, new_netns, rtnl, soon, veth};

    #[test]
    fn a_veths_other_end_is_proven_by_its_namespace_id() {
        in_fresh_netns(|| {
            let pod = new_netns();
            let stranger = new_netns();
            veth("host0", "eth0", &pod);
            veth("host1", "eth0", &stranger);
            let outer = test_support::link("host0");
            let inner = pod.run(|| test_support::link("eth0")).unwrap();
            let id = rtnl().netnsid_of(&pod).unwrap();
            assert!(id.is_some());
            assert_eq!(outer.peer_netnsid, id);
            assert_eq!(outer.peer_index, Some(inner.index));
            assert_eq!(inner.peer_index, Some(outer.index));
            assert_ne!(test_support::link("host1").peer_netnsid, id);
            let unknown = new_netns();
            assert_eq!(rtnl().netnsid_of(&unknown).unwrap(), None);
        });
    }

    #[test]
    fn what_is_in_another_namespace_is_seen_from_here() {
        in_fresh_netns(|| {
            let pod = new_netns();
            veth("host0", "eth0", &pod);
            pod.run(|| {
                ip("addr add 10.0.0.2/24 dev eth0");
                ip("addr add fd00::2/64 dev eth0 nodad");
                ip("link add other type bridge");
            })
            .unwrap();
            let id = rtnl().netnsid_of(&pod).unwrap();
            assert!(id.is_some());
            let seen = |id| {
                let links = link::all_in(&mut rtnl(), id).unwrap();
                let eth0 = links.iter().find(|link| link.name == "eth0").unwrap();
                let addresses = address::of_link_in(&mut rtnl(), id, eth0.index).unwrap();
                let without_id = |link: &Link| Link {
                    peer_netnsid: None,
                    ..link.clone()
                };
                let links: Vec<_> = links.iter().map(without_id).collect();
                (links, addresses)
            };
            let from_inside = pod.run(|| seen(None)).unwrap();
            assert_eq!((from_inside.0.len(), from_inside.1.len()), (3, 2));
            assert_eq!(seen(id), from_inside);
        });
    }

    #[test]
    fn nothing_is_asked_after_the_deadline() {
        in_fresh_netns(|| {
            let here = Netns::current().unwrap();
            let mut late = Rtnl::open(Instant::now()).unwrap();
            let error = late.netnsid_of(&here).unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }));
            assert!(Rtnl::open(soon()).unwrap().netnsid_of(&here).is_ok());
        });
    }
}
