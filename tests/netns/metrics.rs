//! What Prometheus is told, compared with what was sent, with the documents, and with what install/ makes of it.

use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::install::{Paths, get, until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

/// Series with their values: `name{a="b"}`.
fn scraped(node: &Node) -> (String, BTreeMap<String, f64>) {
    // Who asks again within a second gets the same answer.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (status, text) = get(&node.netns, "/metrics");
    assert_eq!(status, 200, "{text}");
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let series = series.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        (series.to_owned(), value.parse().expect("a number"))
    });
    let series: Vec<(String, f64)> = series.collect();
    let count = series.len();
    let unique: BTreeMap<String, f64> = series.into_iter().collect();
    assert_eq!(unique.len(), count, "a series twice: {text}");
    (text, unique)
}

fn send(pod: &Pod<'_>, port: u16, count: usize) {
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for _ in 0..count {
            // A rejection of an earlier one may be told now.
            let _ = socket.send_to(b"x", (ip(EXT[0]), port));
        }
    });
}

/// The names in a text that begin as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let ours = words.filter(|word| word.starts_with("egressway_"));
    ours.map(str::to_owned).collect()
}

/// Prometheus' own tool, from Debian's package `prometheus`.
fn promtool(arguments: &[&str]) {
    let mut command = std::process::Command::new("promtool");
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output();
    let output =
        output.unwrap_or_else(|e| panic!("promtool ({e}): install the package prometheus"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// As a query says it, whatever the type.
fn family(name: &str) -> &str {
    let is_histogram = ["policy_update", "transaction"]
        .iter()
        .any(|what| name.starts_with(&format!("egressway_{what}_seconds")));
    match name.rsplit_once('_') {
        Some((family, "bucket" | "sum" | "count")) if is_histogram => family,
        _ => name,
    }
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn counters_are_what_was_sent_and_never_go_down() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let before = node.pod(
        PodSpec::new("before", Primary::Bridge)
            .namespace("old")
            .rules("deny 7001/udp"),
    );
    send(&before, 7001, 5);
    let _agent = paths.start();
    until("it serves metrics", || {
        get(&node.netns, "/metrics").0 == 200 && get(&node.netns, "/readyz").0 == 200
    });
    let rules = "deny 7001/udp name=erp log\nreject 7002/udp\nallow";
    let web = node.pod(PodSpec::new("web", Primary::Bridge).rules(rules));
    let db = node.pod(PodSpec::new("db", Primary::Bridge).rules("deny 7001/udp"));
    send(&web, 7001, 3);
    send(&web, 7003, 4);
    send(&db, 7001, 2);
    send(&before, 7001, 1);
    let (text, first) = scraped(&node);
    let of = |series: &str, all: &BTreeMap<String, f64>| all.get(series).copied();
    let evaluated = "egressway_evaluated_packets_total{source_namespace=\"shop\"}";
    let denied = "egressway_namespace_denied_packets_total{source_namespace=\"shop\"}";
    let of_web = "egressway_denied_packets_total{source_namespace=\"shop\",source_pod=\"web\"}";
    let of_db = "egressway_denied_packets_total{source_namespace=\"shop\",source_pod=\"db\"}";
    let erp =
        "egressway_rule_packets_total{source_namespace=\"shop\",rule=\"pod:erp\",verdict=\"deny\"}";
    for (series, wanted) in [
        (denied, 5.0),
        (of_web, 3.0),
        (of_db, 2.0),
        (erp, 3.0),
        (
            "egressway_rule_packets_total{source_namespace=\"shop\",rule=\"pod:3\",verdict=\"allow\"}",
            4.0,
        ),
        (
            "egressway_namespace_denied_packets_total{source_namespace=\"old\"}",
            1.0,
        ),
        ("egressway_pods{state=\"enforced\"}", 3.0),
        ("egressway_pods{state=\"damaged\"}", 0.0),
        // One is of both namespaces.
        ("egressway_policies", 2.0),
        ("egressway_log_events_total{verdict=\"deny\"}", 3.0),
        ("egressway_log_events_lost_total", 0.0),
        ("egressway_transaction_conflicts_total", 0.0),
        ("egressway_transaction_seconds_count{kind=\"switch\"}", 0.0),
    ] {
        assert_eq!(of(series, &first), Some(wanted), "{series}: {text}");
    }
    assert!(of(evaluated, &first).expect("it is there") >= 9.0, "{text}");
    // Nothing is told that leads to whom pods talk to.
    for secret in [EXT[0], "7001", "7003", &web.v4.to_string()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // A pod goes, and its rules with it; another comes. One gets other rules.
    node.set_policy(&Policy::default().enforced("deny 7009/udp"));
    db.delete();
    until("other rules are in force", || {
        send(&web, 7009, 1);
        let list = node.tool_json("show web -o json");
        list["tiers"][0]["rules"][0]["text"] == "deny 7009/udp"
    });
    send(&web, 7001, 2);
    let (text, second) = scraped(&node);
    let bound = |kind: &str, bound: &str| {
        let labels = format!("{{le=\"{bound}\",kind=\"{kind}\"}}");
        let series = format!("egressway_transaction_seconds_bucket{labels}");
        of(&series, &second)
    };
    for kind in ["put", "switch", "take-away"] {
        let count = format!("egressway_transaction_seconds_count{{kind=\"{kind}\"}}");
        assert!(of(&count, &second) >= Some(1.0), "{kind}: {text}");
        assert_eq!(bound(kind, "+Inf"), of(&count, &second), "{kind}: {text}");
        assert!(bound(kind, "0.001") <= bound(kind, "0.5"), "{text}");
    }
    assert_eq!(of(of_db, &second), None, "{text}");
    assert_eq!(of(erp, &second), Some(5.0), "{text}");
    assert!(of(denied, &second) >= Some(7.0), "{text}");
    for (series, was) in first {
        if let Some(is) = second.get(&series).filter(|_| series.contains("_total")) {
            assert!(*is >= was, "{series} went down from {was} to {is}");
        }
    }
}

#[test]
fn documents_dashboard_and_alerts_are_about_what_is_served() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let _agent = paths.start();
    until("it serves metrics", || {
        get(&node.netns, "/metrics").0 == 200 && get(&node.netns, "/readyz").0 == 200
    });
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("deny 7001/udp"));
    send(&pod, 7001, 1);
    let (text, _) = scraped(&node);
    let head = "# TYPE ";
    let types = text.lines().filter_map(|line| line.strip_prefix(head));
    let mut served = BTreeSet::new();
    for line in types {
        let (name, kind) = line.split_once(' ').expect("a type");
        served.insert(match kind {
            "counter" => format!("{name}_total"),
            _ => name.to_owned(),
        });
    }
    let documented = names(&file("docs/metrics.md"));
    assert_eq!(documented, served, "docs/metrics.md");
    for path in [
        "install/components/monitoring/dashboard.json",
        "install/components/monitoring/alerts.yaml",
    ] {
        for name in names(&file(path)) {
            assert!(
                served.contains(family(&name)),
                "{path}: {name} is not served"
            );
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&file("install/components/monitoring/dashboard.json")).expect("JSON");
    assert_eq!(
        dashboard["panels"].as_array().map(Vec::len),
        Some(16),
        "three rows, thirteen panels"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
    promtool(&[
        "check",
        "rules",
        "install/components/monitoring/alerts.yaml",
    ]);
    promtool(&["test", "rules", "tests/fixtures/alerts.yaml"]);
}

/// Pods come and go: no series of theirs stays.
#[test]
fn pods_that_are_gone_leave_no_series() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let _agent = paths.start();
    until("it serves metrics", || {
        get(&node.netns, "/metrics").0 == 200 && get(&node.netns, "/readyz").0 == 200
    });
    let mut counts = Vec::new();
    for n in 0..6 {
        let pod = node.pod(PodSpec::new(&format!("web-{n}"), Primary::Ptp).rules("deny 7001/udp"));
        send(&pod, 7001, 1);
        counts.push(scraped(&node).1.len());
        pod.delete();
    }
    assert!(
        counts.windows(2).all(|pair| pair[0] == pair[1]),
        "{counts:?}"
    );
    let (text, all) = scraped(&node);
    let gone = all.keys().filter(|series| series.contains("source_pod"));
    assert_eq!(gone.count(), 0, "{text}");
    let kept = "egressway_namespace_denied_packets_total{source_namespace=\"shop\"}";
    assert_eq!(all.get(kept), Some(&6.0), "{text}");
}
