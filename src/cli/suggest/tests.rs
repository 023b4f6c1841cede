//! Rules out of logs, held against the grammar and the evaluation.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::Parser;
use proptest::prelude::*;

use super::flow::Flow;
use super::*;
use crate::verdicts::packet::protocol_number;
use crate::verdicts::test_support::line;
use ::rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use ::rules::evaluate::{self, Packet};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(words: &str) -> Args {
    let words = ["suggest"].into_iter().chain(words.split_whitespace());
    Cli::try_parse_from(words).unwrap().args
}

/// What the lines come to.
fn suggested(words: &str, lines: &str) -> (Vec<OwnerRules>, LogGroups) {
    let args = args(words);
    let mut groups = LogGroups::default();
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    for (minute, text) in lines.enumerate() {
        // By way of JSON, as in life.
        let line: Line = serde_json::from_str(&line(minute, text).json()).unwrap();
        if args.wants(&line) {
            groups.add(&line, args.by == By::Pod);
        }
    }
    (suggest(&groups, &args), groups)
}

/// The rules alone.
fn rules_of(words: &str, lines: &str) -> Vec<String> {
    let (groups, _) = suggested(words, lines);
    let rules = groups.into_iter().flat_map(|group| group.rules);
    rules.map(|suggestion| suggestion.rule).collect()
}

const LOG: &str = "
    shop/web deny pod:3 tcp 203.0.113.8 443
    shop/api would-deny namespace-defaults:1 tcp 203.0.113.9 443
    shop/web deny pod:3 tcp 203.0.113.9 443
    shop/web allow pod:1 tcp 192.0.2.1 443
    shop/web reject default:deny udp 2001:db8::1 53
    bank/db deny cluster-enforced:no-metadata tcp 169.254.169.254 80
    bank/db deny pod:2 icmp 192.0.2.1 8/0
    -/- deny pod:2 proto/47 192.0.2.1
";

#[test]
fn text_is_ready_to_paste() {
    let (groups, _) = suggested("", LOG);
    assert_eq!(
        print::text(&groups),
        "\
# namespace bank
# logged 1 time by 1 pod, last 2026-01-31T09:06:00Z
allow icmp/8 to 192.0.2.1
# logged 1 time by 1 pod, last 2026-01-31T09:05:00Z; denied by cluster-enforced:no-metadata: only an enforced rule before it can allow this; a metadata service hands out credentials of the node: remove the `#` only if the pods must have them
# allow 80/tcp to 169.254.169.254

# namespace shop
# logged 3 times by 2 pods, last 2026-01-31T09:02:00Z
allow 443/tcp to 203.0.113.8/31
# logged 1 time by 1 pod, last 2026-01-31T09:04:00Z
allow 53/udp to 2001:db8::1

# pods that the log does not name
# logged 1 time, last 2026-01-31T09:07:00Z
allow proto/47 to 192.0.2.1
"
    );
}

#[test]
fn yaml_has_the_annotations() {
    let (groups, _) = suggested("--by pod --pod api", LOG);
    assert_eq!(
        print::yaml(&groups),
        "\
apiVersion: v1
kind: Pod
metadata:
  name: \"api\"
  namespace: \"shop\"
  annotations:
    egressway.dev/rules: |
      # logged 1 time, last 2026-01-31T09:01:00Z
      allow 443/tcp to 203.0.113.9
"
    );
    let (groups, _) = suggested("", LOG);
    let text = print::yaml(&groups);
    assert_eq!(text.matches("kind: Namespace\n").count(), 2);
    assert_eq!(text.matches("---\n").count(), 1);
    assert!(text.contains("egressway.dev/default-rules: |\n"), "{text}");
}

