//! Word of what changes of links, addresses, default routes and traffic control, whoever changes it. The kernel
//! does not tell who that was.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

use super::Error;
use super::netlink::{Netlink, split_message};

/// linux/rtnetlink.h: `RTNLGRP_LINK`, `_TC`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS: [u32; 6] = [1, 4, 5, 7, 9, 11];

/// What the kernel may keep for a reader that has no time, in bytes. It is used only as far as it is needed.
const BACKLOG: usize = 1024 * 1024;
/// The kernel never sends more in one datagram.
const DATAGRAM: usize = 64 * 1024;

/// Changes of the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What was told since the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Links, addresses or default routes are others.
    pub devices: bool,
    /// The links of whose traffic control something is another.
    pub filters: BTreeSet<u32>,
    /// Something was told that had no room any more: anything may have changed.
    pub lost: bool,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Watch {
    /// Begins to listen: what changes from now on is told.
    pub fn open() -> Result<Self, Error> {
        let failed = |cause| Error::system("listen for changes of links", cause);
        // Nothing is asked by this socket, and reading does not wait.
        let socket = Netlink::open(NETLINK_ROUTE, Instant::now())?.into_socket();
        // Without the right to it the usual size has to do; what is lost then is told.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG);
        for group in GROUPS {
            socket.add_membership(group).map_err(failed)?;
        }
        Ok(Watch {
            socket,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Takes all that has been told, without waiting for more. To wait, poll the descriptor.
    pub fn read(&mut self) -> Result<Heard, Error> {
        let mut heard = Heard::default();
        loop {
            let mut window = &mut self.buffer[..];
            match self.socket.recv_from(&mut window, libc::MSG_DONTWAIT) {
                // Any process may send to this socket; only port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => decode(self.buffer.get(..length).unwrap_or(&[]), &mut heard),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.raw_os_error() == Some(libc::ENOBUFS) => heard.lost = true,
                Err(cause) => return Err(Error::system("read changes of links", cause)),
            }
        }
    }
}

fn decode(mut bytes: &[u8], heard: &mut Heard) {
    while let Some((message, rest)) = split_message(bytes) {
        bytes = rest;
        let body = message.payload();
        match message.message_type() {
            libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                heard.devices = true;
            }
            // struct rtmsg: the second byte says how long the destination's prefix is. Routers of others change
            // longer ones all the time.
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                heard.devices |= body.get(1) == Some(&0);
            }
            libc::RTM_NEWTFILTER
            | libc::RTM_DELTFILTER
            | libc::RTM_NEWQDISC
            | libc::RTM_DELQDISC => {
                // struct tcmsg: the link's index stands behind four bytes.
                let index = body.get(4..8).and_then(|index| index.first_chunk());
                heard
                    .filters
                    .extend(index.map(|index| u32::from_ne_bytes(*index)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{in_fresh_netns, ip, link, run, until};

    fn devices(watch: &mut Watch) -> bool {
        watch.read().unwrap().devices
    }

    #[test]
    fn what_is_changed_is_told() {
        in_fresh_netns(|| {
            ip("link add v0 type veth peer name v1");
            ip("link set v1 addrgenmode none up");
            let mut watch = Watch::open().unwrap();
            assert_eq!(watch.read().unwrap(), Heard::default());
            for change in [
                "link set v0 addrgenmode none up",
                "addr add 192.0.2.1/24 dev v0",
                "addr add 2001:db8::1/64 dev v0 nodad",
                "route add default via 192.0.2.9",
                "-6 route add default via 2001:db8::9",
                "addr del 192.0.2.1/24 dev v0",
                "link set v0 down",
                "link set v0 name v2",
            ] {
                ip(change);
                // That an IPv6 address can be used is told a moment later.
                until(change, || devices(&mut watch).then_some(()));
            }
            ip("link set v2 up");
            // That it has a carrier may be told a moment later.
            let mut others = 0..100;
            let is_silent = others.any(|n| {
                devices(&mut watch);
                ip(&format!("route add 198.51.{n}.0/24 dev v2"));
                !devices(&mut watch)
            });
            assert!(is_silent, "only default routes are told");
            let index = link("v2").index;
            run("tc", &["qdisc", "add", "dev", "v2", "clsact"]);
            let heard = watch.read().unwrap();
            assert_eq!(heard.filters, BTreeSet::from([index]));
            run("tc", &["qdisc", "del", "dev", "v2", "clsact"]);
            assert_eq!(watch.read().unwrap().filters, BTreeSet::from([index]));
        });
    }

    #[test]
    fn what_has_no_room_is_told_as_lost() {
        in_fresh_netns(|| {
            let mut watch = Watch::open().unwrap();
            setsockopt(&watch.socket, sockopt::RcvBufForce, &2048).unwrap();
            for n in 0..20 {
                ip(&format!("link add d{n} type bridge"));
            }
            assert!(watch.read().unwrap().lost);
            ip("link del d1");
            let after = watch.read().unwrap();
            assert!(after.devices && !after.lost);
        });
    }
}
