use super::*;
use crate::effective::Tier;

mod words;
use crate::rule::Verb;

const TIME: &str = "2026-06-01T00:00:00Z";

fn facts() -> Facts {
    Facts {
        cluster: ["10.244.0.0/16", "10.96.0.0/12", "fd44::/48"]
            .map(|net| net.parse().expect("a network"))
            .to_vec(),
        dns: ["10.96.0.10", "169.254.20.10"]
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
        ..Facts::default()
    }
}

fn tier(tier: Tier, text: &str, audit: bool) -> TierRules {
    TierRules::parse(tier, "test", text, audit).unwrap_or_else(|faults| panic!("{faults}"))
}

fn policy(tiers: Vec<TierRules>, default_action: DefaultAction, audit: bool) -> Effective {
    Effective::new(tiers, default_action, audit, facts()).unwrap_or_else(|f| panic!("{f}"))
}

/// A packet written as `tcp 1.2.3.4 443`, `icmp 1.2.3.4 8/0`, `47 1.2.3.4`; then perhaps `local`, and `for ADDRESS PORT`
/// for where the pod sent it.
fn packet(text: &str) -> Packet {
    let mut words = text.split(' ');
    let mut next = || words.next();
    let protocol = match next().expect("a protocol") {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "icmpv6" => 58,
        number => number.parse().expect("a protocol number"),
    };
    let mut packet = Packet {
        destination: next().expect("a destination").parse().expect("an address"),
        protocol,
        port: None,
        icmp: None,
        original: None,
        local: false,
        time: TIME.parse().expect("a time"),
    };
    while let Some(word) = next() {
        if word == "local" {
            packet.local = true;
        } else if word == "for" {
            packet.original = Some(Original {
                address: next().expect("an address").parse().expect("an address"),
                port: next().map(|port| port.parse().expect("a port")),
            });
        } else if let Some((kind, code)) = word.split_once('/') {
            packet.icmp = Some((kind.parse().expect("a type"), code.parse().expect("a code")));
        } else {
            packet.port = Some(word.parse().expect("a port"));
        }
    }
    packet
}

/// Whether a rule without its verb matches a packet.
fn matches(rule: &str, text: &str) -> bool {
    let tiers = vec![tier(Tier::Pod, &format!("deny {rule}"), false)];
    let policy = policy(tiers, DefaultAction::Allow, false);
    let packet = packet(text);
    let steps = policy.trace(&packet).steps;
    steps.iter().any(|step| step.mismatch.is_none())
}

fn check(rule: &str, hits: &[&str], misses: &[&str]) {
    for hit in hits {
        assert!(matches(rule, hit), "`{rule}` should match {hit}");
    }
    for miss in misses {
        assert!(!matches(rule, miss), "`{rule}` should not match {miss}");
    }
}

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

