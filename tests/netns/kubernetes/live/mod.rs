//! What is written while pods run is what they have: edits in the API and of the policy file.

mod flood;
mod healed;
mod starts;
mod without_api;

use super::agent::{Agent, until};
use crate::harness::cluster::ApiServer;
use crate::harness::node::{FAR, ip};
use crate::harness::probe::{Conn, soon, try_tcp};
use crate::harness::*;
use crate::install::get;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A node whose agent follows an API server, and that has this policy.
pub fn followed<'a>(api: &'a ApiServer, policy: &Policy) -> Agent<'a> {
    let mut agent = Agent::new(api, "egressway-policy");
    let kubeconfig = agent.path("net.d/egressway.d/kubeconfig");
    let ours = json!({"kubeconfig": kubeconfig, "nodeName": "node-1", "timeout": "5s"});
    agent.node.ours.insert("kubernetes".to_owned(), ours);
    agent.set_policy(&json!({"policy.yaml": policy.text()}));
    agent.start();
    until("it is ready", || get(&agent.node.netns, "/readyz").0 == 200);
    agent
}

/// A pod's object, with its own rules.
pub fn object(api: &ApiServer, namespace: &str, name: &str, rules: &str) -> Value {
    api.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": name,
            "annotations": {"egressway.dev/rules": rules},
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "none"}]},
    }))
}

/// A pod whose object says the same as its runtime.
pub fn pod<'n>(agent: &'n Agent<'_>, namespace: &str, rules: &str) -> Pod<'n> {
    let object = object(agent.api, namespace, "web", rules);
    agent.node.pod(spec(&object, namespace, rules))
}

fn spec(object: &Value, namespace: &str, rules: &str) -> PodSpec {
    let uid = object["metadata"]["uid"].as_str().expect("a UID");
    let spec = PodSpec::new("web", Primary::Bridge).namespace(namespace);
    spec.rules(rules).uid(uid)
}

/// Edits the pod's own rules.
pub fn annotate(api: &ApiServer, namespace: &str, rules: &str) {
    api.merge(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": "web",
            "annotations": {"egressway.dev/rules": rules},
        },
    }));
}

fn annotate_namespace(api: &ApiServer, name: &str, annotations: &Value) {
    api.merge(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "annotations": annotations},
    }));
}

pub fn far(port: u16) -> SocketAddr {
    SocketAddr::new(ip(FAR[0]), port)
}

fn meets(pod: &Pod<'_>, to: SocketAddr, want: Want) {
    until(&format!("{to}: {want:?}"), || {
        want.matches(&try_tcp(&pod.netns, to, soon()))
    });
}

fn messages(api: &ApiServer, namespace: &str, reason: &str, uid: &Value) -> Vec<String> {
    let all = api.list(&json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": namespace},
    }));
    let of = all.iter().filter(|event| {
        event["reason"] == reason && event["involvedObject"]["uid"] == *uid && uid.is_string()
    });
    of.filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn every_tier_follows_what_is_written() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    let agent = followed(&api, &Policy::default());
    let _servers = agent.node.serve_ext(&[80, 443]);
    let pod = pod(&agent, "shop", "allow");
    let mut open = Conn::open(&pod.netns, far(80), soon()).expect("allowed so far");
    let mut stays = Conn::open(&pod.netns, far(443), soon()).expect("allowed");

    annotate(&api, "shop", "reject 80/tcp; allow");
    meets(&pod, far(80), Want::Refused);
    let met = open.is_cut(&agent.node);
    assert!(!Want::Reached.matches(&met), "{met:?}");
    meets(&pod, far(443), Want::Reached);
    stays
        .exchange(soon())
        .expect("it is allowed before and after");
    annotate(&api, "shop", "pass");
    meets(&pod, far(80), Want::Reached);
    stays
        .exchange(soon())
        .expect("it is allowed before and after");

    annotate_namespace(
        &api,
        "shop",
        &json!({"egressway.dev/default-rules": "reject 443/tcp"}),
    );
    meets(&pod, far(443), Want::Refused);
    annotate_namespace(&api, "shop", &json!({"egressway.dev/mode": "audit"}));
    meets(&pod, far(443), Want::Reached);
    let both = json!({
        "egressway.dev/mode": null,
        "egressway.dev/enforced-rules": "reject 80/tcp to internet",
        "egressway.dev/default-rules": null,
    });
    annotate_namespace(&api, "shop", &both);
    meets(&pod, far(80), Want::Refused);
    meets(&pod, far(443), Want::Reached);

    let policy = Policy::default().enforced("reject 443/tcp");
    agent.set_policy(&json!({"policy.yaml": policy.text()}));
    meets(&pod, far(443), Want::Refused);
    let exempt = Policy::default().set("exemptNamespaces", json!(["shop"]));
    agent.set_policy(&json!({"policy.yaml": exempt.text()}));
    meets(&pod, far(443), Want::Reached);
    meets(&pod, far(80), Want::Reached);
    // Not exempt any more: its own rules are what the API says, whenever it started.
    agent.set_policy(&json!({"policy.yaml": Policy::default().text()}));
    meets(&pod, far(80), Want::Refused);

    // All of it is in the records, too.
    pod.ours("CHECK").ok();
    let (changes, good) = crate::sync::sync(&agent.node);
    assert!(good && changes.is_empty(), "{changes:?}");
    let policies = agent.node.objects().into_iter();
    let policies = policies
        .filter(|object| object.contains("chain pol-"))
        .count();
    pod.delete();
    let left = agent.node.objects().into_iter();
    let left: Vec<String> = left.filter(|object| object.contains(" pol-")).collect();
    assert!(policies > 0 && left.is_empty(), "{left:?}");
}

