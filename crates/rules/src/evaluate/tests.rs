use super::*;
use crate::effective::Tier;

mod matching;
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
        names: Vec::new(),
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
