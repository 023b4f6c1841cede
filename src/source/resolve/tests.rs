use std::collections::BTreeMap;

use super::super::pod;
use super::*;
use rules::evaluate::{Packet, Verdict};

const FILE: &str = r#"
apiVersion: egressway.dev/v1alpha1
kind: ClusterEgressPolicy
enforced: deny to metadata name=no-metadata
defaults: deny to internet name=no-internet
clusterCIDRs: [10.244.0.0/16]
clusterDNS: [10.96.0.10]
exemptNamespaces: [kube-system]
egressIPs: [203.0.113.0/24, "2001:db8::/64"]
namespaces:
  payments:
    annotations:
      egressway.dev/egress-ip: 203.0.113.10, 2001:db8::10
  shop:
    annotations:
      egressway.dev/egress-ip: 203.0.113.32/28
  kube-system:
    annotations:
      egressway.dev/egress-ip: 203.0.113.200
"#;

fn file_with(more: &str) -> PolicyFile {
    let text = format!("{FILE}{more}");
    PolicyFile::parse("f.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(key, text)| (format!("egressway.dev/{key}"), (*text).to_owned()))
        .collect()
}

fn namespace(entries: &[(&str, &str)]) -> NamespaceAnnotations {
    NamespaceAnnotations::from_map("namespace x", &map(entries))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn resolve(
    file: &PolicyFile,
    name: &str,
    annotations: &NamespaceAnnotations,
    of_pod: Option<&BTreeMap<String, String>>,
) -> Result<PodPolicy, SourceError> {
    super::resolve(file, name, annotations, pod::rules(of_pod))
}

/// What resolves for a pod of the namespace `x`.
fn resolved(
    more: &str,
    annotations: &[(&str, &str)],
    pod: &[(&str, &str)],
) -> Result<PodPolicy, SourceError> {
    resolve(
        &file_with(more),
        "x",
        &namespace(annotations),
        Some(&map(pod)),
    )
}

fn tiers(policy: &PodPolicy) -> Vec<(Tier, bool)> {
    let tiers = policy.effective.tiers.iter();
    tiers.map(|tier| (tier.tier, tier.audit)).collect()
}

const RULES: [(&str, &str); 2] = [
    ("enforced-rules", "deny to 1.1.1.1"),
    ("default-rules", "allow"),
];
const POD: [(&str, &str); 1] = [("rules", "deny 25/tcp name=mail")];

#[test]
fn all_tiers_in_their_order_with_their_sources() {
    let policy = resolved("", &RULES, &POD).unwrap_or_else(|error| panic!("{error}"));
    let sources: Vec<_> = policy
        .effective
        .tiers
        .iter()
        .map(|tier| (tier.tier, tier.source.as_str(), tier.text.as_str()))
        .collect();
    assert_eq!(
        sources,
        [
            (
                Tier::ClusterEnforced,
                "f.yaml: enforced",
                "deny to metadata name=no-metadata"
            ),
            (
                Tier::NamespaceEnforced,
                "namespace x[egressway.dev/enforced-rules]",
                "deny to 1.1.1.1"
            ),
            (Tier::Dns, "built-in", "allow to dns"),
            (
                Tier::BuiltIn,
                "built-in",
                "deny 4789/udp,4799/udp,6081/udp,8472/udp,proto/4,proto/41,proto/47 to node,cluster log name=no-tunnels"
            ),
            (
                Tier::Pod,
                "pod annotation egressway.dev/rules",
                "deny 25/tcp name=mail"
            ),
            (
                Tier::NamespaceDefaults,
                "namespace x[egressway.dev/default-rules]",
                "allow"
            ),
            (
                Tier::ClusterDefaults,
                "f.yaml: defaults",
                "deny to internet name=no-internet"
            ),
        ]
    );
    assert_eq!(policy.effective.default_action, DefaultAction::Allow);
    assert!(!policy.effective.default_audit && !policy.exempt && policy.egress.is_empty());
}

#[test]
fn without_annotations_the_cluster_decides() {
    for pod in [None, Some(&BTreeMap::new())] {
        let policy = resolve(&file_with(""), "x", &namespace(&[]), pod);
        let policy = policy.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            tiers(&policy),
            [
                (Tier::ClusterEnforced, false),
                (Tier::Dns, false),
                (Tier::BuiltIn, false),
                (Tier::ClusterDefaults, false)
            ]
        );
    }
}

#[test]
fn no_cluster_dns_no_allowance() {
    let text = FILE.replace("clusterDNS: [10.96.0.10]\n", "");
    let file = PolicyFile::parse("f.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    let policy = resolve(&file, "x", &namespace(&[]), None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        tiers(&policy),
        [
            (Tier::ClusterEnforced, false),
            (Tier::BuiltIn, false),
            (Tier::ClusterDefaults, false)
        ]
    );

    let pod = map(&[("rules", "deny to dns")]);
    let error = resolve(&file, "x", &namespace(&[]), Some(&pod)).expect_err("dns is unknown");
    assert_eq!(error.code(), 100);
    assert!(error.to_string().contains("no `clusterDNS`"), "{error}");
}

#[test]
fn a_pod_that_denies_all_can_ask_for_names() {
    let policy = resolved("", &[], &[("rules", "deny")]).unwrap_or_else(|e| panic!("{e}"));
    let packet = Packet {
        destination: "10.96.0.10".parse().expect("an address"),
        protocol: 17,
        port: Some(53),
        icmp: None,
        original: None,
        local: false,
        time: "2026-01-01T00:00:00Z".parse().expect("a time"),
    };
    let decision = policy.effective.decide(&packet);
    assert_eq!(
        (decision.verdict, decision.label().as_str()),
        (Verdict::Allow, "dns:1")
    );
}

#[test]
fn audit_of_a_namespace_leaves_what_the_cluster_enforces() {
    let audit = [RULES[0], RULES[1], ("mode", "audit\n")];
    let policy = resolved("", &audit, &POD).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        tiers(&policy),
        [
            (Tier::ClusterEnforced, false),
            (Tier::NamespaceEnforced, true),
            (Tier::Dns, false),
            (Tier::BuiltIn, false),
            (Tier::Pod, true),
            (Tier::NamespaceDefaults, true),
            (Tier::ClusterDefaults, true),
        ]
    );
    assert!(policy.effective.default_audit);
}

