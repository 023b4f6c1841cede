//! Whatever is wrong, the answer is one error that says what to change, and nothing is left behind.

use crate::harness::cni::Call;
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What is said about each call; an empty word matches anything.
#[test]
fn hostile_environment_and_stdin() {
    let node = Node::new(NodeOptions::default());
    undisturbed(&node, || {
        let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
        let good = pod.call("ADD");
        let conf = String::from_utf8(good.stdin.clone()).expect("text");
        let stdin = |from: &str, to: &str| {
            assert!(conf.contains(from), "{from} is not in {conf}");
            good.clone().stdin(conf.replacen(from, to, 1))
        };
        let name = format!("\"name\":\"{}\"", cni::NETWORK);
        let long = format!("\"name\":\"{}\"", "n".repeat(200));
        let policy_file = node.dir.path().join("policy.yaml").display().to_string();
        let table: Vec<(&str, Call, u64, &str)> = vec![
            (
                "no container",
                good.clone().without("CNI_CONTAINERID"),
                4,
                "CNI_CONTAINERID",
            ),
            (
                "an empty container",
                good.clone().env("CNI_CONTAINERID", ""),
                4,
                "CNI_CONTAINERID",
            ),
            (
                "a container with a slash",
                good.clone().env("CNI_CONTAINERID", "../../etc"),
                4,
                "",
            ),
            (
                "a container with rules in it",
                good.clone().env("CNI_CONTAINERID", "x } ; flush ruleset"),
                4,
                "",
            ),
            (
                "no netns",
                good.clone().without("CNI_NETNS"),
                4,
                "CNI_NETNS",
            ),
            (
                "no interface",
                good.clone().without("CNI_IFNAME"),
                4,
                "CNI_IFNAME",
            ),
            (
                "an interface with a slash",
                good.clone().env("CNI_IFNAME", "../eth0"),
                4,
                "",
            ),
            (
                "a long interface",
                good.clone().env("CNI_IFNAME", "abcdefghijklmnop"),
                4,
                "",
            ),
            (
                "an unknown command",
                good.clone().env("CNI_COMMAND", "DESTROY"),
                4,
                "DESTROY",
            ),
            (
                "a command in lower case",
                good.clone().env("CNI_COMMAND", "add"),
                4,
                "add",
            ),
            ("no stdin", good.clone().stdin(""), 6, ""),
            (
                "half of stdin",
                good.clone().stdin(&conf[..conf.len() / 2]),
                6,
                "",
            ),
            ("a list", good.clone().stdin("[]"), 6, ""),
            ("no UTF-8", good.clone().stdin(vec![0xff; 100]), 6, ""),
            (
                "deep nesting",
                good.clone().stdin("[".repeat(100_000)),
                6,
                "",
            ),
            (
                "an unknown version",
                stdin("\"cniVersion\":\"1.0.0\"", "\"cniVersion\":\"9.9.9\""),
                1,
                "9.9.9",
            ),
            (
                "a version that is none",
                stdin("\"cniVersion\":\"1.0.0\"", "\"cniVersion\":\"latest\""),
                1,
                "latest",
            ),
            (
                "a network without a name",
                stdin(&name, "\"name\":\"\""),
                7,
                "",
            ),
            (
                "a network with a slash",
                stdin(&name, "\"name\":\"../x\""),
                7,
                "",
            ),
            (
                "a network with an endless name",
                stdin(&name, &format!("\"name\":\"{}\"", "n".repeat(100_000))),
                7,
                "name",
            ),
            (
                "a misspelt key",
                stdin("\"policyFile\":", "\"policyfile\":"),
                7,
                "policyFile",
            ),
            (
                "a log group that is none",
                stdin("\"logLevel\":", "\"logGroup\":70000,\"logLevel\":"),
                7,
                "logGroup",
            ),
            (
                "no prevResult",
                pod.call_with("ADD", &pod.spec.annotations, None),
                7,
                "prevResult",
            ),
            (
                "a policy file elsewhere",
                stdin(&policy_file, "/nonexistent/policy.yaml"),
                0,
                "/nonexistent/policy.yaml",
            ),
            (
                "a netns that is not there",
                good.clone()
                    .env("CNI_NETNS", "/run/netns/egressway-nowhere"),
                0,
                "egressway-nowhere",
            ),
            (
                "a netns that is a file",
                good.clone().env("CNI_NETNS", "/etc/hosts"),
                0,
                "/etc/hosts",
            ),
            (
                "an interface that is not there",
                good.clone().env("CNI_IFNAME", "eth7"),
                0,
                "eth7",
            ),
        ];
        for (what, call, code, word) in table {
            let run = node.run(&call);
            assert!(!run.succeeded(), "{what}: {:?}", run.output);
            let error = run.error();
            // 0 in the table: any code but a success will do.
            assert!(
                code == 0 || error.code == code,
                "{what}: want code {code}, got {error:?}"
            );
            assert!(
                error.text().contains(word),
                "{what}: {word:?} is not in {error:?}"
            );
        }
        // Long, but legal: names are hashed before they go anywhere.
        let run = node.run(&good.clone().stdin(conf.replacen(&name, &long, 1)));
        assert_eq!(run.ok().trim_end(), pod.prev_result.trim_end());
        node.run(&pod.call("DEL").stdin(conf.replacen(&name, &long, 1)))
            .ok();
        pod.delete();
    });
}

