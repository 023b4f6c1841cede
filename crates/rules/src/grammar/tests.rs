use std::time::{Duration, Instant};

use ipnet::IpNet;
use proptest::prelude::*;

use super::parse;
use crate::rule::{Log, Ports, Rule, Target, Transport, Verb};

#[path = "tests/faults.rs"]
mod faults;
#[path = "tests/help.rs"]
mod help;

fn rules(text: &str) -> Vec<Rule> {
    parse("t", text).unwrap_or_else(|faults| panic!("{text:?} is valid:\n{faults}"))
}

fn rule(text: &str) -> Rule {
    let mut rules = rules(text);
    assert_eq!(rules.len(), 1, "{text:?}");
    rules.remove(0)
}

fn net(text: &str) -> Target {
    Target::Net(text.parse::<IpNet>().expect("a network"))
}

fn tcp(first: u16, last: u16) -> Ports {
    Ports::Transport(Transport::Tcp, first..=last)
}

#[test]
fn a_rule_in_full() {
    assert_eq!(
        rule(
            "\t REJECT 443/TCP , 8000-8100/udp,sctp to 203.0.113.7,2001:DB8::/32 ,Internet \
             except 203.0.113.10-203.0.113.20 priority=7 LOG=10/S until=2027-01-31T00:00:00Z \
             name=a-1 # why"
        ),
        Rule {
            verb: Verb::Reject,
            ports: vec![
                tcp(443, 443),
                Ports::Transport(Transport::Udp, 8000..=8100),
                Ports::Transport(Transport::Sctp, 0..=65535),
            ],
            to: vec![
                net("203.0.113.7/32"),
                net("2001:db8::/32"),
                Target::Internet
            ],
            except: vec![Target::Range(
                "203.0.113.10".parse().expect("an address"),
                "203.0.113.20".parse().expect("an address"),
            )],
            log: Some(Log::PerSecond(10)),
            priority: 7,
            name: Some("a-1".to_owned()),
            until: Some("2027-01-31T00:00:00Z".parse().expect("a time")),
            line: 1,
            text: "REJECT 443/TCP , 8000-8100/udp,sctp to 203.0.113.7,2001:DB8::/32 ,Internet \
                   except 203.0.113.10-203.0.113.20 priority=7 LOG=10/S \
                   until=2027-01-31T00:00:00Z name=a-1"
                .to_owned(),
        }
    );
}

#[test]
fn what_is_left_out_means_everything() {
    let rule = rule("deny");
    assert_eq!(rule.ports, []);
    assert_eq!(rule.to, [Target::Any]);
    assert_eq!(rule.except, []);
    assert_eq!(
        (rule.log, rule.priority, rule.name, rule.until),
        (None, 1000, None, None)
    );
}

#[test]
fn every_form_of_ports() {
    for (text, ports) in [
        ("1/tcp", tcp(1, 1)),
        ("65535/tcp", tcp(65535, 65535)),
        ("1-65535/tcp", tcp(1, 65535)),
        ("tcp", tcp(0, 65535)),
        ("UDP", Ports::Transport(Transport::Udp, 0..=65535)),
        ("5-5/sctp", Ports::Transport(Transport::Sctp, 5..=5)),
        (
            "icmp",
            Ports::Icmp {
                kind: None,
                code: None,
            },
        ),
        (
            "icmp/0",
            Ports::Icmp {
                kind: Some(0),
                code: None,
            },
        ),
        (
            "icmp/3/4",
            Ports::Icmp {
                kind: Some(3),
                code: Some(4),
            },
        ),
        (
            "icmpv6/128",
            Ports::Icmpv6 {
                kind: Some(128),
                code: None,
            },
        ),
        (
            "icmpv6/1/255",
            Ports::Icmpv6 {
                kind: Some(1),
                code: Some(255),
            },
        ),
        ("proto/0", Ports::Protocol(0)),
        ("proto/255", Ports::Protocol(255)),
    ] {
        assert_eq!(rule(&format!("allow {text}")).ports, [ports], "{text}");
    }
}

