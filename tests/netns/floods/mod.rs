//! A flood through every change that comes to a pod that runs: not one packet of a port that is denied
//! before and after arrives outside, and none that is allowed is lost or leaves from another address.
//!
//! `EGRESSWAY_FLOODS` makes as many changes in each test.

pub mod flood;
pub mod kinds;

use std::collections::BTreeSet;

use crate::harness::egress::{BOTH, shop_node};
use crate::harness::*;
use crate::sync::sync;
use serde_json::json;

use flood::flooded;
use kinds::{KINDS, Kind};

pub fn changes() -> usize {
    std::env::var("EGRESSWAY_FLOODS")
        .map_or(60, |text| text.parse().expect("EGRESSWAY_FLOODS: a number"))
}

/// `more`: two networks that are inside the cluster, too.
pub fn policy(more: [&str; 2]) -> Policy {
    let cluster = [
        "10.244.0.0/16",
        "10.96.0.0/12",
        "fd44::/16",
        "fd96::/112",
        "192.168.77.0/24",
        "fd77::/64",
    ];
    let cluster = [&cluster[..], &more[..]].concat();
    Policy::default()
        .namespace("shop", "egress-ip", BOTH)
        .set("clusterCIDRs", json!(cluster))
}

/// For ext: the addresses of [`flood::INSIDE`].
pub const INSIDE_ADDRESSES: &str =
    "addr add 192.168.77.1/32 dev lo\naddr add fd77::1/128 dev lo nodad";
pub const ONE: [&str; 2] = ["203.0.113.0/24", "2001:db8:1::/64"];
const OTHER: [&str; 2] = ["203.0.113.128/25", "2001:db8:2::/64"];

fn node() -> Node {
    let node = shop_node();
    node.set_policy(&policy(ONE));
    node.ext.ip(INSIDE_ADDRESSES);
    node
}

fn pod<'n>(node: &'n Node, primary: Primary, kind: &Kind) -> Pod<'n> {
    let pod = node.pod(PodSpec::new("a", primary).rules(&kind.pair()[0]));
    kind.assert_is_of(&pod);
    pod
}

/// The names of our chains or sets that begin so.
fn named(node: &Node, beginning: &str) -> Vec<String> {
    let names = node.objects().into_iter();
    let names = names.filter_map(|object| object.split(' ').nth(2).map(str::to_owned));
    names.filter(|name| name.starts_with(beginning)).collect()
}

/// The policy that there is.
fn policy_chain(node: &Node) -> String {
    let names = named(node, "pol-");
    let shortest = names.into_iter().min_by_key(String::len);
    shortest.expect("a policy")
}

fn assert_mended(pod: &Pod<'_>) {
    let (changes, good) = sync(pod.node);
    assert!(good && !changes.is_empty(), "{changes:?}");
    assert!(
        changes.iter().all(|change| change["did"] == "repaired"),
        "{changes:?}"
    );
}

#[test]
fn other_rules_let_nothing_out_and_lose_nothing() {
    for kind in KINDS {
        println!("{}", kind.name);
        let node = node();
        let mut pod = pod(&node, Primary::Ptp, &kind);
        let both = kind.pair();
        flooded(&mut pod, |pod| {
            for n in 0..changes() / KINDS.len() {
                pod.readd(&both[(n + 1) % 2]);
            }
        });
        let (policies, only) = (named(&node, "pol-"), policy_chain(&node));
        let of_only = policies.iter().all(|name| name.starts_with(&only));
        assert!(of_only, "of `allow`, and no other: {policies:?}");
    }
}

