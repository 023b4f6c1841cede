//! An API that is down, refuses, or is somebody else: what happens to pods without its answer.

use super::*;

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
    let snapshot = json!({"version": 1, "readAt": now, "said": {"egressway.dev/enforced-rules": "deny 80/tcp"}});
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
            "failed (500)",
        ),
        (Answer::Failure(503, "not ready"), 11, true, "failed (503)"),
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
            "does not accept the kubeconfig's credentials (401)",
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
        (Answer::Failure(429, "busy"), 11, false, "failed (429)"),
        (Answer::Failure(410, "gone"), 7, false, "rejected (410)"),
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
        let rules = || handed_over(json!({"egressway.dev/rules": "allow 443/tcp; deny 443/tcp"}));
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
