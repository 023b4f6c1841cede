//! The taint of a node on which pods may not be enforced, with the rights of `install/components/taint`.

use super::agent::{Agent, CONFLIST, until};
use crate::harness::cluster::{ApiServer, manifests};
use crate::install::get;
use serde_json::{Value, json};
use std::fs;

const POLICY: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";
const KEY: &str = "egressway.dev/not-ready";

fn taints(api: &ApiServer) -> Vec<String> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}});
    let node = api.get(&node).expect("the Node is there");
    let taints = node["spec"]["taints"].as_array().cloned();
    let word = |taint: Value| {
        let part = |name: &str| taint[name].as_str().unwrap_or_default().to_owned();
        format!("{}:{}", part("key"), part("effect"))
    };
    let all = taints.unwrap_or_default().into_iter().map(word);
    // What the API server puts on every new Node.
    all.filter(|taint| !taint.starts_with("node.kubernetes.io/"))
        .collect()
}

#[test]
fn a_node_that_is_not_ready_gets_no_pods() {
    let api = ApiServer::start();
    api.apply(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "spec": {"taints": [
            {"key": KEY, "effect": "NoSchedule"},
            {"key": "others", "effect": "NoExecute"},
            {"key": KEY, "effect": "NoExecute"},
        ]},
    }));
    let mut agent = Agent::new(&api, "egressway-policy");
    agent.set_policy(&json!({"policy.yaml": POLICY}));
    agent.start_with(&["--taint"]);
    until("the rights are missed", || {
        let (status, text) = get(&agent.node.netns, "/readyz");
        status == 503 && text.contains("taint: the taint egressway.dev/not-ready cannot be changed")
    });
    assert_eq!(taints(&api).len(), 3);
    for object in manifests::documents("components/taint/rbac.yaml") {
        api.apply(&object);
    }
    until("it is ready", || get(&agent.node.netns, "/readyz").0 == 200);
    assert_eq!(taints(&api), ["others:NoExecute"]);

    fs::remove_file(agent.path("net.d/10-pods.conflist")).expect("the conflist is there");
    until("no pod comes to a node without an entry", || {
        taints(&api) == ["others:NoExecute", "egressway.dev/not-ready:NoSchedule"]
    });
    fs::write(agent.path("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
    until("pods come again", || taints(&api) == ["others:NoExecute"]);
    assert!(agent.entry().is_some(), "by then the entry is in");
    agent.terminate();
    assert_eq!(taints(&api), ["others:NoExecute"], "a restart is no reason");
}

/// The component gives what the agent's flag needs, to the same account.
#[test]
fn the_component_fits_the_program() {
    let component = manifests::documents("components/taint/kustomization.yaml").remove(0);
    assert_eq!(component["kind"], "Component");
    let patch = component["patches"][0]["patch"].as_str().expect("a patch");
    assert!(patch.contains("value: --taint}"), "{patch}");
    let files = component["resources"].as_array().expect("resources");
    let mut kinds = Vec::new();
    for file in files {
        let file = file.as_str().expect("a file's name");
        for object in manifests::documents(&format!("components/taint/{file}")) {
            kinds.push(object["kind"].as_str().expect("a kind").to_owned());
            if object["kind"] == "ValidatingAdmissionPolicy" {
                let condition = &object["spec"]["matchConditions"][0]["expression"];
                let base = manifests::all();
                let of_base = base.iter().find(|other| other["kind"] == object["kind"]);
                let of_base = of_base.expect("one in install/");
                let same = &of_base["spec"]["matchConditions"][0]["expression"];
                assert_eq!(condition, same);
            }
        }
    }
    kinds.sort();
    let wanted = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    assert_eq!(kinds, wanted);
}
