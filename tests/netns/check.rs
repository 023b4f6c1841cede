//! CHECK finds what is missing, and another ADD mends it.

use crate::harness::*;
use serde_json::Value;

/// Whatever is taken away from the rules, CHECK sees it, and another ADD mends it.
#[test]
fn check_sees_what_is_missing() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().enforced("deny to metadata"));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to internet"));
    let id = pod.id();
    assert_eq!(pod.ours("CHECK").ok(), "");
    let policy_chain = node
        .objects()
        .iter()
        .find_map(|o| {
            o.strip_prefix("inet chain ")
                .filter(|name| name.starts_with("pol-"))
                .map(str::to_owned)
        })
        .unwrap_or_else(|| panic!("no policy chain\n{}", node.describe()));
    let damages = [
        format!("delete element inet egress-cni pod4 {{ {} }}", pod.v4),
        format!("delete element inet egress-cni pod6 {{ {} }}", pod.v6),
        format!("flush chain inet egress-cni pod-{id}"),
        format!("insert rule inet egress-cni pod-{id} accept"),
        format!("flush chain inet egress-cni {policy_chain}"),
        format!("insert rule inet egress-cni {policy_chain} tcp dport 80 accept"),
        format!("flush chain netdev egress-cni if-{id}"),
        format!("insert rule netdev egress-cni if-{id} accept"),
        format!("flush chain netdev egress-cni if-{id}\ndelete chain netdev egress-cni if-{id}"),
        format!("flush chain netdev egress-cni nd-{id}"),
        format!("flush chain inet egress-cni {}", enforcing_chain(&node)),
        "delete table netdev egress-cni".to_owned(),
        "delete table inet egress-cni".to_owned(),
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

/// The base chain at prerouting -99.
fn enforcing_chain(node: &Node) -> String {
    let listing: Value =
        serde_json::from_str(&node.netns.exec("nft -j list table inet egress-cni")).expect("JSON");
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
