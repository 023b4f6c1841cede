//! Tables, chains, sets and what a transaction does with them. Each operation prints itself as a
//! line of nft text and encodes itself as one netlink message (an element list: as several).

use std::fmt;
use std::net::IpAddr;

use super::encode;
use super::matching::Value;
use super::statement::{Rule, Verdict};
use super::uapi::*;
use super::wire::Writer;

/// The name of both tables.
pub const TABLE: &str = "egress-cni";

/// The two tables that are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// `inet egress-cni`: policy and SNAT.
    Inet,
    /// `netdev egress-cni`: anti-spoofing at the veth.
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
    /// What goes out, after it was routed.
    Postrouting,
    /// netdev ingress of this device.
    Ingress(String),
}

impl HookPoint {
    const fn number(&self) -> u32 {
        match self {
            HookPoint::Prerouting | HookPoint::Ingress(_) => 0,
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
}

impl KeyType {
    /// nft's number and the length in bytes.
    const fn number_and_length(self) -> (u32, u32) {
        match self {
            KeyType::Ipv4 => (TYPE_IPV4_ADDR, 4),
            KeyType::Ipv6 => (TYPE_IPV6_ADDR, 16),
            KeyType::Service => (TYPE_INET_SERVICE, 2),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            KeyType::Ipv4 => "ipv4_addr",
            KeyType::Ipv6 => "ipv6_addr",
            KeyType::Service => "inet_service",
        }
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
}

impl Element {
    fn key(&self) -> Value {
        match self {
            Element::Address(a) | Element::Goto(a, _) | Element::Map(a, _) => Value::from(*a),
            Element::Range(low, _) => *low,
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
                write!(
                    f,
                    "add {kind} {t} {} {{ type {}",
                    set.name,
                    set.key.as_str()
                )?;
                match set.data {
                    Some(DataType::Verdict) => f.write_str(" : verdict")?,
                    Some(DataType::Address) => write!(f, " : {}", set.key.as_str())?,
                    None => {}
                }
                f.write_str(";")?;
                if set.interval {
                    f.write_str(" flags interval;")?;
                }
                if set.counter {
                    f.write_str(" counter;")?;
                }
                f.write_str(" }")
            }
            Op::DeleteSet(t, name) => write!(f, "delete set {t} {name}"),
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
    ops.iter().map(|op| format!("{op}\n")).collect()
}

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATE: u16 = REQUEST | libc::NLM_F_CREATE as u16;
/// A rule goes behind those that are there.
const APPEND: u16 = CREATE | libc::NLM_F_APPEND as u16;
/// Elements in one message: an attribute's length has 16 bits.
const ELEMENTS_A_MESSAGE: usize = 500;

impl Op {
    /// Appends this operation's messages; each gets the sequence number `seq`.
    pub(super) fn encode(&self, w: &mut Writer, seq: u32) {
        let message =
            |w: &mut Writer, kind: u16, flags: u16, t: Table, body: &dyn Fn(&mut Writer)| {
                w.message(
                    NFNL_SUBSYS_NFTABLES << 8 | kind,
                    flags,
                    seq,
                    t.family(),
                    0,
                    |w| {
                        w.str(1, TABLE); // NFTA_*_TABLE is 1 in every kind of message
                        body(w);
                    },
                );
            };
        match self {
            Op::AddTable(t) => message(w, NFT_MSG_NEWTABLE, CREATE, *t, &|_| {}),
            Op::DeleteTable(t) => message(w, NFT_MSG_DELTABLE, REQUEST, *t, &|_| {}),
            Op::AddChain(t, name, hook) => message(w, NFT_MSG_NEWCHAIN, CREATE, *t, &|w| {
                w.str(NFTA_CHAIN_NAME, name);
                if let Some(hook) = hook {
                    encode_hook(w, hook);
                }
            }),
            Op::FlushChain(t, name) => message(w, NFT_MSG_DELRULE, REQUEST, *t, &|w| {
                w.str(NFTA_RULE_CHAIN, name);
            }),
            Op::DeleteChain(t, name) => message(w, NFT_MSG_DELCHAIN, REQUEST, *t, &|w| {
                w.str(NFTA_CHAIN_NAME, name);
            }),
            Op::AddRule(t, chain, rule) => message(w, NFT_MSG_NEWRULE, APPEND, *t, &|w| {
                w.str(NFTA_RULE_CHAIN, chain);
                w.nested(NFTA_RULE_EXPRESSIONS, |w| encode::expressions(w, *t, rule));
                if let Some(comment) = &rule.comment {
                    w.attr(NFTA_RULE_USERDATA, &comment_userdata(comment));
                }
            }),
            Op::AddSet(t, set) => message(w, NFT_MSG_NEWSET, CREATE, *t, &|w| {
                encode_set(w, set, seq);
            }),
            Op::DeleteSet(t, name) => message(w, NFT_MSG_DELSET, REQUEST, *t, &|w| {
                w.str(NFTA_SET_NAME, name);
            }),
            Op::AddElements(t, set, elements) => {
                for (n, chunk) in elements.chunks(ELEMENTS_A_MESSAGE).enumerate() {
                    message(w, NFT_MSG_NEWSETELEM, CREATE, *t, &|w| {
                        w.str(NFTA_SET_ELEM_LIST_SET, set);
                        w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                            encode_elements(w, chunk, n == 0);
                        });
                    });
                }
            }
            Op::DeleteElements(t, set, keys) => {
                for chunk in keys.chunks(ELEMENTS_A_MESSAGE) {
                    message(w, NFT_MSG_DELSETELEM, REQUEST, *t, &|w| {
                        w.str(NFTA_SET_ELEM_LIST_SET, set);
                        w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                            for key in chunk {
                                encode_key(w, &Value::from(*key).bytes(), 0, |_| {});
                            }
                        });
                    });
                }
            }
        }
    }
}

