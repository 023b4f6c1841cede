//! Words that mean more than a list of addresses: services as asked and as translated, IPv4 behind NAT64,
//! the nodes, and what is no Internet.

use super::*;
use ipnet::IpNet;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|net| net.parse().expect("a network"))
        .collect()
}

/// A cluster of two nodes that has a NAT64 with the well-known prefix, and one of its own.
fn known() -> Facts {
    Facts {
        nodes: nets(&["192.0.2.8/30", "10.244.0.0/31", "2001:db8:7::/120"]),
        nat64: ["64:ff9b::/96", "2001:db8:64::/48"]
            .map(|prefix| prefix.parse().expect("a prefix"))
            .to_vec(),
        api_server: ["10.96.0.1:443", "192.0.2.9:6443", "[fd44::1]:443"]
            .map(|socket| socket.parse().expect("address and port"))
            .to_vec(),
        ..facts()
    }
}

fn check(rule: &str, hits: &[&str], misses: &[&str]) {
    let tiers = vec![tier(Tier::Pod, &format!("deny {rule}"), false)];
    let policy = Effective::new(tiers, DefaultAction::Allow, false, known());
    let policy = policy.unwrap_or_else(|faults| panic!("{faults}"));
    let matches = |text| {
        let packet = packet(text);
        let steps = policy.trace(&packet).steps;
        steps.iter().any(|step| step.mismatch.is_none())
    };
    for hit in hits {
        assert!(matches(hit), "`{rule}` should match {hit}");
    }
    for miss in misses {
        assert!(!matches(miss), "`{rule}` should not match {miss}");
    }
}

#[test]
fn multicast_goes_only_where_a_rule_says_so() {
    check(
        "to multicast",
        &[
            "udp 224.0.0.251 5353",
            "udp 239.255.255.255 1",
            "udp 255.255.255.255 67",
            "udp ff02::fb 5353",
        ],
        &[
            "udp 223.255.255.255 1",
            "udp 240.0.0.1 1",
            "udp 255.255.255.254 1",
            "udp fe80::1 1",
        ],
    );
    let decide = |rules: &str, action, exempt, text: &str| {
        let tiers = vec![
            tier(Tier::Pod, rules, false),
            tier(Tier::ClusterDefaults, "deny log", true),
        ];
        let policy = Effective::new(tiers, action, false, known());
        let policy = Effective {
            exempt,
            ..policy.unwrap_or_else(|faults| panic!("{faults}"))
        };
        let packet = packet(text);
        let decision = policy.decide(&packet);
        (decision.verdict, decision.label(), decision.logged)
    };
    let stopped = (Verdict::Deny, "veth:multicast".to_owned(), false);
    let mdns = "udp 224.0.0.251 5353";
    for rules in ["allow to internet", "deny log", "pass udp", "allow tcp"] {
        assert_eq!(
            decide(rules, DefaultAction::Allow, false, mdns),
            stopped,
            "{rules}"
        );
    }
    for rules in [
        "allow",
        "allow udp",
        "allow to multicast",
        "allow to 224.0.0.0/8",
        "allow to node except 10.0.0.0/8",
    ] {
        let text = if rules.contains("node") {
            "udp 255.255.255.255 67"
        } else {
            mdns
        };
        let allowed = (Verdict::Allow, "pod:1".to_owned(), false);
        assert_eq!(
            decide(rules, DefaultAction::Deny, false, text),
            allowed,
            "{rules}"
        );
    }
    assert_eq!(
        decide("allow", DefaultAction::Allow, false, "icmpv6 ff02::1 128/0"),
        stopped
    );
    let (verdict, ..) = decide("pass", DefaultAction::Allow, true, mdns);
    assert!(verdict.passes(), "{verdict:?}");
}

#[test]
fn nodes_are_this_one_and_the_others() {
    check(
        "to nodes",
        &[
            "tcp 192.0.2.9 10250",
            "udp 10.244.0.1 8472",
            "tcp 2001:db8:7::ff 22",
            "tcp 198.51.100.1 22 local",
            "tcp 64:ff9b::c000:209 22",
        ],
        &[
            "tcp 192.0.2.12 22",
            "tcp 10.244.0.2 22",
            "tcp 2001:db8:7::100 22",
        ],
    );
    check(
        "to any except nodes",
        &["tcp 192.0.2.7 1"],
        &["tcp 192.0.2.8 1", "tcp 9.9.9.9 1 local"],
    );
    check(
        "to internet",
        &["tcp 192.0.2.7 1"],
        &["tcp 192.0.2.9 1", "tcp 2001:db8:7::1 1"],
    );
    check("to private", &["tcp 10.0.0.1 1"], &["tcp 10.244.0.1 1"]);
}

