//! Killed in the middle of a switch: the pod that runs has one of both policies, whole, and `sync` says which.

mod agent;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::floods::kinds::KINDS;
use crate::harness::egress::shop_node;
use crate::harness::strace::{
    Syscall, injected, injected_command, on_nodes, syscalls, syscalls_of,
};
use crate::harness::*;
use crate::sync::sync;

/// An address that nobody sends to: what harms nobody, and has to go.
const FOREIGN: &str = "192.0.2.77";

/// At what others can see: what is left is the same until the next of these.
fn visible(calls: Vec<Syscall>) -> Vec<Syscall> {
    let names = ["sendto", "sendmsg", "rename", "unlink", "link"];
    let is_visible = |(name, _): &Syscall| names.contains(&name.as_str());
    calls.into_iter().filter(is_visible).collect()
}

fn spec(rules: &str) -> PodSpec {
    PodSpec::new("a", Primary::Ptp).rules(&format!("deny 81/tcp to 192.0.2.1 log\n{rules}"))
}

/// The names and texts of our objects in the inet table, without the counters' values.
fn blocks(node: &Node) -> BTreeMap<String, String> {
    let text = node.netns.exec("nft -s list table inet egressway");
    let blocks = text.split("\n\t}\n").filter_map(|block| {
        let head = block
            .lines()
            .find(|line| line.ends_with(" {") && line.starts_with('\t'))?;
        let name = head.split_whitespace().nth(1)?;
        Some((name.to_owned(), block.to_owned()))
    });
    blocks.collect()
}

/// The policy that the pod's chain leads to.
fn led(node: &Node, pod: &Pod<'_>) -> String {
    let chain = &blocks(node)[&format!("pod-{}", pod.id())];
    let targets: Vec<&str> = chain
        .split_whitespace()
        .filter(|word| word.starts_with("pol-"))
        .collect();
    let [policy] = targets[..] else {
        panic!("the pod is led nowhere, or to several: {chain}");
    };
    policy.to_owned()
}