#[test]
fn json_has_the_documented_fields() {
    let (groups, _) = suggested("--namespace bank", LOG);
    let json: serde_json::Value = serde_json::from_str(&print::json(&groups).unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!([{
            "namespace": "bank",
            "rules": [
                { "rule": "allow icmp/8 to 192.0.2.1", "count": 1,
                  "last": "2026-01-31T09:06:00.500000Z", "pods": ["db"] },
                { "rule": "allow 80/tcp to 169.254.169.254", "count": 1,
                  "last": "2026-01-31T09:05:00.500000Z", "pods": ["db"],
                  "enforcedBy": ["cluster-enforced:no-metadata"], "metadata": true },
            ],
        }])
    );
}

/// Pasted as it is, no suggestion opens what hands out credentials.
#[test]
fn metadata_services_are_never_live_rules() {
    let log = "
        shop/web deny pod:3 tcp 169.254.169.254 80
        shop/web deny pod:3 tcp 169.254.169.253 80
        shop/web deny pod:3 tcp 169.254.169.250 80
        shop/web deny pod:3 tcp fd00:ec2::254 80
        shop/web deny pod:3 tcp 64:ff9b::a9fe:a9fe 80
        shop/web deny pod:3 tcp 64:ff9b::a9fe:a9fd 80
        shop/web deny pod:3 tcp 64:ff9b::a9fe:a9ff 80
        shop/web deny pod:3 tcp 168.63.129.16 32526
        shop/web deny pod:3 tcp 168.63.129.16 53
        shop/web deny pod:3 tcp 203.0.113.8 80
    ";
    for options in ["", "--generalise 2"] {
        let (groups, _) = suggested(options, log);
        let text = print::text(&groups);
        let live: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let rules = TierRules::parse(Tier::Pod, "test", &text, false)
            .expect("is valid")
            .rules;
        assert!(!live.is_empty() && rules.len() == live.len(), "{text}");
        let live = parse(&live.join("\n"));
        for (address, port) in [
            ("169.254.169.254", 80),
            ("fd00:ec2::254", 80),
            ("64:ff9b::a9fe:a9fe", 80),
            ("168.63.129.16", 32526),
        ] {
            let packet = Packet {
                port: Some(port),
                ..packet(&line(0, &format!("a/b deny pod:3 tcp {address} {port}")))
            };
            let verdict = live.decide(&packet).verdict;
            assert_eq!(verdict, evaluate::Verdict::Deny, "{text}");
            assert!(text.contains(address), "{text}");
        }
        assert!(text.contains("\nallow 53/tcp to 168.63.129.16\n"), "{text}");
    }
}

/// Some clouds' and tools' node agents answer at another address, to which the node translates.
#[test]
fn what_was_asked_of_a_metadata_service_is_no_live_rule() {
    let mut translated = line(0, "shop/web deny pod:3 tcp 10.9.9.9 8181");
    translated.original_destination = Some("169.254.169.254".parse().unwrap());
    translated.original_destination_port = Some(80);
    let mut groups = LogGroups::default();
    groups.add(&translated, false);
    let text = print::text(&suggest(&groups, &args("")));
    assert!(text.contains("\n# allow 8181/tcp to 10.9.9.9\n"), "{text}");
}

#[test]
fn only_what_is_asked_for_is_suggested() {
    for (words, count) in [
        ("--namespace shop", 2),
        ("--pod db", 2),
        ("--verdict would-deny", 1),
        ("--verdict allow,reject", 2),
        ("--namespace none", 0),
    ] {
        assert_eq!(rules_of(words, LOG).len(), count, "{words}");
    }
}

