//! Egress addresses that another namespace lists, by an API server that misbehaves where it is told to.

use crate::harness::cni;
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;

const MINE: &str = "172.30.0.50";
const NEXT: &str = "/api/v1/namespaces?&limit=500&continue=next";
const ALL: &str = "/api/v1/namespaces";
/// By the words of the failures that come after the lists: this server has no Leases.
const PASSED: &str = "leases.coordination.k8s.io";

/// Namespaces with these lists, and where the next page is.
fn page(lists: &[(&str, Option<&str>)], next: &str) -> Answer {
    let item = |(name, list): &(&str, Option<&str>)| {
        let annotations = match list {
            Some(list) => json!({"egressway.dev/egress-ip": list}),
            None => Value::Null,
        };
        json!({"metadata": {"name": name, "annotations": annotations}})
    };
    let items: Vec<Value> = lists.iter().map(item).collect();
    Answer::Object(json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"continue": next}, "items": items,
    }))
}

/// A node whose namespace `shop` lists an address, and what an ADD of its pod says.
struct Shop {
    api: FakeApi,
    node: Node,
}

impl Shop {
    fn new() -> Self {
        let mut node = Node::new(NodeOptions::default());
        let api = FakeApi::start(&node.netns, Certificate::Good);
        node.ours.insert("kubernetes".to_owned(), api.conf());
        api.namespace("shop", &[("egress-ip", MINE)]);
        Self { api, node }
    }

    fn add(&self, when_unreachable: &str) -> cni::CniError {
        let pod = self
            .node
            .pod(PodSpec::new("web", Primary::Bridge).uncovered());
        let mut ours = self.node.ours.clone();
        ours["kubernetes"]["whenUnreachable"] = json!(when_unreachable);
        let runtime = json!({cni::POD_ANNOTATIONS: {}});
        let stdin = cni::stdin(&ours, "1.0.0", Some(&runtime), Some(&pod.prev_result));
        let error = pod.call("ADD").stdin(stdin).run(&self.node.netns).error();
        self.node.assert_nothing_of(&pod.who);
        error
    }

    #[track_caller]
    fn says(&self, when_unreachable: &str, code: u64, words: &str) {
        let error = self.add(when_unreachable);
        let said = error.msg.contains(words);
        assert!(
            said && (code == 0 || error.code == code),
            "{words}: {error:?}"
        );
    }
}

#[test]
fn an_egress_address_that_another_namespace_lists_is_refused() {
    let shop = Shop::new();
    let mine = ("shop", Some(MINE));
    for list in [MINE, "172.30.0.48/29", "fd30::50,172.30.0.50"] {
        // On the second page, after a namespace whose list has a fault.
        let first = [mine, ("faulty", Some("172.30.0.50x")), ("plain", None)];
        shop.api.answer(ALL, page(&first, "next"));
        shop.api.answer(NEXT, page(&[("other", Some(list))], ""));
        shop.api.requests();
        shop.says("refuse", 102, "belongs to the namespace other, which lists");
        let how = "accept=application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let requests = shop.api.requests();
        assert_eq!(requests.len(), 3, "{requests:?}");
        for (request, query) in requests[1..]
            .iter()
            .zip(["?&limit=500 ", "&continue=next "])
        {
            assert!(
                request.contains(query) && request.contains(how),
                "{request}"
            );
        }
    }
    shop.api
        .answer(NEXT, page(&[("other", Some("172.30.0.51"))], ""));
    shop.says("refuse", 0, PASSED);
    let log = fs::read_to_string(shop.node.dir.path().join("egressway.log")).expect("a log");
    assert!(
        log.contains("of the namespace faulty is not known"),
        "{log}"
    );

    // The second page has expired meanwhile: everything at once.
    shop.api.answer(NEXT, Answer::Failure(410, "expired"));
    shop.api.answer(
        "/api/v1/namespaces?",
        page(&[mine, ("late", Some(MINE))], ""),
    );
    shop.says("refuse", 102, "belongs to the namespace late");
}

#[test]
fn without_the_other_lists_no_egress_address_is_taken() {
    let shop = Shop::new();
    let good = page(&[("shop", Some(MINE)), ("other", Some(MINE))], "");
    let taken = "belongs to the namespace other";
    let table = [
        (
            Answer::Failure(500, "gone"),
            11,
            true,
            "failed (500) at: list namespaces",
        ),
        (Answer::Raw(b""), 11, true, "cannot be reached"),
        (
            Answer::Failure(403, "no"),
            7,
            false,
            "needs the verb `list` on `namespaces`",
        ),
        (Answer::Failure(410, "no"), 7, false, "rejected (410)"),
        (
            page(&[("other", None)], ""),
            11,
            false,
            "the namespace shop is not in it",
        ),
        (
            Answer::Object(json!({})),
            11,
            false,
            "is not of the Kubernetes API",
        ),
    ];
    for (answer, code, outage, words) in table {
        shop.api.answer(ALL, good.clone());
        shop.says("snapshot", 102, taken);
        shop.api.answer(ALL, answer);
        shop.says("refuse", code, words);
        // What was read before, unless it is void since: then the same as without it.
        if outage {
            shop.says("snapshot", 102, taken);
            fs::remove_file(shop.node.state_dir().join("egress-lists/all.json")).expect("kept");
        }
        shop.says("snapshot", code, words);
        assert!(!shop.node.state_dir().join("egress-lists/all.json").exists());
    }
}
