//! nf_tables over netlink: operations that print themselves as nft text and encode themselves as
//! one transaction. No exec, no libnftables: minimal hosts have neither, and an exec costs more
//! than ten times the transaction.

mod counters;
mod encode;
mod flowtable;
mod load;
mod matching;
mod message;
mod object;
mod read;
mod socket;
mod statement;
mod uapi;
#[doc(hidden)] // for fuzz/
pub mod wire;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use counters::{Counter, ElementCounter, RuleCounter};
pub use matching::{Concat, CtState, Family, Field, Match, Test, Value};
pub use object::{
    Cell, ChainKind, DataType, Element, Hook, HookPoint, KeyType, Op, Set, TABLE, Table, text,
};
pub use read::ChainState;
pub use socket::{Error, Nft, in_transaction};
pub use statement::{Rule, Statement, Verdict};