#[test]
fn rules_are_as_short_as_they_can_be() {
    // Destinations with the same ports share a rule...
    let same_ports = "
        a/b deny pod:1 tcp 192.0.2.1 443
        a/b deny pod:1 tcp 192.0.2.1 80
        a/b deny pod:1 tcp 192.0.2.200 80
        a/b deny pod:1 tcp 192.0.2.200 443
        a/b deny pod:1 tcp 192.0.2.200 443
        a/b deny pod:1 udp 192.0.2.77 443
    ";
    let wanted = [
        "allow 80/tcp,443/tcp to 192.0.2.1,192.0.2.200",
        "allow 443/udp to 192.0.2.77",
    ];
    assert_eq!(rules_of("", same_ports), wanted);
    // ... or ports with the same destinations do.
    let overlapping = "
        a/b deny pod:1 tcp 192.0.2.0 443
        a/b deny pod:1 tcp 192.0.2.1 443
        a/b deny pod:1 tcp 192.0.2.2 443
        a/b deny pod:1 tcp 192.0.2.3 443
        a/b deny pod:1 tcp 192.0.2.2 80
    ";
    let wanted = ["allow 443/tcp to 192.0.2.0/30", "allow 80/tcp to 192.0.2.2"];
    assert_eq!(rules_of("", overlapping), wanted);
    let wanted = ["allow 80/tcp to 192.0.2.2", "allow 443/tcp to 192.0.2.0/30"];
    let more = overlapping.to_owned() + &"a/b deny pod:1 tcp 192.0.2.2 80\n".repeat(9);
    assert_eq!(rules_of("--generalise 3", &more), wanted);
}

#[test]
fn what_no_rule_could_name_is_counted() {
    let (groups, left) = suggested(
        "",
        "a/b deny pod:1 tcp 192.0.2.1
         a/b deny pod:1 tcp 192.0.2.1 0
         a/b deny pod:1 - 192.0.2.1
         a/b deny pod:1 icmp 192.0.2.1
         a/b deny pod:1 tcp ::ffff:192.0.2.1 443",
    );
    assert!(groups.is_empty());
    assert_eq!(left.too_little, 5);
}

#[test]
fn names_of_a_log_cannot_write_rules_or_yaml() {
    let mut hostile = line(0, "shop/web deny cluster-enforced:1 tcp 192.0.2.1 443");
    hostile.namespace = Some("a\nallow # \"\u{1b}[31m".to_owned());
    hostile.pod = Some("b\": {}\nallow".to_owned());
    hostile.rule = "cluster-enforced:\nallow".to_owned();
    for by_pod in [false, true] {
        let mut groups = LogGroups::default();
        groups.add(&hostile, by_pod);
        let suggested = suggest(&groups, &args(""));
        let rules = parse(&print::text(&suggested)).tiers.remove(0).rules;
        assert_eq!(rules.len(), 1);
        let yaml: serde_json::Value = serde_saphyr::from_str(&print::yaml(&suggested)).unwrap();
        let name = if by_pod {
            &hostile.pod
        } else {
            &hostile.namespace
        };
        assert_eq!(yaml["metadata"]["name"].as_str(), name.as_deref());
        assert_eq!(
            yaml["metadata"]["annotations"].as_object().unwrap().len(),
            1
        );
    }
}

#[test]
fn help_names_every_field() {
    use clap::CommandFactory;
    let help = Cli::command().render_long_help().to_string();
    for field in [
        "namespace",
        "pod",
        "rules",
        "rule",
        "count",
        "last",
        "pods",
        "enforcedBy",
        "metadata",
    ] {
        assert!(help.contains(field), "{field}: {help}");
    }
}

/// A policy with just these rules, which denies everything else.
fn parse(text: &str) -> Effective {
    let tier = TierRules::parse(Tier::Pod, "suggested", text, false)
        .unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    Effective::new(vec![tier], DefaultAction::Deny, false, Facts::default()).unwrap()
}

/// The packet that was logged.
fn packet(line: &Line) -> Packet {
    Packet {
        destination: line.destination,
        protocol: protocol_number(line.protocol.as_deref().unwrap()).unwrap(),
        port: line.destination_port,
        icmp: line.icmp_type.zip(line.icmp_code),
        original: None,
        local: false,
        time: line.time,
        names: Vec::new(),
    }
}

