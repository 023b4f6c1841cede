//! What a rule compares: a field with a value, or several fields with the members of a set.
//!
//! Each prints itself in nft's syntax. How it becomes expressions is in [`super::encode`].

use std::fmt;

use ipnet::IpNet;

use super::field::Field;
use super::kind::Kind;
use super::value::Value;

/// Fields that are looked up together, in their order; one alone is fine, too.
///
/// ```
/// use nft::{Concat, Field};
///
/// const TO: Concat = Concat::of([Field::IpDaddr, Field::L4proto, Field::ThDport]);
/// assert_eq!(TO.to_string(), "ip daddr . meta l4proto . th dport");
/// assert_eq!(Concat::from(Field::IpDaddr).to_string(), "ip daddr");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Concat {
    /// Behind the last one, the first one again.
    fields: [Field; Self::MOST],
    count: u8,
}

impl Concat {
    /// More than the registers of the kernel hold together anyway.
    pub const MOST: usize = 8;

    /// These fields: at least one, at most [`MOST`](Self::MOST), which is checked when this is
    /// compiled.
    pub const fn of<const N: usize>(fields: [Field; N]) -> Self {
        const { assert!(0 < N && N <= Self::MOST) };
        let mut all = [fields[0]; Self::MOST];
        let mut n = 0;
        while n < N {
            all[n] = fields[n];
            n += 1;
        }
        Self {
            fields: all,
            count: N as u8,
        }
    }

    /// These fields; `None` if there are none or too many.
    pub fn try_of(fields: &[Field]) -> Option<Self> {
        let mut all = [*fields.first()?; Self::MOST];
        all.get_mut(..fields.len())?.copy_from_slice(fields);
        let count = fields.len() as u8;
        Some(Self { fields: all, count })
    }

    /// The fields in their order.
    pub fn fields(&self) -> &[Field] {
        &self.fields[..usize::from(self.count)]
    }
}

impl From<Field> for Concat {
    fn from(field: Field) -> Self {
        Self::of([field])
    }
}

impl fmt::Display for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, field) in self.fields().iter().enumerate() {
            let dot = if n > 0 { " . " } else { "" };
            write!(f, "{dot}{}", field.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields()).finish()
    }
}

/// How a field is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// Equal.
    Is(Value),
    /// Different.
    Not(Value),
    /// Less.
    Below(Value),
    /// Greater.
    Above(Value),
    /// Both ends included.
    Between(Value, Value),
    /// Neither of both ends, nor what is between them.
    NotBetween(Value, Value),
    /// Of the bits of the first value just those of the second are set.
    Masked(Value, Value),
    /// Of the bits of the first value others than those of the second are set.
    NotMasked(Value, Value),
    /// An address of this network.
    Within(IpNet),
    /// An address of any other network.
    Outside(IpNet),
    /// A member of the named set.
    In(String),
    /// No member of the named set.
    NotIn(String),
    /// `ct state`: any of these.
    State(&'static [CtState]),
    /// `ct status`: its flow's destination was translated.
    Dnat,
    /// `ct label`: its flow has this label, one of 128.
    Labelled(u8),
}

/// Conntrack's view of a packet (`enum ip_conntrack_info`, as nft's bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtState {
    /// It can be of no flow: out of its window, malformed, or there is no room.
    Invalid,
    /// Of a flow that has seen packets both ways.
    Established,
    /// About a known flow, such as an ICMP error.
    Related,
    /// A flow's first packet.
    New,
    /// Exempt from connection tracking.
    Untracked,
}

impl CtState {
    /// nft's name and its bit (`NF_CT_STATE_BIT`).
    pub const fn name_and_bit(self) -> (&'static str, u32) {
        match self {
            CtState::Invalid => ("invalid", 1),
            CtState::Established => ("established", 2),
            CtState::Related => ("related", 4),
            CtState::New => ("new", 8),
            CtState::Untracked => ("untracked", 64),
        }
    }
}

/// One comparison of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Match {
    /// What is compared.
    pub field: Field,
    /// With what, and how.
    pub test: Test,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.as_str())?;
        match &self.test {
            // without `==`, nft asks whether any of the bits is set
            Test::Is(v) if self.field.kind() == Kind::Flags => write!(f, " == {v}"),
            Test::Is(v) => write!(f, " {v}"),
            Test::Not(v) => write!(f, " != {v}"),
            Test::Below(v) => write!(f, " < {v}"),
            Test::Above(v) => write!(f, " > {v}"),
            Test::Between(a, b) => write!(f, " {}", Range(a, b)),
            Test::NotBetween(a, b) => write!(f, " != {}", Range(a, b)),
            Test::Masked(mask, v) => write!(f, " & {mask} == {v}"),
            Test::NotMasked(mask, v) => write!(f, " & {mask} != {v}"),
            Test::Within(net) => write!(f, " {net}"),
            Test::Outside(net) => write!(f, " != {net}"),
            Test::In(set) => write!(f, " @{set}"),
            Test::NotIn(set) => write!(f, " != @{set}"),
            Test::Dnat => f.write_str(" dnat"),
            Test::Labelled(label) => write!(f, " {label}"),
            Test::State(states) => {
                for (n, state) in states.iter().enumerate() {
                    let comma = if n > 0 { "," } else { " " };
                    write!(f, "{comma}{}", state.name_and_bit().0)?;
                }
                Ok(())
            }
        }
    }
}

/// Both ends. By their names, nft would take those of two protocols for one name.
pub(super) struct Range<'a>(pub &'a Value, pub &'a Value);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range(Value::Protocol(low), Value::Protocol(high)) => write!(f, "{low}-{high}"),
            Range(low, high) => write!(f, "{low}-{high}"),
        }
    }
}
