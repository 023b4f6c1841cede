//! Policy from the Kubernetes API: what is asked, and what is done with the answer.

mod failures;
mod services;

use crate::harness::cni;
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

const SHOP: &str = "/api/v1/namespaces/shop";
const WEB: &str = "/api/v1/namespaces/shop/pods/web";
/// How metadata is asked for, and by whom.
const HOW: &str =
    "accept=application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1 token=Bearer a-token";

/// A node that asks a server with this certificate.
fn node_and_api(certificate: Certificate) -> (Node, FakeApi) {
    let mut node = Node::new(NodeOptions::default());
    let api = FakeApi::start(&node.netns, certificate);
    node.ours.insert("kubernetes".to_owned(), api.conf());
    (node, api)
}

/// A pod that our plugin does not know yet.
fn web(node: &Node) -> Pod<'_> {
    node.pod(PodSpec::new("web", Primary::Bridge).uncovered())
}

/// An ADD with this `runtimeConfig`, and these keys of `kubernetes` instead of the node's.
fn add(pod: &Pod<'_>, runtime: Option<Value>, kubernetes: &[(&str, &str)]) -> PluginRun {
    let mut ours = pod.node.ours.clone();
    for (key, value) in kubernetes {
        ours["kubernetes"][*key] = json!(value);
    }
    let stdin = cni::stdin(&ours, "1.0.0", runtime.as_ref(), Some(&pod.prev_result));
    pod.call("ADD").stdin(stdin).run(&pod.node.netns)
}

/// What a runtime says that hands annotations over.
fn handed_over(annotations: Value) -> Option<Value> {
    Some(json!({cni::POD_ANNOTATIONS: annotations}))
}

fn log(node: &Node) -> String {
    fs::read_to_string(node.dir.path().join("egressway.log")).unwrap_or_default()
}

/// Tries port 80 and port 443 of the far side.
fn tries(pod: &Pod<'_>, port80: Want, port443: Want) {
    let probe = |port, want| Probe::tcp(&pod.netns, ip(FAR[0]), port, want);
    check(pod.node, &[probe(80, port80), probe(443, port443)]);
}

#[test]
fn one_question_a_pod_and_its_answer_is_enforced() {
    let (node, api) = node_and_api(Certificate::Good);
    let _ext = node.serve_ext(&[80, 443]);
    api.namespace("shop", &[("enforced-rules", "deny 80/tcp to internet")]);
    // What the file says of the namespace is not what the API says.
    node.set_policy(&Policy::default().namespace("shop", "enforced-rules", "deny"));
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("allow"));
    tries(&pod, Want::Silence, Want::Reached);
    assert_eq!(api.requests(), [format!("GET {SHOP} {HOW}")]);
    assert!(log(&node).contains("`namespaces.shop` in the policy file is ignored"));

    // The rest of a pod's life needs no API.
    drop(api);
    pod.ours("CHECK").ok();
    pod.delete();
}

#[test]
fn annotations_that_are_not_handed_over_are_asked_for() {
    let (node, api) = node_and_api(Certificate::Good);
    let _ext = node.serve_ext(&[80, 443]);
    let pod = web(&node);
    api.namespace("shop", &[]);
    let object = |uid: &str, more: Value| {
        let mut annotations = json!({"egressway.dev/rules": "deny 80/tcp"});
        annotations
            .as_object_mut()
            .expect("a map")
            .extend(more.as_object().expect("a map").clone());
        Answer::Object(json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "web", "namespace": "shop", "uid": uid, "annotations": annotations},
        }))
    };
    let uid = pod
        .who
        .args
        .split(';')
        .find_map(|arg| arg.strip_prefix("K8S_POD_UID="));
    let uid = uid.expect("the pod's UID");

    // A pod of that name, but another one: this one was replaced.
    api.answer(WEB, object("another", json!({})));
    let error = add(&pod, None, &[]).error();
    assert_eq!(error.code, 11);
    assert!(
        error
            .msg
            .contains("the pod shop/web in the API has the UID another"),
        "{error:?}"
    );

    // null, as containerd writes it, is not handed over either. A pod of kubelet's own has its UID there.
    for (runtime, answer) in [
        (None, object(uid, json!({}))),
        (handed_over(Value::Null), object(uid, json!({}))),
        (
            None,
            object("another", json!({"kubernetes.io/config.hash": uid})),
        ),
    ] {
        api.requests();
        api.answer(WEB, answer);
        add(&pod, runtime, &[]).ok();
        tries(&pod, Want::Silence, Want::Reached);
        let mut requests = api.requests();
        requests.sort();
        assert_eq!(
            requests,
            [SHOP, WEB].map(|path| format!("GET {path} {HOW}"))
        );
    }

    // None at all is an answer: nothing is asked for it.
    add(&pod, handed_over(json!({})), &[]).ok();
    tries(&pod, Want::Reached, Want::Reached);
    assert_eq!(api.requests(), [format!("GET {SHOP} {HOW}")]);
}

