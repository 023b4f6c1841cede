//! Connection tracking (ctnetlink): forgetting the connections of an address that changes
//! hands. A pod that gets the address of another would otherwise inherit that one's NAT
//! bindings, and its packets would pass as replies.

use std::{net::IpAddr, time::Instant};

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    NetfilterSubsystem,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{
    Error,
    address::ip_address,
    netlink::{Attributes, Netlink},
};

/// Length of struct nfgenmsg.
const HEADER_LENGTH: usize = 4;
// linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;
const IPCTNL_MSG_CT_GET_STATS_CPU: u8 = 4;
const IPCTNL_MSG_CT_GET_STATS: u8 = 5;
const CTA_STATS_INSERT_FAILED: u16 = 9;
const CTA_STATS_DROP: u16 = 10;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// Of the status (linux/netfilter/nf_conntrack_common.h).
const IPS_SEEN_REPLY: u32 = 1 << 1;
/// The number of UDP.
const UDP: u8 = 17;

/// Deletes every connection that one of the addresses opened or answers (original or reply
/// source), in the calling thread's namespace, and says how many there were.
///
/// Those that end by themselves meanwhile are not counted. The caller sees to it that the
/// addresses open no new ones meanwhile.
pub fn delete_of(addresses: &[IpAddr], deadline: Instant) -> Result<usize, Error> {
    let is_theirs = |entry: Attributes<'_>| {
        [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY]
            .into_iter()
            .filter_map(|tuple| source(entry, tuple))
            .any(|source| addresses.contains(&source))
    };
    delete_those(is_theirs, deadline)
}

/// Who speaks to whom by datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Datagrams {
    /// Who has begun.
    pub source: IpAddr,
    /// Where that one sends to, before any translation.
    pub destination: IpAddr,
    /// The port there.
    pub port: u16,
    /// Who answers.
    pub answers: IpAddr,
    /// That one has.
    pub is_answered: bool,
}

/// Deletes the flows of UDP that `are` meant, in the calling thread's namespace, and says how many there were.
pub fn delete_datagrams(
    are: impl Fn(&Datagrams) -> bool,
    deadline: Instant,
) -> Result<usize, Error> {
    let is_meant = |entry: Attributes<'_>| datagrams(entry).is_some_and(|flow| are(&flow));
    delete_those(is_meant, deadline)
}