/// Rules of tiers, a packet, and what decides it.
type Case<'a> = (&'a [(Tier, &'a str)], &'a str, &'a str, Verdict);

#[test]
fn the_first_rule_that_matches_decides() {
    use Tier::*;
    let cases: &[Case<'_>] = &[
        (&[], "tcp 1.1.1.1 1", "default:allow", Verdict::Allow),
        (
            &[(Pod, "allow; deny")],
            "tcp 1.1.1.1 1",
            "pod:1",
            Verdict::Allow,
        ),
        (
            &[(Pod, "allow to 1.1.1.1\nreject name=rest")],
            "tcp 1.1.1.2 1",
            "pod:rest",
            Verdict::Reject,
        ),
        (
            &[(Pod, "allow\ndeny priority=5")],
            "tcp 1.1.1.1 1",
            "pod:2",
            Verdict::Deny,
        ),
        // Tiers in their order, not in that of the list; priority counts inside one text only.
        (
            &[
                (Pod, "allow priority=0"),
                (ClusterEnforced, "deny priority=9"),
            ],
            "tcp 1.1.1.1 1",
            "cluster-enforced:1",
            Verdict::Deny,
        ),
        (
            &[(ClusterDefaults, "allow"), (NamespaceDefaults, "deny")],
            "tcp 1.1.1.1 1",
            "namespace-defaults:1",
            Verdict::Deny,
        ),
        (
            &[
                (Pod, "deny"),
                (Dns, "allow to dns"),
                (NamespaceEnforced, "deny to 10.96.0.11"),
            ],
            "udp 10.96.0.10 53",
            "dns:1",
            Verdict::Allow,
        ),
        // `pass` ends its tier only.
        (
            &[
                (NamespaceEnforced, "pass to 1.1.1.1; deny"),
                (Pod, "reject"),
            ],
            "tcp 1.1.1.1 1",
            "pod:1",
            Verdict::Reject,
        ),
        (
            &[(NamespaceEnforced, "pass to 1.1.1.1; deny"), (Pod, "allow")],
            "tcp 1.1.1.2 1",
            "namespace-enforced:1",
            Verdict::Deny,
        ),
        (
            &[(ClusterDefaults, "pass; deny")],
            "tcp 1.1.1.1 1",
            "default:allow",
            Verdict::Allow,
        ),
    ];
    for (tiers, text, label, verdict) in cases {
        let tiers = tiers
            .iter()
            .map(|(t, rules)| tier(*t, rules, false))
            .collect();
        let policy = policy(tiers, DefaultAction::Allow, false);
        let decision = policy.decide(&packet(text));
        assert_eq!(
            (decision.label().as_str(), decision.verdict),
            (*label, *verdict),
            "{text} in {policy:#?}"
        );
    }
}

#[test]
fn audit_lets_go_and_asks_no_further() {
    let tiers = vec![
        tier(Tier::ClusterEnforced, "deny to 1.1.1.1", false),
        tier(
            Tier::Pod,
            "deny to 1.1.1.1,2.2.2.2; reject to 3.3.3.3; allow to 4.4.4.4",
            true,
        ),
        tier(Tier::ClusterDefaults, "deny name=last", false),
    ];
    let policy = policy(tiers, DefaultAction::Allow, false);
    for (to, verdict, label) in [
        ("1.1.1.1", Verdict::Deny, "cluster-enforced:1"),
        ("2.2.2.2", Verdict::WouldDeny, "pod:1"),
        ("3.3.3.3", Verdict::WouldReject, "pod:1"),
        ("4.4.4.4", Verdict::Allow, "pod:1"),
        ("5.5.5.5", Verdict::Deny, "cluster-defaults:last"),
    ] {
        let packet = packet(&format!("tcp {to} 1"));
        let decision = policy.decide(&packet);
        assert_eq!(
            (decision.verdict, decision.label().as_str()),
            (verdict, label),
            "to {to}"
        );
        assert_eq!(decision.verdict.passes(), !matches!(verdict, Verdict::Deny));
    }
}

#[test]
fn the_default_action() {
    for (action, audit, verdict, label, logged) in [
        (
            DefaultAction::Allow,
            false,
            Verdict::Allow,
            "default:allow",
            false,
        ),
        (
            DefaultAction::Allow,
            true,
            Verdict::Allow,
            "default:allow",
            false,
        ),
        (
            DefaultAction::Deny,
            false,
            Verdict::Deny,
            "default:deny",
            true,
        ),
        (
            DefaultAction::Deny,
            true,
            Verdict::WouldDeny,
            "default:deny",
            true,
        ),
    ] {
        let policy = policy(vec![], action, audit);
        let decision = policy.decide(&packet("tcp 1.1.1.1 1"));
        assert_eq!(decision.verdict, verdict);
        assert_eq!(decision.label(), label);
        assert_eq!(decision.logged, logged);
        assert_eq!(decision.rule, None);
    }
}

#[test]
fn what_is_logged() {
    for (rules, audit, logged) in [
        ("deny", false, false),
        ("deny log", false, true),
        ("allow log=3/s", false, true),
        ("allow", true, false),
        ("deny", true, true),
        ("reject", true, true),
    ] {
        let policy = policy(
            vec![tier(Tier::Pod, rules, audit)],
            DefaultAction::Allow,
            false,
        );
        let logs = policy.decide(&packet("tcp 1.1.1.1 1")).logged;
        assert_eq!(logs, logged, "`{rules}`, audit {audit}");
    }
}

#[test]
fn verdicts_are_called_as_in_logs() {
    let names: Vec<&str> = [
        Verdict::Allow,
        Verdict::Deny,
        Verdict::Reject,
        Verdict::WouldDeny,
        Verdict::WouldReject,
    ]
    .iter()
    .map(|verdict| verdict.as_str())
    .collect();
    assert_eq!(
        names,
        ["allow", "deny", "reject", "would-deny", "would-reject"]
    );
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

#[test]
fn a_trace_shows_what_was_looked_at() {
    let tiers = vec![
        tier(
            Tier::ClusterEnforced,
            "deny to metadata\npass 443/tcp\ndeny",
            false,
        ),
        tier(Tier::Pod, "allow 80/tcp\nallow 443/tcp\ndeny", false),
    ];
    let policy = policy(tiers, DefaultAction::Allow, false);
    let trace = policy.trace(&packet("tcp 1.1.1.1 443"));
    let steps: Vec<String> = trace
        .steps
        .iter()
        .map(|step| format!("{}:{} {:?}", step.tier.tier, step.rule.line, step.mismatch))
        .collect();
    assert_eq!(
        steps,
        [
            "cluster-enforced:1 Some(Address)",
            "cluster-enforced:2 None",
            "pod:1 Some(Port)",
            "pod:2 None",
        ]
    );
    assert_eq!(trace.decision.label(), "pod:2");
}

proptest::proptest! {
    /// The last rule that a trace shows is the one that decided, unless none did.
    #[test]
    fn a_trace_ends_where_the_decision_is(
        verbs in proptest::collection::vec((0..4usize, 0..4usize, 0..3usize), 1..12),
        address in 0..4usize,
        port in 1..5u16,
    ) {
        let targets = ["1.1.1.1", "1.1.1.0/30", "any except 1.1.1.2", "internet"];
        let tiers = [Tier::ClusterEnforced, Tier::Pod, Tier::ClusterDefaults].map(|which| {
            let rules = verbs.iter().zip(1u16..).filter(|((.., t), _)| tiers_index(which) == *t);
            let text: Vec<String> = rules
                .map(|((verb, target, _), n)| {
                    let verb = ["allow", "deny", "reject", "pass"][*verb];
                    format!("{verb} {}/tcp to {}", n % 5 + 1, targets[*target])
                })
                .collect();
            tier(which, &text.join("\n"), which == Tier::Pod)
        });
        let policy = policy(tiers.into(), DefaultAction::Deny, false);
        let packet = packet(&format!("tcp 1.1.1.{address} {port}"));
        let trace = policy.trace(&packet);
        proptest::prop_assert_eq!(&trace.decision, &policy.decide(&packet));
        let decides = |step: &&Step<'_>| step.mismatch.is_none() && step.rule.verb != Verb::Pass;
        let deciding: Vec<_> = trace.steps.iter().filter(decides).collect();
        let expected = trace.decision.rule;
        proptest::prop_assert_eq!(deciding.len(), usize::from(expected.is_some()));
        let found = deciding.first().map(|step| (step.tier, step.rule));
        proptest::prop_assert_eq!(found, expected);
    }
}

fn tiers_index(tier: Tier) -> usize {
    match tier {
        Tier::ClusterEnforced => 0,
        Tier::Pod => 1,
        _ => 2,
    }
}
