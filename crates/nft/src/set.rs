//! Sets and maps.

use std::fmt;
use std::time::Duration;

use super::field::Field;
use super::matching::Concat;
use super::uapi::*;

/// What a set's elements, or a map's values, are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Ethernet addresses.
    Ether,
    /// IP protocols.
    Protocol,
    /// TCP, UDP and SCTP ports.
    Service,
    /// ICMP types.
    IcmpType,
    /// ICMPv6 types.
    Icmpv6Type,
    /// Marks of packets and flows.
    Mark,
    /// Names of devices.
    Interface,
    /// What the routing table says of an address.
    FibAddrtype,
    /// What these fields have together. A field that sets cannot hold
    /// [makes the set invalid](super::Invalid).
    Concat(Concat),
}

/// One field of a key: nft's number, nft's name, length in bytes.
type KeyField = (u32, &'static str, u32);

impl KeyType {
    /// As nft and libnftnl know it (nft's `enum datatypes`); the kernel keeps the number for `nft list`.
    /// A concatenation is none.
    const fn field(self) -> Option<KeyField> {
        Some(match self {
            KeyType::Ipv4 => (7, "ipv4_addr", 4),
            KeyType::Ipv6 => (8, "ipv6_addr", 16),
            KeyType::Ether => (9, "ether_addr", 6),
            KeyType::Protocol => (12, "inet_proto", 1),
            KeyType::Service => (13, "inet_service", 2),
            KeyType::IcmpType => (14, "icmp_type", 1),
            KeyType::Icmpv6Type => (29, "icmpv6_type", 1),
            KeyType::Mark => (19, "mark", 4),
            KeyType::Interface => (41, "ifname", 16),
            KeyType::FibAddrtype => (38, "fib_addrtype", 4),
            KeyType::Concat(_) => return None,
        })
    }

    fn fields(&self) -> impl Iterator<Item = KeyField> {
        let several = match self {
            KeyType::Concat(concat) => concat.fields(),
            _ => &[],
        };
        let keys = several.iter().filter_map(|field| field.spec().key);
        self.field()
            .into_iter()
            .chain(keys.filter_map(KeyType::field))
    }

    /// A field of a concatenation that no set can hold.
    pub(super) fn strange(&self) -> Option<Field> {
        match self {
            KeyType::Concat(concat) => {
                let mut fields = concat.fields().iter();
                fields.find(|field| field.spec().key.is_none()).copied()
            }
            _ => None,
        }
    }

    /// Whether the kernel has it as this host does, and not as packets do.
    pub(super) const fn is_in_host_order(&self) -> bool {
        matches!(self, KeyType::Mark | KeyType::Interface)
    }

    /// nft's number and the length in bytes. A concatenation's fields fill up registers of four.
    pub(super) fn number_and_length(&self) -> (u32, u32) {
        if let Some((number, _, length)) = self.field() {
            return (number, length);
        }
        self.fields()
            .fold((0, 0), |(all, sum), (number, _, length)| {
                (all << TYPE_BITS | number, sum + length.next_multiple_of(4))
            })
    }

    /// The lengths in bytes of all fields of a key.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.fields().map(|(_, _, length)| length as usize)
    }

    /// The lengths in bytes of a concatenation's fields; none of a single key.
    pub(super) fn concatenated(&self) -> impl Iterator<Item = u32> {
        let several = self.field().is_none();
        self.fields()
            .filter(move |_| several)
            .map(|(_, _, length)| length)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (_, name, _)) in self.fields().enumerate() {
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
    /// A value.
    Value(KeyType),
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
    /// Its elements are ranges ([`Element::range`], [`Element::ranges`]). They may not overlap.
    ///
    /// [`Element::range`]: super::Element::range
    /// [`Element::ranges`]: super::Element::ranges
    pub interval: bool,
    /// Each element counts its matches.
    pub counter: bool,
    /// Rules may put elements in ([`Statement::Update`]). It needs a size.
    ///
    /// [`Statement::Update`]: super::Statement::Update
    pub dynamic: bool,
    /// Elements may be given a time to live; so long they stay if nothing else was said. To a
    /// millisecond.
    pub timeout: Option<Duration>,
    /// How many elements it may have.
    pub size: Option<u32>,
}

impl Set {
    /// A set of single keys that only transactions change.
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

    /// A map from keys to verdicts.
    pub fn vmap(name: impl Into<String>, key: KeyType) -> Self {
        Self {
            data: Some(DataType::Verdict),
            ..Self::new(name, key)
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {}", self.key)?;
        match &self.data {
            Some(DataType::Verdict) => f.write_str(" : verdict")?,
            Some(DataType::Value(data)) => write!(f, " : {data}")?,
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
pub(super) struct Spelled(pub Duration);

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

/// A duration as the kernel takes it.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
