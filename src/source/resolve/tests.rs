use std::collections::BTreeMap;

use super::super::pod;
use super::*;
use rules::evaluate::{Packet, Verdict};

mod egress;

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
        names: Vec::new(),
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
pod annotation egressway.dev/rules:1:9: expected a target (an address, a network, a range, `svc/NAMESPACE/NAME`, `any`, `internet`, `private`, `cluster`, `node`, `nodes`, `metadata`, `dns`, `apiserver`, `multicast` or a domain name), found `interent`
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
