//! The state directory as an older or a newer version of the program has left it: neither loses or misreads
//! what the other wrote.

use crate::harness::egress::shop_node;
use crate::harness::*;
use crate::sync::sync;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn document(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document = document(path);
    change(&mut document);
    fs::write(path, document.to_string()).expect("write");
}

fn record(pod: &Pod<'_>) -> PathBuf {
    let file = format!("attachments/{}.json", pod.id());
    pod.node.state_dir().join(file)
}

/// Documents of every kind, of a newer version and of one before there were any: whatever is called, not a byte
/// of them changes, the attachment is named, and all others come, go and are repaired.
#[test]
fn documents_of_another_version_are_left_alone() {
    let node = shop_node();
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 82/tcp"));
    let state = node.state_dir();
    let whole = fs::read(record(&a)).expect("a record");
    for version in [json!(99), Value::Null] {
        let others = |version: &Value, mut document: Value| {
            match version {
                Value::Null => drop(
                    document
                        .as_object_mut()
                        .expect("an object")
                        .remove("version"),
                ),
                version => document["version"] = version.clone(),
            }
            document.to_string()
        };
        let policy = others(&version, json!({"chain": "pol-0"})) + "\n{}";
        let files: BTreeMap<PathBuf, String> = [
            (record(&a), others(&version, document(&record(&a)))),
            (
                state.join("policies/00000000000000000000000000000000"),
                policy,
            ),
            (
                state.join("links/veth-other.json"),
                others(&version, json!({"who": ["0123456789abcdef"]})),
            ),
            (
                state.join("egress/172.30.0.77.json"),
                others(&version, json!({"holder": "shop"})),
            ),
            (
                state.join("namespaces/shop.json"),
                others(&version, json!({"said": 1})),
            ),
            (
                state.join("whole.json"),
                others(&version, json!({"parts": {}})),
            ),
        ]
        .into();
        for (path, text) in &files {
            fs::create_dir_all(path.parent().expect("a directory")).expect("make it");
            fs::write(path, text).expect("write");
        }
        let untouched = |what: &str| {
            for (path, text) in &files {
                let now = fs::read_to_string(path);
                let now = now.unwrap_or_else(|e| panic!("{what}, {}: {e}", path.display()));
                assert_eq!(now, *text, "{what}, {}", path.display());
            }
        };
        let (changes, good) = sync(&node);
        assert!(
            !good && changes.iter().all(|change| change["did"] == "left"),
            "{changes:#?}"
        );
        let named = format!("attachment shop/a ({})", a.id());
        assert!(
            changes.iter().any(|change| change["what"] == *named),
            "{changes:#?}"
        );
        untouched("sync");
        node.netns.nft("flush ruleset");
        let (changes, _) = sync(&node);
        let repaired = changes.iter().filter(|change| change["did"] == "repaired");
        assert!(repaired.count() >= 1, "{changes:#?}");
        assert_eq!(b.ours("CHECK").ok(), "");
        for words in ["show", "gc"] {
            let output = node.tool(words);
            assert!(
                output.code.is_some_and(|code| code < 2),
                "{words}: {output:?}"
            );
            untouched(words);
        }
        let c = node.pod(PodSpec::new("c", Primary::Calico).rules("deny 83/tcp"));
        assert_eq!(c.ours("CHECK").ok(), "");
        c.delete();
        node.run(&node.call("GC", "1.1.0", &[])).ok();
        untouched("ADD, DEL and GC");
        for path in files.keys() {
            fs::remove_file(path).expect("remove");
        }
        fs::write(record(&a), &whole).expect("write");
        assert!(sync(&node).1);
        assert_eq!(sync(&node), (vec![], true));
    }
    a.delete();
    b.delete();
    node.assert_nothing_left();
}

/// What a newer version has added to a document survives whoever changes the rest of it.
#[test]
fn fields_that_a_newer_version_has_added_survive() {
    let node = shop_node();
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let state = node.state_dir();
    let egress = state.join("egress/172.30.0.50.json");
    let link = state.join(format!("links/{}.json", a.veth));
    let files = [record(&a), egress.clone(), link, state.join("whole.json")];
    let added = json!({"by": ["a newer version", 7]});
    let survived = |what: &str| {
        for path in &files {
            assert_eq!(document(path)["added"], added, "{what}: {}", path.display());
        }
    };
    for path in &files {
        change(path, |document| document["added"] = added.clone());
    }
    a.ours("ADD").ok();
    survived("ADD");
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 82/tcp"));
    survived("another pod's ADD");
    b.delete();
    survived("another pod's DEL");
    node.netns.ip("addr del 172.30.0.50/32 dev eth0");
    assert!(sync(&node).1);
    survived("sync after an address has gone");
    a.delete();
    node.assert_nothing_left();
}
