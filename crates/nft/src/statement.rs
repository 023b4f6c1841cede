//! What a rule is made of: matches, and the statements that act on the packet.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::field::Field;
use super::matching::{Concat, CtState, Match, Test};
use super::set::Spelled;
use super::value::{Family, Value};

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
    Jump(Arc<str>),
    /// Does not come back: a return leaves to the caller of this chain.
    Goto(Arc<str>),
}

impl Verdict {
    /// [`Verdict::Jump`]
    pub fn jump(chain: impl Into<Arc<str>>) -> Self {
        Verdict::Jump(chain.into())
    }

    /// [`Verdict::Goto`]
    pub fn goto(chain: impl Into<Arc<str>>) -> Self {
        Verdict::Goto(chain.into())
    }

    /// The chain to which it leads.
    pub fn chain(&self) -> Option<&str> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            _ => None,
        }
    }
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

/// How often something may happen: a token bucket (`nft_limit.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Packets a second.
    pub rate: u32,
    /// Packets that may come at once.
    pub burst: u32,
}

impl Limit {
    /// So many packets a second, and as many at once.
    pub const fn per_second(rate: u32) -> Self {
        Self { rate, burst: rate }
    }
}

/// What is told to whom a packet is refused (`nft_reject.c`): in tables of family inet or netdev, a TCP reset in
/// those of ip and ip6, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The TCP connection is reset. A match of TCP is put before it, unless there is one.
    TcpReset,
    /// ICMP or ICMPv6: no route.
    NoRoute,
    /// ICMP or ICMPv6: nobody listens there.
    PortUnreachable,
    /// ICMP or ICMPv6: the host does not answer.
    HostUnreachable,
    /// ICMP or ICMPv6: administratively prohibited.
    AdminProhibited,
}

impl Reject {
    const fn as_str(self) -> &'static str {
        match self {
            Reject::TcpReset => "tcp reset",
            Reject::NoRoute => "icmpx no-route",
            Reject::PortUnreachable => "icmpx port-unreachable",
            Reject::HostUnreachable => "icmpx host-unreachable",
            Reject::AdminProhibited => "icmpx admin-prohibited",
        }
    }
}

/// What a flow's address is translated to (`nft_nat.c`), in a chain of type nat. To translate a port, the rule must
/// match its protocol before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Nat {
    /// This address, and this port if one is given.
    To(IpAddr, Option<u16>),
    /// What the map has for this field, which is an address.
    Map(Field, String),
}

