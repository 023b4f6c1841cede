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

/// Which of the messages that a call sends is its transaction: the longest of the main thread.
fn transaction(trace: &str) -> usize {
    let main = trace.split(' ').next().expect("a process id");
    let sent: Vec<usize> = trace
        .lines()
        .filter(|line| line.starts_with(main) && line.contains(" sendto("))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        })
        .collect();
    let longest = sent.iter().enumerate().max_by_key(|(_, length)| **length);
    longest.expect("a message").0 + 1
}

/// Before any DEL: the runtime's may come late.
#[test]
fn a_refused_transaction_leaves_what_was_before() {
    let node = shop_node();
    let other = node.pod(PodSpec::new("b", Primary::Bridge).rules("deny 82/tcp"));
    other.delete();
    // No rule can lead to a chain that has a hook.
    let refuse = |chain: &str| {
        node.netns.nft(&format!(
            "add chain inet egressway {chain} {{ type filter hook forward priority 7; }}"
        ));
    };
    let allow = |chain: &str| {
        let line = format!("nft delete chain inet egressway {chain}");
        assert_eq!(node.netns.try_exec(&line).code, Some(0));
    };
    let pod = node.pod(spec());
    refuse(&format!("pod-{}", pod.id()));
    assert_eq!(pod.ours("ADD").error().code, 103);
    assert_eq!(has_egress_addresses(&node), [false, false]);
    allow(&format!("pod-{}", pod.id()));

    // The same where there is something before: rules that another ADD would have changed.
    let mut pod = pod;
    pod.ours("ADD").ok();
    let file = format!("attachments/{}.json", pod.id());
    let record = || fs::read_to_string(node.state_dir().join(&file)).expect("a record");
    let (before, old) = (record(), pod.spec.clone());
    // Which of its messages the transaction is, as it is for a pod alike.
    let mut alike = node.pod(spec());
    alike.ours("ADD").ok();
    alike.spec = alike.spec.clone().rules("deny 82/tcp");
    let (_, trace) = syscalls(&node, &alike.call("ADD"));
    alike.ours("DEL").ok();
    let refused = format!("sendto:error=ENOMEM:when={}", transaction(&trace));
    pod.spec = old.clone().rules("deny 82/tcp");
    assert_eq!(
        injected(&node, &pod.call("ADD"), &refused).error().code,
        103
    );
    assert_eq!(record(), before);
    assert_eq!(has_egress_addresses(&node), [true, true]);
    assert!(enforced(&pod, "a refused change"));
    recovers(&pod, true, "a refused change");
}

/// What was whole when ADD looked is flushed before its transaction.
#[test]
fn what_others_do_in_the_last_moment_is_noticed() {
    let node = node();
    let first = node.pod(spec());
    first.ours("ADD").ok();
    let pod = node.pod(spec());
    let (_, trace) = syscalls(&node, &pod.call("ADD"));
    let inject = format!("sendto:delay_enter=3000000:when={}", transaction(&trace));
    for damage in [
        "flush chain inet egressway do-deny",
        "flush table inet egressway",
    ] {
        pod.ours("DEL").ok();
        assert_eq!(first.ours("CHECK").ok(), "");
        let record = format!("attachments/{}.json", pod.id());
        let record = node.state_dir().join(record);
        thread::scope(|scope| {
            let add = scope.spawn(|| injected(&node, &pod.call("ADD"), &inject));
            while !record.exists() {
                assert!(!add.is_finished(), "ADD wrote no record");
                thread::sleep(Duration::from_millis(5));
            }
            node.netns.nft(damage);
            let run = add.join().expect("an ADD");
            assert!(run.succeeded(), "{:?}", run.output);
            assert!(
                run.output.took > Duration::from_secs(3),
                "ADD was not held up"
            );
        });
        assert!(enforced(&pod, damage), "{damage}");
        assert_eq!(node.tool("sync").code, Some(0)); // `first` has its own chain back
    }
}

/// The first transaction of a node loads modules, which may take longer than a call may.
#[test]
fn a_transaction_that_the_kernel_is_at_work_on_is_waited_for() {
    let node = node();
    let pod = node.pod(spec());
    // With the base in place, as it is at the next two calls.
    pod.ours("ADD").ok();
    pod.ours("DEL").ok();
    let (_, trace) = syscalls(&node, &pod.call("ADD"));
    pod.ours("DEL").ok();
    let nth = transaction(&trace);
    let inject = format!("sendto:delay_enter=11000000:when={nth}");
    let run = injected(&node, &pod.call("ADD"), &inject);
    assert!(run.succeeded(), "{:?}", run.output);
    assert!(
        run.output.took > Duration::from_secs(11),
        "{:?}",
        run.output.took
    );
    assert!(enforced(&pod, "a slow transaction"));
    pod.ours("DEL").ok();
    // The same delay elsewhere is one too many.
    let other = if nth > 1 { nth - 1 } else { nth + 1 };
    let inject = format!("sendto:delay_enter=11000000:when={other}");
    let run = injected(&node, &pod.call("ADD"), &inject);
    assert_eq!(run.error().code, 11, "{:?}", run.output);
    recovers(&pod, true, "a call that took too long");
}
