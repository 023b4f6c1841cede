//! What the kernel holds: single objects by their name, and whether a chain is as it should be.
//! Nothing here lists a whole table, save where a clean-up has lost its records.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::encode;
use super::matching::Value;
use super::message;
use super::object::{Element, Hook, TABLE, Table};
use super::socket::{Error, Nft};
use super::statement::Rule;
use super::uapi::*;
use super::wire::{Attrs, Message, NFGENMSG, Writer};

/// A chain that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// Its name.
    pub name: String,
    /// References to the chain and rules in it (`struct nft_chain`, `use`).
    pub uses: u32,
    /// The device of a netdev base chain.
    pub device: Option<String>,
    hook: Option<(u32, i32, String, bool)>,
}

impl ChainState {
    /// Whether the chain hangs where it should, and drops or accepts what no rule decides, as it
    /// should.
    pub fn hangs_at(&self, hook: &Hook) -> bool {
        let accepts = |(_, _, _, accept): &(_, _, _, bool)| *accept == hook.accept;
        self.is_placed_at(hook) && self.hook.as_ref().is_some_and(accepts)
    }

    /// Whether the chain is at this hook, whatever its policy: that can be changed in place, all
    /// else can't.
    pub fn is_placed_at(&self, hook: &Hook) -> bool {
        let (expected, device) = hook.key();
        self.hook
            .as_ref()
            .is_some_and(|(number, priority, kind, _)| {
                *number == expected && *priority == hook.priority && kind == hook.kind.as_str()
            })
            && self.device.as_deref() == device
    }
}

