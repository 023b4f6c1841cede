//! What the kernel holds: single objects by their name, and whether they are as they should be.
//! Nothing here lists a whole table, save where its name says so.

mod counters;
mod elements;
mod flowtable;
mod rules;

use super::chain::Hook;
use super::error::Error;
use super::socket::Nft;
use super::table::{Table, TableFamily};
use super::uapi::*;
use super::wire::{Attrs, Message};

pub use counters::{Counter, ElementCounter, RuleCounter};
pub use rules::HeldRule;

/// A chain that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// Its name.
    pub name: String,
    /// References to the chain and rules in it (`struct nft_chain`, `use`).
    pub uses: u32,
    /// The device of a netdev base chain.
    pub device: Option<String>,
    family: TableFamily,
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
        let expected = hook.point.number(self.family);
        self.hook
            .as_ref()
            .is_some_and(|(number, priority, kind, _)| {
                *number == expected && *priority == hook.priority && kind == hook.kind.as_str()
            })
            && self.device.as_deref() == hook.point.device()
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
        let answer = self.query(format_args!("{object}"), NFT_MSG_GETGEN, 0, false, |_| {})?;
        let number = answer.iter().find_map(|body| attrs(body).be32(NFTA_GEN_ID));
        number.ok_or_else(|| Error::Query {
            object: object.to_owned(),
            errno: std::io::Error::from_raw_os_error(libc::ENODATA),
        })
    }

    /// Whether a table is there, but none of its chains sees a packet: `flags dormant`.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn is_dormant(&mut self, table: &Table) -> Result<bool, Error> {
        let answer = self.query(
            format_args!("table {table}"),
            NFT_MSG_GETTABLE,
            table.family.number(),
            false,
            |w| w.str(NFTA_TABLE_NAME, &table.name),
        )?;
        let mut flags = answer
            .iter()
            .filter_map(|body| attrs(body).be32(NFTA_TABLE_FLAGS));
        Ok(flags.any(|flags| flags & NFT_TABLE_F_DORMANT != 0))
    }

    /// One chain, if it exists.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn chain(&mut self, table: &Table, name: &str) -> Result<Option<ChainState>, Error> {
        let answer = self.query(
            format_args!("chain {table} {name}"),
            NFT_MSG_GETCHAIN,
            table.family.number(),
            false,
            |w| {
                w.str(NFTA_CHAIN_TABLE, &table.name);
                w.str(NFTA_CHAIN_NAME, name);
            },
        )?;
        Ok(answer
            .iter()
            .find_map(|body| chain_state(table.family, attrs(body))))
    }

    /// All chains of a table, in no order.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn chains(&mut self, table: &Table) -> Result<Vec<ChainState>, Error> {
        let answer = self.query(
            format_args!("the chains of {table}"),
            NFT_MSG_GETCHAIN,
            table.family.number(),
            true,
            |w| {
                w.str(NFTA_CHAIN_TABLE, &table.name);
            },
        )?;
        Ok(answer
            .iter()
            .map(|body| attrs(body))
            .filter(|a| a.text(NFTA_CHAIN_TABLE) == Some(&table.name)) // older kernels tell of all tables
            .filter_map(|a| chain_state(table.family, a))
            .collect())
    }

    /// Whether a set or map exists.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn has_set(&mut self, table: &Table, name: &str) -> Result<bool, Error> {
        let answer = self.query(
            format_args!("set {table} {name}"),
            NFT_MSG_GETSET,
            table.family.number(),
            false,
            |w| {
                w.str(NFTA_SET_TABLE, &table.name);
                w.str(NFTA_SET_NAME, name);
            },
        )?;
        Ok(!answer.is_empty())
    }

    /// The names of all sets and maps of a table.
    ///
    /// # Errors
    /// [`Error::Query`], [`Error::Socket`]
    pub fn sets(&mut self, table: &Table) -> Result<Vec<String>, Error> {
        let answer = self.query(
            format_args!("the sets of {table}"),
            NFT_MSG_GETSET,
            table.family.number(),
            true,
            |w| {
                w.str(NFTA_SET_TABLE, &table.name);
            },
        )?;
        Ok(answer
            .iter()
            .map(|body| attrs(body))
            .filter(|a| a.text(NFTA_SET_TABLE) == Some(&table.name))
            .filter_map(|a| a.text(NFTA_SET_NAME).map(str::to_owned))
            .collect())
    }
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

fn chain_state(family: TableFamily, a: Attrs<'_>) -> Option<ChainState> {
    let hook = a.nest(NFTA_CHAIN_HOOK);
    Some(ChainState {
        name: a.text(NFTA_CHAIN_NAME)?.to_owned(),
        uses: a.be32(NFTA_CHAIN_USE)?,
        family,
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
