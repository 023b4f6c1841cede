//! The plugin is killed, or the kernel refuses, at every system call: all or nothing, and what comes
//! next works.

use crate::harness::cni::Call;
use crate::harness::egress::{has_egress_addresses, shop_node};
use crate::harness::strace::{Syscall, injected, on_nodes, syscalls};
use crate::harness::*;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

mod transactions;

fn node() -> Node {
    Node::new(NodeOptions::default())
}

pub fn spec() -> PodSpec {
    // A tier that passes, a set, a log: every kind of object.
    PodSpec::new("a", Primary::Bridge)
        .uncovered()
        .rules("deny 81/tcp to 192.0.2.1, 198.51.100.0/24 log\npass to private\nallow")
}

/// A DEL as after a failed ADD: without a result.
fn del(pod: &Pod<'_>) -> Call {
    pod.call_with("DEL", &pod.spec.annotations, None)
}

/// What is left of pods, in the kernel and in the state directory.
pub fn left(node: &Node) -> Vec<String> {
    let rules = node.ruleset();
    let words = [
        "chain pod-",
        "chain pol-",
        "set pol-",
        "chain if-",
        "chain nd-",
        "chain bridge-",
        "chain port-",
    ];
    let mut left: Vec<String> = rules
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .map(|line| line.trim().to_owned())
        .collect();
    // The two sets of addresses inside the cluster have elements.
    if rules.matches("elements = {").count() > 2 {
        left.push(rules.clone());
    }
    for dir in ["attachments", "policies", "links", "egress"] {
        let entries = fs::read_dir(node.state_dir().join(dir))
            .into_iter()
            .flatten();
        left.extend(entries.map(|e| e.expect("an entry").path().display().to_string()));
    }
    // No DEL knows of a file that never got its name; the address's next taker does, and sync.
    let is_for_sync = |path: &String| path.contains("/egress/.new-");
    if !left.is_empty() && left.iter().all(is_for_sync) {
        assert_eq!(node.tool("gc").code, Some(0));
        left.retain(|path| Path::new(path).exists());
    }
    left
}

/// Whether the pod is enforced; panics if it is by half.
pub fn enforced(pod: &Pod<'_>, what: &str) -> bool {
    if !pod.node.ruleset().contains(&pod.id()) {
        return false;
    }
    let check = pod.ours("CHECK");
    let file = pod
        .node
        .state_dir()
        .join("attachments")
        .join(format!("{}.json", pod.id()));
    assert!(
        check.succeeded() && file.exists(),
        "half of a pod after {what}: {:?}, record: {}\n{}",
        check.output,
        file.exists(),
        pod.node.describe()
    );
    true
}

/// What follows any fault: another ADD, every other time, then the runtime's DEL.
pub fn recovers(pod: &Pod<'_>, again: bool, what: &str) {
    if again {
        let add = pod.ours("ADD");
        assert!(
            add.succeeded(),
            "ADD after {what}: {:?}\n{}",
            add.output,
            pod.node.describe()
        );
        assert!(enforced(pod, what), "nothing by the ADD after {what}");
    }
    let run = pod.node.run(&del(pod));
    assert!(run.succeeded(), "DEL after {what}: {:?}", run.output);
    assert_eq!(
        left(pod.node),
        Vec::<String>::new(),
        "after {what}\n{}",
        pod.node.describe()
    );
}

/// How many were killed before the kernel had taken the transaction, and how many behind it.
fn assert_both(what: &str, outcomes: &[bool]) {
    let after = outcomes.iter().filter(|enforced| **enforced).count();
    println!(
        "{what}: {} kills without rules, {after} with all of them",
        outcomes.len() - after
    );
    assert!(
        after > 2 && outcomes.len() - after > 10,
        "{what}: {outcomes:?}"
    );
}

fn jobs(
    make: impl Fn() -> Node,
    call: impl Fn(&Pod<'_>) -> Call,
    added: bool,
) -> Vec<(usize, Syscall)> {
    let node = make();
    let pod = node.pod(spec());
    if added {
        pod.ours("ADD").ok();
    }
    let (calls, _) = syscalls(&node, &call(&pod));
    calls.into_iter().enumerate().collect()
}

#[test]
fn a_kill_at_any_system_call_of_add() {
    let jobs = jobs(node, |pod| pod.call("ADD"), false);
    let outcomes = on_nodes(&jobs, node, |node, jobs| {
        let pod = node.pod(spec());
        let mut outcomes = Vec::new();
        for (n, (name, nth)) in jobs {
            if n % 3 == 0 {
                node.netns.nft("flush ruleset"); // the base, too, is made under fire
            }
            let what = format!("a kill of ADD at {name} number {nth}");
            injected(
                node,
                &pod.call("ADD"),
                &format!("{name}:signal=KILL:when={nth}"),
            );
            outcomes.push(enforced(&pod, &what));
            recovers(&pod, n % 2 == 0, &what);
        }
        outcomes
    });
    assert_both("ADD", &outcomes);
}

#[test]
fn a_kill_at_any_system_call_of_del() {
    let jobs = jobs(node, del, true);
    let outcomes = on_nodes(&jobs, node, |node, jobs| {
        let pod = node.pod(spec());
        let mut outcomes = Vec::new();
        for (n, (name, nth)) in jobs {
            let what = format!("a kill of DEL at {name} number {nth}");
            pod.ours("ADD").ok();
            injected(node, &del(&pod), &format!("{name}:signal=KILL:when={nth}"));
            outcomes.push(if node.ruleset().contains(&pod.id()) {
                enforced(&pod, &what)
            } else {
                false
            });
            recovers(&pod, n % 2 == 0, &what);
        }
        outcomes
    });
    assert_both("DEL", &outcomes);
}

/// With egress addresses, at what others can see: packets, netlink, files.
#[test]
fn a_kill_while_an_egress_address_is_taken_or_given_back() {
    let visible = |(_, (name, _)): &(usize, Syscall)| {
        ["sendto", "sendmsg", "rename", "unlink"].contains(&name.as_str())
    };
    for verb in ["ADD", "DEL"] {
        let call = |pod: &Pod<'_>| {
            if verb == "ADD" {
                pod.call("ADD")
            } else {
                del(pod)
            }
        };
        let mut jobs = jobs(shop_node, call, verb == "DEL");
        jobs.retain(visible);
        on_nodes(&jobs, shop_node, |node, jobs| {
            let pod = node.pod(spec());
            for (n, (name, nth)) in jobs {
                let what = format!("a kill of {verb} at {name} number {nth}, with egress IPs");
                if verb == "DEL" {
                    pod.ours("ADD").ok();
                }
                injected(node, &call(&pod), &format!("{name}:signal=KILL:when={nth}"));
                enforced(&pod, &what);
                recovers(&pod, n % 4 == 0, &what);
                let addresses = egress::has_egress_addresses(node);
                assert_eq!(addresses, [false, false], "{what}\n{}", node.describe());
            }
            Vec::<()>::new()
        });
    }
}

