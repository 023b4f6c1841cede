//! Steps as netlink messages: one each, an element list as several.

use super::chain::Hook;
use super::element::{Data, Element};
use super::encode;
use super::set::{DataType, Set, milliseconds};
use super::step::{Object, PlacedRule, SetName, Step, Verb};
use super::table::{Table, TableFamily};
use super::uapi::*;
use super::value::Value;
use super::wire::Writer;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATE: u16 = REQUEST | libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = CREATE | libc::NLM_F_EXCL as u16;
/// A rule goes behind those that are there.
const APPEND: u16 = CREATE | libc::NLM_F_APPEND as u16;
const REPLACE: u16 = REQUEST | libc::NLM_F_REPLACE as u16;
/// Elements in one message: an attribute's length has 16 bits, and an element with an IPv6 range, a
/// comment and a chain may take 300 bytes.
const ELEMENTS_A_MESSAGE: usize = 200;

/// The messages that make, delete and destroy an object of one kind.
type Kinds = (u16, u16, u16);

const TABLE: Kinds = (NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_DESTROYTABLE);
const CHAIN: Kinds = (NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN, NFT_MSG_DESTROYCHAIN);
const RULE: Kinds = (NFT_MSG_NEWRULE, NFT_MSG_DELRULE, NFT_MSG_DESTROYRULE);
const SET: Kinds = (NFT_MSG_NEWSET, NFT_MSG_DELSET, NFT_MSG_DESTROYSET);
const ELEMENTS: Kinds = (
    NFT_MSG_NEWSETELEM,
    NFT_MSG_DELSETELEM,
    NFT_MSG_DESTROYSETELEM,
);

/// The kind and the flags of the message for a verb. Flushing is to delete, and to name none.
const fn kind_and_flags((new, delete, destroy): Kinds, verb: Verb) -> (u16, u16) {
    match verb {
        Verb::Add | Verb::Insert => (new, CREATE),
        Verb::Create => (new, EXCLUSIVE),
        Verb::Replace => (new, REPLACE),
        Verb::Delete | Verb::Flush => (delete, REQUEST),
        Verb::Destroy => (destroy, REQUEST),
    }
}

/// One message about a table.
struct Envelope<'a> {
    table: &'a Table,
    seq: u32,
}

impl Envelope<'_> {
    fn write(&self, w: &mut Writer, (kind, flags): (u16, u16), body: impl FnOnce(&mut Writer)) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        w.message(kind, flags, self.seq, self.table.family.number(), 0, |w| {
            w.str(1, &self.table.name); // NFTA_*_TABLE is 1 in every kind of message
            body(w);
        });
    }
}

impl Step {
    /// Appends this step's messages; each gets the sequence number `seq`.
    pub(super) fn encode(&self, w: &mut Writer, seq: u32) {
        let (table, verb) = (&self.table, self.verb);
        let envelope = Envelope { table, seq };
        let as_a = |kinds| kind_and_flags(kinds, verb);
        match &self.object {
            Object::Table if verb == Verb::Flush => envelope.write(w, as_a(RULE), |_| {}),
            // As nft does: a table that somebody has put to sleep is awake after it.
            Object::Table if matches!(verb, Verb::Add | Verb::Create) => {
                envelope.write(w, as_a(TABLE), |w| w.be32(NFTA_TABLE_FLAGS, 0));
            }
            Object::Table => envelope.write(w, as_a(TABLE), |_| {}),
            Object::Chain(chain) if verb == Verb::Flush => envelope.write(w, as_a(RULE), |w| {
                w.str(NFTA_RULE_CHAIN, &chain.name);
            }),
            Object::Chain(chain) => envelope.write(w, as_a(CHAIN), |w| {
                w.str(NFTA_CHAIN_NAME, &chain.name);
                if let (Some(hook), Verb::Add | Verb::Create) = (&chain.hook, verb) {
                    encode_hook(w, table.family, hook);
                }
            }),
            Object::Rule(placed) => {
                let (kind, flags) = as_a(RULE);
                let flags = if verb == Verb::Add { APPEND } else { flags };
                envelope.write(w, (kind, flags), |w| {
                    encode_rule(w, table.family, verb, placed);
                });
            }
            Object::Set(set) => match verb {
                Verb::Add | Verb::Create => {
                    envelope.write(w, as_a(SET), |w| encode_set(w, set, seq));
                }
                _ => encode_named(w, &envelope, verb, &set.name),
            },
            Object::SetName(SetName(name)) => encode_named(w, &envelope, verb, name),
            Object::Elements(elements) => {
                for (n, chunk) in elements.elements.chunks(ELEMENTS_A_MESSAGE).enumerate() {
                    envelope.write(w, as_a(ELEMENTS), |w| {
                        w.str(NFTA_SET_ELEM_LIST_SET, &elements.set);
                        w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                            encode_elements(w, chunk, n == 0);
                        });
                    });
                }
            }
        }
    }
}