/// Few addresses and ports, so that they often are the same, or neighbours; both families.
fn any_line() -> impl Strategy<Value = Line> {
    let address = prop_oneof![
        (0_u8..40).prop_map(|host| IpAddr::from([203, 0, 113, host])),
        (0_u8..8).prop_map(|host| IpAddr::from([10, host, 0, 1])),
        (0_u16..40).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])),
        any::<u32>().prop_map(|number| IpAddr::from(number.to_be_bytes())),
    ];
    let traffic = prop_oneof![
        4 => ("tcp|udp|sctp", 1_u16..8).prop_map(|(name, port)| (name, Some(port), None)),
        1 => ("tcp|udp|sctp", 1_u16..).prop_map(|(name, port)| (name, Some(port), None)),
        1 => ("icmp|icmpv6", 0_u8..4, 0_u8..2)
            .prop_map(|(name, kind, code)| (name, None, Some((kind, code)))),
        1 => "proto/(0|2|47|50|255)".prop_map(|name| (name, None, None)),
    ];
    let verdict = "deny|reject|would-deny|would-reject|allow";
    let rule = "pod:1|default:deny|cluster-enforced:x|namespace-enforced:2";
    ("[a-c]", "[x-z]", verdict, rule, address, traffic).prop_map(
        |(namespace, pod, verdict, rule, address, (protocol, port, icmp))| {
            let text = format!("{namespace}/{pod} {verdict} {rule} {protocol} {address}");
            Line {
                destination_port: port,
                icmp_type: icmp.map(|(kind, _)| kind),
                icmp_code: icmp.map(|(_, code)| code),
                ..line(0, &text)
            }
        },
    )
}

/// Whether one of the rules, which all allow, takes it. What a pod's interface stops all the same is not logged.
fn is_matched(policy: &Effective, line: &Line) -> bool {
    let packet = packet(line);
    let steps = policy.trace(&packet).steps;
    steps.iter().any(|step| step.mismatch.is_none())
}

proptest! {
    #[test]
    fn suggested_rules_allow_all_that_was_stopped_and_nothing_else(
        lines in prop::collection::vec(any_line(), 1..80),
        by_pod in any::<bool>(),
        generalise in prop::option::of(2_u64..5),
    ) {
        let mut arguments = args(if by_pod { "--by pod" } else { "" });
        arguments.generalise = generalise;
        let mut groups = LogGroups::default();
        for line in lines.iter().filter(|line| arguments.wants(line)) {
            groups.add(line, by_pod);
        }
        prop_assert_eq!(groups.too_little, 0);
        for group in suggest(&groups, &arguments) {
            let text = print::text(&[OwnerRules { owner: group.owner.clone(), rules: group.rules }]);
            let policy = parse(&text);
            let stopped = lines.iter().filter(|line| arguments.wants(line));
            let (own, others): (Vec<&Line>, Vec<&Line>) = stopped.partition(|line| {
                let pod = line.pod.clone().unwrap();
                let namespace = line.namespace.clone().unwrap();
                match &group.owner {
                    Whose::Namespace(name) => *name == namespace,
                    Whose::Pod { namespace: of, pod: name } => *of == namespace && *name == pod,
                    Whose::Unknown => false,
                }
            });
            let wanted: BTreeSet<_> = own.iter().map(|line| Flow::of(line)).collect();
            for line in own {
                prop_assert!(is_matched(&policy, line), "{:?}\n{}", line, text);
            }
            if generalise.is_some() {
                continue;
            }
            // What others sent, and the neighbours of what was sent.
            let next_port = |line: &Line| Line {
                destination_port: line.destination_port.map(|port| port.saturating_add(1)),
                ..line.clone()
            };
            let neighbours: Vec<Line> = lines.iter().map(next_port).collect();
            for line in others.into_iter().chain(&neighbours) {
                let allowed = is_matched(&policy, line);
                prop_assert_eq!(allowed, wanted.contains(&Flow::of(line)), "{:?}\n{}", line, text);
            }
        }
    }
}
