//! A pod's policy from a real API server, asked with the rights of `install/`.

use crate::harness::cluster::{ACCOUNT, ApiServer, Link, SYSTEM};
use crate::harness::node::{FAR, ip};
use crate::harness::{Node, NodeOptions, Pod, PodSpec, Policy, Primary, Probe, Want, check, cni};
use serde_json::{Value, json};

/// A node that asks `api` as `egressway install` sets it up.
fn node(api: &ApiServer) -> (Node, Link<'_>) {
    let mut node = Node::new(NodeOptions::default());
    let link = api.connect(&node.netns);
    let dir = node.dir.path().join("egressway.d");
    let kubeconfig = api.kubeconfig(&dir, &api.token(SYSTEM, ACCOUNT));
    node.ours.insert(
        "kubernetes".to_owned(),
        json!({"kubeconfig": kubeconfig, "timeout": "5s"}),
    );
    (node, link)
}

/// What of `text` our service account has asked so far: verb, path and status.
fn asked(api: &ApiServer, text: &str) -> Vec<String> {
    let calls = api.calls().into_iter();
    calls
        .filter(|call| call.uri.contains(text))
        .map(|call| format!("{} {} {}", call.verb, call.uri, call.code))
        .collect()
}

fn tries(pod: &Pod<'_>, port80: Want, port443: Want) {
    let probe = |port, want| Probe::tcp(&pod.netns, ip(FAR[0]), port, want);
    check(pod.node, &[probe(80, port80), probe(443, port443)]);
}

#[test]
fn a_pod_start_costs_one_call() {
    let api = ApiServer::shared();
    let (node, _link) = node(api);
    let _servers = node.serve_ext(&[80, 443]);
    let rules = json!({"egressway.dev/enforced-rules": "reject 80/tcp to internet"});
    api.namespace("onecall", &rules);
    let spec = PodSpec::new("web", Primary::Bridge).namespace("onecall");
    let pod = node.pod(spec.rules("allow"));
    tries(&pod, Want::Refused, Want::Reached);
    pod.ours("CHECK").ok();
    pod.delete();
    assert_eq!(
        asked(api, "onecall"),
        ["get /api/v1/namespaces/onecall 200"],
        "ADD, CHECK and DEL together"
    );
}

/// containerd before 1.6, Multus: the annotations come from the Pod itself.
#[test]
fn a_runtime_without_annotations_costs_two() {
    let api = ApiServer::shared();
    let (node, _link) = node(api);
    let _servers = node.serve_ext(&[80, 443]);
    api.namespace("twocalls", &json!({}));
    let object = api.create(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "twocalls", "name": "web",
            "annotations": {"egressway.dev/rules": "reject 443/tcp"},
        },
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }));
    let spec = PodSpec::new("web", Primary::Bridge).namespace("twocalls");
    let pod = node.pod(spec.uncovered());
    let uid = object["metadata"]["uid"].as_str().expect("a UID");
    let args = format!("K8S_POD_NAMESPACE=twocalls;K8S_POD_NAME=web;K8S_POD_UID={uid}");
    let stdin = cni::stdin(&node.ours, "1.0.0", None, Some(&pod.prev_result));
    let add = pod.call("ADD").env("CNI_ARGS", &args).stdin(stdin);
    add.run(&node.netns).ok();
    tries(&pod, Want::Reached, Want::Refused);
    let mut asked = asked(api, "twocalls");
    asked.sort();
    let pods = "get /api/v1/namespaces/twocalls/pods/web 200";
    assert_eq!(asked, ["get /api/v1/namespaces/twocalls 200", pods]);
}

#[test]
fn while_the_server_is_away_only_exempt_pods_start() {
    let api = ApiServer::start();
    let (node, _link) = node(&api);
    node.set_policy(&Policy::default().set("exemptNamespaces", json!(["system"])));
    api.namespace("shop", &Value::Null);
    let shop = || PodSpec::new("web", Primary::Bridge).rules("allow");
    node.pod(shop()).delete();
    api.stop();
    let refused = node.add_pod(shop()).expect_err("nobody to ask").error;
    assert_eq!(refused.code, 11, "{refused:?}");
    let exempt = PodSpec::new("dns", Primary::Bridge).namespace("system");
    node.pod(exempt).delete();
    api.restart();
    node.pod(shop()).delete();
}

#[test]
fn a_missing_right_is_named() {
    let api = ApiServer::start();
    let (node, _link) = node(&api);
    api.namespace("shop", &Value::Null);
    api.delete(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": ACCOUNT},
    }));
    // The server's own memory of roles takes a moment.
    let refused = (0..100)
        .find_map(
            |_| match node.add_pod(PodSpec::new("web", Primary::Bridge)) {
                Ok(pod) => {
                    pod.delete();
                    None
                }
                Err(e) => Some(e.error),
            },
        )
        .expect("a refusal");
    for word in ["403", "`get`", "`namespaces`"] {
        assert!(refused.msg.contains(word), "{word}: {refused:?}");
    }
    assert_eq!(refused.code, 7, "{refused:?}");
}

/// Refused on both sides: who was first is not known.
#[test]
fn an_egress_address_that_another_namespace_lists_is_refused() {
    let api = ApiServer::start();
    let (node, _link) = node(&api);
    let list = |name: &str, list: &str| {
        api.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "annotations": {"egressway.dev/egress-ip": list}},
        }))
    };
    let of = |namespace: &str| {
        let spec = PodSpec::new("web", Primary::Bridge).namespace(namespace);
        node.add_pod(spec.rules("allow"))
    };
    let both = [("mine", "yours"), ("yours", "mine")];
    list("mine", "172.30.0.50");
    list("yours", "172.30.0.48/29");
    for (namespace, owner) in both {
        let refused = of(namespace).expect_err("listed twice").error;
        assert_eq!(refused.code, 102, "{refused:?}");
        let words = format!("belongs to the namespace {owner}, which lists");
        assert!(refused.msg.contains(&words), "{refused:?}");
    }
    list("yours", "172.30.0.51");
    for (namespace, _) in both {
        of(namespace).expect("its own address").delete();
    }
    let lists = asked(&api, "/api/v1/namespaces?");
    assert_eq!(lists.len(), 4, "one for each start: {lists:?}");
    for call in lists {
        assert_eq!(call, "list /api/v1/namespaces?&limit=500 200");
    }
}
