//! The CNI verbs: what they print, and what they leave.

use crate::harness::cni::Call;
use crate::harness::*;
use serde_json::{Value, json};
use std::io::Write;
use std::thread;
use std::time::Duration;

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
        let call = Call::new("egress-cni", "VERSION", stdin)
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
            call.env("CNI_NETNS", "/run/netns/ecni-gone")
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

/// Whatever is taken away from the rules, CHECK sees it, and another ADD mends it.
#[test]
fn check_sees_what_is_missing() {
    let node = new_node();
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
            printed(&add),
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
    let node = new_node();
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    assert_eq!(pod.ours("CHECK").ok(), "");
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
fn twenty_at_once() {
    let node = new_node();
    // The bridge must be there: the reference plugin may lose the race to make it.
    let first = node.pod(PodSpec::new("first", Primary::Bridge));
    let pods: Vec<Pod<'_>> = thread::scope(|scope| {
        let adds: Vec<_> = (0..20)
            .map(|n| {
                let spec = PodSpec::new(&format!("p{n}"), Primary::Bridge)
                    .rules(&format!("deny {}/tcp", 100 + n % 3));
                let node = &node;
                scope.spawn(move || node.pod(spec))
            })
            .collect();
        adds.into_iter()
            .map(|add| add.join().expect("an ADD"))
            .collect()
    });
    for pod in &pods {
        assert_eq!(pod.ours("CHECK").ok(), "");
    }
    assert_eq!(node.state_files().len(), 21);
    let who: Vec<_> = pods.iter().map(|pod| pod.who.clone()).collect();
    thread::scope(|scope| {
        for pod in pods {
            scope.spawn(|| pod.delete());
        }
    });
    for who in &who {
        node.assert_nothing_of(who);
    }
    assert_eq!(first.ours("CHECK").ok(), "");
    first.delete();
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

/// However far an ADD came before it was killed, the DEL that follows cleans up.
#[test]
fn a_killed_add_is_cleaned_up() {
    let node = new_node();
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .uncovered()
            .rules("deny to internet log\nallow to any"),
    );
    let call = pod.call("ADD");
    // How long a whole ADD takes tells which moments are worth a kill.
    let whole = call.run(&node.netns).output.took;
    pod.ours("DEL").ok();
    for step in 0..24u32 {
        let mut child = call.spawn(&node.netns);
        let mut input = child.stdin.take().expect("piped stdin");
        // The plugin may be dead before it reads.
        let _ = input.write_all(&call.stdin);
        drop(input);
        thread::sleep(whole.min(Duration::from_millis(200)) * step / 20);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let del = pod
            .call_with("DEL", &pod.spec.annotations, None)
            .run(&node.netns);
        assert!(del.succeeded(), "step {step}: {:?}", del.output);
        node.assert_nothing_of(&pod.who);
        node.assert_nothing_left();
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
