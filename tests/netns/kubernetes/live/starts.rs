//! A pod that starts beside an agent that lives asks the API nothing.

use super::{annotate, annotate_namespace, far, followed, meets, object, spec};
use crate::harness::cluster::ApiServer;
use crate::harness::egress::BOTH;
use crate::harness::*;
use crate::kubernetes::agent::{Agent, until};
use serde_json::{Value, json};
use std::fs;

/// How often a plugin has asked: the agent gets nothing but Leases and what is about itself by name.
fn asked(api: &ApiServer) -> usize {
    let of_pods = ["namespaces", "pods", "services", "endpoints"];
    let calls = api.calls().into_iter();
    calls
        .filter(|call| match call.verb.as_str() {
            "get" => {
                of_pods.contains(&call.resource.as_str()) && !call.uri.contains("egressway-system")
            }
            // A page of all namespaces, for their egress addresses.
            "list" => {
                call.resource == "namespaces"
                    && call.uri.contains("limit=500&")
                    && !call.uri.contains("resourceVersion")
            }
            _ => false,
        })
        .count()
}

/// The directory in which the agent tells pods that start what is so.
fn view(agent: &Agent<'_>) -> std::path::PathBuf {
    let dir = agent.node.state_dir().join("view");
    let mut runs = fs::read_dir(dir).expect("a view");
    runs.next().expect("a run").expect("a directory").path()
}

fn waits_for(agent: &Agent<'_>, document: &str, word: &str) {
    until(&format!("{document} says {word}"), || {
        let text = fs::read_to_string(view(agent).join(document));
        text.is_ok_and(|text| text.contains(word))
    });
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().expect("a UID")
}

/// Its node's pods, the namespaces, other namespaces' egress addresses, and what rules name.
#[test]
fn a_start_asks_nothing_while_the_agent_lives() {
    let api = ApiServer::start();
    api.namespace(
        "backend",
        &json!({"egressway.dev/egress-ip": "172.30.0.77"}),
    );
    api.create(&json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "backend", "name": "db"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}}));
    let annotations = json!({
        "egressway.dev/egress-ip": BOTH,
        "egressway.dev/default-rules": "reject 80/tcp",
    });
    api.namespace("shop", &annotations);
    let policy = Policy::default()
        .set("egressIPs", json!(["172.30.0.0/24", "fd30::/64"]))
        .set("clusterDNS", json!(["10.96.0.10"]));
    let mut agent = followed(&api, &policy);
    // Its annotations are told by nobody but the API.
    let capabilities = agent.node.ours.remove("capabilities");
    assert!(capabilities.is_some());
    let _servers = agent.node.serve_ext(&[80, 443]);
    let rules = "reject 443/tcp to svc/backend/db; pass";
    let web = object(&api, "shop", "web", rules);
    waits_for(
        &agent,
        &format!("pods/{}.json", uid(&web)),
        "svc/backend/db",
    );
    waits_for(&agent, "services/svc%2Fbackend%2Fdb.json", "10.96.7.7");
    waits_for(&agent, "egress-lists/all.json", "172.30.0.77");
    until("it has given a sign", || {
        view(&agent).join("alive.json").exists()
    });
    let before = asked(&api);
    let pod = agent.node.pod(spec(&web, "shop", ""));
    assert_eq!(asked(&api), before, "{:#?}", api.calls());
    meets(&pod, far(80), Want::Refused);
    meets(&pod, far(443), Want::Reached);
    let table = agent.node.netns.exec("nft list table inet egressway");
    assert!(table.contains("10.96.7.7"), "its own rules are in force");

    // A namespace that is not known: so it asks.
    let unknown = view(&agent).join("namespaces/shop.json");
    fs::remove_file(&unknown).expect("remove");
    pod.delete();
    let pod = agent.node.pod(spec(&web, "shop", ""));
    assert!(asked(&api) > before);
    pod.delete();
}

#[test]
fn a_start_needs_no_api_server_while_the_agent_lives_and_asks_it_after() {
    let api = ApiServer::start();
    api.namespace(
        "shop",
        &json!({"egressway.dev/default-rules": "reject 80/tcp"}),
    );
    let policy = Policy::default().set("clusterDNS", json!(["10.96.0.10"]));
    let mut agent = followed(&api, &policy);
    let _servers = agent.node.serve_ext(&[80]);
    waits_for(&agent, "namespaces/shop.json", "reject 80/tcp");
    until("it has given a sign", || {
        view(&agent).join("alive.json").exists()
    });
    let web = object(&api, "shop", "web", "pass");
    api.stop();
    let pod = agent.node.pod(spec(&web, "shop", "pass"));
    meets(&pod, far(80), Want::Refused);
    pod.delete();
    // Its last sign is too old soon: then nobody answers.
    agent.kill();
    until("the API is asked", || {
        match agent.node.add_pod(spec(&web, "shop", "pass")) {
            Ok(pod) => {
                pod.delete();
                false
            }
            Err(e) => {
                assert_eq!(e.error.code, 11, "{e:?}");
                true
            }
        }
    });
    api.restart();
    let before = asked(&api);
    let pod = agent.node.pod(spec(&web, "shop", "pass"));
    assert!(asked(&api) > before);
    meets(&pod, far(80), Want::Refused);
}

/// What is written down may be a moment old: the agent looks at each new record.
#[test]
fn an_edit_followed_by_a_start_is_enforced_in_the_end() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    let policy = Policy::default().set("clusterDNS", json!(["10.96.0.10"]));
    let agent = followed(&api, &policy);
    let _servers = agent.node.serve_ext(&[80]);
    let web = object(&api, "shop", "web", "pass");
    for n in 0..6 {
        let (rules, want) = match n % 2 {
            0 => ("reject 80/tcp", Want::Refused),
            _ => ("allow 80/tcp", Want::Reached),
        };
        annotate_namespace(&api, "shop", &json!({"egressway.dev/default-rules": rules}));
        let pod = agent.node.pod(spec(&web, "shop", "pass"));
        meets(&pod, far(80), want);
        pod.delete();
    }
    annotate(&api, "shop", "reject 80/tcp");
    let pod = agent.node.pod(spec(&web, "shop", "pass"));
    meets(&pod, far(80), Want::Refused);
}
