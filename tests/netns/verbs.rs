//! The CNI verbs: what they print, and what they leave.

use crate::harness::cni::Call;
use crate::harness::*;
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

fn new_node() -> Node {
    Node::new(NodeOptions::default())
}

/// A result may end with a line feed; all before it is the plugin's promise.
fn printed(run: &PluginRun) -> String {
    let text = run.ok();
    text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
}

#[test]
fn every_version_works_through_a_real_chain() {
    let node = new_node();
    for (at, version) in VERSIONS.into_iter().enumerate() {
        let pod = node.pod(PodSpec::new("a", Primary::Bridge).version(version));
        assert_eq!(
            printed(&pod.ours("ADD")),
            pod.prev_result.trim_end(),
            "{version}"
        );
        assert!(
            node.ruleset().contains(&pod.id()),
            "{version}: nothing of the pod in the kernel"
        );
        let check = pod.ours("CHECK");
        if at < 4 {
            assert_eq!(check.error().code, 1, "{version}: CHECK came with 0.4.0");
        } else {
            assert_eq!(check.ok(), "", "{version}");
        }
        let extra = [(
            "cni.dev/valid-attachments",
            json!([{"containerID": pod.who.container_id, "ifname": "eth0"}]),
        )];
        let (gc, status) = (
            node.run(&node.call("GC", version, &extra)),
            node.run(&node.call("STATUS", version, &[])),
        );
        if version == "1.1.0" {
            assert_eq!(gc.ok(), "");
            assert_eq!(status.ok(), "");
        } else {
            assert_eq!(gc.error().code, 1, "{version}: GC came with 1.1.0");
            assert_eq!(status.error().code, 1, "{version}: STATUS came with 1.1.0");
        }
        assert!(
            node.ruleset().contains(&pod.id()),
            "{version}: GC took a valid attachment away"
        );
        let who = pod.who.clone();
        pod.delete();
        node.assert_nothing_of(&who);
    }
    node.assert_nothing_left();
}

#[test]
fn version_needs_nothing() {
    let node = new_node();
    for stdin in ["", "{}", "{\"cniVersion\":\"0.3.1\"}"] {
        let call = Call::new("egressway", "VERSION", stdin)
            .env("CNI_NETNS", "dummy")
            .env("CNI_IFNAME", "dummy")
            .env("CNI_PATH", "dummy");
        let answer: Value = serde_json::from_str(&node.run(&call).ok()).expect("one JSON document");
        assert_eq!(
            answer["supportedVersions"],
            json!(VERSIONS),
            "for {stdin:?}"
        );
    }
}

/// Runtimes parse what we print: not even white space or the order of keys may change.
#[test]
fn prev_result_comes_back_byte_for_byte() {
    let node = new_node();
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let value: Value = serde_json::from_str(&pod.prev_result).expect("a result");
    let pretty = serde_json::to_string_pretty(&value).expect("JSON");
    let strange = format!(
        "{{ \"zz\" :\t[ 1.50, 1e3, 123456789012345678901234567890, \"\\u00e9\\/\", {{}} ],\r\n \"aa\":null ,{}",
        pretty.trim_start().strip_prefix('{').expect("an object")
    );
    for result in [pod.prev_result.trim_end(), &pretty, &strange] {
        let run = pod
            .call_with("ADD", &pod.spec.annotations, Some(result))
            .run(&node.netns);
        assert_eq!(printed(&run), result);
        let check = pod
            .call_with("CHECK", &pod.spec.annotations, Some(result))
            .run(&node.netns);
        assert_eq!(check.ok(), "");
    }
}

#[test]
fn stdout_is_for_the_result_alone() {
    let mut node = new_node();
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to internet"));
    for verb in ["ADD", "CHECK", "DEL"] {
        let run = pod.ours(verb);
        run.ok();
        assert_eq!(run.output.stderr, "", "{verb} with a log file");
    }
    assert_eq!(pod.ours("DEL").ok(), "");
    drop(pod);
    // Without a log file the log goes to stderr, and nowhere else.
    node.ours.remove("logFile");
    let pod = node.pod(PodSpec::new("b", Primary::Bridge).uncovered());
    let run = pod.ours("ADD");
    assert_eq!(printed(&run), pod.prev_result.trim_end());
    assert!(
        !run.output.stderr.is_empty(),
        "logLevel debug says something"
    );
}