/// The errors that are worth a try at a system call.
fn errors_of(name: &str) -> &'static [&'static str] {
    match name {
        "socket" => &["EMFILE", "ENOBUFS", "EPERM", "EAFNOSUPPORT", "ENOMEM"],
        "bind" | "setsockopt" | "getsockname" => &["EPERM", "ENOBUFS", "EADDRINUSE", "ENOPROTOOPT"],
        "sendto" | "sendmsg" => &[
            "EPERM",
            "ENOBUFS",
            "EAGAIN",
            "EINTR",
            "ENOMEM",
            "EBUSY",
            "ECONNREFUSED",
            "EMSGSIZE",
        ],
        "recvfrom" | "recvmsg" => &["ENOBUFS", "EAGAIN", "EINTR", "ENOMEM", "ECONNREFUSED"],
        "open" | "openat" => &[
            "EMFILE", "ENFILE", "ENOSPC", "EROFS", "EACCES", "EIO", "EINTR",
        ],
        "mkdir" | "rename" | "write" | "unlink" => &["ENOSPC", "EROFS", "EIO", "EDQUOT", "EACCES"],
        "flock" => &["ENOLCK", "EINTR", "EIO"],
        "setns" | "clone" | "clone3" => &["EPERM", "EINVAL", "ENOMEM", "EAGAIN"],
        "poll" | "ppoll" | "read" | "fstat" | "statx" | "newfstatat" | "stat" => {
            &["EIO", "ENOMEM", "EINTR"]
        }
        _ => &[],
    }
}

fn error_jobs(
    make: impl Fn() -> Node,
    call: impl Fn(&Pod<'_>) -> Call,
    added: bool,
) -> Vec<(usize, Syscall, &'static str)> {
    let jobs = jobs(make, call, added);
    let errors = |(n, (name, nth)): (usize, Syscall)| {
        // Each place meets one of them, each of them many places.
        let errors = errors_of(&name);
        let error = *errors.get(n % errors.len().max(1))?;
        Some((n, (name, nth), error))
    };
    jobs.into_iter().filter_map(errors).collect()
}

#[test]
fn an_error_of_any_system_call_of_add() {
    let jobs = error_jobs(node, |pod| pod.call("ADD"), false);
    let outcomes = on_nodes(&jobs, node, |node, jobs| {
        let pod = node.pod(spec());
        let mut outcomes = Vec::new();
        for (n, (name, nth), error) in jobs {
            if n % 3 == 0 {
                node.netns.nft("flush ruleset");
            }
            let what = format!("{error} of {name} number {nth} in ADD");
            let run = injected(
                node,
                &pod.call("ADD"),
                &format!("{name}:error={error}:when={nth}"),
            );
            let there = enforced(&pod, &what);
            // Success that can't be told is none, and the runtime's DEL follows.
            let untold = name == "write" && !run.succeeded();
            assert!(
                there == run.succeeded() || untold,
                "{what}: {:?}\n{}",
                run.output,
                node.describe()
            );
            if !run.succeeded() && !untold {
                assert!(!run.error().msg.is_empty(), "{what}");
            }
            outcomes.push(run.succeeded());
            recovers(&pod, n % 2 == 0, &what);
        }
        outcomes
    });
    let failed = outcomes.iter().filter(|succeeded| !**succeeded).count();
    println!("{failed} of {} errors made ADD fail", outcomes.len());
    assert!(failed > 20, "{failed} of {}", outcomes.len());
}

/// DEL does what it can, and the next one does the rest. While it has not, the pod is not heard.
#[test]
fn an_error_of_any_system_call_of_del() {
    let jobs = error_jobs(node, del, true);
    on_nodes(&jobs, node, |node, jobs| {
        let pod = node.pod(spec());
        for (n, (name, nth), error) in jobs {
            let what = format!("{error} of {name} number {nth} in DEL");
            pod.ours("ADD").ok();
            let run = injected(
                node,
                &del(&pod),
                &format!("{name}:error={error}:when={nth}"),
            );
            if !run.succeeded() && name != "write" {
                assert!(!run.error().msg.is_empty(), "{what}");
            }
            if node.ruleset().contains(&pod.id()) {
                assert!(enforced(&pod, &what));
            }
            recovers(&pod, n % 2 == 0, &what);
        }
        Vec::<()>::new()
    });
}