fn encode_hook(w: &mut Writer, hook: &Hook) {
    w.nested(NFTA_CHAIN_HOOK, |w| {
        w.be32(NFTA_HOOK_HOOKNUM, hook.point.number());
        w.attr(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
        if let HookPoint::Ingress(device) = &hook.point {
            w.str(NFTA_HOOK_DEV, device);
        }
    });
    w.be32(NFTA_CHAIN_POLICY, u32::from(hook.accept));
    w.str(NFTA_CHAIN_TYPE, hook.kind.as_str());
}

fn encode_set(w: &mut Writer, set: &Set, seq: u32) {
    let (key, length) = set.key.number_and_length();
    let mut flags = 0;
    if set.interval {
        flags |= NFT_SET_INTERVAL;
    }
    if set.data.is_some() {
        flags |= NFT_SET_MAP;
    }
    w.str(NFTA_SET_NAME, &set.name);
    w.be32(NFTA_SET_FLAGS, flags);
    w.be32(NFTA_SET_KEY_TYPE, key);
    w.be32(NFTA_SET_KEY_LEN, length);
    w.be32(NFTA_SET_ID, seq); // required; unique in its transaction
    match set.data {
        Some(DataType::Verdict) => {
            w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            w.be32(NFTA_SET_DATA_LEN, 0);
        }
        Some(DataType::Address) => {
            w.be32(NFTA_SET_DATA_TYPE, key);
            w.be32(NFTA_SET_DATA_LEN, length);
        }
        None => {}
    }
    if set.counter {
        w.nested(NFTA_SET_EXPR, encode::counter);
    }
}

/// The kernel keeps an interval set as a sorted list of starts and ends; `nft` marks the space
/// before the first start as an end.
fn encode_interval_start(w: &mut Writer, elements: &[Element]) {
    if let Some(Element::Range(low, _)) = elements.first() {
        let bytes = low.bytes();
        if bytes.iter().any(|b| *b != 0) {
            encode_key(w, &vec![0; bytes.len()], NFT_SET_ELEM_INTERVAL_END, |_| {});
        }
    }
}

/// Elements of one set; `first`: none of its elements was encoded before these.
pub(super) fn encode_elements(w: &mut Writer, elements: &[Element], first: bool) {
    if first {
        encode_interval_start(w, elements);
    }
    elements
        .iter()
        .for_each(|element| encode_element(w, element));
}

fn encode_element(w: &mut Writer, element: &Element) {
    encode_key(w, &element.key().bytes(), 0, |w| match element {
        Element::Address(_) | Element::Range(..) => {}
        Element::Goto(_, chain) => {
            w.nested(NFTA_SET_ELEM_DATA, |w| {
                encode::verdict(w, &Verdict::Goto(chain.clone()))
            });
        }
        Element::Map(_, to) => {
            let bytes = Value::from(*to).bytes();
            w.nested(NFTA_SET_ELEM_DATA, |w| w.attr(NFTA_DATA_VALUE, &bytes));
        }
    });
    if let Element::Range(_, high) = element {
        // the end is the first key that is no longer inside; after the last there is none
        if let Some(end) = next(&high.bytes()) {
            encode_key(w, &end, NFT_SET_ELEM_INTERVAL_END, |_| {});
        }
    }
}

fn encode_key(w: &mut Writer, key: &[u8], flags: u32, rest: impl FnOnce(&mut Writer)) {
    w.nested(NFTA_LIST_ELEM, |w| {
        if flags != 0 {
            w.be32(NFTA_SET_ELEM_FLAGS, flags);
        }
        w.nested(NFTA_SET_ELEM_KEY, |w| w.attr(NFTA_DATA_VALUE, key));
        rest(w);
    });
}

/// The big-endian number after this one; `None` after the greatest.
fn next(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (sum, overflow) = byte.overflowing_add(1);
        *byte = sum;
        if !overflow {
            return Some(bytes);
        }
    }
    None
}

/// libnftnl's type, length, value.
fn comment_userdata(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut data = vec![UDATA_RULE_COMMENT, (text.len() + 1) as u8];
    data.extend_from_slice(text);
    data.push(0);
    data
}