/// To flush a set is to delete elements without naming any.
fn encode_named(w: &mut Writer, envelope: &Envelope<'_>, verb: Verb, name: &str) {
    match verb {
        Verb::Flush => envelope.write(w, kind_and_flags(ELEMENTS, verb), |w| {
            w.str(NFTA_SET_ELEM_LIST_SET, name);
        }),
        _ => envelope.write(w, kind_and_flags(SET, verb), |w| {
            w.str(NFTA_SET_NAME, name);
        }),
    }
}

fn encode_rule(w: &mut Writer, family: TableFamily, verb: Verb, placed: &PlacedRule) {
    w.str(NFTA_RULE_CHAIN, &placed.chain);
    if let Some(handle) = placed.handle {
        let beside = matches!(verb, Verb::Add | Verb::Insert);
        let attribute = if beside {
            NFTA_RULE_POSITION
        } else {
            NFTA_RULE_HANDLE
        };
        w.be64(attribute, handle);
    }
    if matches!(verb, Verb::Delete | Verb::Destroy) {
        return;
    }
    w.nested(NFTA_RULE_EXPRESSIONS, |w| {
        encode::expressions(w, family, &placed.rule);
    });
    if let Some(comment) = &placed.rule.comment {
        w.attr(NFTA_RULE_USERDATA, &comment_data(comment));
    }
}