#[test]
fn metadata_is_as_asked_or_as_translated() {
    check(
        "to metadata",
        &[
            "tcp 169.254.169.254 80",
            "icmp 169.254.169.254 8/0",
            // an agent of the node answers for the cloud
            "tcp 192.0.2.9 8181 for 169.254.169.254 80",
            "tcp 169.254.169.252 988 local for 169.254.169.254 80",
            "tcp fd44::5 8080 for fd00:ec2::254 80",
            "tcp 169.254.169.254 80 for 10.96.0.20 80",
            "tcp 168.63.129.16 80",
            "tcp 168.63.129.16 32526",
            "tcp 10.1.2.3 8080 for 168.63.129.16 80",
            "tcp fd20:ce::254 80",
            "tcp fd00:c1::a9fe:a9fe 80",
            "tcp 192.0.0.192 80",
            "tcp fe80::a9fe:a9fe 80",
            "tcp 169.254.42.42 80",
            "tcp fd00:42::42 80",
            "tcp fd00:a9fe:a9fe::1 80",
            "tcp fd00:100::100:200 80",
        ],
        &[
            "tcp 192.0.2.9 8181",
            "udp 168.63.129.16 53",
            "tcp 168.63.129.16 53",
            "udp 168.63.129.16 80",
            "icmp 168.63.129.16 8/0",
            "tcp 168.63.129.16",
            "tcp 192.0.0.193 80",
        ],
    );
    // The rule's ports are those where the pod sent it, or those where it goes.
    let translated = "tcp 192.0.2.9 8181 for 169.254.169.254 80";
    check(
        "80/tcp to metadata",
        &[translated, "tcp 169.254.169.254 80"],
        &["tcp 169.254.169.254 81"],
    );
    check(
        "8181/tcp to metadata",
        &["tcp 169.254.169.254 8181"],
        &[translated],
    );
    check(
        "443/tcp to metadata",
        &["tcp 169.254.169.254 443"],
        &["tcp 168.63.129.16 443"],
    );
    check(
        "to any except metadata",
        &[
            "udp 168.63.129.16 53",
            "tcp 192.0.2.9 8181",
            "tcp 168.63.129.16",
        ],
        &[translated, "tcp 168.63.129.16 80", "tcp 169.254.169.254 1"],
    );
}

#[test]
fn what_is_metadata_is_neither_internet_nor_private() {
    check(
        "to internet",
        &[
            "udp 168.63.129.16 53",
            "tcp 168.63.129.16 443",
            "icmp 168.63.129.16 8/0",
        ],
        &[
            "tcp 168.63.129.16 80",
            "tcp 168.63.129.16 32526",
            "tcp 192.0.0.192 1",
            "tcp 168.63.129.16",
        ],
    );
    check(
        "to any except internet",
        &["tcp 168.63.129.16 80", "tcp 168.63.129.16 32526"],
        &[
            "udp 168.63.129.16 53",
            "tcp 168.63.129.16 443",
            "tcp 168.63.129.16",
        ],
    );
    check(
        "to private",
        &["tcp fd20:ce::255 1"],
        &["tcp fd20:ce::254 1", "tcp 169.254.42.42 1"],
    );
}

#[test]
fn the_api_server_is_its_ports() {
    check(
        "to apiserver",
        &[
            "tcp 10.96.0.1 443",
            "tcp 192.0.2.9 6443 for 10.96.0.1 443",
            "tcp 192.0.2.9 6443",
            "tcp fd44::1 443",
            "tcp 64:ff9b::c000:209 6443",
        ],
        &[
            "tcp 192.0.2.9 2379",
            "tcp 192.0.2.9 10250",
            "tcp 192.0.2.9 443",
            "tcp 192.0.2.9 22",
            "udp 192.0.2.9 6443",
            "icmp 192.0.2.9 8/0",
            "tcp 10.96.0.1 6443",
        ],
    );
    check(
        "443/tcp to apiserver",
        &["tcp 192.0.2.9 6443 for 10.96.0.1 443", "tcp 10.96.0.1 443"],
        &["tcp 192.0.2.9 6443"],
    );
    check(
        "to any except apiserver",
        &["tcp 192.0.2.9 2379", "udp 192.0.2.9 6443"],
        &["tcp 192.0.2.9 6443", "tcp 198.51.100.1 1 for 10.96.0.1 443"],
    );
}

