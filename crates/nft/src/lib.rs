//! nf_tables over netlink: transactions that print themselves as nft text and encode themselves as
//! one batch. No exec, no libnftables: minimal hosts have neither, and an exec costs more than ten
//! times the transaction.

mod chain;
mod check;
mod element;
mod encode;
mod error;
mod field;
mod kind;
mod matching;
mod message;
mod read;
mod set;
mod settled;
mod socket;
mod statement;
mod table;
mod transaction;
mod uapi;
mod value;
#[doc(hidden)] // for fuzz/
pub mod wire;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use chain::{Chain, ChainKind, Hook, HookPoint};
pub use check::Invalid;
pub use element::{Data, Element};
pub use error::{Error, ErrorKind};
pub use field::Field;
pub use matching::{Concat, CtState, Match, Test};
pub use read::{ChainState, Counter, ElementCounter, HeldRule, RuleCounter};
pub use set::{DataType, KeyType, Set};
pub use socket::{Nft, in_transaction};
pub use statement::{Limit, Nat, Reject, Rule, Statement, Verdict};
pub use table::{Table, TableFamily};
pub use transaction::{Elements, Object, PlacedRule, SetName, Step, Transaction, Verb};
pub use value::{Bytes, Family, InterfaceName, Time, Value};