impl Nft {
    /// The number of the ruleset's state, of all tables of this network namespace: each transaction,
    /// whoever makes it, adds one.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let object = "the ruleset's generation";
        let answer = self.query(object, NFT_MSG_GETGEN, Table::Inet, false, |_| {})?;
        let number = answer.iter().find_map(|body| attrs(body).be32(NFTA_GEN_ID));
        number.ok_or_else(|| Error::Query {
            object: object.to_owned(),
            errno: std::io::Error::from_raw_os_error(libc::ENODATA),
        })
    }

    /// One chain, if it exists.
    pub fn chain(&mut self, table: Table, name: &str) -> Result<Option<ChainState>, Error> {
        let answer = self.query(
            &format!("chain {table} {name}"),
            NFT_MSG_GETCHAIN,
            table,
            false,
            |w| {
                w.str(NFTA_CHAIN_TABLE, TABLE);
                w.str(NFTA_CHAIN_NAME, name);
            },
        )?;
        Ok(answer.iter().find_map(|body| chain_state(attrs(body))))
    }

    /// All chains of a table, in no order.
    pub fn chains(&mut self, table: Table) -> Result<Vec<ChainState>, Error> {
        let answer = self.query(
            &format!("the chains of {table}"),
            NFT_MSG_GETCHAIN,
            table,
            true,
            |w| {
                w.str(NFTA_CHAIN_TABLE, TABLE);
            },
        )?;
        Ok(answer
            .iter()
            .map(|body| attrs(body))
            .filter(|a| a.text(NFTA_CHAIN_TABLE) == Some(TABLE)) // older kernels tell of all tables
            .filter_map(chain_state)
            .collect())
    }

    /// Whether a set or map exists.
    pub fn has_set(&mut self, table: Table, name: &str) -> Result<bool, Error> {
        let answer = self.query(
            &format!("set {table} {name}"),
            NFT_MSG_GETSET,
            table,
            false,
            |w| {
                w.str(NFTA_SET_TABLE, TABLE);
                w.str(NFTA_SET_NAME, name);
            },
        )?;
        Ok(!answer.is_empty())
    }

    /// The names of all sets and maps of a table.
    pub fn sets(&mut self, table: Table) -> Result<Vec<String>, Error> {
        let answer = self.query(
            &format!("the sets of {table}"),
            NFT_MSG_GETSET,
            table,
            true,
            |w| {
                w.str(NFTA_SET_TABLE, TABLE);
            },
        )?;
        Ok(answer
            .iter()
            .map(|body| attrs(body))
            .filter(|a| a.text(NFTA_SET_TABLE) == Some(TABLE))
            .filter_map(|a| a.text(NFTA_SET_NAME).map(str::to_owned))
            .collect())
    }

    /// Whether this address is an element.
    pub fn has_element(&mut self, table: Table, set: &str, key: IpAddr) -> Result<bool, Error> {
        Ok(element(self, table, set, key)?.is_some())
    }

    /// The chain that a verdict map's element leads to, if it is there.
    pub fn vmap_target(&mut self, map: &str, key: IpAddr) -> Result<Option<String>, Error> {
        let element = element(self, Table::Inet, map, key)?;
        Ok(element.as_deref().and_then(|e| verdict_chain(Attrs(e))))
    }

    /// The address that a map's element holds, if it is there.
    pub fn mapped(&mut self, map: &str, key: IpAddr) -> Result<Option<IpAddr>, Error> {
        let element = element(self, Table::Inet, map, key)?;
        Ok(element
            .as_deref()
            .and_then(|e| address(Attrs(e).nest(NFTA_SET_ELEM_DATA)?.get(NFTA_DATA_VALUE)?)))
    }

    /// All elements of a verdict map: address and chain.
    pub fn vmap_elements(&mut self, map: &str) -> Result<Vec<(IpAddr, String)>, Error> {
        self.elements(Table::Inet, map, |element| {
            let key = element.nest(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?;
            Some((address(key)?, verdict_chain(element)?))
        })
    }

    /// The addresses in a set or map of addresses; none if there is no such set.
    pub fn addresses(&mut self, table: Table, set: &str) -> Result<Vec<IpAddr>, Error> {
        self.elements(table, set, |element| address(&element_state(element)?.0))
    }

    /// Whether a set's elements are these.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn elements_are(
        &mut self,
        table: Table,
        set: &str,
        elements: &[Element],
    ) -> Result<bool, Error> {
        let held: BTreeSet<_> = self
            .elements(table, set, element_state)?
            .into_iter()
            .collect();
        let mut w = Writer::default();
        message::encode_elements(&mut w, elements, true);
        let expected: BTreeSet<_> = Attrs(&w.bytes)
            .iter()
            .filter_map(|(_, _, element)| element_state(Attrs(element)))
            .collect();
        Ok(held == expected)
    }

    /// What `read` makes of a set's elements, without those of which it makes nothing; none if there is
    /// no such set.
    pub(super) fn elements<T>(
        &mut self,
        table: Table,
        set: &str,
        read: impl Fn(Attrs<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let object = format!("the elements of {table} {set}");
        let answer = self.query(&object, NFT_MSG_GETSETELEM, table, true, |w| {
            w.str(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            w.str(NFTA_SET_ELEM_LIST_SET, set);
        })?;
        let lists = answer
            .iter()
            .filter_map(|body| attrs(body).nest(NFTA_SET_ELEM_LIST_ELEMENTS));
        Ok(lists
            .flat_map(|list| list.iter())
            .filter_map(|(_, _, element)| read(Attrs(element)))
            .collect())
    }

    /// How many rules a chain has.
    pub fn rule_count(&mut self, table: Table, chain: &str) -> Result<u32, Error> {
        Ok(self.rules(table, chain)?.len() as u32)
    }

    /// The chain to which a chain's last rule goes.
    pub fn goto_of(&mut self, table: Table, chain: &str) -> Result<Option<String>, Error> {
        let rules = self.rules(table, chain)?;
        Ok(rules.last().and_then(|body| targets(attrs(body)).last()))
    }

    /// The chains to which the rules of `chain` jump or go, in their order.
    pub fn targets(&mut self, table: Table, chain: &str) -> Result<Vec<String>, Error> {
        let rules = self.rules(table, chain)?;
        Ok(rules.iter().flat_map(|body| targets(attrs(body))).collect())
    }

    /// How many times the rules of `chain` jump or go to `target`.
    pub fn references(&mut self, table: Table, chain: &str, target: &str) -> Result<u32, Error> {
        let all = self.targets(table, chain)?;
        Ok(all.iter().filter(|name| *name == target).count() as u32)
    }

    /// Whether a chain's rules are these, in this order; counters may have counted.
    pub fn rules_are(&mut self, table: Table, chain: &str, rules: &[Rule]) -> Result<bool, Error> {
        let held = self.rules(table, chain)?;
        Ok(held.len() == rules.len()
            && held.iter().zip(rules).all(|(held, rule)| {
                let mut w = Writer::default();
                encode::expressions(&mut w, table, rule);
                attrs(held)
                    .nest(NFTA_RULE_EXPRESSIONS)
                    .is_some_and(|held| same_expressions(Attrs(&w.bytes), held))
            }))
    }

    pub(super) fn rules(&mut self, table: Table, chain: &str) -> Result<Vec<Vec<u8>>, Error> {
        let object = format!("the rules of {table} {chain}");
        let mut answer = self.query(&object, NFT_MSG_GETRULE, table, true, |w| {
            w.str(NFTA_RULE_TABLE, TABLE);
            w.str(NFTA_RULE_CHAIN, chain);
        })?;
        answer.retain(|body| {
            let a = attrs(body);
            a.text(NFTA_RULE_TABLE) == Some(TABLE) && a.text(NFTA_RULE_CHAIN) == Some(chain)
        });
        Ok(answer)
    }
}

/// The chains to which a rule jumps or goes.
fn targets(rule: Attrs<'_>) -> impl Iterator<Item = String> {
    let expressions = rule.nest(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    expressions.iter().filter_map(|(_, _, expression)| {
        let expression = Attrs(expression);
        if expression.text(NFTA_EXPR_NAME) != Some("immediate") {
            return None;
        }
        expression
            .nest(NFTA_EXPR_DATA)?
            .nest(NFTA_IMMEDIATE_DATA)?
            .nest(NFTA_DATA_VERDICT)?
            .text(NFTA_VERDICT_CHAIN)
            .map(str::to_owned)
    })
}

/// What an element is: its key and the key's end, whether it is the end of a range, its comment, and
/// the chain that it leads to.
type ElementState = (Vec<u8>, Vec<u8>, u32, Vec<u8>, Option<String>);

fn element_state(element: Attrs<'_>) -> Option<ElementState> {
    let key = |kind| Some(element.nest(kind)?.get(NFTA_DATA_VALUE)?.to_vec());
    Some((
        key(NFTA_SET_ELEM_KEY)?,
        key(NFTA_SET_ELEM_KEY_END).unwrap_or_default(),
        element.be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0),
        element
            .get(NFTA_SET_ELEM_USERDATA)
            .unwrap_or_default()
            .to_vec(),
        verdict_chain(element),
    ))
}

pub(super) fn attrs(body: &[u8]) -> Attrs<'_> {
    Message {
        kind: 0,
        flags: 0,
        seq: 0,
        body,
    }
    .attrs()
}

