//! Policy from the Kubernetes API: what is asked, what is done with the answer, and what without one.

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
    fs::read_to_string(node.dir.path().join("egress-cni.log")).unwrap_or_default()
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
    assert!(log(&node).contains("`namespaces.shop` in the policy file is not looked at"));

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
        let mut annotations = json!({"egress-cni.dev/rules": "deny 80/tcp"});
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
fn a_server_that_is_not_the_api_is_not_believed() {
    for (certificate, code, words) in [
        (
            Certificate::OfAnotherAuthority,
            7,
            "not signed by the authority that the kubeconfig names",
        ),
        (
            Certificate::OfAnotherAuthorityOfThatName,
            7,
            "not signed by the authority that the kubeconfig names",
        ),
        (
            Certificate::ForAnotherName,
            7,
            "its certificate is for another name",
        ),
        (
            Certificate::Expired,
            11,
            "its certificate is not valid at this node's time",
        ),
        (Certificate::None, 7, "it does not speak TLS"),
    ] {
        let (node, api) = node_and_api(certificate);
        api.namespace("shop", &[]);
        let pod = web(&node);
        keep_a_snapshot(&node);
        let error = add(
            &pod,
            handed_over(json!({})),
            &[("whenUnreachable", "snapshot")],
        )
        .error();
        assert_eq!(error.code, code, "{certificate:?}: {error:?}");
        assert!(error.msg.contains(words), "{certificate:?}: {error:?}");
        assert!(error.msg.contains("cannot be trusted"), "{error:?}");
        node.assert_nothing_of(&pod.who);
    }
}

/// As an ADD leaves it that has just asked.
fn keep_a_snapshot(node: &Node) {
    let dir = node.state_dir().join("namespaces");
    fs::create_dir_all(&dir).expect("make a directory");
    let now = jiff_now(Duration::ZERO);
    let snapshot = json!({"readAt": now, "said": {"egress-cni.dev/enforced-rules": "deny 80/tcp"}});
    fs::write(dir.join("shop.json"), snapshot.to_string()).expect("write a snapshot");
}

/// The time, this long ago.
fn jiff_now(ago: Duration) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d"])
        .arg(format!("-{} seconds", ago.as_secs()))
        .output()
        .expect("run date");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn refusals_and_outages_are_told_apart() {
    let (node, api) = node_and_api(Certificate::Good);
    let _ext = node.serve_ext(&[80, 443]);
    let (pod, started) = (web(&node), web(&node));
    let table = [
        // An outage: what was read before may be used.
        (
            Answer::Failure(500, "etcd is gone"),
            11,
            true,
            "is in trouble (500)",
        ),
        (
            Answer::Failure(503, "not ready"),
            11,
            true,
            "is in trouble (503)",
        ),
        (Answer::Raw(b""), 11, true, "cannot be reached"),
        (
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
            11,
            true,
            "cannot be reached",
        ),
        (
            Answer::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"metadata\":{\"name\":\"shop\"",
            ),
            11,
            true,
            "cannot be reached",
        ),
        (Answer::Silence, 11, true, "did not answer within"),
        // An answer, if an unwelcome one.
        (
            Answer::Failure(401, "Unauthorized"),
            11,
            false,
            "does not know who asks (401)",
        ),
        (
            Answer::Failure(
                403,
                "namespaces \"shop\" is forbidden: User \"x\" cannot get",
            ),
            7,
            false,
            "needs the verb `get` on `namespaces`; it says: namespaces \"shop\" is forbidden",
        ),
        (
            Answer::Failure(404, "no"),
            11,
            false,
            "has no such object (404): get namespaces shop",
        ),
        (
            Answer::Failure(429, "busy"),
            11,
            false,
            "is in trouble (429)",
        ),
        (Answer::Failure(410, "gone"), 7, false, "refuses (410)"),
        (
            Answer::Object(json!({})),
            11,
            false,
            "is not the object that was asked for",
        ),
        (
            Answer::Object(json!({"metadata": {"name": "other"}})),
            11,
            false,
            "is not the object that was asked for",
        ),
        (
            Answer::Object(json!([1])),
            11,
            false,
            "is not of the Kubernetes API",
        ),
    ];
    for (answer, code, outage, words) in table {
        api.answer(SHOP, answer.clone());
        let short = ("timeout", "700ms");
        let rules = || handed_over(json!({"egress-cni.dev/rules": "allow 443/tcp; deny 443/tcp"}));
        keep_a_snapshot(&node);
        let error = add(&pod, rules(), &[short]).error();
        assert_eq!(error.code, code, "{answer:?}: {error:?}");
        assert!(error.msg.contains(words), "{answer:?}: {error:?}");
        assert!(error.msg.contains("https://127.0.0.1:"), "{error:?}");
        node.assert_nothing_of(&pod.who);

        keep_a_snapshot(&node);
        let run = add(&started, rules(), &[short, ("whenUnreachable", "snapshot")]);
        if outage {
            run.ok();
            tries(&started, Want::Silence, Want::Reached);
            let log = log(&node);
            assert!(log.contains("ago of shop in namespaces is used"), "{log}");
        } else {
            assert_eq!(run.error().code, code, "{answer:?}");
            // By now it is known that the snapshot says nothing.
            let forgotten = !node.state_dir().join("namespaces/shop.json").exists();
            assert!(forgotten, "{answer:?}");
        }
    }
}

