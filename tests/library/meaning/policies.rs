//! Random policies, as text that the real grammar reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;
use rules::builtin;
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

/// Addresses that meet: neighbours, one in the other, ends of the address space.
const ADDRESSES: [&str; 37] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "0.0.0.0-9.255.255.255",
    "240.0.0.0-255.255.255.255",
    "255.255.255.255",
    "224.0.0.0/24",
    "224.0.0.251",
    "ff02::/16",
    "ff02::fb",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/23",
    "10.1.2.3",
    "10.1.2.4-10.1.2.9",
    "10.244.0.0/16",
    "10.96.0.10",
    "203.0.113.0/25",
    "203.0.113.128/25",
    "203.0.113.7",
    "203.0.113.5-203.0.113.130",
    "169.254.0.0/16",
    "169.254.20.10",
    "168.63.129.16",
    "100.64.0.0/10",
    "64:ff9b::/96",
    "64:ff9b::a01:203",
    "::/0",
    "::/1",
    "8000::/1",
    "2001:db8::/32",
    "2001:db8::/33",
    "2001:db8::7",
    "2001:db8::5-2001:db8::ffff:1",
    "fd44::/48",
    "fd44::a",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

const KEYWORDS: [&str; 10] = [
    "any",
    "Internet",
    "PRIVATE",
    "cluster",
    "node",
    "nodes",
    "metadata",
    "dns",
    "apiserver",
    "multicast",
];

/// Neither can these, nor can they be denied. A packet is to some of them: see `packets`.
pub const NAMES: [&str; 3] = ["a.example", "*.example", "B.a.Example."];

/// They can't stand behind `except`.
const SERVICES: [&str; 2] = ["svc/shop/web", "svc/shop/db"];

const PORTS: [&str; 28] = [
    "tcp",
    "UDP",
    "sctp",
    "53/udp",
    "53/tcp",
    "443/tcp",
    "444/tcp",
    "80/tcp",
    "6443/tcp",
    "1/tcp",
    "65535/tcp",
    "1-65535/tcp",
    "1-52/udp",
    "54-65535/udp",
    "50-60/udp",
    "80-443/sctp",
    "53/sctp",
    "icmp",
    "icmp/8",
    "icmp/3/4",
    "icmp/0/0",
    "icmpv6",
    "icmpv6/128",
    "icmpv6/1/3",
    "proto/47",
    "proto/17",
    "proto/1",
    "proto/0",
];

const OPTIONS: [&str; 9] = [
    "log",
    "log=5/s",
    "priority=0",
    "priority=999",
    "priority=65535",
    "until=2026-06-01T12:00:00Z",
    "until=1970-01-01T00:00:00Z",
    "until=2026-05-31T23:59:59.5Z",
    "until=9999-12-30T00:00:00Z",
];

const TIERS: [Tier; 5] = [
    Tier::ClusterEnforced,
    Tier::NamespaceEnforced,
    Tier::Pod,
    Tier::NamespaceDefaults,
    Tier::ClusterDefaults,
];

