//! Names in rules: `svc/` and `apiserver`, as the API resolves them.

use super::*;

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
            handed_over(json!({"egressway.dev/rules": rules})),
            &[],
        )
        .ok();
        assert_eq!(asked(&api), questions, "{rules}");
    }
    // The API server's port, and no other one of its address.
    tries(&pod, Want::Reached, Want::Silence);

    // An API that is silent by now: what it said of names is kept, too.
    for path in [
        SHOP,
        endpoints,
        "/api/v1/namespaces/default/services/kubernetes",
    ] {
        api.answer(path, Answer::Failure(500, "gone"));
    }
    let rules = || handed_over(json!({"egressway.dev/rules": "deny to apiserver"}));
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
            handed_over(json!({"egressway.dev/rules": rules})),
            &[],
        )
        .error();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.msg.contains(words), "{error:?}");
    }
    node.assert_nothing_of(&pod.who);
}
