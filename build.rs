//! Links the static program for a fixed address.
//!
//! Made to run anywhere in memory, it would have to correct each address that it contains whenever it
//! is started: a page fault and a copy for every page with one, and that took longer than anything else
//! an ADD does. docs/threat-model.md says what is given up.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if is_gnu && features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-static");
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
