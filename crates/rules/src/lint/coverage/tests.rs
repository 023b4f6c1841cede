use crate::effective::Tier;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::effective::{DefaultAction, Effective};
use crate::evaluate::{Original, Packet};

fn tier(tier: Tier, text: &str) -> TierRules {
    TierRules::parse(tier, "test", text, false).unwrap_or_else(|e| panic!("{e}"))
}

fn facts() -> Facts {
    Facts {
        cluster: vec![
            "10.244.0.0/16".parse().expect("a network"),
            "fd44::/48".parse().expect("a network"),
        ],
        dns: vec!["10.96.0.10".parse().expect("an address")],
        nat64: vec![crate::nat64::WELL_KNOWN],
        ..Facts::default()
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// `-` for a rule that may match, else a letter for the reason, in the order of evaluation.
fn judged(above: &[&TierRules], text: &str, facts: Option<&Facts>) -> String {
    let own = tier(Tier::Pod, text);
    let above = Around {
        above: above.to_vec(),
        facts,
        now: now(),
    };
    let letter = |reason: Option<Reason<'_>>| match reason {
        None => "-".to_owned(),
        Some(Reason::Repeats(rule)) => format!("r{}", rule.line),
        Some(Reason::Covered(rules)) => {
            let lines: Vec<String> = rules.iter().map(|r| r.line.to_string()).collect();
            format!("c{}", lines.join("+"))
        }
        Some(Reason::Overridden(rules)) => format!("o{}", rules.len()),
        Some(Reason::AfterUnconditional) => "u".to_owned(),
    };
    let letters: Vec<String> = judge(&own.rules, &above).into_iter().map(letter).collect();
    letters.join(" ")
}

#[test]
fn rules_that_earlier_ones_cover() {
    for (text, wanted) in [
        ("deny to 10.0.0.0/8; allow 443/tcp to 10.1.2.3", "- c1"),
        ("deny 443/tcp to 10.0.0.0/8; allow tcp to 10.1.2.3", "- -"),
        ("deny tcp\ndeny udp\nallow 5/tcp,5/udp", "- - c1+2"),
        ("deny tcp\ndeny udp\nallow 5/tcp,5/sctp", "- - -"),
        (
            "allow to 10.0.0.0/9\nallow to 10.128.0.0/9\ndeny to 10.0.0.0/8",
            "- - c1+2",
        ),
        (
            "allow to 10.0.0.0/9\nallow to 10.128.0.1-10.255.255.255\ndeny to 10.0.0.0/8",
            "- - -",
        ),
        ("allow except 10.0.0.0/8\ndeny to 10.0.0.0/8", "- -"),
        ("allow except 10.0.0.0/8\ndeny to 11.0.0.0/8", "- c1"),
        ("allow to internet\ndeny to 8.8.8.8", "- -"), // it may be the node's or the cluster's
        ("allow to internet, nodes, cluster\ndeny to 8.8.8.8", "- c1"),
        ("allow to internet\ndeny to internet except 8.8.8.8", "- c1"),
        ("allow to private\ndeny to internet", "- -"),
        ("allow to any except dns\ndeny to internet", "- -"),
        ("allow to metadata\ndeny to 169.254.169.254", "- c1"),
        ("allow tcp,udp\nallow to dns", "- c1"),
        ("allow 53/tcp,53/udp\nallow to dns", "- -"), // as asked, it may be translated to another port
        ("allow to dns\nallow 53/udp to dns", "- c1"),
        ("allow icmp\nallow icmp/8", "- c1"),
        ("allow icmp/3\nallow icmp/3/4", "- c1"),
        ("allow icmp/3/4\nallow icmp/3", "- -"),
        ("allow icmp\nallow proto/1", "- -"), // proto/1 is in IPv6, too
        ("allow proto/1\nallow icmp/8", "- c1"),
        ("allow tcp\nallow proto/6", "- c1"),
        ("pass to 10.0.0.0/8\ndeny to 10.1.0.0/16", "- c1"),
        // Order is by priority.
        ("allow to 10.1.2.3\ndeny to 10.0.0.0/8 priority=1", "- c2"),
        // A rule that ends does not cover one that stays.
        (
            "deny to 10.0.0.0/8 until=2030-01-01T00:00:00Z\nallow to 10.1.2.3",
            "- -",
        ),
        (
            "deny to 10.0.0.0/8 until=2030-01-01T00:00:00Z\nallow to 10.1.2.3 until=2029-01-01T00:00:00Z",
            "- c1",
        ),
        (
            "deny to 10.0.0.0/8 until=2020-01-01T00:00:00Z\nallow to 10.1.2.3",
            "- -",
        ),
        // Repeated, however it is written.
        (
            "allow 80/tcp,443/tcp to any log\nallow 443/TCP , 80/tcp name=x",
            "- r1",
        ),
        ("allow to 10.0.0.1/32\nallow to 10.0.0.1", "- r1"),
        ("allow to 10.0.0.1\ndeny to 10.0.0.1", "- c1"),
        // A Service's port is what the pod asks for; behind it, it may be another.
        ("deny tcp\nallow 443/tcp to svc/a/b", "- c1"),
        ("deny 443/tcp\nallow 443/tcp to svc/a/b", "- -"),
        ("deny to 10.0.0.0/8\nallow to svc/a/b", "- -"),
        ("allow tcp to svc/a/b\ndeny 443/tcp to svc/a/b", "- c1"),
        ("allow 443/tcp to svc/a/b\ndeny tcp to svc/a/b", "- -"),
        (
            "allow 1-442/tcp to svc/a/b\nallow 443-65535/tcp to svc/a/b\ndeny 9-999/tcp to svc/A/B",
            "- - c1+2",
        ),
        ("allow to svc/a/b\ndeny to svc/a/c", "- -"),
        ("allow to svc/a/b\nallow to svc/A/B", "- r1"),
        ("allow to svc/a/b\ndeny udp", "- -"),
        (
            "allow to svc/a/b,10.0.0.0/8\ndeny to 10.1.0.0/16\ndeny 1/udp to svc/a/b",
            "- c1 c1",
        ),
        ("deny to apiserver\nallow 443/tcp to apiserver", "- c1"),
        ("allow except apiserver\ndeny to apiserver", "- -"),
        ("allow except apiserver\ndeny to 8.8.8.8", "- -"),
        // Everything is taken.
        ("deny\nallow to svc/a/b\nallow to apiserver", "- u u"),
        ("deny\nallow tcp\nallow udp", "- u u"),
        ("deny to 0.0.0.0/0, ::/0\nallow tcp", "- u"),
        ("deny to 0.0.0.0/0\nallow tcp", "- -"),
        ("deny until=2030-01-01T00:00:00Z\nallow tcp", "- -"),
        (
            "allow tcp priority=1\ndeny priority=2\nallow udp priority=3",
            "- - u",
        ),
    ] {
        assert_eq!(judged(&[], text, None), wanted, "{text}");
    }
}

#[test]
fn what_cluster_stands_for_makes_a_difference() {
    let text = "allow to cluster\ndeny to 10.244.1.2";
    assert_eq!(judged(&[], text, None), "- -");
    assert_eq!(judged(&[], text, Some(&facts())), "- c1");
    let text = "allow to 10.244.0.0/16, fd44::/48\ndeny to cluster";
    assert_eq!(judged(&[], text, None), "- -");
    assert_eq!(judged(&[], text, Some(&facts())), "- c1");
}

#[test]
fn tiers_above_decide_before() {
    let above = |text| tier(Tier::ClusterEnforced, text);
    for (enforced, text, wanted) in [
        (
            "deny to metadata",
            "allow 80/tcp to 169.254.169.254\nallow",
            "o1 -",
        ),
        ("deny 25/tcp to any", "allow tcp", "-"),
        (
            "allow tcp\ndeny to 10.0.0.0/8",
            "allow 80/tcp to 10.0.0.0/8",
            "o1",
        ),
        ("allow tcp\ndeny to 10.0.0.0/8", "allow to 10.0.0.0/8", "o2"),
        // What is passed on may match, whatever comes after it in that tier.
        (
            "pass 80/tcp\ndeny to 10.0.0.0/8",
            "allow to 10.0.0.0/8",
            "-",
        ),
        (
            "pass 80/tcp\ndeny to 10.0.0.0/8",
            "allow 81/tcp to 10.0.0.0/8",
            "o1",
        ),
        (
            "deny to 10.0.0.0/8\npass 80/tcp",
            "allow 80/tcp to 10.0.0.0/8",
            "o1",
        ),
        // Who knows where that Service leads?
        (
            "pass to svc/a/b\ndeny to 10.0.0.0/8",
            "allow to 10.1.2.3",
            "-",
        ),
        (
            "pass to apiserver\ndeny to 10.0.0.0/8",
            "allow to 10.1.2.3",
            "-",
        ),
        ("pass to svc/a/b\ndeny tcp", "allow 1/tcp to svc/a/c", "o1"),
        ("deny tcp to svc/a/b", "allow 443/tcp to svc/a/b", "o1"),
        // The rest is taken by the text itself.
        (
            "deny tcp",
            "deny udp to 10.0.0.0/8\nallow tcp,udp to 10.0.0.0/8",
            "- o1",
        ),
        ("deny to any until=2030-01-01T00:00:00Z", "allow tcp", "-"),
        ("deny to any until=2020-01-01T00:00:00Z", "allow tcp", "-"),
        (
            "pass 80/tcp until=2020-01-01T00:00:00Z\ndeny",
            "allow 80/tcp",
            "o1",
        ),
        (
            "pass 80/tcp until=2030-01-01T00:00:00Z\ndeny",
            "allow 80/tcp",
            "-",
        ),
    ] {
        assert_eq!(
            judged(&[&above(enforced)], text, None),
            wanted,
            "{enforced} / {text}"
        );
    }
    let dns = crate::builtin::dns().expect("is valid");
    assert_eq!(judged(&[&dns], "deny to dns\ndeny 53/udp", None), "o1 -");
    let (first, second) = (
        above("pass tcp; deny"),
        tier(Tier::NamespaceEnforced, "deny tcp"),
    );
    assert_eq!(
        judged(&[&first, &second], "allow 80/tcp\nallow udp", None),
        "o1 o1"
    );
}

/// The annotation of one who wants to keep the linter busy.
#[test]
fn a_long_text_is_judged_in_time() {
    let started = std::time::Instant::now();
    let lines: Vec<String> = (0..9000)
        .map(|n| {
            format!(
                "allow {}/tcp to 10.{}.{}.0/24",
                n % 60000 + 1,
                n % 251,
                n % 241
            )
        })
        .collect();
    let own = tier(Tier::Pod, &lines.join("\n"));
    let above = Around {
        above: Vec::new(),
        facts: None,
        now: now(),
    };
    assert_eq!(judge(&own.rules, &above).len(), 9000);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// Rules of a world so small that they often cover each other.
fn rule() -> impl Strategy<Value = String> {
    let verb = prop::sample::select(vec!["allow", "deny", "reject", "pass"]);
    let ports = prop::sample::select(vec![
        "",
        "tcp",
        "udp",
        "53/udp",
        "53-80/tcp",
        "80/tcp,53/tcp",
        "icmp",
        "icmp/8",
        "icmpv6",
        "proto/6",
        "proto/1",
        "1-65535/tcp",
    ]);
    let target = || {
        prop::sample::select(vec![
            "any",
            "internet",
            "private",
            "cluster",
            "node",
            "nodes",
            "metadata",
            "168.63.129.16",
            "dns",
            "10.0.0.0/8",
            "10.244.0.0/17",
            "10.244.128.0/17",
            "10.96.0.10",
            "8.8.8.8",
            "0.0.0.0/0",
            "::/0",
            "fd44::1",
            "169.254.169.254",
            "169.254.0.0-169.254.255.255",
            "apiserver",
            "svc/a/b",
            "svc/a/c",
        ])
    };
    let no_service = |target: &&str| !target.starts_with("svc/");
    let except = prop::option::of(target().prop_filter("not behind except", no_service));
    (verb, ports, target(), target(), except, 0..3u8).prop_map(|(verb, ports, a, b, except, p)| {
        let except = except.map(|e| format!("except {e}")).unwrap_or_default();
        format!("{verb} {ports} to {a},{b} {except} priority={p}")
    })
}

/// Several rules, of which those that cannot match by themselves are left out.
fn rules() -> impl Strategy<Value = String> {
    let valid = |text: &String| crate::grammar::parse("test", text).is_ok();
    prop::collection::vec(rule(), 1..7).prop_map(move |rules| {
        rules
            .into_iter()
            .filter(valid)
            .collect::<Vec<_>>()
            .join("\n")
    })
}

fn packets() -> Vec<Packet> {
    let addresses = [
        "10.0.0.1",
        "10.244.0.1",
        "10.244.200.1",
        "10.96.0.10",
        "8.8.8.8",
        "169.254.169.254",
        "169.254.1.1",
        "168.63.129.16",
        "8.8.4.4",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::808:808",
        "64:ff9b::a00:1",
        "224.0.0.1",
        "fd44::1",
        "fd45::1",
        "2001:db8::1",
    ];
    let traffic = [
        (6, Some(53), None),
        (6, Some(80), None),
        (6, Some(81), None),
        (17, Some(53), None),
        (17, Some(9), None),
        (1, None, Some((8, 0))),
        (1, None, Some((3, 4))),
        (58, None, Some((128, 0))),
        (47, None, None),
    ];
    let mut packets = Vec::new();
    for address in addresses {
        for (protocol, port, icmp) in traffic {
            for (local, asked) in [
                (false, None),
                (true, None),
                (false, Some(([10, 96, 0, 10], 53))),
                (false, Some(([10, 96, 0, 20], 53))),
                (false, Some(([10, 96, 0, 20], 80))),
                (false, Some(([10, 96, 0, 21], 80))),
                (false, Some(([169, 254, 169, 254], 80))),
            ] {
                packets.push(Packet {
                    destination: address.parse().expect("an address"),
                    protocol,
                    port,
                    icmp,
                    original: asked.map(|(address, port)| Original {
                        address: IpAddr::from(address),
                        port: Some(port),
                    }),
                    local,
                    time: now(),
                    names: Vec::new(),
                });
            }
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No packet is decided by a rule of which it is said that it never matches.
    #[test]
    fn no_false_alarm(enforced in rules(), own in rules(), known in any::<bool>()) {
        let facts = facts();
        let enforced = tier(Tier::ClusterEnforced, &enforced);
        let own = tier(Tier::Pod, &own);
        let above = Around {
            above: vec![&enforced],
            facts: known.then_some(&facts),
            now: now(),
        };
        let reasons = judge(&own.rules, &above);
        let tiers = vec![enforced.clone(), own.clone()];
        // What only the API knows.
        let service = |name: &str, address: [u8; 4]| (name.to_owned(), vec![IpAddr::from(address)]);
        let facts = Facts {
            api_server: ["8.8.8.8:443", "10.96.0.20:80"]
                .map(|socket| socket.parse().expect("address and port"))
                .into(),
            nodes: vec!["8.8.4.0/24".parse().expect("a network")],
            services: [service("a/b", [10, 96, 0, 20]), service("a/c", [10, 96, 0, 21])].into(),
            ..facts.clone()
        };
        let policy = Effective::new(tiers, DefaultAction::Allow, false, facts)
            .expect("is valid");
        for packet in packets() {
            let Some((tier, rule)) = policy.decide(&packet).rule else { continue };
            if tier.tier == Tier::Pod {
                let index = own.rules.iter().position(|r| r == rule).expect("is one of them");
                prop_assert!(
                    reasons[index].is_none(),
                    "{} decides {packet:?}, but {:?}\n{}\n--\n{}",
                    rule.text, reasons[index], enforced.text, own.text
                );
            }
        }
    }
}