#[test]
fn every_form_of_targets() {
    for (text, target) in [
        ("any", Target::Any),
        ("internet", Target::Internet),
        ("private", Target::Private),
        ("cluster", Target::Cluster),
        ("node", Target::Node),
        ("METADATA", Target::Metadata),
        ("dns", Target::Dns),
        ("0.0.0.0/0", net("0.0.0.0/0")),
        ("::/0", net("::/0")),
        ("10.0.0.0/8", net("10.0.0.0/8")),
        ("10.0.0.1/32", net("10.0.0.1/32")),
        ("2001:db8::7", net("2001:db8::7/128")),
        (
            "2001:db8::1-2001:db8::1",
            Target::Range(
                "2001:db8::1".parse().expect("an address"),
                "2001:db8::1".parse().expect("an address"),
            ),
        ),
    ] {
        assert_eq!(
            rule(&format!("allow to {text}")).to,
            std::slice::from_ref(&target),
            "{text}"
        );
        if target != Target::Any {
            assert_eq!(
                rule(&format!("allow except {text}")).except,
                [target],
                "{text}"
            );
        }
    }
}

#[test]
fn lower_priority_first_then_as_written() {
    let lines = |text: &str| rules(text).iter().map(|rule| rule.line).collect::<Vec<_>>();
    assert_eq!(
        lines("deny\nallow priority=1000\npass priority=0\nallow priority=65535; deny\n"),
        [3, 1, 2, 4, 4]
    );
}

#[test]
fn a_text_without_rules_has_none() {
    for text in ["", "\n", " ;; \r\n;", "# deny", "#\r\n\t#;deny"] {
        assert_eq!(rules(text), [], "{text:?}");
    }
}

#[test]
fn line_ends_of_all_kinds() {
    let texts: Vec<String> = rules("deny # a\r\nallow;pass\r\n")
        .into_iter()
        .map(|rule| format!("{} {}", rule.line, rule.text))
        .collect();
    assert_eq!(texts, ["1 deny", "2 allow", "2 pass"]);
}

#[test]
fn until_with_zone_and_fraction_which_is_cut() {
    for (text, utc) in [
        ("2027-01-31T01:00:00+01:00", "2027-01-31T00:00:00Z"),
        ("2027-01-31t00:00:00.999z", "2027-01-31T00:00:00Z"),
    ] {
        let until = rule(&format!("deny until={text}")).until;
        assert_eq!(until, Some(utc.parse().expect("a time")), "{text}");
    }
}

/// What people write for "never".
#[test]
fn until_the_last_moment_that_can_be_written() {
    for text in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T00:00:00-05:00",
        "9999-12-30T22:00:01Z",
        "9999-12-31t23:59:59.999z",
    ] {
        let until = rule(&format!("deny until={text}")).until;
        assert!(
            until >= "9999-12-30T22:00:00Z".parse().ok(),
            "{text}: {until:?}"
        );
    }
    for text in [
        "9999-12-32T00:00:00Z",
        "9999-12-31T25:00:00Z",
        "9999-13-31T00:00:00Z",
    ] {
        assert!(
            parse("pod", &format!("deny until={text}")).is_err(),
            "{text}"
        );
    }
}

#[test]
fn hostile_texts_cost_little() {
    let many = |piece: &str| piece.repeat(200_000 / piece.len());
    let texts = [
        many("deny;"),
        many("x;"),
        many("allow 1/tcp "),
        many("deny name=a;"),
        many("deny to cluster,"),
        many("a"),
        many("allow to a."),
        many(","),
        many(";"),
        many("#"),
        many("\u{202e}"),
        format!("allow {}", many("1/tcp,")),
        format!("allow to any except {}", many("10.0.0.1,")),
        format!("allow to {}", many("-")),
    ];
    for text in texts {
        let start = Instant::now();
        let shown = match parse("t", &text) {
            Ok(rules) => rules.len().to_string(),
            Err(faults) => faults.to_string(),
        };
        // Unoptimized, on a busy machine; what is quadratic takes minutes.
        let taken = start.elapsed();

        assert!(taken < Duration::from_secs(5), "{taken:?}: {:.40}", text);
        assert!(shown.len() < 4000, "{shown}");
    }
}

/// The rule without what only says where it stood.
fn meaning(rule: &Rule) -> Rule {
    Rule {
        line: 0,
        text: String::new(),
        ..rule.clone()
    }
}

