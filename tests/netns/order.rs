//! Which rule decides: tiers, priorities, pass, audit, exempt namespaces.

use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use serde_json::json;

/// Every row is one port that the tiers disagree about.
#[test]
fn tiers_and_priorities() {
    use Want::{Reached, Silence};
    // port, cluster enforced, namespace enforced, pod, namespace defaults, cluster defaults; what comes of it
    let table: &[(u16, [&str; 5], Want)] = &[
        (7001, ["deny", "", "allow", "", ""], Silence),
        (7002, ["allow", "deny", "deny", "", ""], Reached),
        (7003, ["pass; deny", "", "allow", "", ""], Reached),
        (7004, ["pass", "deny", "allow", "", ""], Silence),
        (7005, ["", "deny", "allow", "allow", "allow"], Silence),
        (7006, ["", "allow", "deny", "deny", "deny"], Reached),
        (7007, ["", "", "allow", "deny", "deny"], Reached),
        (7008, ["", "", "pass; deny", "allow", "deny"], Reached),
        (7009, ["", "", "", "deny", "allow"], Silence),
        (7010, ["", "", "", "pass; allow", "deny"], Silence),
        (7011, ["", "", "", "", "allow"], Reached),
        (7012, ["", "", "", "", "pass"], Silence),
        (7013, ["", "", "", "", ""], Silence),
        (7014, ["", "", "deny; allow", "", ""], Silence),
        (7015, ["", "", "deny; allow priority=10", "", ""], Reached),
        (7016, ["", "", "deny; allow priority=1000", "", ""], Silence),
        (
            7017,
            ["", "", "allow priority=2000; deny priority=1999", "", ""],
            Silence,
        ),
        (
            7018,
            ["", "", "allow until=2199-01-31T00:00:00Z", "", ""],
            Reached,
        ),
    ];
    let text = |tier: usize| -> String {
        table
            .iter()
            .flat_map(|(port, tiers, _)| tiers[tier].split("; ").map(move |rule| (port, rule)))
            .filter(|(_, rule)| !rule.is_empty())
            .map(|(port, rule)| {
                let (verb, options) = rule.split_once(' ').unwrap_or((rule, ""));
                format!("{verb} {port}/tcp {options}\n")
            })
            .collect()
    };
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced(&text(0))
            .namespace("shop", "enforced-rules", &text(1))
            .namespace("shop", "default-rules", &text(3))
            .defaults(&text(4))
            .default_action("deny"),
    );
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules(&text(2)));
    let other = node.pod(
        PodSpec::new("b", Primary::Bridge)
            .namespace("other")
            .rules("allow 7005/tcp"),
    );
    let ports: Vec<u16> = table.iter().map(|(port, ..)| *port).collect();
    let _servers = node.serve_ext(&ports);
    let mut probes = Vec::new();
    for ext in EXT.map(ip) {
        probes.extend(
            table
                .iter()
                .map(|(port, _, want)| Probe::tcp(&pod.netns, ext, *port, *want)),
        );
        // The annotations of one namespace are none of another's business.
        probes.push(Probe::tcp(&other.netns, ext, 7005, Reached));
        probes.push(Probe::tcp(&other.netns, ext, 7004, Silence));
        probes.push(Probe::tcp(&other.netns, ext, 7001, Silence));
    }
    check(&node, &probes);
}

#[test]
fn cluster_audit_lets_go_and_says_so() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .mode("audit")
            .enforced("deny to internet log name=no-internet"),
    );
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("reject 80/tcp to private log"));
    let _servers = node.serve_ext(&[80]);
    let mut log = Nflog::start(&node.netns, 100);
    let mut probes = Vec::new();
    for family in 0..2 {
        probes.push(Probe::tcp(&pod.netns, ip(EXT[family]), 80, Want::Reached));
        probes.push(Probe::tcp(&pod.netns, ip(FAR[family]), 80, Want::Reached));
    }
    check(&node, &probes);
    for prefix in [
        "egressway cluster-enforced:no-internet would-deny",
        "egressway pod:1 would-reject",
    ] {
        for address in pod.addresses() {
            let found = log.wait_for(soon(), |l| {
                l.prefix.trim_end() == prefix && l.source() == address
            });
            assert!(
                found.is_some(),
                "no log line {prefix:?} of {address}: {:?}\n{}",
                log.read(),
                node.describe()
            );
        }
    }
    // What would have been stopped counts for the pod, and what would have stopped it.
    let shown = node.tool_json("show shop/a -o json");
    let packets = |of: &serde_json::Value| of["packets"].as_u64();
    assert!(packets(&shown["denied"]) >= Some(4), "{shown:#}");
    assert!(shown["lastDeny"].is_string(), "{shown:#}");
}

#[test]
fn a_namespaces_audit_does_not_soften_the_cluster() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("deny to internet")
            .namespace("shop", "mode", "audit"),
    );
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to private"));
    let _servers = node.serve_ext(&[80]);
    let mut probes = Vec::new();
    for family in 0..2 {
        probes.push(Probe::tcp(&pod.netns, ip(EXT[family]), 80, Want::Reached));
        probes.push(Probe::tcp(&pod.netns, ip(FAR[family]), 80, Want::Silence));
    }
    check(&node, &probes);
}

#[test]
fn exempt_namespaces_may_do_everything_but_lie() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("deny to any")
            .default_action("deny")
            .set("exemptNamespaces", json!(["kube-system"])),
    );
    let exempt = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .namespace("kube-system")
            .rules("deny to any"),
    );
    let not = node.pod(PodSpec::new("b", Primary::Bridge));
    let _servers = node.serve_ext(&[80]);
    let mut probes = Vec::new();
    for there in [EXT, FAR].concat().into_iter().map(ip) {
        probes.push(Probe::tcp(&exempt.netns, there, 80, Want::Reached));
        probes.push(Probe::tcp(&not.netns, there, 80, Want::Silence));
    }
    check(&node, &probes);

    // Its rules are ignored, and whoever wrote them is told.
    let shown = node.tool_json("show kube-system/a -o json");
    assert_eq!(shown["rulesIgnored"], true, "{shown:#}");
    let log = std::fs::read_to_string(node.dir.path().join("egressway.log")).expect("a log");
    let told = "the pod's own rules (egressway.dev/rules) are ignored: the policy file exempts its namespace";
    assert_eq!(log.matches(told).count(), 1, "{log}");
    let shown = node.tool_json("show shop/b -o json");
    assert_eq!(shown["rulesIgnored"], false, "{shown:#}");

    // Covered all the same: a forged source does not leave.
    let capture = Capture::start(&node.ext);
    let b = not.v4;
    scapy(
        &exempt.netns,
        &format!(
            "send(IP(src='{b}', dst='172.30.0.100')/UDP(dport=9)/Raw(b'forged'))
send(IP(dst='172.30.0.100')/UDP(dport=9)/Raw(b'honest'))"
        ),
    );
    assert!(capture.wait_for_marker("honest", soon()));
    assert!(!capture.saw("forged"));
}
