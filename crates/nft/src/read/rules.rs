//! Rules of chains.

use super::attrs;
use super::counters::comment;
use crate::encode;
use crate::error::Error;
use crate::socket::Nft;
use crate::statement::Rule;
use crate::table::Table;
use crate::uapi::*;
use crate::wire::{Attrs, Writer};

/// A rule that the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRule {
    /// The kernel's number for it, unique in its table: what [`PlacedRule::at`](crate::PlacedRule::at)
    /// takes.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
}

impl Nft {
    /// The rules of a chain, in their order; none if there is no such chain.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn rules(&mut self, table: &Table, chain: &str) -> Result<Vec<HeldRule>, Error> {
        let rules = self.dump_rules(table, chain)?;
        let held = |body: &Vec<u8>| {
            Some(HeldRule {
                handle: attrs(body).be64(NFTA_RULE_HANDLE)?,
                comment: attrs(body).get(NFTA_RULE_USERDATA).and_then(comment),
            })
        };
        Ok(rules.iter().filter_map(held).collect())
    }

    /// How many rules a chain has.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn rule_count(&mut self, table: &Table, chain: &str) -> Result<u32, Error> {
        Ok(self.dump_rules(table, chain)?.len() as u32)
    }

    /// The chain to which a chain's last rule goes.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn goto_of(&mut self, table: &Table, chain: &str) -> Result<Option<String>, Error> {
        let rules = self.dump_rules(table, chain)?;
        Ok(rules.last().and_then(|body| targets(attrs(body)).last()))
    }

    /// The chains to which the rules of `chain` jump or go, in their order.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn targets(&mut self, table: &Table, chain: &str) -> Result<Vec<String>, Error> {
        let rules = self.dump_rules(table, chain)?;
        Ok(rules.iter().flat_map(|body| targets(attrs(body))).collect())
    }

    /// How many times the rules of `chain` jump or go to `target`.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn references(&mut self, table: &Table, chain: &str, target: &str) -> Result<u32, Error> {
        let all = self.targets(table, chain)?;
        Ok(all.iter().filter(|name| *name == target).count() as u32)
    }

    /// Whether a chain's rules are these, in this order; counters may have counted.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn rules_are(&mut self, table: &Table, chain: &str, rules: &[Rule]) -> Result<bool, Error> {
        let held = self.dump_rules(table, chain)?;
        Ok(held.len() == rules.len()
            && held.iter().zip(rules).all(|(held, rule)| {
                let mut w = Writer::default();
                encode::expressions(&mut w, table.family, rule);
                attrs(held)
                    .nest(NFTA_RULE_EXPRESSIONS)
                    .is_some_and(|held| same_expressions(Attrs(&w.bytes), held))
            }))
    }

    pub(super) fn dump_rules(&mut self, table: &Table, chain: &str) -> Result<Vec<Vec<u8>>, Error> {
        let family = table.family.number();
        let object = format_args!("the rules of {table} {chain}");
        let mut answer = self.query(object, NFT_MSG_GETRULE, family, true, |w| {
            w.str(NFTA_RULE_TABLE, &table.name);
            w.str(NFTA_RULE_CHAIN, chain);
        })?;
        answer.retain(|body| {
            let a = attrs(body);
            a.text(NFTA_RULE_TABLE) == Some(&table.name) && a.text(NFTA_RULE_CHAIN) == Some(chain)
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
