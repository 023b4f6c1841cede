//! What the kernel says of a transaction.

use super::*;

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