fn encode_hook(w: &mut Writer, family: TableFamily, hook: &Hook) {
    w.nested(NFTA_CHAIN_HOOK, |w| {
        w.be32(NFTA_HOOK_HOOKNUM, hook.point.number(family));
        w.attr(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
        if let Some(device) = hook.point.device() {
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
    if set.timeout.is_some() {
        flags |= NFT_SET_TIMEOUT;
    }
    if set.dynamic {
        flags |= NFT_SET_EVAL;
    }
    let concatenated = set.key.concatenated().next().is_some();
    if concatenated {
        flags |= NFT_SET_CONCAT;
    }
    if concatenated || set.size.is_some() {
        w.nested(NFTA_SET_DESC, |w| {
            if let Some(size) = set.size {
                w.be32(NFTA_SET_DESC_SIZE, size);
            }
            if concatenated {
                w.nested(NFTA_SET_DESC_CONCAT, |w| {
                    let mut field = |length| {
                        w.nested(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, length));
                    };
                    match set.interval {
                        true => set.key.searched().for_each(&mut field),
                        false => set.key.concatenated().for_each(&mut field),
                    }
                });
            }
        });
    }
    w.str(NFTA_SET_NAME, &set.name);
    w.be32(NFTA_SET_FLAGS, flags);
    w.be32(NFTA_SET_KEY_TYPE, key);
    w.be32(NFTA_SET_KEY_LEN, length);
    w.be32(NFTA_SET_ID, seq); // required; unique in its transaction
    match &set.data {
        Some(DataType::Verdict) => {
            w.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
            w.be32(NFTA_SET_DATA_LEN, 0);
        }
        Some(DataType::Value(data)) => {
            let (number, length) = data.number_and_length();
            w.be32(NFTA_SET_DATA_TYPE, number);
            w.be32(NFTA_SET_DATA_LEN, length);
        }
        None => {}
    }
    if set.counter {
        w.nested(NFTA_SET_EXPR, encode::counter);
    }
    let byte_orders = byte_orders(set);
    if !byte_orders.is_empty() {
        w.attr(NFTA_SET_USERDATA, &byte_orders);
    }
    if let Some(timeout) = set.timeout {
        w.be64(NFTA_SET_TIMEOUT, milliseconds(timeout));
    }
}

/// What `nft list` has to know of keys and values that are in this host's byte order: libnftnl's type, length,
/// value. The kernel makes nothing of it.
fn byte_orders(set: &Set) -> Vec<u8> {
    let data = match &set.data {
        Some(DataType::Value(data)) => data.is_in_host_order(),
        _ => false,
    };
    let kinds = [
        (set.key.is_in_host_order(), UDATA_SET_KEYBYTEORDER),
        (data, UDATA_SET_DATABYTEORDER),
    ];
    let mut bytes = Vec::new();
    for (_, kind) in kinds
        .into_iter()
        .filter(|(in_host_order, _)| *in_host_order)
    {
        bytes.extend([kind, 4]);
        bytes.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
    }
    bytes
}

/// The kernel keeps a set of intervals of one field as a sorted list of starts and ends; `nft` marks
/// the space before the first start as an end.
fn encode_interval_start(w: &mut Writer, elements: &[Element]) {
    let Some(first) = elements.first().filter(|first| first.is_interval()) else {
        return;
    };
    if let [(low, _)] = first.key() {
        let bytes = low.bytes();
        if bytes.iter().any(|b| *b != 0) {
            let zero = &[0; 16][..bytes.len()];
            encode_key(w, zero, NFT_SET_ELEM_INTERVAL_END, |_| {});
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

/// A range of one field has its end in an element of its own, one of several fields in itself.
fn encode_element(w: &mut Writer, element: &Element) {
    match (element.key(), element.is_interval()) {
        ([(low, high)], interval) => {
            encode_key(w, &low.bytes(), 0, |w| encode_rest(w, element));
            // The end is the first key that is no longer inside; after the last there is none.
            if interval && let Some(end) = high.bytes().next() {
                encode_key(w, &end, NFT_SET_ELEM_INTERVAL_END, |_| {});
            }
        }
        (several, interval) => {
            let low = concatenation(several.iter().map(|(low, _)| low));
            encode_key(w, &low, 0, |w| {
                if interval {
                    let high = concatenation(several.iter().map(|(_, high)| high));
                    w.nested(NFTA_SET_ELEM_KEY_END, |w| w.attr(NFTA_DATA_VALUE, &high));
                }
                encode_rest(w, element);
            });
        }
    }
}

/// All of an element but its key.
fn encode_rest(w: &mut Writer, element: &Element) {
    match element.data() {
        Some(Data::Verdict(verdict)) => {
            w.nested(NFTA_SET_ELEM_DATA, |w| encode::verdict(w, verdict));
        }
        Some(Data::Value(value)) => {
            w.nested(NFTA_SET_ELEM_DATA, |w| {
                w.attr(NFTA_DATA_VALUE, &value.bytes());
            });
        }
        None => {}
    }
    if let Some(timeout) = element.time_to_live() {
        w.be64(NFTA_SET_ELEM_TIMEOUT, milliseconds(timeout));
    }
    if let Some(comment) = element.comment_text() {
        w.attr(NFTA_SET_ELEM_USERDATA, &comment_data(comment));
    }
}

/// Each field begins a register of four bytes.
fn concatenation<'a>(fields: impl Iterator<Item = &'a Value>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for field in fields {
        bytes.extend_from_slice(&field.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
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

/// libnftnl's type, length, value.
fn comment_data(comment: &str) -> Vec<u8> {
    let text = comment.as_bytes(); // at most 127: see `check`
    let mut data = vec![UDATA_COMMENT, (text.len() + 1) as u8];
    data.extend_from_slice(text);
    data.push(0);
    data
}
