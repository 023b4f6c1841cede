//! The life of an attachment: made, compared and repaired, removed. The CNI verbs, `sync` and `gc` all
//! go through here.

pub mod attach;
mod by_leases;
pub mod detach;
pub mod heal;
mod install;
mod named;
mod node;
mod owners;
pub mod policy;
pub mod reconcile;
pub mod switch;

pub use by_leases::ByLeases;