#[test]
fn audit_of_the_cluster_softens_all() {
    // A namespace cannot make it harder either.
    let enforce = [RULES[0], RULES[1], ("mode", "enforce")];
    let policy = resolved("mode: audit\n", &enforce, &POD).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        tiers(&policy),
        [
            (Tier::ClusterEnforced, true),
            (Tier::NamespaceEnforced, true),
            (Tier::Dns, false),
            (Tier::BuiltIn, true),
            (Tier::Pod, true),
            (Tier::NamespaceDefaults, true),
            (Tier::ClusterDefaults, true),
        ]
    );
    assert!(policy.effective.default_audit);
}

#[test]
fn an_exempt_namespace_has_an_empty_allow_and_its_egress_address() {
    let file = file_with("defaultAction: deny\n");
    // Its texts are not even read.
    let mut annotations = file.namespace("kube-system");
    annotations.default_rules = namespace(&[("default-rules", "nonsense")]).default_rules;
    let pod = map(&[("rules", "nonsense"), ("rulez", "")]);
    let policy = resolve(&file, "kube-system", &annotations, Some(&pod))
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(policy.exempt);
    assert_eq!(policy.effective.tiers, []);
    assert_eq!(policy.effective.default_action, DefaultAction::Allow);
    assert_eq!(
        policy.egress,
        ["203.0.113.200/32".parse().expect("a network")]
    );
}

#[test]
fn faults_of_all_texts_come_together() {
    let annotations = [
        ("enforced-rules", "alow"),
        ("default-rules", "allow 443"),
        ("mode", "off"),
    ];
    let error =
        resolved("", &annotations, &[("rules", "deny to interent")]).expect_err("all wrong");
    assert_eq!(error.code(), 100);
    assert_eq!(
        error.to_string(),
        "\
namespace x[egressway.dev/enforced-rules]:1:1: expected `allow`, `deny`, `reject` or `pass`, found `alow`
  alow
  ^^^^
  help: did you mean `allow`?
namespace x[egressway.dev/default-rules]:1:7: `443` has no protocol
  allow 443
        ^^^
  help: did you mean `443/tcp`?
namespace x[egressway.dev/mode]:1:1: expected `enforce` or `audit`, found `off`
  off
  ^^^
pod annotation egressway.dev/rules:1:9: expected a target (an address, a network, a range, `svc/NAMESPACE/NAME`, `any`, `internet`, `private`, `cluster`, `node`, `nodes`, `metadata`, `dns`, `apiserver` or `multicast`), found `interent`
  deny to interent
          ^^^^^^^^
  help: did you mean `internet`?"
    );
}

