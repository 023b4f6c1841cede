//! What may leave a pod: the rules' grammar, the tiers they come in, and which rule decides a packet.
//!
//! Nothing in here does I/O, and nothing in here knows a kernel word.

mod canonical;
pub mod class;
pub mod effective;
pub mod evaluate;
pub mod fault;
pub mod grammar;
pub mod inside;
pub mod lint;
pub mod nearest;
pub mod protocol;
mod region;
pub mod rule;
pub mod set;
pub mod stored;
pub mod verdict;
