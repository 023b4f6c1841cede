//! The resolver of pods whose rules name domains: it relays their questions to the cluster's DNS, and lets an answer
//! out when its addresses are in the kernel's sets.
//!
//! ```text
//! pod ── question ──> udp, tcp ── another id, another port ──> cluster DNS
//!                        │ relay         how many may be under way
//!                     resolver           whose question, may it be asked, what follows from the answer
//!                      │    ├ wanted     groups of names, and pods, from the state directory
//!                      │    ├ known      which addresses are in which set, for whom, until when
//!                      │    ├ asked      what no rule has
//!                      │    └ never      what no name opens
//!                    learn               one packet puts one address into one set
//! ```
//!
//! Pods are led here by nf_tables only while somebody listens: if this ends, questions go to the cluster's DNS by
//! themselves, what is known stays allowed until its time, and what is new stays closed.

pub mod counts;
pub mod learn;
pub mod message;
pub mod never;
pub mod resolver;
pub mod serve;
pub mod told;

mod asked;
mod known;
mod life;
mod listen;
mod relay;
mod tcp;
#[cfg(test)]
mod test_support;
mod udp;
mod wanted;

pub use resolver::Resolver;
pub use serve::ResolverThreads;
