//! nf_tables over netlink: transactions that print themselves as nft text and encode themselves as
//! one batch. No exec, no libnftables: minimal hosts have neither, and an exec costs more than ten
//! times the transaction.

mod chain;
mod check;
mod encode;
mod error;
mod load;
mod matching;
mod message;
mod read;
mod set;
mod socket;
mod statement;
mod table;
mod transaction;
mod uapi;
#[doc(hidden)] // for fuzz/
pub mod wire;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainKind, Hook, HookPoint};
pub use check::Invalid;
pub use error::{Error, ErrorKind};
pub use matching::{Concat, CtState, Family, Field, Match, Test, Value};
pub use read::{ChainState, Counter, ElementCounter, HeldRule, RuleCounter};
pub use set::{Cell, DataType, Element, KeyType, Set};
pub use socket::{Nft, in_transaction};
pub use statement::{Rule, Statement, Verdict};
pub use table::{Table, TableFamily};
pub use transaction::{Elements, Object, PlacedRule, SetName, Step, Transaction, Verb};