impl Nat {
    /// The family that is translated. `None`: the field is no address of a packet.
    pub(super) const fn family(&self) -> Option<Family> {
        match self {
            Nat::To(address, _) => Some(Family::of(address)),
            Nat::Map(Field::IpSaddr | Field::IpDaddr, _) => Some(Family::V4),
            Nat::Map(Field::Ip6Saddr | Field::Ip6Daddr, _) => Some(Family::V6),
            Nat::Map(..) => None,
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family() {
            Some(Family::V6) => "ip6",
            _ => "ip",
        };
        match self {
            Nat::To(address, None) => write!(f, "{family} to {address}"),
            Nat::To(IpAddr::V4(address), Some(port)) => write!(f, "{family} to {address}:{port}"),
            Nat::To(IpAddr::V6(address), Some(port)) => {
                write!(f, "{family} to [{address}]:{port}")
            }
            Nat::Map(field, map) => write!(f, "{family} to {} map @{map}", field.as_str()),
        }
    }
}

/// One part of a rule, in order of evaluation: the first that does not hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Statement {
    /// Holds if the comparison does.
    Match(Match),
    /// Holds if the fields together are a member of the set.
    Among(Concat, String),
    /// Counts the packet.
    Counter,
    /// Holds at most so often.
    Limit(Limit),
    /// Holds as soon as it is more often.
    LimitOver(Limit),
    /// NFLOG (`nft_log.c`).
    Log {
        /// At most 127 bytes.
        prefix: String,
        /// Who reads it.
        group: u16,
        /// How many bytes of the packet.
        snaplen: u32,
    },
    /// The map's element for these fields says where to go.
    Vmap(Concat, String),
    /// Puts these fields into the dynamic set, or lets them live there as long again: this long, or
    /// as long as the set says.
    Update(Concat, String, Option<Duration>),
    /// Decides, or goes elsewhere.
    Verdict(Verdict),
    /// Refuses the packet.
    Reject(Reject),
    /// Rewrites the frame's destination.
    SetEtherDaddr([u8; 6]),
    /// Sets the packet's mark.
    SetMark(u32),
    /// Gives the flow this label, one of 128, beside those that it has.
    SetCtLabel(u8),
    /// Keeps the packet out of connection tracking, in a chain before -200.
    Notrack,
    /// Gives the packet the socket that listens at this address and port and has `IP_TRANSPARENT`: the packet itself stays
    /// as it is. Without such a socket it does not hold. In a chain of prerouting; the rule must match TCP or UDP before.
    Tproxy(IpAddr, u16),
    /// The flow leaves with another source.
    Snat(Nat),
    /// The flow goes to another destination.
    Dnat(Nat),
    /// The flow leaves with the outgoing device's address (`nft_masq.c`).
    Masquerade,
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
            Statement::Among(key, set) => write!(f, "{key} @{set}"),
            Statement::Counter => f.write_str("counter"),
            Statement::Limit(Limit { rate, burst }) => {
                write!(f, "limit rate {rate}/second burst {burst} packets")
            }
            Statement::LimitOver(Limit { rate, burst }) => {
                write!(f, "limit rate over {rate}/second burst {burst} packets")
            }
            Statement::Log {
                prefix,
                group,
                snaplen,
            } => {
                write!(f, "log prefix \"{prefix}\" group {group} snaplen {snaplen}")
            }
            Statement::Vmap(key, map) => write!(f, "{key} vmap @{map}"),
            Statement::Update(key, set, None) => write!(f, "update @{set} {{ {key} }}"),
            Statement::Update(key, set, Some(timeout)) => {
                write!(f, "update @{set} {{ {key} timeout {} }}", Spelled(*timeout))
            }
            Statement::Verdict(v) => v.fmt(f),
            Statement::Reject(reject) => write!(f, "reject with {}", reject.as_str()),
            Statement::SetEtherDaddr(mac) => write!(f, "ether daddr set {}", Value::Mac(*mac)),
            Statement::SetMark(mark) => write!(f, "meta mark set {}", Value::Mark(*mark)),
            Statement::SetCtLabel(label) => write!(f, "ct label set {label}"),
            Statement::Notrack => f.write_str("notrack"),
            Statement::Tproxy(address, port) => {
                write!(f, "tproxy {}", Nat::To(*address, Some(*port)))
            }
            Statement::Snat(nat) => write!(f, "snat {nat}"),
            Statement::Dnat(nat) => write!(f, "dnat {nat}"),
            Statement::Masquerade => f.write_str("masquerade"),
        }
    }
}

/// A rule: statements that are evaluated in their order.
///
/// ```
/// use nft::{CtState, Field, Rule, Value, Verdict};
///
/// let rule = Rule::new()
///     .is(Field::TcpDport, Value::U16(22))
///     .state(&[CtState::New])
///     .counter()
///     .then(Verdict::Accept)
///     .comment("ssh");
/// let text = "tcp dport 22 ct state new counter accept comment \"ssh\"";
/// assert_eq!(rule.to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// In order of evaluation.
    pub statements: Vec<Statement>,
    /// nft's `comment`, at most 127 bytes.
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

    /// Adds "go where the map's element for these fields says".
    pub fn vmap(self, key: impl Into<Concat>, map: impl Into<String>) -> Self {
        self.then(Statement::Vmap(key.into(), map.into()))
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