#[test]
fn a_fault_leaves_the_last_good_rules_and_says_so_on_the_object() {
    let api = ApiServer::start();
    let namespace = api.namespace("shop", &json!({}));
    let agent = followed(&api, &Policy::default());
    let _servers = agent.node.serve_ext(&[80, 443]);
    let pod = pod(&agent, "shop", "reject 80/tcp; allow");
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web"}});
    let of_pod = api.get(&object).expect("the Pod")["metadata"]["uid"].clone();
    let of_namespace = namespace["metadata"]["uid"].clone();

    annotate(&api, "shop", "reject 80/tpc; allow");
    let said = |namespace: &str, reason: &str, uid: &Value, word: &str| {
        let messages = messages(&api, namespace, reason, uid);
        messages.iter().any(|message| message.contains(word))
    };
    until("the pod has an Event with the place", || {
        said("shop", "PolicyInvalid", &of_pod, "80/tpc")
            && said("shop", "PolicyInvalid", &of_pod, "^^^")
    });
    meets(&pod, far(80), Want::Refused);
    annotate_namespace(
        &api,
        "shop",
        &json!({"egressway.dev/default-rules": "alow"}),
    );
    until("the namespace has one", || {
        said("shop", "PolicyInvalid", &of_namespace, "alow")
    });
    meets(&pod, far(80), Want::Refused);
    meets(&pod, far(443), Want::Reached);
    assert!(
        !said("shop", "PolicyValid", &of_pod, ""),
        "it still is at fault"
    );
    annotate_namespace(&api, "shop", &json!({"egressway.dev/default-rules": null}));
    annotate(&api, "shop", "reject 443/tcp; allow");
    meets(&pod, far(443), Want::Refused);
    meets(&pod, far(80), Want::Reached);
    until("it says that all is well again", || {
        said("shop", "PolicyValid", &of_pod, "valid again")
    });
    // Others' faults are no reason to take this node's pods for unready.
    assert_eq!(get(&agent.node.netns, "/readyz").0, 200);
}

#[test]
fn an_api_that_is_away_changes_nothing_and_is_caught_up_with() {
    let api = ApiServer::start();
    api.namespace(
        "shop",
        &json!({"egressway.dev/default-rules": "reject 80/tcp"}),
    );
    let agent = followed(&api, &Policy::default());
    let _servers = agent.node.serve_ext(&[80, 443]);
    let pod = pod(&agent, "shop", "pass");
    meets(&pod, far(80), Want::Refused);
    api.stop();
    meets(&pod, far(80), Want::Refused);
    meets(&pod, far(443), Want::Reached);
    api.restart();
    annotate(&api, "shop", "reject 443/tcp; pass");
    meets(&pod, far(443), Want::Refused);
    // A namespace that goes says to the end what it said.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    api.delete(&namespace);
    annotate(&api, "shop", "pass");
    meets(&pod, far(443), Want::Reached);
    meets(&pod, far(80), Want::Refused);
}

/// The runtime's snapshot of the annotations is older than what the agent knows by then.
#[test]
fn a_pod_that_starts_with_outdated_rules_gets_those_of_now() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    let agent = followed(&api, &Policy::default());
    let _servers = agent.node.serve_ext(&[80]);
    let object = object(&api, "shop", "web", "reject 80/tcp; allow");
    let pod = agent.node.pod(spec(&object, "shop", "allow"));
    meets(&pod, far(80), Want::Refused);
}

#[test]
fn what_rules_name_is_followed() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    api.namespace("backend", &json!({}));
    let node = |name: &str, address: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    api.create(&node("first", "192.0.2.1"));
    let agent = followed(&api, &Policy::default());
    let _servers = agent.node.serve_ext(&[80]);
    let pod = pod(&agent, "shop", "allow");
    annotate(&api, "shop", "reject to nodes, svc/backend/db; allow");
    let object = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web"}});
    let uid = api.get(&object).expect("the Pod")["metadata"]["uid"].clone();
    until("the Service is missed", || {
        let messages = messages(&api, "shop", "PolicyInvalid", &uid);
        messages.iter().any(|said| said.contains("svc/backend/db"))
    });
    meets(&pod, far(80), Want::Reached);
    api.create(&json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "backend", "name": "db"},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}}));
    let rules = || agent.node.netns.exec("nft list table inet egressway");
    until("its address is in a rule", || rules().contains("10.96.7.7"));
    meets(&pod, far(80), Want::Reached);
    // The node that joins is met by the rule about all nodes, and one that goes is not.
    api.create(&node("second", FAR[0]));
    meets(&pod, far(80), Want::Refused);
    api.delete(&node("second", FAR[0]));
    meets(&pod, far(80), Want::Reached);
    // Nobody asks for more than rules say.
    let others = agent.api.calls().into_iter();
    let others = others.filter(|call| call.uri.contains("kube-dns") || call.resource == "secrets");
    assert_eq!(others.count(), 0);
}
