//! Which packets one rule matches, and why not.

use super::*;

#[test]
fn ports() {
    check(
        "443/tcp,8000-8100/udp",
        &[
            "tcp 1.1.1.1 443",
            "udp 1.1.1.1 8000",
            "udp 2001:db8::1 8100",
        ],
        &[
            "tcp 1.1.1.1 8000",
            "udp 1.1.1.1 443",
            "udp 1.1.1.1 8101",
            "tcp 1.1.1.1",
            "47 1.1.1.1",
        ],
    );
    check(
        "tcp",
        &["tcp 1.1.1.1 1", "tcp 2001:db8::1 65535", "tcp 1.1.1.1"],
        &["udp 1.1.1.1 1", "sctp 1.1.1.1 1"],
    );
    check("sctp", &["sctp 1.1.1.1 5"], &["tcp 1.1.1.1 5"]);
    check(
        "proto/47",
        &["47 1.1.1.1", "47 2001:db8::1"],
        &["tcp 1.1.1.1 47", "46 1.1.1.1"],
    );
    check(
        "",
        &[
            "tcp 1.1.1.1 1",
            "icmp 1.1.1.1 8/0",
            "47 2001:db8::1",
            "udp 224.0.0.1 5",
        ],
        &[],
    );
}

#[test]
fn icmp_is_of_its_family() {
    check(
        "icmp",
        &["icmp 1.1.1.1 8/0", "icmp 1.1.1.1"],
        &[
            "icmpv6 2001:db8::1 8/0",
            "1 2001:db8::1 8/0",
            "58 1.1.1.1 8/0",
        ],
    );
    check(
        "icmpv6/128",
        &["icmpv6 2001:db8::1 128/0", "icmpv6 2001:db8::1 128/7"],
        &[
            "icmpv6 2001:db8::1 129/0",
            "icmpv6 2001:db8::1",
            "58 1.1.1.1 128/0",
        ],
    );
    check(
        "icmp/3/4",
        &["icmp 1.1.1.1 3/4"],
        &["icmp 1.1.1.1 3/3", "icmp 1.1.1.1 8/4", "icmp 1.1.1.1"],
    );
    check(
        "proto/1",
        &["1 1.1.1.1 8/0", "1 2001:db8::1 8/0"],
        &["58 2001:db8::1 8/0"],
    );
}

#[test]
fn addresses() {
    check(
        "to 203.0.113.0/24,2001:db8::5",
        &[
            "tcp 203.0.113.0 1",
            "tcp 203.0.113.255 1",
            "tcp 2001:db8::5 1",
        ],
        &[
            "tcp 203.0.114.0 1",
            "tcp 203.0.112.255 1",
            "tcp 2001:db8::6 1",
        ],
    );
    check(
        "to 203.0.113.10-203.0.113.20",
        &["tcp 203.0.113.10 1", "tcp 203.0.113.20 1"],
        &[
            "tcp 203.0.113.9 1",
            "tcp 203.0.113.21 1",
            "tcp 2001:db8::1 1",
            "tcp :: 1",
        ],
    );
    check("to 0.0.0.0/0", &["tcp 255.255.255.255 1"], &["tcp :: 1"]);
    check("to ::/0", &["tcp ffff:: 1"], &["tcp 0.0.0.0 1"]);
    // Where it really goes counts, not where it was sent.
    check(
        "to 10.96.0.1",
        &["tcp 10.96.0.1 443"],
        &["tcp 192.0.2.1 6443 for 10.96.0.1 443"],
    );
    check(
        "to 192.0.2.1",
        &["tcp 192.0.2.1 6443 for 10.96.0.1 443"],
        &[],
    );
}

