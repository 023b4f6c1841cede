//! Lists of rules that are compiled to lookups, with real packets at the borders of their addresses
//! and ports, and the counter of each rule.

use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use crate::tool::counted;
use serde_json::json;

const RULES: &str = "
allow 8001-8002/tcp to EXT name=first
deny 8002-8004/tcp to NEAR name=second
reject 8003-8005/tcp to HALF
deny udp to EXT name=no-udp
allow 8006/tcp to BELOW
reject 8006-8007/tcp to FROM log name=edge
allow 8006-8008/tcp to FAR
reject icmp/8, icmpv6/128 to FAR
allow to NEAR name=rest
deny to AROUND";

/// EXT's and FAR's networks, such that one of them is at a border of each.
const NETWORKS: [(&str, [&str; 2]); 7] = [
    ("EXT", EXT),
    ("NEAR", ["172.30.0.0/24", "fd30::/112"]),
    ("HALF", ["172.30.0.100-172.30.0.255", "fd30::100-fd30::1ff"]),
    (
        "BELOW",
        [
            "198.51.100.0-198.51.100.99",
            "2001:db8:99::-2001:db8:99::ff",
        ],
    ),
    ("FROM", ["198.51.100.100/30", "2001:db8:99::100/126"]),
    ("FAR", FAR),
    (
        "AROUND",
        [
            "198.51.100.96-198.51.100.100",
            "2001:db8:99::f0-2001:db8:99::100",
        ],
    ),
];

#[test]
fn borders_of_addresses_and_ports() {
    borders(
        RULES,
        &[
            "tcp-8001-addr4-allow",
            "tcp-8003-addr6-deny",
            "icmp6-reject",
            "udp-addr4-deny",
            "addr4-deny",
        ],
    );
}

/// So many ports and protocols that they are looked up together with the address.
#[test]
fn borders_among_many_ports() {
    let more: String = (1..=70)
        .map(|port| {
            format!(
                "deny {port}/tcp, proto/{} to 192.0.2.1, 2001:db8:1::1\n",
                180 + port
            )
        })
        .collect();
    let sets = [
        "ports4-allow",
        "ports6-deny",
        "icmp6-reject",
        "proto4-deny",
        "addr4-deny",
    ];
    borders(&format!("{RULES}\n{more}"), &sets);
}

fn borders(rules: &str, sets: &[&str]) {
    let node = Node::new(NodeOptions::default());
    let rules = NETWORKS
        .iter()
        .fold(rules.to_owned(), |text, (name, both)| {
            text.replace(&format!("to {name}"), &format!("to {}", both.join(", ")))
        });
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules(&rules));
    let held = node.netns.exec("nft list ruleset");
    for set in sets {
        assert!(held.contains(&format!("-b1-{set} ")), "no {set} in\n{held}");
    }
    let ports = [8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009];
    let _servers = node.serve_ext(&ports);
    let mut probes = Vec::new();
    for family in 0..2 {
        let [ext, far] = [EXT, FAR].map(|a| ip(a[family]));
        let from = &pod.netns;
        let own = Want::From(pod.addresses()[family]);
        probes.extend([
            Probe::tcp(from, ext, 8001, own),
            Probe::tcp(from, ext, 8002, own),
            Probe::tcp(from, ext, 8003, Want::Silence),
            Probe::tcp(from, ext, 8004, Want::Silence),
            Probe::tcp(from, ext, 8005, Want::Refused),
            Probe::tcp(from, ext, 8006, own),
            Probe::udp(from, ext, 8001, Want::Silence),
            Probe::ping(from, ext, Want::Reached),
            Probe::tcp(from, far, 8005, Want::Silence),
            Probe::tcp(from, far, 8006, Want::Refused),
            Probe::tcp(from, far, 8007, Want::Refused),
            Probe::tcp(from, far, 8008, own),
            Probe::tcp(from, far, 8009, Want::Silence),
            Probe::udp(from, far, 8009, Want::Silence),
            Probe::ping(from, far, Want::Prohibited),
        ]);
    }
    check(&node, &probes);
    let detail = node.tool_json("show a -o json");
    for (rule, passed) in [
        ("pod:first", true),
        ("pod:second", true),
        ("pod:4", true),
        ("pod:no-udp", true),
        ("pod:6", false),
        ("pod:edge", true),
        ("pod:rest", true),
        ("pod:11", true),
    ] {
        let count = counted(&detail, rule).as_u64().expect("a number");
        assert_eq!(count > 0, passed, "{rule}: {count} of\n{detail:#}");
    }
    assert_eq!(detail["problems"], json!([]));
    pod.delete();
    node.assert_nothing_left();
}
