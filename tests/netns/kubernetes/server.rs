//! The server that the other tests rely on: who may do what, what is logged of it, and how it goes away.

use crate::harness::cluster::{ACCOUNT, ApiServer, SYSTEM, with_kubeconfig};
use crate::harness::{Node, NodeOptions};
use kube::core::Request;
use serde_json::json;
use std::fs;
use std::path::Path;

/// The HTTP status that a question gets from `node`, or why there is none.
fn ask(node: &Node, kubeconfig: &Path, path: &str) -> Result<u16, String> {
    let text = fs::read_to_string(kubeconfig).expect("the kubeconfig");
    let (parent, name) = path.rsplit_once('/').expect("an absolute path");
    let request = Request::new(parent).get(name, &Default::default());
    let request = request.expect("a request");
    with_kubeconfig(&node.netns, &text, async |client| {
        let answer = client.request_text(request);
        match tokio::time::timeout(crate::harness::exec::seconds(2), answer).await {
            Err(_) => Err("silence".to_owned()),
            Ok(Ok(_)) => Ok(200),
            Ok(Err(kube::Error::Api(status))) => Ok(status.code),
            Ok(Err(other)) => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn the_service_account_may_what_its_roles_say() {
    let api = ApiServer::shared();
    let node = Node::new(NodeOptions::default());
    let link = api.connect(&node.netns);
    api.namespace("granted", &json!({"egressway.dev/mode": "audit"}));
    let dir = node.dir.path().join("egressway.d");
    let kubeconfig = api.kubeconfig(&dir, &api.token(SYSTEM, ACCOUNT));
    let status = |path: &str| ask(&node, &kubeconfig, path);
    assert_eq!(status("/api/v1/namespaces/granted"), Ok(200));
    assert_eq!(status("/api/v1/namespaces/granted/secrets"), Ok(403));
    assert_eq!(status("/api/v1/namespaces"), Ok(200));
    assert_eq!(status("/api/v1/pods"), Ok(200));
    let leases = "/apis/coordination.k8s.io/v1/namespaces";
    assert_eq!(status(&format!("{leases}/{SYSTEM}/leases")), Ok(200));
    assert_eq!(status(&format!("{leases}/kube-system/leases")), Ok(403));
    let seen: Vec<(String, u64)> = api
        .calls()
        .into_iter()
        .filter(|call| call.uri.contains("/granted"))
        .map(|call| (call.verb, call.code))
        .collect();
    assert_eq!(seen, [("get".to_owned(), 200), ("list".to_owned(), 403)]);

    fs::write(dir.join("token"), "no-token-of-ours").expect("write the token");
    assert_eq!(status("/api/v1/namespaces/granted"), Ok(401));
    api.kubeconfig(&dir, &api.token(SYSTEM, ACCOUNT));
    link.cut();
    assert_eq!(status("/readyz"), Err("silence".to_owned()));
    link.mend();
    assert_eq!(status("/readyz"), Ok(200));
    api.wrong_authority(&dir);
    let why = status("/readyz").expect_err("another authority");
    assert!(why.contains("UnknownIssuer"), "{why}");
}

#[test]
fn what_is_stored_outlives_the_server() {
    let api = ApiServer::start();
    let node = Node::new(NodeOptions::default());
    let _link = api.connect(&node.netns);
    let kubeconfig = api.kubeconfig(node.dir.path(), &api.token(SYSTEM, ACCOUNT));
    let wanted = api.namespace("kept", &json!({"a": "b"}));
    api.stop();
    let why = ask(&node, &kubeconfig, "/readyz").expect_err("nobody listens");
    assert!(why.contains("refused"), "{why}");
    api.restart();
    let found = api.get(&wanted).expect("the namespace");
    assert_eq!(found["metadata"]["uid"], wanted["metadata"]["uid"]);
    assert_eq!(ask(&node, &kubeconfig, "/readyz"), Ok(200));
}
