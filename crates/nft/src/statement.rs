//! What a rule is made of: matches, and the statements that act on the packet.

use std::fmt;

use super::matching::{Concat, CtState, Family, Field, Match, Test, Value};

/// Where a packet goes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// This hook lets the packet go; a later one may drop it.
    Accept,
    /// The packet is gone.
    Drop,
    /// Back to where this chain was jumped to.
    Return,
    /// Comes back when that chain ends or returns.
    Jump(String),
    /// Does not come back: a return leaves to the caller of this chain.
    Goto(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// One part of a rule, in order of evaluation: the first that does not hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Holds if the comparison does.
    Match(Match),
    /// Counts the packet.
    Counter,
    /// Holds at most this often a second, with as much burst.
    Limit(u32),
    /// NFLOG.
    Log {
        /// At most 127 bytes.
        prefix: String,
        /// Who reads it.
        group: u16,
        /// How many bytes of the packet.
        snaplen: u32,
    },
    /// The map's element for this address says where to go.
    Vmap(Field, String),
    /// Puts the packet's address into the set, or lets it live there as long again.
    Update(Field, String),
    /// Holds if the fields together are a member of the set.
    Among(Concat, String),
    /// The map's element for these fields together says where to go.
    ConcatVmap(Concat, String),
    /// Decides, or goes elsewhere.
    Verdict(Verdict),
    /// Refuses a TCP connection.
    RejectWithReset,
    /// ICMP or ICMPv6 "administratively prohibited".
    RejectProhibited,
    /// Rewrites the frame's destination.
    SetEtherDaddr([u8; 6]),
    /// Source NAT to the map's value for the source address.
    Snat(Family, String),
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Statement::Verdict(verdict)
    }
}

impl From<Match> for Statement {
    fn from(m: Match) -> Self {
        Statement::Match(m)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Match(m) => m.fmt(f),
            Statement::Counter => f.write_str("counter"),
            Statement::Limit(rate) => {
                write!(f, "limit rate {rate}/second burst {rate} packets")
            }
            Statement::Log {
                prefix,
                group,
                snaplen,
            } => {
                write!(f, "log prefix \"{prefix}\" group {group} snaplen {snaplen}")
            }
            Statement::Vmap(field, map) => write!(f, "{} vmap @{map}", field.as_str()),
            Statement::Update(field, set) => write!(f, "update @{set} {{ {} }}", field.as_str()),
            Statement::Among(key, set) => write!(f, "{key} @{set}"),
            Statement::ConcatVmap(key, map) => write!(f, "{key} vmap @{map}"),
            Statement::Verdict(v) => v.fmt(f),
            Statement::RejectWithReset => f.write_str("reject with tcp reset"),
            Statement::RejectProhibited => f.write_str("reject with icmpx admin-prohibited"),
            Statement::SetEtherDaddr(mac) => write!(f, "ether daddr set {}", Value::Mac(*mac)),
            Statement::Snat(Family::V4, map) => write!(f, "snat ip to ip saddr map @{map}"),
            Statement::Snat(Family::V6, map) => write!(f, "snat ip6 to ip6 saddr map @{map}"),
        }
    }
}

/// A rule of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// In order of evaluation.
    pub statements: Vec<Statement>,
    /// At most 128 bytes (nft's limit).
    pub comment: Option<String>,
}

impl Rule {
    /// An empty rule, to which the methods below add.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a statement.
    pub fn then(mut self, statement: impl Into<Statement>) -> Self {
        self.statements.push(statement.into());
        self
    }

    /// Adds a comparison.
    pub fn test(self, field: Field, test: Test) -> Self {
        self.then(Match { field, test })
    }

    /// Adds "equal".
    pub fn is(self, field: Field, value: Value) -> Self {
        self.test(field, Test::Is(value))
    }

    /// Adds "different".
    pub fn not(self, field: Field, value: Value) -> Self {
        self.test(field, Test::Not(value))
    }

    /// Adds "a member of the set".
    pub fn inside(self, field: Field, set: &str) -> Self {
        self.test(field, Test::In(set.to_owned()))
    }

    /// Adds "no member of the set".
    pub fn outside(self, field: Field, set: &str) -> Self {
        self.test(field, Test::NotIn(set.to_owned()))
    }

    /// Adds "one of these conntrack states".
    pub fn state(self, states: &'static [CtState]) -> Self {
        self.test(Field::CtState, Test::State(states))
    }

    /// Adds a counter.
    pub fn counter(self) -> Self {
        self.then(Statement::Counter)
    }

    /// Sets the comment, at most 127 bytes.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, statement) in self.statements.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            statement.fmt(f)?;
        }
        match &self.comment {
            Some(comment) => write!(f, " comment \"{comment}\""),
            None => Ok(()),
        }
    }
}
