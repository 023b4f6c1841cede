//! Logged packets (NFLOG, `net/netfilter/nfnetlink_log.c`): what `log` rules send to a group.
//!
//! A group has one reader, in the network namespace of its rules, and no history: what nobody
//! reads is gone.

use std::ops::Add;
use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use netlink_packet_core::NetlinkBuffer;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nflog::{ConfigCmd, ConfigFlags, ConfigMode, ConfigNla, Timeout, ULogMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

use super::conntrack;
use super::netlink::{Attributes, Netlink, split_message};

/// How much of a packet is asked for, in bytes; a rule's own `snaplen` may be less.
const COPY_RANGE: u32 = 128;
/// The kernel collects this many messages for one datagram, ...
const MESSAGES_AT_ONCE: u32 = 64;
/// ... in a buffer of this many bytes, ...
const DATAGRAM_LENGTH: u32 = 32 * 1024;
/// ... but holds none back longer than this.
const HOLD_BACK: Duration = Duration::from_millis(100);
/// What the kernel may keep for a reader that is slower than its rules, in bytes.
const BACKLOG: usize = 4 * 1024 * 1024;

/// Length of struct nfgenmsg.
const HEADER_LENGTH: usize = 4;
/// NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET (linux/netfilter/nfnetlink.h, nfnetlink_log.h).
const PACKET_MESSAGE: u16 = 4 << 8;
// linux/netfilter/nfnetlink_log.h. The crate's own types keep what is in the packet's header
// and in the timestamp to themselves.
const NFULA_PACKET_HDR: u16 = 1;
const NFULA_TIMESTAMP: u16 = 3;
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_IFINDEX_PHYSINDEV: u16 = 6;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_SEQ: u16 = 12;
const NFULA_CT: u16 = 18;

/// Why a group can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another socket reads the group. The kernel tells its netlink port, which is the number of
    /// its process, as a rule.
    #[error(
        "cannot read NFLOG group {group}: it has a reader already, probably process {port}; a group has only one"
    )]
    Taken {
        /// The group.
        group: u16,
        /// The other socket's netlink port.
        port: u32,
    },
    /// The kernel refused for want of a capability.
    #[error("cannot read NFLOG group {group}: CAP_NET_ADMIN is needed (run it as root)")]
    NotPermitted {
        /// The group.
        group: u16,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] super::Error),
}

/// One logged packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The rule's prefix.
    pub prefix: String,
    /// When the packet was seen. Older kernels don't know it of every packet.
    pub time: Option<Timestamp>,
    /// Index of the interface it came in by.
    pub indev: Option<u32>,
    /// Index of the bridge's port it came in by, if the packet is a bridged one (br_netfilter).
    pub physindev: Option<u32>,
    /// Index of the interface it leaves by, where that is known at the rule's hook.
    pub outdev: Option<u32>,
    /// EtherType, such as 0x0800.
    pub hw_protocol: u16,
    /// The packet's first bytes, from its IP header on.
    pub payload: Vec<u8>,
    /// Where the packet's flow was sent by whoever opened it, before any translation. None if the
    /// packet belongs to no flow, or [`Nflog::tells_original`] is false.
    pub original: Option<Original>,
}

/// A flow's destination as its opener sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// The address.
    pub address: IpAddr,
    /// The port, if the protocol has ports.
    pub port: Option<u16>,
}

/// What the kernel had to throw away because the reader was too slow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Messages that are known to be missing, by the gaps in their numbers.
    pub messages: u64,
    /// Some more are missing; how many shows when the next one after them comes.
    pub more: bool,
}

impl Add for Lost {
    type Output = Lost;

    fn add(self, other: Lost) -> Lost {
        Lost {
            messages: self.messages + other.messages,
            more: self.more || other.more,
        }
    }
}

/// The reader of one group, in the namespace of the thread that bound it.
#[derive(Debug)]
pub struct Nflog {
    socket: Socket,
    buffer: Vec<u8>,
    group: u16,
    tells_original: bool,
    next_number: u32,
    /// Messages missing by their numbers.
    missing: u64,
    /// Overflows of the backlog whose gap in the numbers has not come yet.
    overflows: u32,
}