#[test]
fn a_snapshot_is_what_was_last_read_and_only_while_it_is_young() {
    let (node, api) = node_and_api(Certificate::Good);
    let _ext = node.serve_ext(&[80, 443]);
    let pod = web(&node);
    let snapshot = [("whenUnreachable", "snapshot"), ("timeout", "2s")];
    let none = || handed_over(json!({}));
    api.namespace("shop", &[("enforced-rules", "deny 443/tcp")]);
    add(&pod, none(), &[]).ok();
    api.namespace("shop", &[("enforced-rules", "deny 80/tcp")]);
    add(&pod, none(), &[]).ok();
    let file = node.state_dir().join("namespaces/shop.json");
    let kept = fs::read_to_string(&file).expect("a snapshot");
    assert!(kept.contains("deny 80/tcp"), "{kept}");

    api.answer(SHOP, Answer::Failure(500, "gone"));
    add(&pod, none(), &snapshot).ok();
    tries(&pod, Want::Silence, Want::Reached);
    // It is as old as before: using it does not make it younger.
    assert_eq!(fs::read_to_string(&file).expect("a snapshot"), kept);

    // Of a pod nothing is kept: without its annotations it does not start.
    let error = add(&pod, None, &snapshot).error();
    assert_eq!(error.code, 11);

    let (start, end) = kept.split_once("\"readAt\":\"").expect("a time");
    let (_, end) = end.split_once('"').expect("its end");
    let hour = Duration::from_secs(3600);
    for (time, limit, starts) in [
        (jiff_now(hour * 3), "1h", false),
        (jiff_now(hour * 3), "4h", true),
        (jiff_now(hour / 2), "1h", true),
        // The clock was set back since: nobody knows how old this is.
        ("2999-01-01T00:00:00Z".to_owned(), "1h", false),
        ("never".to_owned(), "1h", false),
    ] {
        fs::write(&file, format!("{start}\"readAt\":\"{time}\"{end}")).expect("write");
        let keys = [snapshot[0], snapshot[1], ("snapshotMaxAge", limit)];
        let run = add(&pod, none(), &keys);
        assert_eq!(run.succeeded(), starts, "{time} {limit}: {run:?}");
    }

    // A namespace that says something invalid leaves no snapshot of what it said before.
    api.namespace("shop", &[("enforced-rules", "deny 80/tcp")]);
    add(&pod, none(), &snapshot).ok();
    api.namespace("shop", &[("enforced-rules", "dney")]);
    assert_eq!(add(&pod, none(), &snapshot).error().code, 100);
    api.answer(SHOP, Answer::Failure(500, "gone"));
    assert_eq!(add(&pod, none(), &snapshot).error().code, 11);
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
            "[egress-cni.dev/enforced-rules]:1:",
        ),
        (
            "default-rules",
            "deny\0",
            100,
            "[egress-cni.dev/default-rules]:1:",
        ),
        (
            "default-rules",
            &huge,
            100,
            "[egress-cni.dev/default-rules]:9001:1",
        ),
        (
            "enforced-rules",
            &long,
            100,
            "[egress-cni.dev/enforced-rules]:1:1",
        ),
        ("mode", "audited", 100, "[egress-cni.dev/mode]:1:1"),
        ("mode", "\u{202e}enforce", 100, "[egress-cni.dev/mode]:1:1"),
        (
            "egress-ip",
            "203.0.113.999",
            100,
            "[egress-cni.dev/egress-ip]:1:1",
        ),
        (
            "egress-ip",
            "203.0.113.7",
            102,
            "[egress-cni.dev/egress-ip]: 203.0.113.7/32 is not inside",
        ),
        (
            "rules",
            "deny",
            100,
            ": the annotation `egress-cni.dev/rules` belongs on pods",
        ),
        (
            "enforce-rules",
            "deny",
            100,
            "did you mean `egress-cni.dev/enforced-rules`?",
        ),
        (
            "mode\u{7}",
            "audit",
            100,
            "unknown annotation `egress-cni.dev/mode\\u{7}`",
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

#[test]
fn the_token_is_read_anew_each_time() {
    let (node, api) = node_and_api(Certificate::Good);
    let pod = web(&node);
    api.namespace("shop", &[]);
    for token in ["first", "second"] {
        api.write("token", token);
        add(&pod, handed_over(json!({})), &[]).ok();
        let [request] = &api.requests()[..] else {
            panic!("one request")
        };
        assert!(
            request.ends_with(&format!("token=Bearer {token}")),
            "{request}"
        );
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_makes_the_node_not_ready_and_a_silent_api_does_not() {
    let (node, api) = node_and_api(Certificate::Good);
    let status = || node.run(&node.call("STATUS", "1.1.0", &[]));
    status().ok();
    assert!(api.requests().is_empty(), "STATUS asks nothing");
    let pod = web(&node);
    for (name, text, words) in [
        ("token", "", "cannot be used: it is empty"),
        (
            "ca.pem",
            "-----BEGIN",
            "`certificate-authority` holds no PEM certificates",
        ),
        ("kubeconfig", "{}", "it has no `current-context`"),
    ] {
        let good = fs::read_to_string(api.path().join(name)).expect("a file");
        api.write(name, text);
        let error = status().error();
        assert_eq!(error.code, 50);
        assert!(
            error.msg.contains("kubeconfig") && error.text().contains(words),
            "{error:?}"
        );
        let error = add(
            &pod,
            handed_over(json!({})),
            &[("whenUnreachable", "snapshot")],
        )
        .error();
        assert_eq!(error.code, 7);
        assert!(error.text().contains(words), "{error:?}");
        api.write(name, &good);
    }
    drop(api); // and with it the kubeconfig
    let error = status().error();
    assert_eq!(error.code, 50);
    assert!(error.msg.contains("there is no kubeconfig"), "{error:?}");
}

#[test]
fn a_node_whose_api_is_down_is_ready() {
    let (node, api) = node_and_api(Certificate::Good);
    let closed = fs::read_to_string(api.kubeconfig())
        .expect("a kubeconfig")
        .replace("127.0.0.1:", "127.0.0.9:");
    api.write("kubeconfig", &closed);
    node.run(&node.call("STATUS", "1.1.0", &[])).ok();
    let error = add(&web(&node), handed_over(json!({})), &[]).error();
    assert_eq!(error.code, 11);
    assert!(error.msg.contains("Connection refused"), "{error:?}");
}

/// A Service of this name, as the API has it.
fn service(api: &FakeApi, namespace: &str, name: &str, addresses: &[&str]) {
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let metadata = json!({"name": name, "namespace": namespace});
    api.answer(
        &path,
        Answer::Object(json!({
            "kind": "Service", "apiVersion": "v1", "metadata": metadata,
            "spec": {"clusterIP": addresses[0], "clusterIPs": addresses},
        })),
    );
}

/// What was asked, without how, sorted.
fn asked(api: &FakeApi) -> Vec<String> {
    let requests = api.requests();
    let mut paths: Vec<String> = requests
        .iter()
        .filter_map(|request| {
            Some(
                request
                    .strip_prefix("GET /api/v1/namespaces/")?
                    .split_once(' ')?
                    .0,
            )
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(paths.len(), requests.len(), "{requests:?}");
    paths.sort();
    paths
}

#[test]
fn services_are_named_and_matched_where_the_pod_sent_the_packet() {
    let (node, api) = node_and_api(Certificate::Good);
    let backend = node.pod(
        PodSpec::new("backend", Primary::Bridge)
            .namespace("kube-system")
            .uncovered(),
    );
    let _servers = backend.serve(&[8080, 8081]);
    let _ext = node.serve_ext(&[80]);
    let vip = ["10.96.7.7", "fd96::77"];
    node.netns.nft(&format!(
        "table inet kube-proxy {{
           chain services {{
             type nat hook prerouting priority -100
             ip daddr {} tcp dport {{ 80, 81 }} dnat ip to {}:8080
             ip6 daddr {} tcp dport {{ 80, 81 }} dnat ip6 to [{}]:8080
           }}
         }}",
        vip[0], backend.v4, vip[1], backend.v6
    ));
    api.namespace("shop", &[("default-rules", "deny")]);
    service(&api, "shop", "db", &vip);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("allow 80/tcp to svc/shop/db"));
    assert_eq!(asked(&api), ["shop", "shop/services/db"]);
    let mut probes = Vec::new();
    for family in 0..2 {
        let (vip, backend, from) = (ip(vip[family]), backend.addresses()[family], &pod.netns);
        probes.extend([
            Probe::tcp(from, vip, 80, Want::Reached),
            // Another port of the Service, and the backend without the Service.
            Probe::tcp(from, vip, 81, Want::Silence),
            Probe::tcp(from, backend, 8080, Want::Silence),
            Probe::tcp(from, ip(FAR[family]), 80, Want::Silence),
        ]);
    }
    check(&node, &probes);
    pod.ours("CHECK").ok();

    let denied =
        node.pod(PodSpec::new("deny", Primary::Bridge).rules("deny to svc/shop/db; allow"));
    let probes: Vec<Probe<'_>> = (0..2)
        .flat_map(|family| {
            let from = &denied.netns;
            [
                Probe::tcp(from, ip(vip[family]), 80, Want::Silence),
                Probe::tcp(from, backend.addresses()[family], 8080, Want::Reached),
            ]
        })
        .collect();
    check(&node, &probes);
}

#[test]
fn names_cost_one_question_each_and_only_where_they_are_needed() {
    let (node, api) = node_and_api(Certificate::Good);
    let _ext = node.serve_ext(&[80, 443]);
    // The policy file says nothing of DNS: the API does.
    node.set_policy(&Policy::default().set("clusterDNS", json!([])));
    api.namespace("shop", &[]);
    service(&api, "kube-system", "kube-dns", &[FAR[0]]);
    service(&api, "default", "kubernetes", &["10.96.0.1"]);
    let endpoints = "/api/v1/namespaces/default/endpoints/kubernetes";
    api.answer(
        endpoints,
        Answer::Object(json!({
            "kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "kubernetes"},
            "subsets": [{"addresses": [{"ip": FAR[0]}], "ports": [{"port": 443}]}],
        })),
    );
    let pod = web(&node);
    for (rules, questions) in [
        ("allow", vec!["shop"]),
        ("deny 1/tcp", vec!["kube-system/services/kube-dns", "shop"]),
        (
            "deny to apiserver",
            vec![
                "default/endpoints/kubernetes",
                "default/services/kubernetes",
                "kube-system/services/kube-dns",
                "shop",
            ],
        ),
    ] {
        add(
            &pod,
            handed_over(json!({"egress-cni.dev/rules": rules})),
            &[],
        )
        .ok();
        assert_eq!(asked(&api), questions, "{rules}");
    }
    tries(&pod, Want::Silence, Want::Silence);

    // An API that is silent by now: what it said of names is kept, too.
    for path in [
        SHOP,
        endpoints,
        "/api/v1/namespaces/default/services/kubernetes",
    ] {
        api.answer(path, Answer::Failure(500, "gone"));
    }
    let rules = || handed_over(json!({"egress-cni.dev/rules": "deny to apiserver"}));
    assert_eq!(add(&pod, rules(), &[]).error().code, 11);
    add(&pod, rules(), &[("whenUnreachable", "snapshot")]).ok();
}

#[test]
fn services_that_cannot_be_matched_are_named() {
    let (node, api) = node_and_api(Certificate::Good);
    let pod = web(&node);
    api.namespace("shop", &[]);
    service(&api, "shop", "headless", &["None"]);
    api.answer(
        "/api/v1/namespaces/shop/services/secret",
        Answer::Failure(403, "no"),
    );
    for (rules, code, words) in [
        (
            "allow to svc/shop/none",
            11,
            "`svc/shop/none`, and the API has no such Service",
        ),
        (
            "allow to svc/shop/headless",
            100,
            "`svc/shop/headless`, which has no address of its own",
        ),
        (
            "allow to svc/shop/secret",
            7,
            "needs the verb `get` on `services`",
        ),
    ] {
        let error = add(
            &pod,
            handed_over(json!({"egress-cni.dev/rules": rules})),
            &[],
        )
        .error();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.msg.contains(words), "{error:?}");
    }
    node.assert_nothing_of(&pod.who);
}
