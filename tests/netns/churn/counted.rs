//! How much there is of everything: as much after the churn as before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::cni::binary;
use crate::harness::egress::uplink;
use crate::harness::*;

/// How often there is what: kinds of chains, rules, sets, elements, files, links, addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Holding(BTreeMap<String, usize>);

impl Holding {
    pub fn of(node: &Node) -> Self {
        let mut holding = Self(BTreeMap::new());
        let listing: Value =
            serde_json::from_str(&node.netns.exec("nft -j list ruleset")).expect("nft's JSON");
        for entry in listing["nftables"].as_array().expect("nft's list") {
            for (kind, object) in entry.as_object().expect("an object") {
                let name = object["chain"].as_str().or(object["name"].as_str());
                let name = kind_of(name.unwrap_or_default());
                let family = object["family"].as_str().unwrap_or_default();
                holding.add(format!("{family} {kind} {name}"), 1);
                if let Some(elements) = object["elem"].as_array() {
                    holding.add(format!("elements of {name}"), elements.len());
                }
            }
        }
        holding.files(&node.state_dir());
        let links = node.netns.ip_json("link show");
        holding.add("links".to_owned(), links.as_array().expect("links").len());
        holding.add("addresses of the uplink".to_owned(), uplink(node).len());
        holding
    }

    fn add(&mut self, what: String, many: usize) {
        *self.0.entry(what).or_default() += many;
    }

    fn files(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.files(&path);
            } else {
                let dir = dir.file_name().expect("a name").to_string_lossy();
                self.add(format!("files in {dir}"), 1);
            }
        }
    }
}

/// A name without the part that is an attachment's or a policy's own.
fn kind_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// The most memory that a call of a command needed, in KiB: the least of some calls, since how many
/// pages the kernel maps beside one that is touched differs.
fn peak(node: &Node, run: impl Fn(&[&str])) -> usize {
    let file = node.dir.path().join("peak");
    let path = file.to_str().expect("a path");
    let peaks = (0..5).map(|_| {
        run(&["/usr/bin/time", "-f", "%M", "-o", path]);
        let text = fs::read_to_string(&file).expect("what time wrote");
        text.trim().parse::<usize>().expect("KiB")
    });
    peaks.min().expect("some")
}

/// Of an ADD of a pod that is up.
pub fn peak_of_add(pod: &Pod<'_>) -> usize {
    peak(pod.node, |time| {
        pod.call("ADD").run_under(&pod.node.netns, time).ok();
    })
}

/// Of a `sync` that finds everything in order.
pub fn peak_of_sync(node: &Node) -> usize {
    let (tool, state) = (binary("egressway"), node.state_dir());
    peak(node, |time| {
        let line = format!(
            "{} {} sync --state-dir {}",
            time.join(" "),
            tool.display(),
            state.display()
        );
        node.netns.exec(&line);
    })
}

/// The processes that are still at work in the node's namespace.
pub fn processes(node: &Node) -> Vec<String> {
    let own = fs::metadata(node.netns.path()).expect("a namespace");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc") {
        let path = entry.expect("a process").path();
        // A process may end while it is looked at.
        let Ok(netns) = fs::metadata(path.join("ns/net")) else {
            continue;
        };
        if (netns.dev(), netns.ino()) == (own.dev(), own.ino()) {
            found.push(fs::read_to_string(path.join("comm")).unwrap_or_default());
        }
    }
    found
}