impl Nflog {
    /// Starts to read a group.
    ///
    /// # Errors
    /// [`Error::Taken`] if somebody else reads it.
    pub fn bind(group: u16, deadline: Instant) -> Result<Self, Error> {
        let operation = format!("read NFLOG group {group}");
        let mut netlink = Netlink::open(NETLINK_NETFILTER, deadline)?;
        // A kernel that can't tell conntrack entries refuses to be asked, and binds nothing.
        let asked = netlink.change(&operation, &bind_message(group, true), 0);
        let tells_original = match asked {
            Ok(()) => true,
            Err(error) if error.is_any_of(&[libc::EOPNOTSUPP]) => {
                netlink
                    .change(&operation, &bind_message(group, false), 0)
                    .map_err(|error| explain(error, group))?;
                false
            }
            Err(error) => return Err(explain(error, group)),
        };
        let socket = netlink.into_socket();
        setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG)
            .map_err(|errno| super::Error::system(operation, errno))?;
        Ok(Nflog {
            socket,
            // A single message longer than DATAGRAM_LENGTH would come in a datagram of its own.
            buffer: vec![0; 2 * DATAGRAM_LENGTH as usize],
            group,
            tells_original,
            next_number: 0,
            missing: 0,
            overflows: 0,
        })
    }

    /// Takes one datagram's worth of messages, in one system call, without waiting for any.
    /// Empty: none are there. To wait, poll the descriptor.
    pub fn receive(&mut self) -> Result<Vec<Logged>, Error> {
        loop {
            let mut window = &mut self.buffer[..];
            match self.socket.recv_from(&mut window, libc::MSG_DONTWAIT) {
                // Any process may send to this socket; only port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() != 0 => continue,
                Ok((length, _)) => return Ok(self.decode(length)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
                // Said once an overflow, before what the backlog holds. How many did not fit
                // shows in the number of the first message after it.
                Err(cause) if cause.raw_os_error() == Some(libc::ENOBUFS) => self.overflows += 1,
                Err(cause) => {
                    let operation = format!("read NFLOG group {}", self.group);
                    return Err(super::Error::system(operation, cause).into());
                }
            }
        }
    }

    /// Whether messages carry the conntrack entry, in which [`Logged::original`] is. A kernel built
    /// without CONFIG_NETFILTER_NETLINK_GLUE_CT can't tell it.
    pub fn tells_original(&self) -> bool {
        self.tells_original
    }

    /// Makes the backlog so small that a test can fill it.
    #[cfg(any(test, feature = "test-support"))]
    #[allow(clippy::expect_used)]
    pub fn shrink_backlog(&self) {
        setsockopt(&self.socket, sockopt::RcvBufForce, &50_000).expect("a smaller backlog");
    }

    /// What has been lost since the group was bound.
    pub fn lost(&self) -> Lost {
        Lost {
            messages: self.missing,
            more: self.overflows > 0,
        }
    }

    fn decode(&mut self, length: usize) -> Vec<Logged> {
        let (mut messages, mut numbers) = (Vec::new(), Vec::new());
        let mut rest = &self.buffer[..length];
        while let Some((message, after)) = split_message(rest) {
            rest = after;
            if message.message_type() != PACKET_MESSAGE {
                continue; // NLMSG_DONE ends a datagram of several
            }
            let attributes = attributes_of(&message);
            numbers.extend(number(attributes, NFULA_SEQ));
            messages.extend(logged(attributes));
        }
        numbers.into_iter().for_each(|number| self.count(number));
        messages
    }

    /// The kernel numbers a group's messages from 0, also those that it then can't deliver.
    fn count(&mut self, number: u32) {
        let gap = number.wrapping_sub(self.next_number);
        if gap > 0 {
            self.missing += u64::from(gap);
            self.overflows = self.overflows.saturating_sub(1);
        }
        self.next_number = number.wrapping_add(1);
    }
}

impl AsFd for Nflog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_message(group: u16, with_conntrack: bool) -> NetfilterMessage {
    let mut flags = ConfigFlags::SEQ;
    flags.set(ConfigFlags::CONNTRACK, with_conntrack);
    let settings: Vec<ConfigNla> = vec![
        ConfigCmd::Bind.into(),
        ConfigMode::new_packet(COPY_RANGE).into(),
        flags.into(),
        ConfigNla::QThresh(MESSAGES_AT_ONCE),
        ConfigNla::NlBufSiz(DATAGRAM_LENGTH),
        Timeout::from(HOLD_BACK).into(),
    ];
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, group);
    NetfilterMessage::new(header, ULogMessage::Config(settings))
}

/// The kernel says EPERM both for another's group and for a missing capability.
fn explain(error: super::Error, group: u16) -> Error {
    if !error.is_any_of(&[libc::EPERM, libc::EBUSY, libc::EEXIST]) {
        return error.into();
    }
    let readers = fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_log");
    match port_of_reader(&readers.unwrap_or_default(), group) {
        Some(port) => Error::Taken { group, port },
        None if error.is_any_of(&[libc::EPERM]) => Error::NotPermitted { group },
        None => error.into(),
    }
}

/// Each line of the kernel's list starts with a group and its reader's netlink port.
fn port_of_reader(list: &str, group: u16) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found: u16 = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        (found == group).then_some(port)
    })
}

fn attributes_of<'a>(message: &NetlinkBuffer<&'a [u8]>) -> Attributes<'a> {
    Attributes::new(message.payload().get(HEADER_LENGTH..).unwrap_or_default())
}

/// None: without a prefix or a packet, which no `log` rule of this program sends.
fn logged(attributes: Attributes<'_>) -> Option<Logged> {
    let header = attributes.bytes(NFULA_PACKET_HDR)?;
    Some(Logged {
        prefix: attributes.string(NFULA_PREFIX)?,
        time: attributes.bytes(NFULA_TIMESTAMP).and_then(timestamp),
        indev: number(attributes, NFULA_IFINDEX_INDEV),
        physindev: number(attributes, NFULA_IFINDEX_PHYSINDEV),
        outdev: number(attributes, NFULA_IFINDEX_OUTDEV),
        hw_protocol: u16::from_be_bytes(*header.first_chunk()?),
        payload: attributes.bytes(NFULA_PAYLOAD)?.to_vec(),
        original: attributes
            .nested(NFULA_CT)
            .and_then(conntrack::original_destination)
            .map(|(address, port)| Original { address, port }),
    })
}

/// A number in network byte order, as all of NFLOG's are.
fn number(attributes: Attributes<'_>, kind: u16) -> Option<u32> {
    let bytes = attributes.bytes(kind)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// struct nfulnl_msg_packet_timestamp: seconds and microseconds.
fn timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let seconds = i64::from_be_bytes(*seconds);
    let microseconds = i64::from_be_bytes(*rest.first_chunk()?);
    let nanoseconds = i32::try_from(microseconds.checked_mul(1000)?).ok()?;
    Timestamp::new(seconds, nanoseconds).ok()
}

#[cfg(test)]
mod tests;
