//! What nf_tables and the state directory hold.

use super::cni::{Attachment, NETWORK};
use super::{Node, Pod};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;

/// First 16 hex digits of SHA-256 over network, NUL, container ID, NUL, interface.
pub fn attachment_id(who: &Attachment) -> String {
    let digest = Sha256::digest(format!("{NETWORK}\0{}\0{}", who.container_id, who.ifname));
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Node {
    /// `nft list ruleset` as text.
    pub fn ruleset(&self) -> String {
        self.netns.exec("nft list ruleset")
    }

    /// Every table, chain, set, map and counter of ours, as "family kind name".
    pub fn objects(&self) -> BTreeSet<String> {
        let text = self.netns.exec("nft -j -t list ruleset");
        let listing: Value = serde_json::from_str(&text).expect("nft's JSON");
        let entries = listing["nftables"].as_array().expect("nft's list");
        entries
            .iter()
            .flat_map(|entry| entry.as_object().expect("an object"))
            .filter(|(kind, object)| {
                let table = if *kind == "table" {
                    &object["name"]
                } else {
                    &object["table"]
                };
                *kind != "metainfo" && *kind != "rule" && table == "egressway"
            })
            .map(|(kind, o)| format!("{} {kind} {}", text_of(&o["family"]), text_of(&o["name"])))
            .collect()
    }

    /// The elements of a set or map of ours as text; empty when there is none, or no such set.
    pub fn elements(&self, set: &str) -> String {
        for kind in ["map", "set"] {
            let output = self
                .netns
                .try_exec(&format!("nft list {kind} inet egressway {set}"));
            if output.code == Some(0) {
                let text = output.stdout_text();
                return text
                    .split_once("elements = {")
                    .map(|(_, rest)| rest.to_owned())
                    .unwrap_or_default();
            }
        }
        String::new()
    }

    /// Panics if anything that belongs to pods is left, in the kernel or in the state directory.
    pub fn assert_nothing_left(&self) {
        let of_pods = ["pod-", "pol-", "if-", "nd-", "bridge-", "port-"];
        let objects = self.objects();
        let left: Vec<&String> = objects
            .iter()
            .filter(|o| {
                of_pods.iter().any(|p| {
                    o.split(' ')
                        .next_back()
                        .is_some_and(|name| name.starts_with(p))
                })
            })
            .collect();
        assert!(
            left.is_empty(),
            "objects left: {left:?}\n{}",
            self.describe()
        );
        for table in ["inet", "netdev"] {
            let line = format!("nft list table {table} egressway");
            let text = self.netns.try_exec(&line).stdout_text();
            for block in text.split("\n\n") {
                let name = block.trim_start().lines().find(|line| line.contains('{'));
                let name = name.unwrap_or_default().trim();
                // What is inside the cluster belongs to no pod.
                let filled = block.contains("elements = {") && !block.contains("set inside");
                assert!(!filled, "{name} has elements\n{text}");
            }
        }
        assert_eq!(
            self.state_files(),
            Vec::<String>::new(),
            "files left in the state directory"
        );
    }

    /// Panics if anything carries the attachment's id.
    pub fn assert_nothing_of(&self, who: &Attachment) {
        let id = attachment_id(who);
        let ruleset = self.ruleset();
        assert!(
            !ruleset.contains(&id),
            "something of {id} is left:\n{ruleset}"
        );
        let file = self
            .state_dir()
            .join("attachments")
            .join(format!("{id}.json"));
        assert!(!file.exists(), "{file:?} is left");
    }

    /// The names below `attachments/` and `policies/` of the state directory.
    pub fn state_files(&self) -> Vec<String> {
        let dirs = ["attachments", "policies"].map(|dir| self.state_dir().join(dir));
        let entries = dirs.iter().flat_map(fs::read_dir).flatten();
        entries
            .map(|e| {
                e.expect("a directory entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    /// The names of all records.
    pub fn records(&self) -> Vec<String> {
        let mut files = self.state_files();
        files.retain(|name| name.ends_with(".json"));
        files
    }

    /// How many packets the counter in this pod's element of pod4 or pod6 has seen.
    pub fn judged(&self, pod: &Pod<'_>, v6: bool) -> u64 {
        let (set, address) = if v6 {
            ("pod6", pod.v6)
        } else {
            ("pod4", pod.v4)
        };
        let elements = self.elements(set);
        let (_, rest) = elements
            .split_once(&format!("{address} counter packets "))
            .unwrap_or_else(|| {
                panic!("no counted element of {address} in {set}: {elements}");
            });
        rest.split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a packet count")
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
