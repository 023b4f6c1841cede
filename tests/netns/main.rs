//! End-to-end tests: real namespaces, real reference CNI plugins, real packets.
//!
//! They need root, iproute2, nft, containernetworking-plugins in /usr/lib/cni and scapy. With `EGRESSWAY_KEEP=1`, the
//! namespaces of a failed test stay, and the command to enter each is printed.

// `family` is an index into several pairs of addresses at once.
#![allow(clippy::needless_range_loop)]

mod api;
mod attack;
mod bad_input;
mod bad_policy;
mod changed;
mod check;
mod churn;
mod concurrency;
mod egress_claims;
mod egress_ip;
mod evasion;
mod faults;
mod faults_state;
mod faults_switch;
mod floods;
mod flows;
mod forged;
mod former;
mod harness;
mod heal;
mod helpers;
mod honest;
mod install;
mod kubernetes;
mod load;
mod logging;
mod lookups;
mod memory;
mod metrics;
mod names;
mod neighbours;
mod order;
mod other_lists;
mod ownership;
mod packets;
mod primaries;
mod resolver;
mod rules;
mod self_check;
mod shown;
mod spoof;
mod suggest;
mod sync;
mod tool;
mod trickle;
mod verbs;
mod verdicts;
mod versions;
mod words;