pub fn policy() -> impl Strategy<Value = Effective> {
    let tier = (prop::collection::vec(rule(), 0..6), any::<bool>());
    let tiers = prop::collection::vec(tier, TIERS.len());
    let default = select(vec![DefaultAction::Allow, DefaultAction::Deny]);
    (tiers, any::<bool>(), default, any::<bool>(), facts()).prop_map(
        |(tiers, dns_allowed, default_action, default_audit, facts)| {
            let mut parsed: Vec<TierRules> = TIERS
                .iter()
                .zip(tiers)
                .map(|(tier, (lines, audit))| {
                    let text = readable(lines, &facts).join("\n");
                    TierRules::parse(*tier, "random", &text, audit).expect("each line was read")
                })
                .collect();
            if dns_allowed && !facts.dns.is_empty() {
                let allowance = TierRules::parse(Tier::Dns, "built in", "allow to dns", false);
                parsed.push(allowance.expect("is a rule"));
            }
            parsed.push(builtin::no_tunnels(Some(&facts)).expect("is a rule"));
            Effective::new(parsed, default_action, default_audit, facts)
                .expect("unknown keywords were left out")
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let facts = |cluster: &[&str], dns: &[&str]| Facts {
        cluster: cluster.iter().map(|n| n.parse().expect("net")).collect(),
        dns: dns.iter().map(|a| a.parse().expect("address")).collect(),
        resolvers: dns.iter().map(|a| a.parse().expect("address")).collect(),
        ..Facts::default()
    };
    let usual = ["10.244.0.0/16", "10.96.0.0/12", "fd44::/48"];
    let plain = select(vec![
        facts(&usual, &["10.96.0.10", "169.254.20.10", "fd44::a"]),
        facts(&usual, &["10.96.0.10"]),
        facts(&usual, &["fd44::a", "fd44::b"]),
        facts(&usual, &[]),
        // public addresses and a metadata service inside the cluster
        facts(&["203.0.113.0/25", "169.254.169.254/32"], &["203.0.113.7"]),
        // the metadata service is the DNS server, too
        facts(&["fd44::/48"], &["169.254.169.254", "168.63.129.16"]),
        facts(&["0.0.0.0/0", "::/0"], &["10.1.2.3"]),
        facts(&[], &["10.1.2.3", "10.1.2.4", "2001:db8::7"]),
        facts(&[], &[]),
    ]);
    const PREFIXES: [&str; 4] = [
        "64:ff9b::/96",
        "2001:db8:100::/40",
        "fd44:64::/64",
        "2001:db8::/32",
    ];
    let nat64 = prop::sample::subsequence(&PREFIXES[..3], 0..3).prop_map(|some| {
        some.iter()
            .map(|prefix| prefix.parse().expect("a prefix"))
            .collect()
    });
    // One that holds much of what the rules name.
    let wide = Just(vec![PREFIXES[3].parse().expect("a prefix")]);
    let nat64 = prop_oneof![3 => nat64, 1 => wide];
    let nodes = select(vec![
        vec![],
        vec![
            "203.0.113.8/29",
            "10.244.0.0/31",
            "10.244.1.0/31",
            "fd44::/127",
        ],
        vec!["168.63.129.16/32", "10.1.0.0/16", "2001:db8::/33"],
    ]);
    let api_server = select(vec![
        vec![],
        vec![
            "10.96.0.1:443",
            "203.0.113.9:6443",
            "203.0.113.10:6443",
            "[fd44::1]:443",
        ],
        vec!["169.254.169.254:80", "10.1.2.3:53"],
    ]);
    (plain, nat64, nodes, api_server, any::<bool>()).prop_map(
        |(plain, nat64, nodes, api_server, services)| Facts {
            nat64,
            nodes: nodes.iter().map(|net| net.parse().expect("net")).collect(),
            api_server: api_server
                .iter()
                .map(|one| one.parse().expect("a socket"))
                .collect(),
            services: services.then(known_services).unwrap_or_default(),
            ..plain
        },
    )
}

fn known_services() -> BTreeMap<String, Vec<IpAddr>> {
    let service = |name: &str, addresses: &[&str]| {
        let addresses = addresses.iter().map(|a| a.parse().expect("address"));
        (name.to_owned(), addresses.collect())
    };
    [
        service("shop/web", &["10.96.0.20", "fd44::14"]),
        service("shop/db", &["10.96.0.21"]),
    ]
    .into()
}

/// Those lines that are rules. The grammar refuses rules that can never match, and a policy refuses
/// keywords that stand for nothing; any other refusal is a fault of this test.
fn readable(lines: Vec<String>, facts: &Facts) -> Vec<String> {
    let readable = |line: &String| {
        let reading = TierRules::parse(Tier::Pod, "random", line, false).and_then(|tier| {
            Effective::new(vec![tier], DefaultAction::Allow, false, facts.clone())
        });
        reading
            .map_err(|faults| {
                let faults = faults.to_string();
                let known = [
                    "can never match",
                    "stands for nothing",
                    "needs the Kubernetes API",
                    "needs to know whom pods ask",
                    "cannot have a domain name",
                ];
                assert!(known.iter().any(|k| faults.contains(k)), "{faults}");
            })
            .is_ok()
    };
    lines
        .into_iter()
        .filter(readable)
        .enumerate()
        .map(|(n, line)| line.replace("rule-number", &format!("rule-{n}")))
        .collect()
}

/// One line. The name becomes unique when the line is placed.
fn rule() -> impl Strategy<Value = String> {
    let verb = prop_oneof![
        3 => Just("allow"), 3 => Just("deny"), 2 => Just("reject"), 2 => Just("pass"),
    ];
    let ports = prop_oneof![
        1 => Just(Vec::new()),
        2 => prop::collection::vec(select(&PORTS[..]), 1..5),
    ];
    let service = select(&SERVICES[..]).prop_map(|service| vec![service]);
    let names = prop::sample::subsequence(&NAMES[..], 1..3);
    let named = (names, targets(0..2)).prop_map(|(names, others)| [names, others].concat());
    let to = prop_oneof![
        4 => Just(Vec::new()), 12 => targets(1..5), 1 => service, 3 => named,
    ];
    let except = prop_oneof![2 => Just(Vec::new()), 1 => targets(1..4)];
    let options = prop::sample::subsequence(&OPTIONS[..], 0..3).prop_filter(
        "an option may be given once",
        |options| {
            let mut keys: Vec<_> = options.iter().map(|o| o.split('=').next()).collect();
            keys.dedup();
            keys.len() == options.len()
        },
    );
    (verb, ports, to, except, options, any::<bool>()).prop_map(
        |(verb, ports, to, except, options, named)| {
            let mut words = vec![verb.to_owned()];
            let list = |items: &[&str]| items.join(", ");
            if !ports.is_empty() {
                words.push(list(&ports));
            }
            if !to.is_empty() {
                words.push(format!("to {}", list(&to)));
            }
            if !except.is_empty() {
                words.push(format!("except {}", list(&except)));
            }
            // `pass` decides nothing, and the grammar lets it log nothing
            let allowed = options
                .iter()
                .filter(|o| verb != "pass" || !o.starts_with("log"));
            words.extend(allowed.map(|o| (*o).to_owned()));
            if named {
                words.push("name=rule-number".to_owned());
            }
            words.join(" ")
        },
    )
}

fn targets(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<&'static str>> {
    let target = prop_oneof![select(&ADDRESSES[..]), select(&KEYWORDS[..])];
    prop::collection::vec(target, count)
}

/// Long lists of simple rules about a few neighbouring addresses and ports, in two tiers: what is
/// compiled to lookups. Here and there stands a rule that cannot be looked up.
pub fn long() -> impl Strategy<Value = Effective> {
    let lines = || prop::collection::vec(simple_rule(), 1..150);
    let default = select(vec![DefaultAction::Allow, DefaultAction::Deny]);
    (lines(), lines(), any::<[bool; 4]>(), default).prop_map(
        |(mut pod, defaults, [pod_audit, defaults_audit, facts, passes], default)| {
            // With them, ports are looked up together with the address.
            pod.retain(|line| passes || !line.starts_with("pass"));
            let facts = Facts {
                cluster: vec!["10.1.2.0/26".parse().expect("a network")],
                dns: facts
                    .then(|| "10.1.2.9".parse().expect("an address"))
                    .into_iter()
                    .collect(),
                ..Facts::default()
            };
            let tier = |tier, lines, audit| {
                let text = readable(lines, &facts).join("\n");
                TierRules::parse(tier, "random", &text, audit).expect("each line was read")
            };
            let tiers = vec![
                tier(Tier::Pod, pod, pod_audit),
                tier(Tier::ClusterDefaults, defaults, defaults_audit),
            ];
            Effective::new(tiers, default, false, facts).expect("all keywords are known")
        },
    )
}

fn simple_rule() -> impl Strategy<Value = String> {
    let verb = prop_oneof![
        5 => Just("allow"), 5 => Just("deny"), 2 => Just("reject"), 1 => Just("pass"),
    ];
    let port = || 440u16..450;
    let ports = (port(), port(), select(vec!["tcp", "udp", "sctp"]))
        .prop_map(|(a, b, protocol)| format!("{}-{}/{protocol}", a.min(b), a.max(b)));
    let ports = prop_oneof![
        3 => Just(String::new()),
        5 => ports,
        2 => select(&PORTS[..]).prop_map(str::to_owned),
        1 => Just("80/tcp, 443/tcp, icmp/8, proto/47".to_owned()),
    ];
    let targets = prop::collection::vec(near(), 1..4).prop_map(|targets| targets.join(", "));
    let to = prop_oneof![
        12 => targets,
        1 => select(vec!["any", "node", "cluster", "10.0.0.0/8", "::/0", "internet", "metadata", "node, 10.1.2.0/27"])
            .prop_map(str::to_owned),
    ];
    let option = prop_oneof![
        12 => Just(""), 2 => Just("log"), 1 => Just("log=5/s"), 1 => Just("priority=7"),
        1 => Just("until=2026-06-01T12:00:00Z"), 1 => Just("except 10.1.2.7"), 1 => Just("except dns"),
    ];
    (verb, ports, to, option, any::<bool>()).prop_map(|(verb, ports, to, option, named)| {
        let option = if verb == "pass" && option.starts_with("log") {
            ""
        } else {
            option
        };
        let name = if named { "name=rule-number" } else { "" };
        let rule = format!("{verb} {ports} to {to} {option} {name}");
        rule.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// Nested networks, ranges that touch or overlap, single addresses.
fn near() -> impl Strategy<Value = String> {
    let v4 = (0u32..64, 26u32..=32).prop_map(|(host, length)| {
        let host = host & (u32::MAX << (32 - length));
        format!("10.1.2.{host}/{length}")
    });
    let v6 = (0u32..64, 122u32..=128).prop_map(|(host, length)| {
        let host = host & (u32::MAX << (128 - length));
        format!("2001:db8::{host:x}/{length}")
    });
    let range =
        (0u32..64, 0u32..64).prop_map(|(a, b)| format!("10.1.2.{}-10.1.2.{}", a.min(b), a.max(b)));
    prop_oneof![4 => v4, 2 => v6, 1 => range]
}
