//! CHECK finds what is missing, and another ADD mends it.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use serde_json::{Value, json};

/// Whatever is taken away from the rules, CHECK sees it, and another ADD mends it.
#[test]
fn check_sees_what_is_missing() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().enforced("deny to metadata"));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to internet"));
    let id = pod.id();
    assert_eq!(pod.ours("CHECK").ok(), "");
    let policy_chain = object(&node, "inet chain pol-");
    let policy_set = object(&node, "inet set pol-");
    let inside = object(&node, "inet set inside4-");
    let bridge = object(&node, "netdev chain bridge-");
    let damages = [
        format!("delete element inet egressway pod4 {{ {} }}", pod.v4),
        format!("delete element inet egressway pod6 {{ {} }}", pod.v6),
        format!("flush chain inet egressway pod-{id}"),
        format!("insert rule inet egressway pod-{id} accept"),
        format!("flush chain inet egressway {policy_chain}"),
        format!("insert rule inet egressway {policy_chain} tcp dport 80 accept"),
        format!("flush chain netdev egressway if-{id}"),
        format!("insert rule netdev egressway if-{id} accept"),
        format!("flush chain netdev egressway if-{id}\ndelete chain netdev egressway if-{id}"),
        format!("flush chain netdev egressway nd-{id}"),
        format!("flush set inet egressway {policy_set}"),
        format!("delete element inet egressway {policy_set} {{ 169.254.169.254 }}"),
        format!("add element inet egressway {policy_set} {{ 192.0.2.200 }}"),
        format!("add element inet egressway {inside} {{ 198.51.100.0/24 }}"),
        format!("flush set inet egressway {inside}"),
        format!("insert rule netdev egressway {bridge} accept"),
        "chain inet egressway enforce { policy drop; }".to_owned(),
        "delete chain inet egressway enforce
         add chain inet egressway enforce { type filter hook prerouting priority 7; }"
            .to_owned(),
        "delete chain inet egressway egress-snat
         add chain inet egressway egress-snat { type nat hook postrouting priority 200; }"
            .to_owned(),
        format!("flush chain inet egressway {}", enforcing_chain(&node)),
        "delete table netdev egressway".to_owned(),
        "delete table inet egressway".to_owned(),
        "flush ruleset".to_owned(),
    ];
    for damage in damages {
        node.netns.nft(&damage);
        let check = pod.ours("CHECK");
        assert!(
            !check.succeeded(),
            "CHECK did not see: {damage}\n{}",
            node.describe()
        );
        assert!(check.error().code >= 100, "{damage}: {:?}", check.error());
        let add = pod.ours("ADD");
        assert!(
            add.succeeded(),
            "ADD after: {damage}: {}",
            add.output.stdout_text()
        );
        assert_eq!(
            add.ok().trim_end(),
            pod.prev_result.trim_end(),
            "ADD after: {damage}"
        );
        let check = pod.ours("CHECK");
        assert!(
            check.succeeded(),
            "CHECK after mending: {damage}\n{:?}\n{}",
            check.output,
            node.describe()
        );
    }
}

/// The rest of the first object whose name begins so, as "family kind name".
fn object(node: &Node, beginning: &str) -> String {
    let (kind, prefix) = beginning.rsplit_once(' ').expect("kind and name");
    let objects = node.objects();
    let found = objects.iter().find(|o| o.starts_with(beginning));
    let found = found.unwrap_or_else(|| panic!("no {kind} {prefix}*\n{}", node.describe()));
    found[kind.len() + 1..].to_owned()
}

/// The base chain at prerouting -99.
fn enforcing_chain(node: &Node) -> String {
    let listing: Value =
        serde_json::from_str(&node.netns.exec("nft -j list table inet egressway")).expect("JSON");
    listing["nftables"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["chain"])
        .find(|chain| chain["hook"] == "prerouting" && chain["prio"] == -99)
        .and_then(|chain| chain["name"].as_str())
        .unwrap_or_else(|| panic!("no chain at prerouting -99\n{}", node.describe()))
        .to_owned()
}

#[test]
fn check_of_a_pod_never_seen_succeeds() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    assert_eq!(pod.ours("CHECK").ok(), "");
}

/// A policy that another pod has, too, is not put there anew: what it counted stays.
#[test]
fn what_a_shared_policy_counted_stays() {
    let node = Node::new(NodeOptions::default());
    let spec = |name| PodSpec::new(name, Primary::Bridge).rules("deny 81/tcp");
    let counted = || {
        let rules = node.ruleset();
        let line = rules.lines().find(|line| line.contains("\"pod:1\""));
        line.expect("the rule's line").trim().to_owned()
    };
    let a = node.pod(spec("a"));
    let untouched = counted();
    check(
        &node,
        &[Probe::tcp(&a.netns, ip(EXT[0]), 81, Want::Silence)],
    );
    let before = counted();
    assert_ne!(before, untouched);
    node.netns.nft("add table ip others"); // now everything is compared
    node.pod(spec("b"));
    assert_eq!(counted(), before);
}

/// The cluster's networks change: the base is another one, for pods of before as well.
#[test]
fn another_base_leaves_nothing_of_the_one_before() {
    let node = Node::new(NodeOptions::default());
    let inside = || {
        let objects = node.objects();
        let sets = objects.iter().filter(|o| o.starts_with("inet set inside"));
        sets.cloned().collect::<Vec<_>>()
    };
    node.pod(PodSpec::new("a", Primary::Bridge));
    let before = inside();
    node.set_policy(&Policy::default().set("clusterCIDRs", json!(["10.244.0.0/16"])));
    node.pod(PodSpec::new("b", Primary::Bridge));
    let after = inside();
    assert_eq!((before.len(), after.len()), (2, 2), "{before:?}, {after:?}");
    assert!(before.iter().all(|set| !after.contains(set)), "{after:?}");
}