#[test]
fn except_takes_away() {
    check(
        "443/tcp to 10.0.0.0/8 except 10.1.0.0/16,10.2.0.1",
        &["tcp 10.0.0.1 443", "tcp 10.2.0.2 443"],
        &["tcp 10.1.2.3 443", "tcp 10.2.0.1 443", "tcp 11.0.0.1 443"],
    );
    check(
        "except dns",
        &["udp 10.96.0.10 54", "udp 10.96.0.11 53", "47 10.96.0.10"],
        &["udp 10.96.0.10 53", "tcp 10.244.0.5 5353 for 10.96.0.10 53"],
    );
    // The rule's ports say nothing about what is taken away.
    check(
        "5353/udp except dns",
        &["udp 10.244.0.5 5353"],
        &["udp 10.244.0.5 5353 for 10.96.0.10 53"],
    );
}

#[test]
fn keywords() {
    check(
        "to any",
        &["tcp 1.1.1.1 1", "tcp 127.0.0.1 1", "tcp ff02::1 1 local"],
        &[],
    );
    check(
        "to cluster",
        &[
            "tcp 10.244.255.255 1",
            "tcp 10.96.0.10 1",
            "tcp fd44:0:0:1::1 1",
            "tcp 10.244.0.1 1 local",
        ],
        &["tcp 10.245.0.0 1", "tcp fd45::1 1"],
    );
    check(
        "to node",
        &["tcp 192.0.2.1 1 local", "tcp fe80::1 1 local"],
        &["tcp 192.0.2.1 1"],
    );
    check(
        "to metadata",
        &[
            "tcp 169.254.169.254 80",
            "tcp 169.254.170.2 80",
            "tcp 169.254.170.23 80",
            "tcp 169.254.0.23 80",
            "tcp 100.100.100.200 80",
            "tcp fd00:ec2::254 80",
            "tcp fd00:ec2::23 80",
        ],
        &["tcp 169.254.169.253 80", "tcp fd00:ec2::255 80"],
    );
    check(
        "to private",
        &[
            "tcp 10.0.0.1 1",
            "tcp 172.31.255.255 1",
            "tcp 192.168.0.1 1",
            "tcp 100.127.0.1 1",
            "tcp 169.254.1.1 1",
            "tcp fdff::1 1",
            "tcp febf::1 1",
        ],
        &[
            "tcp 10.244.0.1 1",
            "tcp 10.0.0.1 1 local",
            "tcp 169.254.169.254 1",
            "tcp fd00:ec2::254 1",
            "tcp fd44::1 1",
            "tcp 172.32.0.0 1",
            "tcp 100.128.0.0 1",
            "tcp fec0::1 1",
            "tcp 8.8.8.8 1",
        ],
    );
    check(
        "to internet",
        &[
            "tcp 8.8.8.8 1",
            "tcp 172.32.0.0 1",
            "tcp 223.255.255.255 1",
            "tcp 2606::1 1",
            "icmp 8.8.8.8 8/0",
        ],
        &[
            "tcp 10.0.0.1 1",
            "tcp 10.244.0.1 1",
            "tcp 8.8.8.8 1 local",
            "tcp 100.100.100.200 1",
            "tcp 0.1.2.3 1",
            "tcp 127.0.0.1 1",
            "udp 224.0.0.251 1",
            "udp 255.255.255.255 1",
            "tcp :: 1",
            "tcp ::1 1",
            "udp ff02::1 1",
            "tcp fe80::1 1",
        ],
    );
}

#[test]
fn cluster_and_metadata_outside_the_private_ranges_are_not_internet() {
    let mut policy = policy(
        vec![tier(Tier::Pod, "deny to internet", false)],
        DefaultAction::Allow,
        false,
    );
    policy.facts.cluster = vec!["203.0.113.0/24".parse().expect("a network")];
    let verdict = |text| policy.decide(&packet(text)).verdict;
    assert_eq!(verdict("tcp 203.0.113.5 1"), Verdict::Allow);
    assert_eq!(verdict("tcp 203.0.114.5 1"), Verdict::Deny);
}

