//! Sets and maps.

use std::fmt;
use std::time::Duration;

use super::field::Field;
use super::key::{self, Key};
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

impl KeyType {
    /// A concatenation is no single one.
    const fn single(self) -> Option<Key> {
        Some(match self {
            KeyType::Ipv4 => key::IPV4,
            KeyType::Ipv6 => key::IPV6,
            KeyType::Ether => key::ETHER,
            KeyType::Protocol => key::PROTOCOL,
            KeyType::Service => key::SERVICE,
            KeyType::IcmpType => key::ICMP_TYPE,
            KeyType::Icmpv6Type => key::ICMPV6_TYPE,
            KeyType::Mark => key::MARK,
            KeyType::Interface => key::INTERFACE,
            KeyType::FibAddrtype => key::FIB_ADDRTYPE,
            KeyType::Concat(_) => return None,
        })
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let several = match self {
            KeyType::Concat(concat) => concat.fields(),
            _ => &[],
        };
        let several = several.iter().filter_map(|field| field.spec().key);
        self.single().into_iter().chain(several)
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
        if let Some(key) = self.single() {
            return (key.number, key.length);
        }
        self.keys().fold((0, 0), |(all, sum), key| {
            let sum = sum + key.length.next_multiple_of(4);
            (all << TYPE_BITS | key.number, sum)
        })
    }

    /// The lengths in bytes of all fields of a key.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.keys().map(|key| key.length as usize)
    }

    /// The lengths in bytes of a concatenation's fields; none of a single key.
    pub(super) fn concatenated(&self) -> impl Iterator<Item = u32> {
        let several = self.single().is_none();
        self.keys().filter(move |_| several).map(|key| key.length)
    }

    /// The lengths by which the kernel searches a set of intervals with this key: of a field of 16 bytes it gets to know
    /// four of 4, since many kernels pass over the sixth byte of such a field (with AVX2, from 5.7 to 6.14). The bytes
    /// of a key are the same, and for networks it means the same: see [`Invalid`](super::Invalid).
    pub(super) fn searched(&self) -> impl Iterator<Item = u32> {
        self.concatenated().flat_map(|length| match length {
            16 => std::iter::repeat_n(4, 4),
            _ => std::iter::repeat_n(length, 1),
        })
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, key) in self.keys().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            write!(f, "{dot}{}", key.name)?;
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
