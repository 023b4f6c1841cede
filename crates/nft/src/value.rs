//! Values that fields are compared with and that sets hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use super::uapi::*;

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family that an address belongs to.
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// A device's name, at most 15 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; 16]);

impl InterfaceName {
    /// `None`: the kernel gives no device such a name (`dev_valid_name`), or nft reads it as something
    /// else.
    pub fn new(name: &str) -> Option<Self> {
        let valid = |c: char| !c.is_whitespace() && !c.is_control() && !"/:\"*".contains(c);
        if name.is_empty() || name.len() > 15 || [".", ".."].contains(&name) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        name.chars().all(valid).then_some(Self(bytes))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0);
        let name = &self.0[..end.unwrap_or(self.0.len())];
        write!(f, "\"{}\"", String::from_utf8_lossy(name))
    }
}

/// A moment as the kernel's clock tells it, to a second. (Eight bytes without alignment: a number
/// would make every [`Value`] larger by half.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time([u8; 8]);

impl Time {
    /// So many seconds after 1970.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.to_be_bytes())
    }

    const fn seconds(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// A value that a field is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Value {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// A number of one byte.
    U8(u8),
    /// A number of two bytes: a port.
    U16(u16),
    /// A mark, of a packet or a flow.
    Mark(u32),
    /// A device's index.
    Index(u32),
    /// `ipv4` or `ipv6`.
    Nfproto(Family),
    /// An IP protocol number (IANA).
    Protocol(u8),
    /// An Ethernet type (IANA).
    EtherType(u16),
    /// A device.
    Interface(InterfaceName),
    /// `ct direction`: the way of the flow's first packet.
    Original,
    /// `ct direction`: back.
    Reply,
    /// `fib daddr type local`: one of this host's addresses.
    Local,
    /// `fib daddr type broadcast`: everybody's on a link of this host.
    Broadcast,
    /// `fib daddr type anycast`: an address that others have, too.
    Anycast,
    /// A moment.
    Time(Time),
    /// A 128-bit number printed in hex: an address where nft knows no field.
    Hex(Ipv6Addr),
    /// The same of 32 bits.
    Hex4(Ipv4Addr),
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Value::V4(a),
            IpAddr::V6(a) => Value::V6(a),
        }
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Value::V4(address)
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Value::V6(address)
    }
}

/// A value's bytes, at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    /// Zero behind `length`.
    bytes: [u8; 16],
    length: usize,
}

impl Bytes {
    fn of(from: &[u8]) -> Self {
        let mut bytes = [0; 16];
        let length = from.len().min(bytes.len());
        bytes[..length].copy_from_slice(&from[..length]);
        Self { bytes, length }
    }
}

impl Bytes {
    /// The big-endian number after this one; `None` after the greatest.
    pub(super) fn next(mut self) -> Option<Self> {
        for byte in self.bytes[..self.length].iter_mut().rev() {
            let (sum, overflow) = byte.overflowing_add(1);
            *byte = sum;
            if !overflow {
                return Some(self);
            }
        }
        None
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Value {
    /// The bytes that the kernel compares a register with: as in packets, or in this host's order
    /// where the kernel has them so.
    pub fn bytes(self) -> Bytes {
        match self {
            Value::V4(a) | Value::Hex4(a) => Bytes::of(&a.octets()),
            Value::V6(a) | Value::Hex(a) => Bytes::of(&a.octets()),
            Value::Mac(mac) => Bytes::of(&mac),
            Value::U8(n) | Value::Protocol(n) => Bytes::of(&[n]),
            Value::U16(n) | Value::EtherType(n) => Bytes::of(&n.to_be_bytes()),
            Value::Mark(n) | Value::Index(n) => Bytes::of(&n.to_ne_bytes()),
            Value::Nfproto(Family::V4) => Bytes::of(&[NFPROTO_IPV4]),
            Value::Nfproto(Family::V6) => Bytes::of(&[NFPROTO_IPV6]),
            Value::Interface(InterfaceName(name)) => Bytes::of(&name),
            Value::Original => Bytes::of(&[IP_CT_DIR_ORIGINAL]),
            Value::Reply => Bytes::of(&[IP_CT_DIR_REPLY]),
            Value::Local => Bytes::of(&RTN_LOCAL.to_ne_bytes()),
            Value::Broadcast => Bytes::of(&RTN_BROADCAST.to_ne_bytes()),
            Value::Anycast => Bytes::of(&RTN_ANYCAST.to_ne_bytes()),
            Value::Time(time) => {
                let nanoseconds = time.seconds().saturating_mul(1_000_000_000);
                Bytes::of(&nanoseconds.to_be_bytes())
            }
        }
    }

    /// The bytes as a register holds those of a field that has just some of its bits.
    pub(super) fn register(self, bits: Option<([u8; 2], u32)>) -> Bytes {
        match (bits, self) {
            (Some((_, shift)), Value::U16(n)) => Bytes::of(&(n << shift).to_be_bytes()),
            _ => self.bytes(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::V4(a) => write!(f, "{a}"),
            Value::V6(a) => write!(f, "{a}"),
            Value::Hex(a) => write!(f, "{:#034x}", u128::from(*a)),
            Value::Hex4(a) => write!(f, "{:#010x}", u32::from(*a)),
            Value::Mac([a, b, c, d, e, g]) => {
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Value::U8(n) => write!(f, "{n}"),
            Value::U16(n) => write!(f, "{n}"),
            Value::Mark(n) => write!(f, "{n:#x}"),
            Value::Index(n) => write!(f, "{n}"),
            Value::Nfproto(Family::V4) => f.write_str("ipv4"),
            Value::Nfproto(Family::V6) => f.write_str("ipv6"),
            Value::Protocol(1) => f.write_str("icmp"),
            Value::Protocol(6) => f.write_str("tcp"),
            Value::Protocol(17) => f.write_str("udp"),
            Value::Protocol(58) => f.write_str("ipv6-icmp"),
            Value::Protocol(132) => f.write_str("sctp"),
            Value::Protocol(n) => write!(f, "{n}"),
            Value::EtherType(0x0800) => f.write_str("ip"),
            Value::EtherType(0x0806) => f.write_str("arp"),
            Value::EtherType(0x86dd) => f.write_str("ip6"),
            Value::EtherType(n) => write!(f, "{n:#06x}"),
            Value::Interface(name) => write!(f, "{name}"),
            Value::Original => f.write_str("original"),
            Value::Reply => f.write_str("reply"),
            Value::Local => f.write_str("local"),
            Value::Broadcast => f.write_str("broadcast"),
            Value::Anycast => f.write_str("anycast"),
            Value::Time(time) => write!(f, "{}", time.seconds()),
        }
    }
}
