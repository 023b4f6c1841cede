//! The built program as people and runtimes call it, and the documents that they read. No root, no network.

#![allow(clippy::unwrap_used)] // in tests

mod command;
mod docs;
mod explain;
mod explain_services;
mod lint;
mod lint_sarif;
mod lint_shapes;
mod output;
mod report;
mod samples;
mod tool;