fn delete_those(
    is_meant: impl Fn(Attributes<'_>) -> bool,
    deadline: Instant,
) -> Result<usize, Error> {
    let mut socket = Netlink::open(NETLINK_NETFILTER, deadline)?;
    // Even a walk over an empty table takes milliseconds: all namespaces share its buckets.
    if count(&mut socket)? == 0 {
        return Ok(0);
    }
    let mut deleted = 0;
    for entry in list(&mut socket, is_meant)? {
        deleted += usize::from(delete(&mut socket, entry)?);
    }
    Ok(deleted)
}

/// How many connections the calling thread's namespace could not take on since it is there: NAT
/// found no free port for them, or the table was full. Their packets were dropped.
pub fn failed(deadline: Instant) -> Result<u64, Error> {
    let operation = "read conntrack's statistics";
    let mut socket = Netlink::open(NETLINK_NETFILTER, deadline)?;
    let family = NetfilterProtoFamily::Unspec;
    let message = message(family, IPCTNL_MSG_CT_GET_STATS_CPU, Vec::new());
    let counts = socket.dump(operation, &message, |payload| {
        let attributes = attributes_of(payload);
        let count = |kind| {
            let bytes = attributes.bytes(kind).and_then(|b| b.try_into().ok());
            bytes.map_or(0, |bytes| u64::from(u32::from_be_bytes(bytes)))
        };
        Ok(Some(count(CTA_STATS_INSERT_FAILED) + count(CTA_STATS_DROP)))
    })?;
    Ok(counts.iter().sum()) // one a processor
}

/// What identifies a connection, as the kernel gave it.
struct ConntrackEntry {
    family: NetfilterProtoFamily,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

/// How many connections the namespace has.
fn count(socket: &mut Netlink) -> Result<u32, Error> {
    let operation = "count conntrack entries";
    let family = NetfilterProtoFamily::Unspec;
    let message = message(family, IPCTNL_MSG_CT_GET_STATS, Vec::new());
    socket.get(operation, &message, |payload| {
        attributes_of(payload)
            .bytes(CTA_STATS_GLOBAL_ENTRIES)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or_else(|| Error::malformed(operation, "no number in it"))
    })
}

/// The connections that are meant.
///
/// The kernel sends all it has. Its own filter (CTA_FILTER) is no help: it means the opposite
/// for IPv6 addresses (seen on Linux 6.18), and needs a walk for each address and direction,
/// which costs more than sending everything once, up to some 20,000 connections.
fn list(
    socket: &mut Netlink,
    is_meant: impl Fn(Attributes<'_>) -> bool,
) -> Result<Vec<ConntrackEntry>, Error> {
    let operation = "list conntrack entries";
    let message = message(NetfilterProtoFamily::Unspec, IPCTNL_MSG_CT_GET, Vec::new());
    socket.dump(operation, &message, |payload| {
        let attributes = attributes_of(payload);
        if !is_meant(attributes) {
            return Ok(None);
        }
        let (Some(family), Some(original)) = (payload.first(), attributes.bytes(CTA_TUPLE_ORIG))
        else {
            return Err(Error::malformed(operation, "an entry without a tuple"));
        };
        Ok(Some(ConntrackEntry {
            family: NetfilterProtoFamily::from(*family),
            original: original.to_vec(),
            zone: attributes.bytes(CTA_ZONE).map(<[u8]>::to_vec),
            id: attributes.bytes(CTA_ID).map(<[u8]>::to_vec),
        }))
    })
}

/// False: it had ended already. The id spares a connection that has taken its place.
fn delete(socket: &mut Netlink, entry: ConntrackEntry) -> Result<bool, Error> {
    let mut attributes = vec![DefaultNla::new(
        CTA_TUPLE_ORIG | NLA_F_NESTED,
        entry.original,
    )];
    attributes.extend(entry.zone.map(|zone| DefaultNla::new(CTA_ZONE, zone)));
    attributes.extend(entry.id.map(|id| DefaultNla::new(CTA_ID, id)));
    let message = message(entry.family, IPCTNL_MSG_CT_DELETE, attributes);
    match socket.change("delete a conntrack entry", &message, 0) {
        Ok(()) => Ok(true),
        Err(error) if error.is_any_of(&[libc::ENOENT]) => Ok(false),
        Err(error) => Err(error),
    }
}

fn status(entry: Attributes<'_>) -> u32 {
    let bytes = entry
        .bytes(CTA_STATUS)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}

/// None: it is of another protocol.
fn datagrams(entry: Attributes<'_>) -> Option<Datagrams> {
    let protocol = entry.nested(CTA_TUPLE_ORIG)?.nested(CTA_TUPLE_PROTO)?;
    if protocol.bytes(CTA_PROTO_NUM)? != [UDP] {
        return None;
    }
    let (destination, port) = original_destination(entry)?;
    Some(Datagrams {
        source: source(entry, CTA_TUPLE_ORIG)?,
        destination,
        port: port?,
        answers: source(entry, CTA_TUPLE_REPLY)?,
        is_answered: status(entry) & IPS_SEEN_REPLY != 0,
    })
}

/// The source address of an entry's tuple.
fn source(entry: Attributes<'_>, tuple: u16) -> Option<IpAddr> {
    let addresses = entry.nested(tuple)?.nested(CTA_TUPLE_IP)?;
    addresses
        .bytes(CTA_IP_V4_SRC)
        .or_else(|| addresses.bytes(CTA_IP_V6_SRC))
        .and_then(ip_address)
}

/// Where the opener of a connection sent its packets, before any translation: the original tuple's
/// destination, and its port if the protocol has ports.
pub(super) fn original_destination(entry: Attributes<'_>) -> Option<(IpAddr, Option<u16>)> {
    let tuple = entry.nested(CTA_TUPLE_ORIG)?;
    let addresses = tuple.nested(CTA_TUPLE_IP)?;
    let address = addresses
        .bytes(CTA_IP_V4_DST)
        .or_else(|| addresses.bytes(CTA_IP_V6_DST))
        .and_then(ip_address)?;
    let port = tuple
        .nested(CTA_TUPLE_PROTO)
        .and_then(|protocol| protocol.bytes(CTA_PROTO_DST_PORT)?.first_chunk())
        .map(|port| u16::from_be_bytes(*port));
    Some((address, port))
}

/// A request with attributes as the kernel gave them: the crate's own conntrack types know
/// neither CTA_ID nor CTA_ZONE.
fn message(
    family: NetfilterProtoFamily,
    message_type: u8,
    attributes: Vec<DefaultNla>,
) -> NetfilterMessage {
    let inner = NetfilterMessageInner::Other {
        subsys: NetfilterSubsystem::Conntrack,
        message_type,
        attributes,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

fn attributes_of(payload: &[u8]) -> Attributes<'_> {
    Attributes::new(payload.get(HEADER_LENGTH..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, UdpSocket},
        time::Duration,
    };

    use super::*;
    use crate::{
        Netns,
        test_support::{in_fresh_netns, ip, new_netns, run, soon, veth},
    };

    /// The node, with conntrack at work, and a pod behind a veth.
    fn node_with_pod() -> Netns {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        ip("addr add 10.0.0.1/24 dev host0");
        ip("addr add fd00::1/64 dev host0 nodad");
        ip("route add 10.9.9.9 dev host0");
        pod.run(|| {
            ip("addr add 10.0.0.2/24 dev eth0");
            ip("addr add 10.0.0.3/24 dev eth0");
            ip("addr add fd00::2/64 dev eth0 nodad");
        })
        .unwrap();
        let rules = "add table inet t; \
                     add chain inet t in { type filter hook input priority 0; }; \
                     add rule inet t in ct state new accept; \
                     add chain inet t nat { type nat hook output priority -100; }; \
                     add rule inet t nat ip daddr 10.9.9.9 dnat ip to 10.0.0.2";
        run("nft", &[rules]);
        pod
    }

    /// Sends a datagram and gets it echoed. `there` is a socket at `to`.
    fn flow(from: &str, to: &str, there: &UdpSocket) {
        let here = UdpSocket::bind(from).unwrap();
        for socket in [&here, there] {
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
        }
        here.send_to(b"x", to).unwrap();
        let mut buffer = [0; 1];
        let (_, sender): (usize, SocketAddr) = there.recv_from(&mut buffer).unwrap();
        there.send_to(b"y", sender).unwrap();
        here.recv(&mut buffer).unwrap();
    }

    fn table() -> String {
        run("conntrack", &["-L"]) + &run("conntrack", &["-L", "-f", "ipv6"])
    }

    fn delete(addresses: &[&str]) -> usize {
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        delete_of(&addresses, soon()).unwrap()
    }

    #[test]
    fn an_empty_table_is_no_work() {
        in_fresh_netns(|| {
            assert_eq!(delete(&["10.0.0.2", "fd00::2"]), 0);
        });
    }

    #[test]
    fn forgets_both_directions_and_nothing_else() {
        in_fresh_netns(|| {
            let pod = node_with_pod();
            let bind =
                |address: &'static str| pod.run(move || UdpSocket::bind(address).unwrap()).unwrap();
            let in_pod = bind("10.0.0.2:53");
            let other = bind("10.0.0.3:53");
            let on_node = UdpSocket::bind("10.0.0.1:53").unwrap();
            pod.run(|| flow("10.0.0.2:7001", "10.0.0.1:53", &on_node))
                .unwrap();
            pod.run(|| flow("10.0.0.3:7002", "10.0.0.1:53", &on_node))
                .unwrap();
            flow("10.0.0.1:7003", "10.0.0.2:53", &in_pod);
            flow("10.0.0.1:7004", "10.0.0.3:53", &other);
            // The pod answers under another address.
            flow("10.0.0.1:7005", "10.9.9.9:53", &in_pod);
            let before = table();
            for port in 7001..=7005 {
                assert!(before.contains(&format!("sport={port} ")), "{before}");
            }
            assert_eq!(delete(&["10.0.0.2"]), 3);
            let after = table();
            for (port, stays) in [
                (7001, false),
                (7002, true),
                (7003, false),
                (7004, true),
                (7005, false),
            ] {
                let shown = after.contains(&format!("sport={port} "));
                assert_eq!(shown, stays, "port {port} in {after}");
            }
            assert_eq!(delete(&["10.0.0.2"]), 0);
        });
    }

    #[test]
    fn flows_of_datagrams_are_told_by_who_answers() {
        in_fresh_netns(|| {
            let pod = node_with_pod();
            let bind =
                |address: &'static str| pod.run(move || UdpSocket::bind(address).unwrap()).unwrap();
            let in_pod = bind("10.0.0.2:53");
            flow("10.0.0.1:7003", "10.0.0.2:53", &in_pod);
            flow("10.0.0.1:7005", "10.9.9.9:53", &in_pod);
            let told = std::cell::RefCell::new(Vec::new());
            let none = delete_datagrams(
                |flow| {
                    told.borrow_mut().push(*flow);
                    false
                },
                soon(),
            );
            assert_eq!(none.unwrap(), 0);
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            let flow = |destination| Datagrams {
                source: ip("10.0.0.1"),
                destination: ip(destination),
                port: 53,
                answers: ip("10.0.0.2"),
                is_answered: true,
            };
            let told = told.into_inner();
            assert!(
                told.contains(&flow("10.0.0.2")) && told.contains(&flow("10.9.9.9")),
                "{told:?}"
            );
            let translated = |flow: &Datagrams| flow.destination != flow.answers;
            assert_eq!(delete_datagrams(translated, soon()).unwrap(), 1);
            assert!(table().contains("sport=7003 ") && !table().contains("sport=7005 "));
        });
    }

    #[test]
    fn both_families_in_one_go() {
        in_fresh_netns(|| {
            let pod = node_with_pod();
            let bind =
                |address: &'static str| pod.run(move || UdpSocket::bind(address).unwrap()).unwrap();
            flow("10.0.0.1:7001", "10.0.0.2:53", &bind("10.0.0.2:53"));
            flow("[fd00::1]:7002", "[fd00::2]:53", &bind("[fd00::2]:53"));
            assert_eq!(delete(&["fd00::3"]), 0);
            let before = table();
            assert!(before.contains("sport=7001 ") && before.contains("sport=7002 "));
            assert_eq!(delete(&["10.0.0.2", "fd00::2"]), 2);
            let after = table();
            assert!(!after.contains("sport=7001 ") && !after.contains("sport=7002 "));
        });
    }

    /// A zone is part of a connection's identity: the same tuple may exist in several.
    #[test]
    fn forgets_connections_in_other_zones() {
        in_fresh_netns(|| {
            let pod = node_with_pod();
            run(
                "nft",
                &[
                    "add chain inet t zone { type filter hook prerouting priority -300; }; \
                   add rule inet t zone ct zone set 7",
                ],
            );
            let on_node = UdpSocket::bind("10.0.0.1:53").unwrap();
            pod.run(|| {
                let here = UdpSocket::bind("10.0.0.2:7001").unwrap();
                here.send_to(b"x", "10.0.0.1:53").unwrap();
            })
            .unwrap();
            on_node
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            on_node.recv(&mut [0]).unwrap();
            let before = table();
            assert!(before.contains("zone=7"), "{before}");
            assert_eq!(delete(&["10.0.0.2"]), 1);
            assert!(!table().contains("zone=7"));
        });
    }
}
