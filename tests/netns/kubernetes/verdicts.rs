//! What a cluster adds to verdicts: who made a pod, Events on it, and what `show` asks the agent.

use super::agent::until;
use super::live::{annotate, followed};
use crate::harness::cluster::ApiServer;
use crate::harness::node::{EXT, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::net::UdpSocket;

fn send(pod: &Pod<'_>, port: u16) {
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"x", (ip(EXT[0]), port)).expect("send");
    });
}

/// What the Events of this reason say of an object.
fn notes(api: &ApiServer, namespace: &str, reason: &str, uid: &str) -> Vec<String> {
    let all = api.list(&json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": namespace},
    }));
    let of = all
        .iter()
        .filter(|event| event["reason"] == reason && event["involvedObject"]["uid"] == uid);
    of.filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_denied_pod_has_one_event_a_rule_and_show_tells_what_the_agent_knows() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    let agent = followed(&api, &Policy::default());
    let rules = "deny 7001/udp log=1000/s name=erp\ndeny 7002/udp log\ndeny 7003/udp\nallow";
    let object = api.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "shop", "name": "web", "annotations": {"egressway.dev/rules": rules},
            "labels": {"pod-template-hash": "5d4"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4", "uid": "1-2", "controller": true,
            }],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]},
    }));
    api.create(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "proxy"},
        "spec": {"nodeName": "node-1", "hostNetwork": true, "containers": [{"name": "c", "image": "none"}]},
    }));
    let uid = object["metadata"]["uid"].as_str().expect("a UID");
    let spec = PodSpec::new("web", Primary::Bridge).namespace("shop");
    let pod = agent.node.pod(spec.rules(rules).uid(uid));
    for port in [7003, 7001, 7001, 7001, 7002] {
        send(&pod, port);
    }
    let told = || notes(&api, "shop", "EgressDenied", uid);
    until("Events of both rules that log", || told().len() >= 2);
    let (first, second) = (
        format!("{}:7001/udp by pod:erp;", EXT[0]),
        format!("{}:7002/udp by pod:2;", EXT[0]),
    );
    let all = told();
    assert_eq!(all.len(), 2, "{all:?}");
    for wanted in [first, second] {
        assert!(
            all.iter()
                .any(|note| note.contains(&format!("denied a packet to {wanted}"))),
            "{all:?}"
        );
    }

    let lines = agent
        .node
        .tool("logs --since 1m --no-follow -o json")
        .stdout_text();
    let line: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    for (field, wanted) in [
        ("node", "node-1"),
        ("podUID", uid),
        ("workload", "Deployment/web"),
        ("pod", "web"),
    ] {
        assert_eq!(line[field], wanted, "{field}: {line}");
    }

    let detail = agent.node.tool_json("show shop/web -o json");
    let deny = &detail["lastLoggedDeny"];
    assert_eq!(
        (&deny["destinationPort"], &deny["rule"], &deny["verdict"]),
        (&json!(7002), &json!("pod:2"), &json!("deny")),
        "{detail:#}"
    );
    assert_eq!(detail["invalid"], json!([]));
    let since = detail["policySince"].as_str().expect("a time").to_owned();

    annotate(&api, "shop", "deny 25/tpc");
    until("`show` tells the error", || {
        let detail = agent.node.tool_json("show shop/web -o json");
        detail["policySince"] == since
            && detail["invalid"][0]
                .as_str()
                .is_some_and(|why| why.contains("tpc"))
    });
    let text = agent.node.tool("show shop/web").stdout_text();
    assert!(
        text.contains("not in force") && text.contains("^^^"),
        "{text}"
    );
    assert!(
        text.contains(&format!("deny {}:7002/udp by pod:2", EXT[0])),
        "{text}"
    );
    until("`show` tells what is not covered", || {
        agent.node.tool_json("show -o json")["uncovered"]
            == json!([{"namespace": "shop", "pod": "proxy", "hostNetwork": true}])
    });
    let text = agent.node.tool("show").stdout_text();
    assert!(
        text.contains("invalid rules")
            && text.contains("1 pod in the node's own network")
            && text.contains("  shop/proxy\n"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    annotate(&api, "shop", "allow");
    until("the new rules are in force", || {
        let detail = agent.node.tool_json("show shop/web -o json");
        detail["policySince"] != since && detail["invalid"] == json!([])
    });
    let (_, metrics) = crate::install::get(&agent.node.netns, "/metrics");
    assert!(
        metrics.contains("egressway_pods{state=\"host-network\"} 1.0\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("egressway_policy_update_seconds_count "),
        "{metrics}"
    );
}