#[test]
fn dns_is_as_asked_or_as_translated() {
    check(
        "to dns",
        &[
            "udp 10.96.0.10 53",
            "tcp 169.254.20.10 53",
            "udp 10.244.0.5 53 for 10.96.0.10 53",
            "udp 10.244.0.5 5353 for 10.96.0.10 53",
            "udp 10.96.0.10 53 for 192.0.2.1 99",
        ],
        &[
            "udp 10.96.0.10 54",
            "sctp 10.96.0.10 53",
            "icmp 10.96.0.10 8/0",
            "udp 10.244.0.5 53",
            "udp 10.244.0.5 53 for 10.96.0.10 54",
            "udp 10.244.0.5 53 for 10.96.0.11 53",
        ],
    );
    // Ports are compared with what was asked.
    check(
        "tcp to dns",
        &["tcp 10.96.0.10 53", "tcp 10.244.0.5 5353 for 10.96.0.10 53"],
        &["udp 10.96.0.10 53"],
    );
    check(
        "50-60/udp to dns",
        &["udp 10.244.0.5 5353 for 10.96.0.10 53"],
        &["tcp 10.244.0.5 5353 for 10.96.0.10 53"],
    );
    check(
        "5353/udp to dns,10.244.0.5",
        &["udp 10.244.0.5 5353"],
        &["udp 10.96.0.10 53", "udp 10.244.0.6 5353 for 10.96.0.10 53"],
    );
    check(
        "proto/17 to dns",
        &["udp 10.96.0.10 53"],
        &["tcp 10.96.0.10 53"],
    );
}

#[test]
fn a_rule_ends_at_its_time() {
    check("until=2026-06-01T00:00:01Z", &["tcp 1.1.1.1 1"], &[]);
    check("until=2026-06-01T00:00:00Z", &[], &["tcp 1.1.1.1 1"]);
    check("until=2026-05-31T23:59:59Z", &[], &["tcp 1.1.1.1 1"]);
}

/// Why a rule without its verb does not match a packet.
fn mismatch_of(rule: &str, text: &str) -> Option<&'static str> {
    let tiers = vec![tier(Tier::Pod, &format!("deny {rule}"), false)];
    let policy = policy(tiers, DefaultAction::Allow, false);
    let trace = policy.trace(&packet(text));
    let [step] = trace.steps.as_slice() else {
        panic!("one rule, one step: {trace:?}");
    };
    step.mismatch.map(Mismatch::as_str)
}

#[test]
fn a_mismatch_has_its_reason() {
    for (rule, text, expected) in [
        ("443/tcp to 1.1.1.1", "tcp 1.1.1.1 443", None),
        (
            "443/tcp to 1.1.1.1",
            "tcp 1.1.1.2 443",
            Some("other address"),
        ),
        (
            "443/tcp to 1.1.1.1",
            "tcp 2001:db8::1 443",
            Some("other family"),
        ),
        (
            "443/tcp to 1.1.1.1, node",
            "tcp 2001:db8::1 443",
            Some("other address"),
        ),
        ("443/tcp,53/udp", "tcp 1.1.1.1 80", Some("other port")),
        ("53/udp,443/tcp", "tcp 1.1.1.1 80", Some("other port")),
        ("443/tcp,icmp", "udp 1.1.1.1 443", Some("other protocol")),
        ("icmp/8", "icmp 1.1.1.1 0/0", Some("other ICMP type")),
        ("icmp/8", "icmpv6 2001:db8::1 8/0", Some("other protocol")),
        ("to any except 1.1.1.0/24", "tcp 1.1.1.1 80", Some("except")),
        (
            "to 2.2.2.2 until=2026-01-01T00:00:00Z",
            "tcp 1.1.1.1 80",
            Some("expired"),
        ),
        ("to dns", "udp 10.96.0.10 54", Some("other address")),
    ] {
        assert_eq!(mismatch_of(rule, text), expected, "`{rule}`: {text}");
    }
}