/// All that a policy consists of, under no name; without the foreign rule.
fn whole(node: &Node, policy: &str) -> String {
    let part = format!("{policy}-");
    let parts = blocks(node).into_iter();
    let parts = parts.filter(|(name, _)| name == policy || name.starts_with(&part));
    let text: Vec<String> = parts.map(|(_, block)| block).collect();
    let lines = text.join("\n").replace(policy, "POLICY");
    let lines = lines.lines().filter(|line| line.trim() != "counter");
    // The head of the table goes with whichever block is the first of it.
    let lines = lines.filter(|line| line.starts_with('\t'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Of each pod, which has one of its own, one policy in the kernel and one in the state directory, and nothing half-done.
fn assert_policies(node: &Node, pods: &[&Pod<'_>], what: &str) {
    let led: Vec<String> = pods.iter().map(|pod| led(node, pod)).collect();
    let others = blocks(node).into_keys().filter(|name| {
        let is_of = |policy: &String| name == policy || name.starts_with(&format!("{policy}-"));
        name.starts_with("pol-") && !led.iter().any(is_of)
    });
    let others: Vec<String> = others.collect();
    assert_eq!(others, Vec::<String>::new(), "{what}");
    let files = fs::read_dir(node.state_dir().join("policies")).expect("policies");
    assert_eq!(files.count(), pods.len(), "{what}");
}

#[test]
fn a_kill_while_another_add_brings_other_rules() {
    let both = KINDS[3].pair();
    let jobs = {
        let node = shop_node();
        let mut pod = node.pod(spec(&both[0]));
        pod.spec = spec(&both[1]);
        visible(syscalls(&node, &pod.call("ADD")).0)
    };
    let outcomes = on_nodes(&jobs, shop_node, |node, jobs| {
        let mut pod = node.pod(spec(&both[0]));
        let first = whole(node, &led(node, &pod));
        pod.spec = spec(&both[1]);
        pod.ours("ADD").ok();
        let wholes = [first, whole(node, &led(node, &pod))];
        assert_ne!(wholes[0], wholes[1]);
        let is = |node: &Node, pod: &Pod<'_>, what: &str| {
            let there = whole(node, &led(node, pod));
            let found = wholes.iter().position(|policy| *policy == there);
            found.unwrap_or_else(|| panic!("none of both after {what}\n{}", node.describe()))
        };
        let mut now = 1;
        let mut outcomes = Vec::new();
        for (name, nth) in jobs {
            let what = format!("a kill at {name} number {nth}");
            pod.spec = spec(&both[1 - now]);
            let kill = format!("{name}:signal=KILL:when={nth}");
            injected(node, &pod.call("ADD"), &kill);
            outcomes.push(is(node, &pod, &what) != now);
            let (changes, good) = sync(node);
            assert!(good, "{what}: {changes:?}");
            pod.ours("CHECK").ok();
            now = is(node, &pod, &what);
            assert_policies(node, &[&pod], &what);
            assert_eq!(sync(node), (vec![], true), "a second time after {what}");
        }
        pod.delete();
        node.assert_nothing_left();
        outcomes
    });
    let after = outcomes.iter().filter(|switched| **switched).count();
    println!(
        "{after} of {} were killed behind the switch",
        outcomes.len()
    );
    assert!(after > 2 && outcomes.len() - after > 10, "{outcomes:?}");
}

/// The sets of destinations inside the cluster that the base's chains ask, each by its family.
fn asked(node: &Node) -> BTreeMap<&'static str, BTreeSet<String>> {
    let blocks = blocks(node);
    let mut asked = BTreeMap::new();
    for chain in ["egress-snat", "leak-stop"] {
        for word in blocks[chain].split_whitespace() {
            for family in ["inside4", "inside6"] {
                let Some(set) = word.strip_prefix('@').filter(|set| set.starts_with(family)) else {
                    continue;
                };
                let elements = node.elements(set);
                let elements = elements.split([',', ' ', '\n', '\t', '}']);
                let elements = elements.filter(|e| !e.is_empty() && *e != FOREIGN);
                let elements: BTreeSet<String> = elements.map(str::to_owned).collect();
                let before = asked.insert(family, elements.clone());
                assert!(before.is_none_or(|before| before == elements), "{set}");
            }
        }
    }
    asked
}

#[test]
fn a_kill_while_sync_mends() {
    let rules = &KINDS[3].pair()[0];
    let command = |node: &Node| {
        let file = node.dir.path().join("policy.yaml");
        node.tool_command(&format!("sync --policy-file {}", file.display()))
    };
    let damage = |node: &Node, pod: &Pod<'_>, of_base: bool| {
        let policy = led(node, pod);
        let set = blocks(node)
            .into_keys()
            .find(|name| name.starts_with("inside4-"));
        let set = set.expect("a set");
        node.netns.nft(&match of_base {
            true => format!("add element inet egressway {set} {{ {FOREIGN} }}"),
            false => format!("add rule inet egressway {policy} counter"),
        });
    };
    let mut jobs: Vec<(bool, Syscall)> = Vec::new();
    for of_base in [false, true] {
        let node = shop_node();
        let pod = node.pod(spec(rules));
        damage(&node, &pod, of_base);
        let calls = visible(syscalls_of(&node, &command(&node)));
        jobs.extend(calls.into_iter().map(|call| (of_base, call)));
    }
    let outcomes = on_nodes(&jobs, shop_node, |node, jobs| {
        let pod = node.pod(spec(rules));
        let (policy, inside) = (whole(node, &led(node, &pod)), asked(node));
        let objects = node.objects();
        let mut outcomes = Vec::new();
        for (of_base, (name, nth)) in jobs {
            let what = format!("a kill of sync at {name} number {nth}, of the base: {of_base}");
            damage(node, &pod, *of_base);
            let kill = format!("{name}:signal=KILL:when={nth}");
            injected_command(node, &command(node), &kill);
            assert_eq!(whole(node, &led(node, &pod)), policy, "{what}");
            assert_eq!(asked(node), inside, "{what}");
            let (changes, good) = sync(node);
            assert!(good, "{what}: {changes:?}");
            outcomes.push(changes.is_empty());
            pod.ours("CHECK").ok();
            assert_policies(node, &[&pod], &what);
            assert_eq!(node.objects(), objects, "{what}");
            assert_eq!(sync(node), (vec![], true), "a second time after {what}");
        }
        pod.delete();
        node.assert_nothing_left();
        outcomes
    });
    let done = outcomes.iter().filter(|done| **done).count();
    println!("{done} of {} were killed behind all of it", outcomes.len());
    assert!(done > 0 && outcomes.len() - done > 10, "{outcomes:?}");
}