#[test]
fn an_exempt_namespace_asks_nothing() {
    let (node, api) = node_and_api(Certificate::Good);
    let spec = PodSpec::new("dns", Primary::Bridge).namespace("kube-system");
    node.set_policy(&Policy::default().set("exemptNamespaces", json!(["kube-system"])));
    node.pod(spec.clone());
    assert!(api.requests().is_empty());
    drop(api);
    node.pod(spec);
}

#[test]
fn without_a_pods_name_there_is_nothing_to_ask_and_the_pod_does_not_start() {
    let (node, api) = node_and_api(Certificate::Good);
    let pod = web(&node);
    api.namespace("shop", &[]);
    for args in ["IgnoreUnknown=1", "K8S_POD_NAME=web"] {
        let error = pod
            .call("ADD")
            .env("CNI_ARGS", args)
            .run(&node.netns)
            .error();
        assert_eq!(error.code, 4);
        assert!(error.msg.contains("K8S_POD_NAMESPACE"), "{error:?}");
    }
    assert!(api.requests().is_empty());
    node.assert_nothing_of(&pod.who);
}

#[test]
fn hostile_annotations_of_a_namespace_are_named() {
    let (node, api) = node_and_api(Certificate::Good);
    let pod = web(&node);
    let listed = json!({"metadata": {}, "items": [{"metadata": {"name": "shop"}}]});
    api.answer("/api/v1/namespaces", Answer::Object(listed));
    let huge = "deny 80/tcp to 203.0.113.7\n".repeat(9000) + "dney";
    let long = "x".repeat(200_000);
    for (key, text, code, words) in [
        (
            "enforced-rules",
            "deny\u{1b}[2J",
            100,
            "[egressway.dev/enforced-rules]:1:",
        ),
        (
            "default-rules",
            "deny\0",
            100,
            "[egressway.dev/default-rules]:1:",
        ),
        (
            "default-rules",
            &huge,
            100,
            "[egressway.dev/default-rules]:9001:1",
        ),
        (
            "enforced-rules",
            &long,
            100,
            "[egressway.dev/enforced-rules]:1:1",
        ),
        ("mode", "audited", 100, "[egressway.dev/mode]:1:1"),
        ("mode", "\u{202e}enforce", 100, "[egressway.dev/mode]:1:1"),
        (
            "egress-ip",
            "203.0.113.999",
            100,
            "[egressway.dev/egress-ip]:1:1",
        ),
        (
            "egress-ip",
            "203.0.113.7",
            102,
            "[egressway.dev/egress-ip]: 203.0.113.7/32 is not inside",
        ),
        (
            "rules",
            "deny",
            100,
            ": the annotation `egressway.dev/rules` belongs on pods",
        ),
        (
            "enforce-rules",
            "deny",
            100,
            "did you mean `egressway.dev/enforced-rules`?",
        ),
        (
            "mode\u{7}",
            "audit",
            100,
            "unknown annotation `egressway.dev/mode\\u{7}`",
        ),
    ] {
        api.namespace("shop", &[(key, text)]);
        let error = add(&pod, handed_over(json!({})), &[]).error();
        assert_eq!(error.code, code, "{key}: {error:?}");
        assert!(error.msg.starts_with("namespace shop"), "{key}: {error:?}");
        assert!(error.msg.contains(words), "{key}: {error:?}");
        assert!(error.msg.len() < 5000, "{} bytes", error.msg.len());
        let plain = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
        assert!(error.msg.chars().all(plain), "{error:?}");
    }
    node.assert_nothing_of(&pod.who);
}
