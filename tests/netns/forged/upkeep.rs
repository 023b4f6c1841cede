//! The guard is there as long as the pod is, and is nobody else's.

use super::attack;
use super::frame::Frame;
use super::pod;
use super::scene::{Sender, arrived, filters, node, offload, set_offload};
use crate::harness::cni::Call;
use crate::harness::*;
use crate::sync::sync;
use serde_json::{Value, json};
use std::fs;

/// Sends what would work without the guard.
fn assert_guarded(pod: &Pod<'_>, round: &str) {
    let (sender, capture) = (Sender::new(pod), Capture::start(&pod.node.ext));
    let attack = &attack::all(&sender)[0];
    let send = |frame: &Frame| sender.send(frame);
    attack.frames.iter().for_each(send);
    sender.fence(&capture, round);
    let frames = arrived(&capture, &attack.mark);
    let written = frames.iter().any(|frame| attack.succeeded(frame));
    assert!(!written, "{round}: {frames:x?}");
}

fn qdiscs(pod: &Pod<'_>) -> String {
    let line = format!("tc qdisc show dev {}", pod.veth);
    pod.node.netns.exec(&line)
}

/// What `show` says of the pod, in the list and alone.
fn shown(pod: &Pod<'_>) -> Value {
    let json = |command: &str| -> Value {
        let output = pod.node.tool(command);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{command}: {e}"))
    };
    let list = json("show -o json")["attachments"][0].take();
    let one = json(&format!("show {} -o json", pod.v4));
    for field in ["forgedChecksums", "state", "problems"] {
        assert_eq!(list[field], one[field], "{field}");
    }
    list
}

/// As STATE has it.
fn state(pod: &Pod<'_>) -> String {
    let shown = shown(pod);
    let problems = shown["problems"].as_array().expect("a list");
    match &problems[..] {
        [] => shown["state"].as_str().expect("a word").to_owned(),
        some => some.iter().map(|p| p.as_str().expect("text")).collect(),
    }
}

/// How many were dropped, or why none can be, is said of each pod.
#[test]
fn show_tells_what_is_done() {
    for (setting, lines) in [
        (
            "drop",
            [
                "forged checksums  drop (0 dropped)",
                "forged checksums  drop (3 dropped)",
            ],
        ),
        (
            "resolve",
            ["forged checksums  resolve (slow, as the conflist says)"; 2],
        ),
        ("ignore", ["forged checksums  IGNORED"; 2]),
    ] {
        let node = node(setting, false);
        let pod = pod(&node, Primary::Ptp);
        let name = pod.v4.to_string();
        let told = || node.tool(&format!("show {name}")).stdout_text();
        assert!(told().contains(lines[0]), "{setting}: {}", told());
        let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
        let frames = attack::all(&sender);
        let frames = frames.iter().flat_map(|attack| &attack.frames);
        frames.take(3).for_each(|frame| sender.send(frame));
        sender.fence(&capture, "sent.");
        assert!(told().contains(lines[1]), "{setting}: {}", told());
        let json = shown(&pod);
        let dropped = (setting == "drop").then_some(3);
        let wanted = json!({"action": setting, "dropped": dropped, "reason": null});
        assert_eq!(json["forgedChecksums"], wanted);
        assert_eq!(json["state"], "ok", "{json}");
    }
}