fn word() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "allow",
        "deny",
        "reject",
        "pass",
        "to",
        "except",
        ",",
        ";",
        "\n",
        "#",
        "log",
        "log=3/s",
        "priority=",
        "priority=5",
        "name=x",
        "name=1",
        "until=2027-01-31T00:00:00Z",
        "443/tcp",
        "0/udp",
        "7-3/sctp",
        "icmp/3/4",
        "icmpv6",
        "proto/47",
        "any",
        "internet",
        "dns",
        "svc/a/b",
        "10.0.0.1/8",
        "10.0.0.0/8",
        "::ffff:1.2.3.4",
        "2001:db8::/32",
        "1.1.1.1-2.2.2.2",
        "a.example",
        "*",
        "=",
        "/",
        "-",
        "\u{0}",
        "\u{202e}",
        "é",
    ]);
    prop_oneof![4 => fixed.prop_map(str::to_owned), 1 => any::<String>()]
}

fn valid_rule() -> impl Strategy<Value = String> {
    let verb = prop::sample::select(vec!["allow", "Deny", "reject"]);
    let port = prop_oneof![
        (
            1u16..,
            0u16..999,
            prop::sample::select(vec!["tcp", "udp", "sctp"])
        )
            .prop_map(|(first, more, t)| format!("{first}-{}/{t}", first.saturating_add(more))),
        prop::sample::select(vec!["tcp", "icmp,tcp", "icmpv6/1/2,udp"]).prop_map(str::to_owned),
        any::<u8>().prop_map(|number| format!("proto/{number}")),
    ];
    let target = prop_oneof![
        (any::<[u8; 4]>(), 0u8..=32).prop_map(|(octets, prefix)| {
            let net = ipnet::Ipv4Net::new(octets.into(), prefix).expect("is at most 32");
            net.trunc().to_string()
        }),
        (any::<[u8; 16]>(), 0u8..=128).prop_map(|(octets, prefix)| {
            let net = ipnet::Ipv6Net::new(octets.into(), prefix).expect("is at most 128");
            net.trunc().to_string()
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(a, b)| {
            let (first, last) = (a.min(b), a.max(b));
            format!(
                "{}-{}",
                std::net::Ipv4Addr::from(first),
                std::net::Ipv4Addr::from(last)
            )
        }),
        prop::sample::select(vec![
            "any", "internet", "private", "cluster", "node", "metadata", "dns"
        ])
        .prop_map(str::to_owned),
    ];
    let option = prop::sample::select(vec![
        "",
        "log",
        "log=7/s",
        "priority=0",
        "name=x-9",
        "until=2030-01-01T02:03:04.5-07:00",
    ]);
    (
        verb,
        prop::collection::vec(port, 0..4),
        prop::collection::vec(target, 1..4),
        prop::option::of(prop::sample::select(vec![
            "node",
            "192.0.2.1",
            "2001:db8::/48",
        ])),
        option,
    )
        .prop_map(|(verb, ports, to, except, option)| {
            let except = except.map_or(String::new(), |target| format!("except {target}"));
            format!(
                "{verb} {} to {} {except} {option}",
                ports.join(","),
                to.join(" , ")
            )
        })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse("t", &text).map_err(|faults| faults.to_string());
    }

    #[test]
    fn no_mixture_of_words_makes_it_panic(words in prop::collection::vec(word(), 0..30)) {
        let text = words.join(" ");
        match parse("t", &text) {
            Ok(rules) => {
                for rule in rules {
                    let again = parse("t", &rule.to_string()).expect("is canonical");
                    prop_assert_eq!(meaning(&again[0]), meaning(&rule));
                }
            }
            Err(faults) => {
                let shown = faults.to_string();
                prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
                for fault in faults.described() {
                    let line = crate::lexer::lines(&text).nth(fault.line - 1);
                    let chars = line.map_or(0, |(_, line)| line.chars().count());
                    prop_assert!(fault.width > 0 && fault.column <= chars + 1);
                }
            }
        }
    }

    #[test]
    fn the_canonical_form_means_the_same(text in valid_rule()) {
        // Some of them can never match, which is a fault of its own.
        if let Ok(rules) = parse("t", &text) {
            let printed = rules[0].to_string();
            let again = parse("t", &printed).map_err(|f| TestCaseError::fail(f.to_string()))?;
            prop_assert_eq!(meaning(&again[0]), meaning(&rules[0]));
            prop_assert_eq!(again[0].to_string(), printed);
        } else {
            let faults = parse("t", &text).expect_err("was one").to_string();
            prop_assert!(faults.contains("can never match"), "{}", faults);
        }
    }
}
