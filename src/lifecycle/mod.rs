//! The life of an attachment: made, compared and repaired, removed. The CNI verbs, `sync` and `gc` all
//! go through here.

pub mod attach;
pub mod detach;
mod install;
pub mod policy;
pub mod reconcile;