/// Whatever somebody does to it, CHECK sees it, `sync --dry-run` says it, `sync` mends it.
#[test]
fn what_others_take_away_is_put_back() {
    let node = node("drop", false);
    let pod = pod(&node, Primary::Ptp);
    let tc = |line: &str| drop(node.netns.exec(&line.replace("VETH", &pod.veth)));
    let other = "bpf da bytecode 1,6\u{a0}0\u{a0}0\u{a0}0,";
    let add = |line: &str| {
        let line = line.replace("VETH", &pod.veth).replace("OTHER", other);
        let words: Vec<String> = line.split(' ').map(|w| w.replace('\u{a0}', " ")).collect();
        let mut command = std::process::Command::new("tc");
        let output = node.netns.exec_with(command.args(words), b"");
        assert_eq!(output.code, Some(0), "{line}: {}", output.stderr);
    };
    type Damage<'d> = (&'d str, &'d dyn Fn());
    let damages: [Damage<'_>; 5] = [
        ("the qdisc is gone", &|| tc("tc qdisc del dev VETH clsact")),
        ("the filter is gone", &|| {
            tc("tc filter del dev VETH ingress")
        }),
        ("another kind of qdisc is there", &|| {
            tc("tc qdisc del dev VETH clsact");
            tc("tc qdisc add dev VETH ingress");
        }),
        ("a filter of others is there instead", &|| {
            tc("tc filter del dev VETH ingress");
            tc("tc filter add dev VETH ingress pref 7 u32 match u32 0 0 flowid 1:1");
        }),
        ("another program is there by its name", &|| {
            tc("tc qdisc del dev VETH parent ffff:fff1");
            tc("tc qdisc add dev VETH clsact");
            add("filter add dev VETH ingress pref 1 handle 1 OTHER")
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        assert_eq!(state(&pod), "ok", "before {what}");
        damage();
        let told = state(&pod);
        assert!(told.contains("egressway_csum"), "{what}: {told}");
        if number < 4 {
            let error = pod.ours("CHECK").error();
            assert_eq!(error.code, 103, "{what}: {error:?}");
            assert!(error.msg.contains("egressway_csum"), "{what}: {error:?}");
            assert!(error.msg.contains("egressway sync"), "{what}: {error:?}");
            let dry = node.tool("sync --dry-run -o json");
            assert!(dry.stdout_text().contains("would-repair"), "{what}");
            assert_ne!(pod.ours("CHECK").output.code, Some(0), "{what}: a dry run");
            let (changes, good) = sync(&node);
            assert!(good && changes.len() == 1, "{what}: {changes:?}");
            assert_eq!(changes[0]["did"], "repaired", "{what}: {changes:?}");
        } else {
            // A program of somebody else: what it does is not known, and it is not ours to remove.
            assert_eq!(pod.ours("CHECK").error().code, 101, "{what}");
            assert_eq!(pod.ours("ADD").error().code, 101, "{what}");
            tc("tc qdisc del dev VETH parent ffff:fff1");
            assert!(sync(&node).1, "{what}");
        }
        assert_eq!(pod.ours("CHECK").ok(), "", "{what}");
        assert_guarded(&pod, &format!("round-{number}."));
        assert_eq!(sync(&node), (Vec::new(), true), "{what}");
    }
}

#[test]
fn what_others_switch_on_is_switched_off_again() {
    let node = node("resolve", false);
    let pod = pod(&node, Primary::Bridge);
    set_offload(&pod.netns, "eth0", true);
    assert!(state(&pod).contains("offload of the pod's eth0 is on"));
    let error = pod.ours("CHECK").error();
    assert_eq!(error.code, 103, "{error:?}");
    assert!(
        error
            .msg
            .contains("TX checksum offload of the pod's eth0 is on"),
        "{error:?}"
    );
    let (changes, good) = sync(&node);
    assert!(good && changes.len() == 1, "{changes:?}");
    assert!(!offload(&pod.netns, "eth0"));
    assert_eq!(pod.ours("CHECK").ok(), "");
    assert_guarded(&pod, "again.");
}

/// It is no foreign program to ADD again, to CHECK, to `sync`; another one beside it is.
#[test]
fn the_own_filter_is_not_taken_for_anothers() {
    let node = node("drop", false);
    let mut pod = pod(&node, Primary::Bridge);
    let first = filters(&pod);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].name.as_deref(), Some("egressway_csum"));
    for _ in 0..2 {
        pod.ours("ADD").ok();
        assert_eq!(pod.ours("CHECK").ok(), "");
        assert_eq!(sync(&node), (Vec::new(), true));
        assert_eq!(filters(&pod), first);
    }
    pod.readd(super::RULES);
    assert_eq!(filters(&pod), first);
    let foreign = [
        "tc",
        "filter",
        "add",
        "dev",
        &pod.veth,
        "ingress",
        "bpf",
        "da",
        "bytecode",
        "1,6 0 0 0,",
    ];
    let mut command = std::process::Command::new(foreign[0]);
    assert_eq!(
        node.netns.exec_with(command.args(&foreign[1..]), b"").code,
        Some(0)
    );
    assert!(state(&pod).contains("past the rules"), "{}", state(&pod));
    for verb in ["ADD", "CHECK"] {
        let error = pod.ours(verb).error();
        assert_eq!(error.code, 101, "{verb}: {error:?}");
    }
}