fn chain_state(a: Attrs<'_>) -> Option<ChainState> {
    let hook = a.nest(NFTA_CHAIN_HOOK);
    Some(ChainState {
        name: a.text(NFTA_CHAIN_NAME)?.to_owned(),
        uses: a.be32(NFTA_CHAIN_USE)?,
        device: hook.and_then(|h| h.text(NFTA_HOOK_DEV)).map(str::to_owned),
        hook: hook.and_then(|h| {
            Some((
                h.be32(NFTA_HOOK_HOOKNUM)?,
                h.be32(NFTA_HOOK_PRIORITY)? as i32,
                a.text(NFTA_CHAIN_TYPE)?.to_owned(),
                a.be32(NFTA_CHAIN_POLICY)? == 1,
            ))
        }),
    })
}

/// The attributes of one element, looked up by its key.
fn element(nft: &mut Nft, table: Table, set: &str, key: IpAddr) -> Result<Option<Vec<u8>>, Error> {
    let object = format!("element {key} of {set}");
    let answer = nft.query(&object, NFT_MSG_GETSETELEM, table, false, |w| {
        w.str(NFTA_SET_ELEM_LIST_TABLE, TABLE);
        w.str(NFTA_SET_ELEM_LIST_SET, set);
        w.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
            w.nested(NFTA_LIST_ELEM, |w| {
                w.nested(NFTA_SET_ELEM_KEY, |w| {
                    w.attr(NFTA_DATA_VALUE, &Value::from(key).bytes())
                });
            });
        });
    })?;
    Ok(answer.iter().find_map(|body| {
        let list = attrs(body.get(..).filter(|b| b.len() >= NFGENMSG)?)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS)?;
        list.iter().next().map(|(_, _, element)| element.to_vec())
    }))
}

pub(super) fn verdict_chain(element: Attrs<'_>) -> Option<String> {
    element
        .nest(NFTA_SET_ELEM_DATA)?
        .nest(NFTA_DATA_VERDICT)?
        .text(NFTA_VERDICT_CHAIN)
        .map(str::to_owned)
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// Whether the kernel's expressions are the expected ones: the same, in the same order, each with
/// everything that we set. The kernel adds attributes of its own; those are not looked at.
fn same_expressions(expected: Attrs<'_>, held: Attrs<'_>) -> bool {
    let (mut expected, mut held) = (expected.iter(), held.iter());
    loop {
        match (expected.next(), held.next()) {
            (None, None) => return true,
            (Some((_, _, a)), Some((_, _, b))) => {
                let (a, b) = (Attrs(a), Attrs(b));
                let name = a.text(NFTA_EXPR_NAME);
                if name != b.text(NFTA_EXPR_NAME) {
                    return false;
                }
                let (Some(a), Some(b)) = (a.nest(NFTA_EXPR_DATA), b.nest(NFTA_EXPR_DATA)) else {
                    return false;
                };
                if name != Some("counter") && !contains(b, a) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn contains(held: Attrs<'_>, expected: Attrs<'_>) -> bool {
    expected
        .iter()
        .all(|(kind, nested, payload)| match held.get(kind) {
            Some(found) if nested => contains(Attrs(found), Attrs(payload)),
            Some(found) => found == payload,
            // what the kernel leaves out when it is zero: flags, codes
            None => payload.iter().all(|b| *b == 0),
        })
}
