//! What may leave a pod: the rules' grammar, the tiers they come in, and which rule decides a packet.
//!
//! ```
//! use egressway_rules::effective::{Tier, TierRules};
//!
//! let rules = TierRules::parse(Tier::Pod, "web", "ALLOW 443/tcp to 203.0.113.7/32", false)?;
//! assert_eq!(rules.rules[0].to_string(), "allow 443/tcp to 203.0.113.7");
//! # Ok::<(), egressway_rules::fault::Faults>(())
//! ```
//!
//! Nothing in here does I/O, and nothing in here knows a kernel word.

pub mod builtin;
mod canonical;
pub mod class;
pub mod effective;
pub mod evaluate;
pub mod facts;
pub mod fault;
pub mod grammar;
pub mod inside;
pub mod length;
pub mod lexer;
pub mod limits;
pub mod line;
pub mod lint;
pub mod nat64;
pub mod nearest;
pub mod pattern;
pub mod places;
pub mod protocol;
mod region;
pub mod rule;
pub mod set;
pub mod stored;
pub mod verdict;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