/// The disk fills up at every point of an ADD: a pod comes up whole, or nothing of it is left.
#[test]
fn a_full_disk_fails_closed() {
    const PAGE: usize = 4096;
    const PAGES: usize = 16;
    let mut node = Node::new(NodeOptions::default());
    let state = node.dir.path().join("full");
    fs::create_dir(&state).expect("make a directory");
    let (size, at) = (PAGE * PAGES, state.display());
    node.netns
        .exec(&format!("mount -t tmpfs -o size={size} tmpfs {at}"));
    let _unmount = Unmount(at.to_string());
    node.ours.insert("stateDir".to_owned(), json!(state));
    let mut outcomes = Vec::new();
    for free in 0..8 {
        let filler = state.join("filler");
        fs::write(&filler, vec![0; PAGE * (PAGES - free)]).expect("fill the disk");
        let outcome = node.add_pod(PodSpec::new("a", Primary::Bridge));
        match outcome {
            Ok(pod) => {
                outcomes.push(true);
                fs::remove_file(&filler).expect("remove");
                assert_eq!(pod.ours("CHECK").ok(), "");
                pod.delete();
            }
            Err(e) => {
                outcomes.push(false);
                let text = e.error.text();
                assert!(text.contains(&at.to_string()), "{free} pages free: {text}");
                fs::remove_file(&filler).expect("remove");
            }
        }
        assert!(!node.ruleset().contains("goto pod-"), "{}", node.describe());
        let left: Vec<_> = files_below(&state.join("attachments"));
        assert!(left.is_empty(), "{free} pages free: {left:?}");
    }
    assert_eq!(outcomes.first(), Some(&false), "a full disk");
    assert_eq!(outcomes.last(), Some(&true), "room for everything");
}

/// What is in a directory; nothing if there is no such directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .map(|entry| entry.expect("a directory entry").path())
        .collect()
}

#[test]
fn an_uplink_that_is_not_there() {
    let mut node = Node::new(NodeOptions::default());
    node.ours.insert("uplink".to_owned(), json!("eth9"));
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", "172.30.0.50"));
    let error = node
        .add_pod(PodSpec::new("a", Primary::Bridge))
        .expect_err("no uplink")
        .error;
    assert!(error.text().contains("eth9"), "{error:?}");
    node.assert_nothing_left();
}

/// Unmounts on drop.
struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn without_net_admin_the_kernel_refuses() {
    let node = Node::new(NodeOptions::default());
    undisturbed(&node, || {
        let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
        let wrapper = [
            "/usr/bin/setpriv",
            "--bounding-set",
            "-net_admin",
            "--inh-caps",
            "-net_admin",
        ];
        let error = pod.call("ADD").run_under(&node.netns, &wrapper).error();
        assert_eq!(error.code, 103, "{error:?}");
        assert!(
            error.text().contains("NET_ADMIN") || error.text().contains("EPERM"),
            "{error:?}"
        );
        pod.delete();
    });
}

/// No host-side veth, no enforcement; so no pod, unless the operator says that he knows.
#[test]
fn a_macvlan_pod_is_refused() {
    let mut node = Node::new(NodeOptions::default());
    let error = node
        .add_pod(PodSpec::new("a", Primary::Macvlan))
        .expect_err("macvlan")
        .error;
    assert_eq!(error.code, 101, "{error:?}");
    assert!(
        error.text().contains("macvlan"),
        "the reason's name: {error:?}"
    );
    assert!(
        error.text().contains("unenforceable"),
        "what to change: {error:?}"
    );
    node.assert_nothing_left();
    node.ours.insert("unenforceable".to_owned(), json!("allow"));
    node.pod(PodSpec::new("a", Primary::Macvlan)).delete();
    node.assert_nothing_left();
}

/// A policy asks for something that fails late: by then nothing may be installed.
#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::new(NodeOptions::default());
    undisturbed(&node, || {
        node.set_policy(&Policy::default().namespace("late", "egress-ip", "172.30.0.99"));
        let spec = PodSpec::new("a", Primary::Bridge)
            .namespace("late")
            .rules("deny to internet log");
        let error = node
            .add_pod(spec)
            .expect_err("an address that may not be asked for")
            .error;
        assert_eq!(error.code, 102, "{error:?}");
        node.set_policy(&Policy::default());
    });
}

/// The kubelet asks every five seconds and waits for the answer.
#[test]
fn status_is_quick() {
    let node = Node::new(NodeOptions::default());
    let run = node.run(&node.call("STATUS", "1.1.0", &[]));
    assert_eq!(run.ok(), "");
    assert!(run.output.took < exec::seconds(1), "{:?}", run.output.took);
}

/// A result that names addresses of everybody: only the pod's own lead to its rules.
#[test]
fn addresses_that_are_nobodys_alone_are_not_covered() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let ips = ["127.0.0.1/8", "224.0.0.9/32", "::1/128"].map(|address| {
        // Of the pod's own interface: the third, after the bridge and the host's side.
        format!("{{\"address\":\"{address}\",\"interface\":2}},")
    });
    let ips = format!("\"ips\":[{}", ips.concat());
    let compact: Value = serde_json::from_str(&pod.prev_result).expect("a result");
    let result = compact.to_string().replacen("\"ips\":[", &ips, 1);
    assert!(result.contains("127.0.0.1"), "{result}");
    let add = pod.call_with("ADD", &pod.spec.annotations, Some(&result));
    node.run(&add).ok();
    let covered = node.elements("pod4") + &node.elements("pod6");
    assert!(covered.contains(&pod.v4.to_string()), "{covered}");
    for other in ["127.0.0.1", "224.0.0.9", "::1 "] {
        assert!(!covered.contains(other), "{covered}");
    }
}

#[test]
fn the_nodes_own_namespace_is_no_pods() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let error = node
        .run(&pod.call("ADD").env("CNI_NETNS", &node.netns.path()))
        .error();
    assert_eq!(error.code, 8, "{error:?}");
    assert!(error.msg.contains("own network namespace"), "{error:?}");
    node.assert_nothing_left();
}