#[test]
fn an_ipv4_target_is_also_meant_behind_nat64() {
    let slash48 = |a, b, c, d| {
        let prefix = "2001:db8:64::/48".parse().expect("a prefix");
        crate::nat64::embed(prefix, std::net::Ipv4Addr::new(a, b, c, d))
    };
    check(
        "to 10.9.9.0/24, 198.51.100.10-198.51.100.20",
        &[
            "tcp 64:ff9b::a09:909 1",
            "tcp 64:ff9b::c633:640a 1",
            &format!("tcp {} 1", slash48(10, 9, 9, 255)),
        ],
        &[
            "tcp 64:ff9b::a09:a00 1",
            "tcp 64:ff9b::c633:6415 1",
            &format!("tcp {} 1", slash48(10, 9, 10, 0)),
            // another prefix, which nobody translates here
            "tcp 64:ff9b:1::a09:909 1",
        ],
    );
    check(
        "icmpv6/128, icmp/8 to 10.9.9.9",
        &["icmpv6 64:ff9b::a09:909 128/0"],
        &[],
    );
    check(
        "to any except 10.0.0.0/8",
        &["tcp 64:ff9b::b00:1 1"],
        &["tcp 64:ff9b::a00:1 1"],
    );
    check(
        "to metadata",
        &["tcp 64:ff9b::a9fe:a9fe 80", "tcp 64:ff9b::a83f:8110 80"],
        &[],
    );
    check(
        "to cluster",
        &["tcp 64:ff9b::af4:1 80"],
        &["tcp 64:ff9b::af5:1 80"],
    );
    // Only a node translates a Service's address.
    check("to dns", &[], &["udp 64:ff9b::a60:a 53"]);
    check(
        "to private",
        &[
            "tcp 64:ff9b::a09:909 1",
            &format!("tcp {} 1", slash48(192, 168, 0, 1)),
        ],
        &[
            "tcp 64:ff9b::af4:1 1",
            "tcp 64:ff9b::a9fe:a9fe 1",
            "tcp 64:ff9b::808:808 1",
        ],
    );
    check(
        "to internet",
        &["tcp 64:ff9b::808:808 443", "udp 64:ff9b::a83f:8110 53"],
        &[
            "tcp 64:ff9b::a09:909 1",
            "tcp 64:ff9b::e000:1 1",
            "tcp 64:ff9b::a9fe:a9fe 1",
            "tcp 64:ff9b::a83f:8110 80",
            "tcp 64:ff9b::c000:209 1",
        ],
    );
    // The octet that has to be zero is not: one address of 65536, of which some are private.
    check(
        "to internet",
        &["tcp 2001:db8:64:808:ff08:800:: 1"],
        &["tcp 2001:db8:64:a9fe:ff01:: 1"],
    );
    check("to 10.9.9.9", &[], &["tcp 2001:db8:64:a09:ff09:900:: 1"]);
    check("to 10.0.0.0/8", &["tcp 2001:db8:64:a09:ff09:900:: 1"], &[]);
}

#[test]
fn what_carries_other_addresses_is_no_internet() {
    check(
        "to internet",
        &[
            "tcp 240.0.0.1 1",
            "tcp 255.255.255.254 1",
            "tcp 2001:1::1 1",
            "tcp 2003::1 1",
        ],
        &[
            "tcp 255.255.255.255 1",
            "tcp 2002:a09:909::1 1",
            "tcp 2001::1 1",
            "tcp 2001:0:4136:e378::1 1",
            "tcp ::ffff:10.9.9.9 1",
            "tcp ::10.9.9.9 1",
            "tcp 64:ff9b:1::a09:909 1",
        ],
    );
    check(
        "to any",
        &["tcp 2002:a09:909::1 1", "tcp 64:ff9b:1::1 1"],
        &[],
    );
}
