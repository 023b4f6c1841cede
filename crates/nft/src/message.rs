//! Operations as netlink messages: one each, an element list as several.

use super::encode;
use super::matching::Value;
use super::object::{
    Cell, DYNAMIC_SIZE, DataType, Element, Hook, HookPoint, Op, Set, TABLE, Table,
};
use super::statement::Verdict;
use super::uapi::*;
use super::wire::Writer;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const CREATE: u16 = REQUEST | libc::NLM_F_CREATE as u16;
/// A rule goes behind those that are there.
const APPEND: u16 = CREATE | libc::NLM_F_APPEND as u16;
/// Elements in one message: an attribute's length has 16 bits, and an element with an IPv6 range, a
/// comment and a chain may take 300 bytes.
const ELEMENTS_A_MESSAGE: usize = 200;

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
                    w.attr(NFTA_RULE_USERDATA, &comment_data(comment));
                }
            }),
            Op::AddSet(t, set) => message(w, NFT_MSG_NEWSET, CREATE, *t, &|w| {
                encode_set(w, set, seq);
            }),
            Op::DeleteSet(t, name) => message(w, NFT_MSG_DELSET, REQUEST, *t, &|w| {
                w.str(NFTA_SET_NAME, name);
            }),
            // Without a list of elements: all of them.
            Op::FlushSet(t, name) => message(w, NFT_MSG_DELSETELEM, REQUEST, *t, &|w| {
                w.str(NFTA_SET_ELEM_LIST_SET, name);
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
    if set.days.is_some() {
        flags |= NFT_SET_TIMEOUT | NFT_SET_EVAL;
    }
    if set.key.concatenated().next().is_some() {
        flags |= NFT_SET_CONCAT;
        w.nested(NFTA_SET_DESC, |w| {
            w.nested(NFTA_SET_DESC_CONCAT, |w| {
                for length in set.key.concatenated() {
                    w.nested(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, length));
                }
            });
        });
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
    if let Some(days) = set.days {
        w.be64(NFTA_SET_TIMEOUT, u64::from(days) * 24 * 3600 * 1000);
        w.nested(NFTA_SET_DESC, |w| w.be32(NFTA_SET_DESC_SIZE, DYNAMIC_SIZE));
    }
}

/// The kernel keeps an interval set as a sorted list of starts and ends; `nft` marks the space
/// before the first start as an end.
fn encode_interval_start(w: &mut Writer, elements: &[Element]) {
    let low = match elements.first() {
        Some(Element::Range(low, _) | Element::Jump(low, ..)) => low,
        Some(Element::Cell(cell)) if cell.key.len() == 1 => &cell.key[0].0,
        _ => return,
    };
    let bytes = low.bytes();
    if bytes.iter().any(|b| *b != 0) {
        encode_key(w, &vec![0; bytes.len()], NFT_SET_ELEM_INTERVAL_END, |_| {});
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
    match element {
        Element::Address(a) => encode_key(w, &Value::from(*a).bytes(), 0, |_| {}),
        Element::Range(low, high) => {
            encode_key(w, &low.bytes(), 0, |_| {});
            encode_interval_end(w, high);
        }
        Element::Goto(a, chain) => encode_key(w, &Value::from(*a).bytes(), 0, |w| {
            encode_target(w, &Verdict::Goto(chain.clone()));
        }),
        Element::Jump(low, high, chain) => {
            encode_key(w, &low.bytes(), 0, |w| {
                encode_target(w, &Verdict::Jump(chain.to_string()));
            });
            encode_interval_end(w, high);
        }
        Element::Map(a, to) => encode_key(w, &Value::from(*a).bytes(), 0, |w| {
            let bytes = Value::from(*to).bytes();
            w.nested(NFTA_SET_ELEM_DATA, |w| w.attr(NFTA_DATA_VALUE, &bytes));
        }),
        Element::Cell(cell) => encode_cell(w, cell),
    }
}

fn encode_target(w: &mut Writer, verdict: &Verdict) {
    w.nested(NFTA_SET_ELEM_DATA, |w| encode::verdict(w, verdict));
}

/// A key of one field has its end in an element of its own, one of several fields in itself.
fn encode_cell(w: &mut Writer, cell: &Cell) {
    let rest = |w: &mut Writer| {
        if let Some(chain) = &cell.goto {
            encode_target(w, &Verdict::Goto(chain.to_string()));
        }
        w.attr(NFTA_SET_ELEM_USERDATA, &comment_data(&cell.comment));
    };
    if let [(low, high)] = &cell.key[..] {
        encode_key(w, &low.bytes(), 0, rest);
        encode_interval_end(w, high);
        return;
    }
    let low = concatenation(cell.key.iter().map(|(low, _)| low));
    let high = concatenation(cell.key.iter().map(|(_, high)| high));
    encode_key(w, &low, 0, |w| {
        w.nested(NFTA_SET_ELEM_KEY_END, |w| w.attr(NFTA_DATA_VALUE, &high));
        rest(w);
    });
}

/// Each field begins a register of four bytes.
fn concatenation<'a>(fields: impl Iterator<Item = &'a Value>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    for field in fields {
        bytes.extend(field.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The end is the first key that is no longer inside; after the last there is none.
fn encode_interval_end(w: &mut Writer, high: &Value) {
    if let Some(end) = next(&high.bytes()) {
        encode_key(w, &end, NFT_SET_ELEM_INTERVAL_END, |_| {});
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
fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut data = vec![UDATA_COMMENT, (text.len() + 1) as u8];
    data.extend_from_slice(text);
    data.push(0);
    data
}
