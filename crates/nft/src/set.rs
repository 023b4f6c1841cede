//! Sets and maps, and their elements.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::matching::{Concat, Family, Value};
use super::uapi::*;

/// What a set's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// TCP, UDP and SCTP ports.
    Service,
    /// What these fields have together.
    Concat(Concat),
}

/// A field of a key: nft's number, nft's name, length in bytes.
type KeyField = (u32, &'static str, u32);

impl KeyType {
    const fn fields(self) -> &'static [KeyField] {
        const V4: KeyField = (TYPE_IPV4_ADDR, "ipv4_addr", 4);
        const V6: KeyField = (TYPE_IPV6_ADDR, "ipv6_addr", 16);
        const PROTOCOL: KeyField = (TYPE_INET_PROTO, "inet_proto", 1);
        const PORT: KeyField = (TYPE_INET_SERVICE, "inet_service", 2);
        const ICMP: KeyField = (TYPE_ICMP_TYPE, "icmp_type", 1);
        const ICMPV6: KeyField = (TYPE_ICMPV6_TYPE, "icmpv6_type", 1);
        match self {
            KeyType::Ipv4 => &[V4],
            KeyType::Ipv6 => &[V6],
            KeyType::Service => &[PORT],
            KeyType::Concat(Concat::Ports(Family::V4)) => &[V4, PROTOCOL, PORT],
            KeyType::Concat(Concat::Ports(Family::V6)) => &[V6, PROTOCOL, PORT],
            KeyType::Concat(Concat::IcmpTypes(Family::V4)) => &[V4, ICMP],
            KeyType::Concat(Concat::IcmpTypes(Family::V6)) => &[V6, ICMPV6],
            KeyType::Concat(Concat::Protocols(Family::V4)) => &[V4, PROTOCOL],
            KeyType::Concat(Concat::Protocols(Family::V6)) => &[V6, PROTOCOL],
        }
    }

    /// nft's number and the length in bytes. A concatenation's fields fill up registers of four.
    pub(super) fn number_and_length(self) -> (u32, u32) {
        match self.fields() {
            [(number, _, length)] => (*number, *length),
            several => several
                .iter()
                .fold((0, 0), |(all, sum), (number, _, length)| {
                    (all << TYPE_BITS | number, sum + length.next_multiple_of(4))
                }),
        }
    }

    /// The lengths in bytes of a concatenation's fields; none if there is just one field.
    pub(super) fn concatenated(self) -> impl Iterator<Item = u32> {
        let fields = self.fields();
        let several = if fields.len() > 1 { fields } else { &[] };
        several.iter().map(|(_, _, length)| *length)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (_, name, _)) in self.fields().iter().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            write!(f, "{dot}{name}")?;
        }
        Ok(())
    }
}

/// What a map's elements lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// A verdict.
    Verdict,
    /// An address of the key's own family.
    Address,
}

/// A named set, or a map if it has a data type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// At most 255 bytes.
    pub name: String,
    /// What its elements are.
    pub key: KeyType,
    /// What they lead to, if it is a map.
    pub data: Option<DataType>,
    /// Its elements are ranges.
    pub interval: bool,
    /// Each element counts its matches.
    pub counter: bool,
    /// Rules may put elements in ([`Statement::Update`]). It needs a size.
    ///
    /// [`Statement::Update`]: super::Statement::Update
    pub dynamic: bool,
    /// How long an element stays if it does not say so itself; to a millisecond.
    pub timeout: Option<Duration>,
    /// How many elements it may have.
    pub size: Option<u32>,
}

impl Set {
    /// A set of single keys.
    pub fn new(name: impl Into<String>, key: KeyType) -> Self {
        Self {
            name: name.into(),
            key,
            data: None,
            interval: false,
            counter: false,
            dynamic: false,
            timeout: None,
            size: None,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", self.key)?;
        match self.data {
            Some(DataType::Verdict) => f.write_str(" : verdict")?,
            Some(DataType::Address) => write!(f, " : {}", self.key)?,
            None => {}
        }
        f.write_str(";")?;
        if let Some(size) = self.size {
            write!(f, " size {size};")?;
        }
        let flags = [
            (self.interval, "interval"),
            (self.dynamic, "dynamic"),
            (self.timeout.is_some(), "timeout"),
        ];
        let flags: Vec<&str> = flags
            .into_iter()
            .filter_map(|(on, flag)| on.then_some(flag))
            .collect();
        if !flags.is_empty() {
            write!(f, " flags {};", flags.join(","))?;
        }
        if self.counter {
            f.write_str(" counter;")?;
        }
        match self.timeout {
            Some(timeout) => write!(f, " timeout {};", Spelled(timeout)),
            None => Ok(()),
        }
    }
}

/// A duration as nft spells it: `30d`, `1h30m`, `250ms`.
struct Spelled(Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 5] = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
            (1, "ms"),
        ];
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, name) in UNITS {
            let count = rest / unit;
            rest %= unit;
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// In an interval set: both ends included.
    Range(Value, Value),
    /// An address and the chain that it leads to.
    Goto(IpAddr, String),
    /// An address and another one.
    Map(IpAddr, IpAddr),
    /// In an interval map: both ends included, and the chain that is called.
    Jump(Value, Value, Arc<str>),
    /// In an interval set: what has several fields, or counts for somebody.
    Cell(Cell),
}

/// An element of an interval set that says whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Both ends, included, of each field of the key. In a set of one field, cells come sorted.
    pub key: SmallVec<[(Value, Value); 3]>,
    /// nft's `comment`: at most 127 bytes.
    pub comment: Arc<str>,
    /// In a verdict map the chain that it leads to.
    pub goto: Option<Arc<str>>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (low, high)) in self.key.iter().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            match (low, high) {
                // by their names, `nft` would take them for one name
                (Value::Protocol(low), Value::Protocol(high)) if low != high => {
                    write!(f, "{dot}{low}-{high}")?;
                }
                _ => write!(f, "{dot}{}", Element::Range(*low, *high))?,
            }
        }
        write!(f, " comment \"{}\"", self.comment)?;
        match &self.goto {
            Some(chain) => write!(f, " : goto {chain}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Address(a) => write!(f, "{a}"),
            Element::Range(low, high) if low == high => write!(f, "{low}"),
            Element::Range(low, high) => write!(f, "{low}-{high}"),
            Element::Goto(a, chain) => write!(f, "{a} : goto {chain}"),
            Element::Map(a, to) => write!(f, "{a} : {to}"),
            Element::Jump(low, high, chain) => {
                write!(f, "{} : jump {chain}", Element::Range(*low, *high))
            }
            Element::Cell(cell) => cell.fmt(f),
        }
    }
}