/// DEL leaves the veth as it was: whoever keeps it, as Calico does for a moment, finds it so.
#[test]
fn del_leaves_what_was_there() {
    for setting in ["drop", "resolve", "ignore"] {
        let node = node(setting, true);
        let mut pod = node.pod(PodSpec::new("a", Primary::Calico).uncovered());
        pod.spec.covered = true;
        let before = (qdiscs(&pod), offload(&pod.netns, "eth0"));
        pod.ours("ADD").ok();
        assert_eq!(qdiscs(&pod) == before.0, setting != "drop", "{setting}");
        pod.ours("DEL").ok();
        assert_eq!(
            (qdiscs(&pod), offload(&pod.netns, "eth0")),
            before,
            "{setting}"
        );
        // What somebody else has there stays.
        node.netns
            .exec(&format!("tc qdisc add dev {} clsact", pod.veth));
        let before = qdiscs(&pod);
        node.netns.ip(&format!("link set {} up", pod.veth));
        pod.ours("ADD").ok();
        pod.ours("DEL").ok();
        assert_eq!(
            (qdiscs(&pod), filters(&pod).len()),
            (before, 0),
            "{setting}"
        );
    }
}

/// Nothing is left of an ADD that failed later; of a repeated one, what the first has put.
#[test]
fn a_failed_add_leaves_what_was_there() {
    let node = node("drop", true);
    let mut pod = node.pod(PodSpec::new("a", Primary::Ptp).uncovered());
    pod.spec.covered = true;
    let records = node.state_dir().join("attachments");
    fs::create_dir_all(&records).expect("a directory");
    // No record can be written.
    let dir = records.display();
    let script =
        format!("mount --bind {dir} {dir} && mount -o remount,bind,ro {dir} && exec \"$0\"");
    let read_only = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script];
    let fail = |call: &Call| call.run_under(&node.netns, &read_only).error();
    let before = qdiscs(&pod);
    let error = fail(&pod.call("ADD"));
    assert!(error.text().contains("Read-only"), "{error:?}");
    assert_eq!(qdiscs(&pod), before);
    pod.ours("ADD").ok();
    let (guarded, there) = (filters(&pod), qdiscs(&pod));
    assert_eq!(guarded.len(), 1);
    for setting in ["ignore", "resolve", "drop"] {
        let mut call = pod.call("ADD");
        let text = String::from_utf8(call.stdin).expect("JSON");
        let key = "\"forgedChecksums\":";
        let other = text.replace(&format!("{key}\"drop\""), &format!("{key}\"{setting}\""));
        assert_eq!(text != other, setting != "drop");
        call.stdin = other.into_bytes();
        fail(&call);
        assert_eq!(
            (filters(&pod), qdiscs(&pod)),
            (guarded.clone(), there.clone()),
            "{setting}"
        );
        assert!(offload(&pod.netns, "eth0"), "{setting}");
        assert_eq!(pod.ours("CHECK").ok(), "", "{setting}");
    }
}

/// A filter that nothing can come before: the pod does not start, and the message says whose it is.
#[test]
fn a_taken_place_is_refused_by_name() {
    let node = node("drop", true);
    let mut pod = node.pod(PodSpec::new("a", Primary::Ptp).uncovered());
    pod.spec.covered = true;
    let veth = &pod.veth;
    node.netns.exec(&format!("tc qdisc add dev {veth} clsact"));
    let filter = format!("tc filter add dev {veth} ingress pref 1 u32 match u32 0 0 flowid 1:1");
    node.netns.exec(&filter);
    let error = pod.ours("ADD").error();
    assert_eq!(error.code, 101, "{error:?}");
    for words in [veth.as_str(), "u32", "preference 1", "forgedChecksums"] {
        assert!(error.msg.contains(words), "{words}: {error:?}");
    }
    node.assert_nothing_left();
}