/// Whatever is damaged: what it is damaged by harms nobody, and has to go.
#[test]
fn mending_lets_nothing_out_and_loses_nothing() {
    for kind in KINDS {
        println!("{}", kind.name);
        let node = node();
        let mut pod = pod(&node, Primary::Bridge, &kind);
        let id = pod.id();
        let bridge = named(&node, "bridge-").concat();
        let inside = named(&node, "inside4-").concat();
        let policy = policy_chain(&node);
        // Behind a chain's last rule, which decides, or an address that nobody sends to.
        let mut damages = vec![
            format!("add rule inet egressway {policy} counter"),
            format!("add element inet egressway {inside} {{ 192.0.2.77 }}"),
            "add rule inet egressway enforce counter".to_owned(),
            format!("add rule inet egressway pod-{id} counter"),
            format!("add rule netdev egressway if-{id} counter"),
            format!("add rule netdev egressway nd-{id} counter"),
            format!("add rule netdev egressway {bridge} counter"),
            "add rule inet egressway leak-stop counter".to_owned(),
            "add rule inet egressway do-deny counter".to_owned(),
        ];
        // What a policy consists of is most of what there is to mend.
        let of_policy = format!("add rule inet egressway {policy} counter");
        damages.extend(std::iter::repeat_n(of_policy, 6));
        let times = changes() / KINDS.len();
        flooded(&mut pod, |pod| {
            for (n, damage) in damages.iter().cycle().take(times).enumerate() {
                node.netns.nft(damage);
                if n % 5 == 0 {
                    let said = pod.ours("CHECK").error().text();
                    assert!(said.contains("differs"), "{damage}: {said}");
                }
                assert_mended(pod);
                if n % 5 == 0 {
                    pod.ours("CHECK").ok();
                }
            }
        });
        assert_eq!(sync(&node), (vec![], true));
    }
}

#[test]
fn another_base_lets_nothing_out_and_loses_nothing() {
    let node = node();
    let mut pod = pod(&node, Primary::Ptp, &KINDS[1]);
    let mut bases = BTreeSet::new();
    flooded(&mut pod, |pod| {
        for n in 0..changes() {
            node.set_policy(&policy([OTHER, ONE][n % 2]));
            pod.ours("ADD").ok();
            if n < 2 {
                bases.extend(named(&node, "inside4-"));
            }
        }
    });
    assert_eq!(bases.len(), 2, "{bases:?}");
}

/// Another version's sets have other names, and its chains ask those.
#[test]
fn another_versions_base_lets_nothing_out_and_loses_nothing() {
    let node = node();
    let mut pod = pod(&node, Primary::Ptp, &KINDS[1]);
    flooded(&mut pod, |pod| {
        for _ in 0..changes() / 6 {
            turn_into_anothers(&node);
            pod.ours("ADD").ok();
            let inside = named(&node, "inside");
            assert!(
                inside.iter().all(|name| !name.contains("others")),
                "{inside:?}"
            );
        }
    });
}

/// The base's sets get other names: also step by step.
fn turn_into_anothers(node: &Node) {
    let list = |what: &str| node.netns.exec(&format!("nft -s list {what}"));
    let own = named(node, "inside");
    assert_eq!(own.len(), 2, "{own:?}");
    let others = |text: String| {
        own.iter().fold(text, |text, name| {
            text.replace(name.as_str(), &format!("{}-others", &name[..7]))
        })
    };
    for set in &own {
        let text = list(&format!("set inet egressway {set}"));
        node.netns.nft(&others(text));
    }
    for chain in ["egress-snat", "leak-stop"] {
        let text = list(&format!("chain inet egressway {chain}"));
        let text = format!("flush chain inet egressway {chain}\n{}", others(text));
        node.netns.nft(&text);
    }
    for set in &own {
        node.netns.nft(&format!("delete set inet egressway {set}"));
    }
}

/// Of the same bridge, the same policy and the same namespace.
#[test]
fn neighbours_that_come_and_go_let_nothing_out_and_lose_nothing() {
    let node = node();
    let kind = &KINDS[2];
    let mut pod = pod(&node, Primary::Bridge, kind);
    let both = kind.pair();
    flooded(&mut pod, |_| {
        for n in 0..changes() / 6 {
            let spec = PodSpec::new("b", Primary::Bridge).rules(&both[n % 2]);
            node.pod(spec).delete();
            assert_eq!(node.tool("gc").code, Some(0));
        }
    });
}