#[test]
fn keys_of_ours_that_a_pod_cannot_have() {
    for (key, expected) in [
        (
            "rule",
            "pod annotations: unknown annotation `egressway.dev/rule`\n  help: did you mean `egressway.dev/rules`?",
        ),
        (
            "Rules",
            "pod annotations: unknown annotation `egressway.dev/Rules`\n  help: did you mean `egressway.dev/rules`?",
        ),
        (
            "x",
            "pod annotations: unknown annotation `egressway.dev/x`\n  help: there is `egressway.dev/rules`",
        ),
        (
            "egress-ip",
            "pod annotations: the annotation `egressway.dev/egress-ip` belongs on the namespace",
        ),
        (
            "mode",
            "pod annotations: the annotation `egressway.dev/mode` belongs on the namespace",
        ),
    ] {
        let error = resolved("", &[], &[("rules", "allow"), (key, "audit")]).expect_err(key);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), 100);
    }
}

#[test]
fn annotations_of_others_are_left_alone() {
    let pod = BTreeMap::from([
        ("example.com/rules".to_owned(), "nonsense".to_owned()),
        (
            "egressway.development/rules".to_owned(),
            "nonsense".to_owned(),
        ),
    ]);
    assert!(resolve(&file_with(""), "x", &namespace(&[]), Some(&pod)).is_ok());
}

#[test]
fn egress_addresses_in_the_order_of_the_list() {
    for (text, list) in [
        ("203.0.113.10", &["203.0.113.10/32"][..]),
        (
            "2001:db8::11 ,\t203.0.113.11",
            &["2001:db8::11/128", "203.0.113.11/32"],
        ),
        (
            "203.0.113.8/29\n203.0.113.1 # spare",
            &["203.0.113.8/29", "203.0.113.1/32"],
        ),
    ] {
        let file = PolicyFile::parse("f.yaml", FILE.split("namespaces:\n").next().unwrap_or(""));
        let file = file.unwrap_or_else(|error| panic!("{error}"));
        let policy = resolve(&file, "x", &namespace(&[("egress-ip", text)]), None);
        let policy = policy.unwrap_or_else(|error| panic!("{error}"));
        let egress: Vec<String> = policy.egress.iter().map(ToString::to_string).collect();
        assert_eq!(egress, list, "{text:?}");
    }
}

#[test]
fn a_namespace_keeps_its_own_egress_address() {
    let file = file_with("");
    for name in ["payments", "shop"] {
        assert!(resolve(&file, name, &file.namespace(name), None).is_ok());
    }
}

#[test]
fn egress_addresses_that_are_refused() {
    for (text, expected) in [
        (
            "198.51.100.1",
            "namespace x[egressway.dev/egress-ip]: 198.51.100.1/32 is not inside `egressIPs` of the policy file \
             (203.0.113.0/24, 2001:db8::/64): ask the cluster's operators for an address, or take one of those",
        ),
        (
            "203.0.112.0/23",
            "namespace x[egressway.dev/egress-ip]: 203.0.112.0/23 is not inside `egressIPs` of the policy file \
             (203.0.113.0/24, 2001:db8::/64): ask the cluster's operators for an address, or take one of those",
        ),
        (
            "203.0.113.1, 2001:db8::10",
            "namespace x[egressway.dev/egress-ip]: 2001:db8::10/128 belongs to the namespace payments, \
             which lists 2001:db8::10/128: take another address",
        ),
        (
            "203.0.113.40",
            "namespace x[egressway.dev/egress-ip]: 203.0.113.40/32 belongs to the namespace shop, \
             which lists 203.0.113.32/28: take another address",
        ),
        (
            "203.0.113.8/29",
            "namespace x[egressway.dev/egress-ip]: 203.0.113.8/29 belongs to the namespace payments, \
             which lists 203.0.113.10/32: take another address",
        ),
    ] {
        let error = resolved("", &[("egress-ip", text)], &[]).expect_err(text);
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), 102);
    }
}