#[test]
fn del_always_succeeds() {
    let node = new_node();
    let never_seen = node.pod(PodSpec::new("never", Primary::Bridge).uncovered());
    assert_eq!(never_seen.ours("DEL").ok(), "");

    let add = || node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to internet"));
    type Change = fn(Call, &Pod<'_>) -> Call;
    let changes: &[(&str, Change)] = &[
        ("as ADD left it", |call, _| call),
        ("without prevResult", |_, pod| {
            pod.call_with("DEL", &pod.spec.annotations, None)
        }),
        ("with an empty netns", |call, _| call.env("CNI_NETNS", "")),
        ("without the netns variable", |call, _| {
            call.without("CNI_NETNS")
        }),
        ("with a netns that is gone", |call, _| {
            call.env("CNI_NETNS", "/run/netns/egressway-gone")
        }),
        ("with a netns that is no namespace", |call, _| {
            call.env("CNI_NETNS", "/etc/hosts")
        }),
        ("without the pod's name", |call, _| call.env("CNI_ARGS", "")),
        ("with a policy file in ruins", |call, pod| {
            std::fs::write(pod.node.dir.path().join("policy.yaml"), "{[").expect("write");
            call
        }),
    ];
    for (what, change) in changes {
        node.set_policy(&Policy::default());
        let pod = add();
        let call = change(pod.call("DEL"), &pod);
        for round in ["once", "twice"] {
            let run = node.run(&call);
            assert!(
                run.succeeded(),
                "DEL {what}, {round}: {:?}\n{}",
                run.output,
                node.describe()
            );
            assert_eq!(run.output.stdout_text(), "", "DEL {what}, {round}");
        }
        node.assert_nothing_of(&pod.who);
    }
    // The pod's namespace has gone, and its veth with it.
    node.set_policy(&Policy::default());
    let pod = add();
    let (call, who) = (pod.call("DEL"), pod.who.clone());
    drop(pod);
    node.run(&call).ok();
    node.assert_nothing_of(&who);
    node.assert_nothing_left();
}

#[test]
fn gc_keeps_the_valid_and_removes_the_rest() {
    let node = new_node();
    let pods =
        ["a", "b", "c"].map(|name| node.pod(PodSpec::new(name, Primary::Bridge).version("1.1.0")));
    let valid = |pods: &[&Pod<'_>]| -> Value {
        pods.iter()
            .map(|p| json!({"containerID": p.who.container_id, "ifname": "eth0"}))
            .collect()
    };
    let [a, b, c] = &pods;
    let here = |pod: &Pod<'_>| node.ruleset().contains(&pod.id());
    let gc = |extra: &[(&str, Value)]| node.run(&node.call("GC", "1.1.0", extra));

    // Without the key nothing may go: it is a malformed call, and removing policy opens doors.
    gc(&[]);
    assert!(here(a) && here(b) && here(c));
    // Another network's attachments are not this call's business.
    let mut call = node.call("GC", "1.1.0", &[("cni.dev/valid-attachments", json!([]))]);
    let stdin = String::from_utf8(call.stdin).expect("text");
    call.stdin = stdin.replace(cni::NETWORK, "other-network").into_bytes();
    assert_eq!(node.run(&call).ok(), "");
    assert!(here(a) && here(b) && here(c), "{}", node.describe());
    assert_eq!(
        gc(&[("cni.dev/valid-attachments", valid(&[a, b]))]).ok(),
        ""
    );
    assert!(here(a) && here(b) && !here(c), "{}", node.describe());
    // The name in the text of the 1.1.0 tag.
    assert_eq!(gc(&[("cni.dev/attachments", valid(&[a]))]).ok(), "");
    assert!(here(a) && !here(b), "{}", node.describe());
    node.assert_nothing_of(&b.who);
    // What CRI-O sends when no pod is left.
    assert_eq!(gc(&[("cni.dev/valid-attachments", Value::Null)]).ok(), "");
    node.assert_nothing_left();
}

#[test]
fn no_other_program_is_run() {
    let node = new_node();
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .uncovered()
            .rules("deny to internet log"),
    );
    let trace = node.dir.path().join("trace");
    let wrapper = [
        "/usr/bin/strace",
        "-f",
        "-e",
        "trace=execve",
        "-o",
        trace.to_str().expect("a path"),
    ];
    for verb in ["ADD", "CHECK", "DEL"] {
        pod.call(verb).run_under(&node.netns, &wrapper).ok();
        let text = std::fs::read_to_string(&trace).expect("a trace");
        assert_eq!(text.matches("execve(").count(), 1, "{verb}: {text}");
    }
}

