//! The built program as people and runtimes call it, and the documents that they read. No root, no network.

#![allow(clippy::unwrap_used)] // in tests

use egressway::{plan, store};

mod command;
mod docs;
mod explain;
mod explain_services;
mod lint;
mod lint_sarif;
mod lint_shapes;
mod manifests;
mod manual;
mod output;
/// The records that the library's own tests have; its words for the rooms are these.
#[path = "../../src/attachment/test_support.rs"]
mod records;
mod report;
mod samples;
mod tool;
