//! The agent is killed while it gives running pods other rules.

use std::cell::RefCell;

use super::*;
use crate::floods::flood::flooded_until;
use crate::floods::{INSIDE_ADDRESSES, ONE, policy};
use crate::harness::agent::NodeAgent;
use crate::harness::strace::{Attached, of_thread, on_some_nodes};
use crate::install::{get, until};

const KIND: &crate::floods::kinds::Kind = &KINDS[3];

/// Both lists deny what the flood may not send, and are those of all of the namespace's pods.
fn write(node: &Node, rules: &str) {
    node.set_policy(&policy(ONE).namespace("shop", "default-rules", rules));
}

fn new_node() -> Node {
    let node = shop_node();
    node.ext.ip(INSIDE_ADDRESSES);
    node
}

/// Two pods that have two policies.
fn pods(node: &Node) -> [Pod<'_>; 2] {
    let spec = |name: &str, rules: &str| PodSpec::new(name, Primary::Ptp).rules(rules);
    [
        node.pod(spec("a", "deny 81/tcp to 192.0.2.1; pass")),
        node.pod(spec("b", "deny 82/tcp to 192.0.2.1; pass")),
    ]
}

fn started(node: &Node) -> NodeAgent {
    let agent = NodeAgent::start(node);
    until("the agent is ready", || {
        get(&node.netns, "/readyz").0 == 200
    });
    agent
}

/// The thread that touches the node: the only one beside the main thread that is called as the program.
fn worker(agent: &NodeAgent) -> u32 {
    let tasks = format!("/proc/{}/task", agent.pid());
    let mut threads = fs::read_dir(tasks).expect("threads").filter_map(|task| {
        let task = task.expect("a thread");
        let number: u32 = task.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        (number != agent.pid() && name.trim() == "egressway").then_some(number)
    });
    threads.next().expect("the worker")
}

/// Which of two texts each pod has, whole; nothing else can be seen of it.
fn has(node: &Node, pods: [&Pod<'_>; 2], wholes: &[[String; 2]; 2], what: &str) -> [usize; 2] {
    let place = |n: usize| {
        // An agent that goes on may take a policy away between the two questions.
        let there = loop {
            let policy = led(node, pods[n]);
            let there = whole(node, &policy);
            if led(node, pods[n]) == policy {
                break there;
            }
        };
        let found = wholes.iter().position(|both| both[n] == there);
        found.unwrap_or_else(|| {
            panic!(
                "{} has none of both after {what}: {there}\n{}",
                pods[n].spec.name,
                node.describe()
            )
        })
    };
    [place(0), place(1)]
}

#[test]
fn a_kill_of_the_agent_while_running_pods_get_other_rules() {
    let texts = KIND.pair();
    let jobs = {
        let node = new_node();
        write(&node, &texts[0]);
        let pods = pods(&node);
        let agent = started(&node);
        let before = led(&node, &pods[0]);
        let file = node.dir.path().join("trace");
        let traced = Attached::to(agent.pid(), &["-o", file.to_str().expect("a path")]);
        write(&node, &texts[1]);
        until("other rules are in force", || {
            led(&node, &pods[0]) != before
        });
        until("it is said", || {
            !agent.lines("other rules are in force").is_empty()
        });
        drop(traced);
        let text = fs::read_to_string(&file).expect("a trace");
        visible(of_thread(&text, worker(&agent)))
    };
    assert!(jobs.len() > 20, "{jobs:?}");
    let outcomes = on_some_nodes(2, &jobs, new_node, |node, jobs| {
        write(node, &texts[0]);
        let [mut a, b] = pods(node);
        let agent = RefCell::new(Some(started(node)));
        // Of the flooding pod, for the others: the same attachment.
        let both = |a: &Pod<'_>| [whole(node, &led(node, a)), whole(node, &led(node, &b))];
        let first = both(&a);
        write(node, &texts[1]);
        until("other rules are in force", || {
            let now = both(&a);
            now[0] != first[0] && now[1] != first[1]
        });
        let wholes = [first, both(&a)];
        let mut outcomes = Vec::new();
        let kills = |a: &mut Pod<'_>| {
            let mut now = 1;
            for (n, (name, nth)) in jobs.enumerate() {
                let what = format!("a kill at {name} number {nth}");
                now = 1 - now;
                let mut killed = agent.take().expect("one runs");
                {
                    let kill = format!("{name}:signal=KILL:when={nth}");
                    let _strace = Attached::injecting(killed.pid(), &kill);
                    write(node, &texts[now]);
                    until(&format!("{what}: it is dead, or done"), || {
                        killed.has_ended() || has(node, [a, &b], &wholes, &what) == [now; 2]
                    });
                }
                drop(killed);
                let is = has(node, [a, &b], &wholes, &what);
                assert_eq!(is[0], is[1], "one transaction leads both over: {what}");
                outcomes.push(is == [now; 2]);
                if n % 2 == 0 {
                    let (changes, good) = sync(node);
                    assert!(good, "{what}: {changes:?}");
                    let led_to = has(node, [a, &b], &wholes, &what);
                    for pod in [&*a, &b] {
                        pod.ours("CHECK").ok();
                    }
                    assert_policies(node, &[a, &b], &what);
                    assert_eq!(sync(node), (vec![], true), "a second time after {what}");
                    // All records are written before the one transaction that leads the pods over.
                    assert!(led_to[0] == is[0] || led_to[0] == now, "{what}");
                }
                agent.replace(Some(started(node)));
                until(&format!("{what}: the next agent finishes it"), || {
                    has(node, [a, &b], &wholes, &what) == [now; 2]
                });
                for pod in [&*a, &b] {
                    until(&format!("{what}: nothing differs"), || {
                        pod.ours("CHECK").succeeded()
                    });
                }
                assert_policies(node, &[a, &b], &what);
            }
        };
        flooded_until(&mut a, kills, |_| {
            write(node, "allow; deny to 198.51.100.3");
            let rules = || node.netns.exec("nft list table inet egressway");
            until("it may send everything", || {
                rules().contains("198.51.100.3")
            });
        });
        outcomes
    });
    let after = outcomes.iter().filter(|switched| **switched).count();
    println!(
        "{after} of {} were killed behind the switch",
        outcomes.len()
    );
    assert!(after > 2 && outcomes.len() - after > 10, "{outcomes:?}");
}
