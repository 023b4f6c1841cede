//! nf_tables over netlink: transactions that print themselves as nft text and encode themselves as
//! one batch. No exec, no libnftables: minimal hosts have neither, and an exec costs more than ten
//! times the transaction.
//!
//! A [`Transaction`] is filled step by step, and [`Nft::commit`] hands it to the kernel of the network namespace
//! in which the [`Nft`] was opened. Durations are exact to a millisecond, as the kernel's; names have at most 255
//! bytes, comments and log prefixes 127, names of devices 15. What breaks that is an [`Invalid`] step, and the
//! whole transaction is not sent; what the kernel refuses is an [`Error`] that names the step.

mod chain;
mod check;
mod element;
mod encode;
mod error;
mod field;
mod key;
mod kind;
mod matching;
mod message;
mod read;
mod set;
mod settled;
mod socket;
mod statement;
mod step;
mod table;
mod transaction;
mod uapi;
mod value;
mod watch;
#[doc(hidden)] // for fuzz/
pub mod wire;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

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
pub use step::{Elements, Object, PlacedRule, SetName, Step, Verb};
pub use table::{Table, TableFamily};
pub use transaction::Transaction;
pub use value::{Bytes, Family, InterfaceName, Time, Value};
pub use watch::{Changed, Heard, Watch};