/// Whatever `egressIPs` offers: answers would go elsewhere, or nowhere.
#[test]
fn egress_addresses_that_cannot_be_are_refused() {
    let text = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n\
                egressIPs: [0.0.0.0/0, \"::/0\"]\nclusterCIDRs: [10.244.0.0/16, \"fd44::/48\"]\n\
                nodeCIDRs: [172.30.0.0/28]\nclusterDNS: [169.254.20.10, 192.0.2.53]\n";
    let file = PolicyFile::parse("f.yaml", text).unwrap_or_else(|error| panic!("{error}"));
    let ask = |text: &str| resolve(&file, "x", &namespace(&[("egress-ip", text)]), None);
    for (text, expected) in [
        (
            "10.244.7.7",
            "10.244.7.7/32 is in `clusterCIDRs` (10.244.0.0/16): a pod's or a Service's",
        ),
        (
            "10.0.0.0/8",
            "10.0.0.0/8 holds 10.244.0.0/16, which is in `clusterCIDRs`",
        ),
        ("fd44::7", "fd44::7/128 is in `clusterCIDRs` (fd44::/48)"),
        (
            "172.30.0.11",
            "172.30.0.11/32 is in `nodeCIDRs` (172.30.0.0/28): a node's own",
        ),
        ("127.0.0.1", "127.0.0.1/32 is loopback"),
        ("::1", "::1/128 is unspecified or loopback"),
        ("0.0.0.0", "0.0.0.0/32 is unspecified"),
        ("::", "::/128 is unspecified or loopback"),
        (
            "0.0.0.0/0",
            "0.0.0.0/0 holds 0.0.0.0/8, which is unspecified",
        ),
        ("224.0.0.1", "224.0.0.1/32 is multicast"),
        ("ff02::1", "ff02::1/128 is multicast"),
        ("255.255.255.255", "255.255.255.255/32 is broadcast"),
        ("169.254.7.7", "169.254.7.7/32 is link-local"),
        ("fe80::7", "fe80::7/128 is link-local"),
        (
            "64:ff9b::203.0.113.7",
            "64:ff9b::cb00:7107/128 is IPv4 behind a NAT64 prefix",
        ),
        ("fd00:ec2::254", "fd00:ec2::254/128 is a metadata service's"),
        ("168.63.129.16", "168.63.129.16/32 is a metadata service's"),
        ("192.0.2.53", "192.0.2.53/32 is a Service's"),
        ("203.0.113.7, 127.0.0.1", "127.0.0.1/32 is loopback"),
    ] {
        let error = ask(text).expect_err(text);
        let expected = format!("namespace x[egressway.dev/egress-ip]: {expected}");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert_eq!(error.code(), 102);
    }
    for text in [
        "203.0.113.7",
        "240.0.0.7",
        "172.30.0.50",
        "10.0.0.1",
        "2001:db8::7",
    ] {
        assert!(ask(text).is_ok(), "{text}: {:?}", ask(text));
    }
}

#[test]
fn without_egress_ips_none_may_be_asked_for() {
    let file = PolicyFile::parse(
        "f.yaml",
        "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n",
    );
    let file = file.unwrap_or_else(|error| panic!("{error}"));
    let annotations = namespace(&[("egress-ip", "203.0.113.10")]);
    let error = resolve(&file, "x", &annotations, None).expect_err("nothing is offered");
    assert_eq!(error.code(), 102);
    assert!(error.to_string().contains("which has none"), "{error}");
}

#[test]
fn egress_lists_with_faults() {
    for text in [
        "",
        " ",
        ",",
        "203.0.113.10/24",
        "203.0.113.10;203.0.113.11",
        "::ffff:203.0.113.10",
        "eth0",
    ] {
        let error = resolved("", &[("egress-ip", text)], &[]).expect_err(text);
        assert_eq!(error.code(), 100, "{text:?}: {error}");
    }
}
