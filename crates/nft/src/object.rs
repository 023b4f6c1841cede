//! Tables, chains, sets and what a transaction does with them. Each operation prints itself as a
//! line of nft text; how it becomes netlink messages is in [`super::message`].

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::matching::{Concat, Family, Value};
use super::statement::Rule;
use super::uapi::*;

/// The name of both tables.
pub const TABLE: &str = "egressway";

/// How many elements a set may have that packets fill.
pub const DYNAMIC_SIZE: u32 = 65535;

/// The two tables that are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// `inet egressway`: policy and SNAT.
    Inet,
    /// `netdev egressway`: anti-spoofing at the veth.
    Netdev,
}

impl Table {
    /// `NFPROTO_*`.
    pub const fn family(self) -> u8 {
        match self {
            Table::Inet => NFPROTO_INET,
            Table::Netdev => NFPROTO_NETDEV,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self {
            Table::Inet => "inet",
            Table::Netdev => "netdev",
        };
        write!(f, "{family} {TABLE}")
    }
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hook {
    /// `type`
    pub kind: ChainKind,
    /// `hook`
    pub point: HookPoint,
    /// Lower is asked first.
    pub priority: i32,
    /// What happens to a packet that no rule decided: accept, else drop.
    pub accept: bool,
}

/// `type` of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Judges packets.
    Filter,
    /// Sees a flow's first packet, and translates the flow.
    Nat,
}

impl ChainKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        }
    }
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HookPoint {
    /// What comes in, before it is routed.
    Prerouting,
    /// What is for the node itself.
    Input,
    /// What goes out, after it was routed.
    Postrouting,
    /// netdev ingress of this device.
    Ingress(String),
}

impl HookPoint {
    pub(super) const fn number(&self) -> u32 {
        match self {
            HookPoint::Prerouting | HookPoint::Ingress(_) => 0,
            HookPoint::Input => 1,
            HookPoint::Postrouting => 4,
        }
    }
}

impl Hook {
    /// The kernel's hook number and the device: with type and priority, what a base chain is.
    pub(super) fn key(&self) -> (u32, Option<&str>) {
        let device = match &self.point {
            HookPoint::Ingress(device) => Some(device.as_str()),
            _ => None,
        };
        (self.point.number(), device)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {} hook ", self.kind.as_str())?;
        match &self.point {
            HookPoint::Prerouting => f.write_str("prerouting")?,
            HookPoint::Input => f.write_str("input")?,
            HookPoint::Postrouting => f.write_str("postrouting")?,
            HookPoint::Ingress(device) => write!(f, "ingress device \"{device}\"")?,
        }
        let policy = if self.accept { "accept" } else { "drop" };
        write!(f, " priority {}; policy {policy};", self.priority)
    }
}

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
    /// Packets put elements in ([`Statement::Update`]); one that no packet brings again goes after so
    /// many days.
    ///
    /// [`Statement::Update`]: super::Statement::Update
    pub days: Option<u16>,
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

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Adds a table; one that is there already stays.
    AddTable(Table),
    /// Deletes a table with all that is in it.
    DeleteTable(Table),
    /// Adds a chain; one that is there already and alike stays.
    AddChain(Table, String, Option<Hook>),
    /// Deletes the rules of a chain.
    FlushChain(Table, String),
    /// Deletes a chain with its rules; nothing may refer to it.
    DeleteChain(Table, String),
    /// Adds a rule behind those of a chain.
    AddRule(Table, String, Rule),
    /// Adds a set or map; one that is there already and alike stays.
    AddSet(Table, Set),
    /// Deletes a set or map with its elements; no rule may refer to it.
    DeleteSet(Table, String),
    /// Deletes all elements of a set or map.
    FlushSet(Table, String),
    /// Adds elements to a set or map; those that are there already and alike stay.
    AddElements(Table, String, Vec<Element>),
    /// Deletes elements by their addresses; each must be there.
    DeleteElements(Table, String, Vec<IpAddr>),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddTable(t) => write!(f, "add table {t}"),
            Op::DeleteTable(t) => write!(f, "delete table {t}"),
            Op::AddChain(t, name, None) => write!(f, "add chain {t} {name}"),
            Op::AddChain(t, name, Some(hook)) => write!(f, "add chain {t} {name} {{ {hook} }}"),
            Op::FlushChain(t, name) => write!(f, "flush chain {t} {name}"),
            Op::DeleteChain(t, name) => write!(f, "delete chain {t} {name}"),
            Op::AddRule(t, chain, rule) => write!(f, "add rule {t} {chain} {rule}"),
            Op::AddSet(t, set) => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "add {kind} {t} {} {{ type {}", set.name, set.key)?;
                match set.data {
                    Some(DataType::Verdict) => f.write_str(" : verdict")?,
                    Some(DataType::Address) => write!(f, " : {}", set.key)?,
                    None => {}
                }
                f.write_str(";")?;
                if set.interval {
                    f.write_str(" flags interval;")?;
                }
                if set.counter {
                    f.write_str(" counter;")?;
                }
                if let Some(days) = set.days {
                    write!(
                        f,
                        " size {DYNAMIC_SIZE}; flags dynamic,timeout; timeout {days}d;"
                    )?;
                }
                f.write_str(" }")
            }
            Op::DeleteSet(t, name) => write!(f, "delete set {t} {name}"),
            Op::FlushSet(t, name) => write!(f, "flush set {t} {name}"),
            Op::AddElements(t, set, elements) => {
                write!(f, "add element {t} {set} {{ {} }}", list(elements))
            }
            Op::DeleteElements(t, set, keys) => {
                write!(f, "delete element {t} {set} {{ {} }}", list(keys))
            }
        }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A whole transaction as a file for `nft -f`.
pub fn text(ops: &[Op]) -> String {
    let mut text = String::new();
    for op in ops {
        let _ = writeln!(text, "{op}"); // to a String it can't fail
    }
    text
}