/// The call as libcni's cnitool makes it for a chain that ran as an old version: no prevResult on DEL.
#[test]
fn del_of_an_old_chain_has_no_prev_result() {
    let node = new_node();
    let pod = node.pod(
        PodSpec::new("a", Primary::Ptp)
            .version("0.3.1")
            .rules("deny to internet"),
    );
    let who = pod.who.clone();
    pod.delete();
    node.assert_nothing_of(&who);
}

/// What primaries really print: no sandbox, MACs that are none, indices that lead nowhere. What counts is what the
/// pod's namespace holds.
#[test]
fn results_of_other_primaries_are_understood() {
    let node = new_node();
    let pod = node.pod(PodSpec::new("a", Primary::Ptp).uncovered());
    let (v4, v6, sandbox, veth) = (pod.v4, pod.v6, pod.who.netns.as_str(), pod.veth.as_str());
    let ips = json!([{"address": format!("{v4}/32")}, {"address": format!("{v6}/128")}]);
    let results = [
        // Calico: the host's end alone.
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": veth}], "ips": ips}),
        // Nothing but addresses.
        json!({"cniVersion": "1.0.0", "ips": ips, "dns": {}}),
        // AWS: a route table's number for a MAC, and a dummy interface with a number for a sandbox.
        json!({"cniVersion": "1.0.0", "interfaces": [
                   {"name": veth}, {"name": "eth0", "sandbox": sandbox, "mac": "1"},
                   {"name": "dummy", "mac": "0", "sandbox": "0"}],
               "ips": [{"address": format!("{v4}/32"), "interface": 1}, {"address": format!("{v6}/128"), "interface": 1}]}),
        // An index that leads nowhere.
        json!({"cniVersion": "1.0.0", "interfaces": [], "ips": [{"address": format!("{v4}/32"), "interface": 7}]}),
        // No address at all: the namespace knows.
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": veth}]}),
    ];
    for result in results {
        let result = result.to_string();
        let run = pod
            .call_with("ADD", &pod.spec.annotations, Some(&result))
            .run(&node.netns);
        assert!(run.succeeded(), "{result}: {}", run.output.stdout_text());
        assert_eq!(printed(&run), result);
        for (set, address) in [("pod4", v4), ("pod6", v6)] {
            let elements = node.elements(set);
            assert!(
                elements.contains(&address.to_string()),
                "{result}: {address} is not in {set}: {elements}"
            );
        }
        pod.ours("DEL").ok();
        node.assert_nothing_left();
        node.netns.ip(&format!("link set {veth} up"));
    }
}

/// A pod of a DEL that came too early has nobody to judge it; so it is not heard.
#[test]
fn after_del_a_pod_is_not_heard() {
    let node = new_node();
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to internet"));
    let capture = Capture::start(&node.ext);
    pod.ours("DEL").ok();
    let frames = "tx(Ether(dst='ff:ff:ff:ff:ff:ff') / IP(dst='172.30.0.100') / UDP(dport=9) / Raw(b'too-late'))";
    scapy(&pod.netns, frames);
    let there = node.netns.ip_json(&format!("link show dev {}", pod.veth));
    assert_eq!(there[0]["operstate"], "DOWN", "{there}");
    assert!(!capture.saw("too-late"));
}
