//! Each kind of finding, where it is found, and what is close to it and none.

use super::*;
use crate::source::PolicyFile;

mod damaged;
mod of_objects;
mod pods;
mod services;

const POLICY: &str = "\
apiVersion: egressway.dev/v1alpha1
kind: ClusterEgressPolicy
enforced: |
  deny to metadata
clusterCIDRs: [10.244.0.0/16, 10.96.0.0/12]
clusterDNS: [10.96.0.10]
exemptNamespaces: [kube-system]
egressIPs: [203.0.113.0/24]
namespaces:
  shop:
    annotations:
      egressway.dev/enforced-rules: deny 25/tcp
      egressway.dev/egress-ip: 203.0.113.7
";

/// `LINE:COLUMN KIND` of each finding, with a policy and a Service range, or without.
fn found(text: &str, with_policy: bool) -> Vec<String> {
    let (policy, service_cidrs) = if with_policy {
        let policy = PolicyFile::parse("policy.yaml", POLICY).expect("is valid");
        (
            Some(policy),
            vec!["10.96.0.0/12".parse().expect("a network")],
        )
    } else {
        (None, Vec::new())
    };
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let input = Input {
        name: "f".to_owned(),
        text: text.to_owned(),
    };
    let (findings, _) = check_all(&[input], Context::new(policy, service_cidrs, now), |_| ());
    let short = |finding: &Finding| {
        let fault = &finding.fault;
        format!("{}:{} {}", fault.line, fault.column, finding.kind.id)
    };
    findings.iter().map(short).collect()
}

fn pod(rules: &str) -> String {
    let rules = rules.replace('\n', "\n      ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    egressway.dev/rules: |\n      {rules}\n"
    )
}

/// An object with this in its metadata's annotations, from line 5, column 5 on.
fn object(kind: &str, annotations: &str, rest: &str) -> String {
    format!("apiVersion: v1\nkind: {kind}\nmetadata:\n  annotations:\n    {annotations}\n{rest}")
}

#[test]
fn rules_of_pods() {
    for (rules, wanted) in [
        ("allow 443/tcp to internet # fine\ndeny", &[][..]),
        ("allow 443/tpc to internet", &["6:13 rule-syntax"]),
        ("allow to", &["6:15 rule-syntax"]),
        ("allow\n\nallow tcp", &["6:7 after-unconditional"]),
        ("allow tcp; deny; deny udp", &["6:18 after-unconditional"]),
        ("deny", &["6:7 cut-off"]),
        ("deny 25/tcp\nreject", &["7:7 cut-off"]),
        ("pass tcp\ndeny", &[]),
        (
            "allow tcp until=2020-01-01T00:00:00Z\ndeny",
            &["6:7 expired-rule", "7:7 cut-off"],
        ),
        (
            "deny to 10.0.0.0/8\nallow 1/tcp to 10.1.2.3",
            &["7:7 unreachable-rule"],
        ),
        (
            "deny to 10.0.0.0/8\n  deny 1/tcp to 10.1.2.3",
            &["7:9 redundant-rule"],
        ),
        (
            "allow 1/tcp, 2/tcp\nallow 2/tcp,1/tcp log",
            &["7:7 duplicate-rule"],
        ),
        ("allow to dns", &["6:7 overridden-rule"]),
    ] {
        assert_eq!(found(&pod(rules), false), wanted, "{rules}");
    }
}

#[test]
fn rules_beside_a_policy() {
    for (rules, wanted) in [
        (
            "allow to cluster\nallow to 169.254.169.254",
            &["7:7 overridden-rule"][..],
        ),
        (
            "allow to 10.96.0.10, 10.100.0.0-10.100.0.9, 10.0.0.1",
            &["6:16 service-address", "6:28 service-address"],
        ),
        ("allow except 10.96.7.7", &["6:20 service-address"]),
        ("allow to 10.96.0.0/11", &[]), // more than the range
    ] {
        assert_eq!(found(&pod(rules), true), wanted, "{rules}");
    }
    let in_shop = object(
        "Pod",
        "egressway.dev/rules: allow 25/tcp to 8.8.8.8",
        "  namespace: shop\n",
    );
    assert_eq!(found(&in_shop, true), ["5:26 overridden-rule"]);
    assert_eq!(found(&in_shop, false), [""; 0]);
    let exempt = object(
        "Pod",
        "egressway.dev/rules: allow tcp",
        "  namespace: kube-system\nspec: {}\n",
    );
    assert_eq!(found(&exempt, true), ["5:5 exempt-namespace"]);
    assert_eq!(found(&exempt, false), [""; 0]);
    let beside = format!(
        "{}---\n{in_shop}",
        object(
            "Namespace",
            "egressway.dev/enforced-rules: deny 25/tcp",
            "  name: shop\n"
        )
    );
    assert_eq!(found(&beside, false), ["12:26 overridden-rule"]);
}

#[test]
fn annotations() {
    for (text, wanted) in [
        (
            object("Pod", "egressway.dev/rulez: allow", ""),
            &["5:5 unknown-annotation"][..],
        ),
        (
            object("Pod", "egres-cni.dev/rules: allow", ""),
            &["5:5 unknown-annotation"],
        ),
        (
            object("Pod", "egressway.io/rules: allow", ""),
            &["5:5 unknown-annotation"],
        ),
        (object("Pod", "example.com/rules: allow", ""), &[]),
        (
            object("Pod", "egressway.dev/mode: audit", ""),
            &["5:5 wrong-object"],
        ),
        (
            object("Namespace", "egressway.dev/rules: allow", ""),
            &["5:5 wrong-object"],
        ),
        (
            object("Namespace", "egressway.dev/mode: adit", ""),
            &["5:25 annotation-value"],
        ),
        (object("Namespace", "egressway.dev/mode: audit", ""), &[]),
        (
            object("Namespace", "egressway.dev/egress-ip: 1.2.3.4, 1.2.3", ""),
            &["5:39 annotation-value"],
        ),
        (
            object("Namespace", "egressway.dev/default-rules: deny", ""),
            &[],
        ),
        (
            object("Namespace", "egressway.dev/enforced-rules: deny", ""),
            &["5:35 cut-off"],
        ),
        (
            object("Deployment", "egressway.dev/rules: allow", ""),
            &["5:5 not-on-pod"],
        ),
        (
            object("CronJob", "egressway.dev/rules: allow", ""),
            &["5:5 not-on-pod"],
        ),
        (
            object("Service", "egressway.dev/mode: audit", ""),
            &["5:5 not-on-pod"],
        ),
        (
            object("Pod", "egressway.dev/rules: yes", ""),
            &["5:26 annotation-value"],
        ),
        (
            object("Pod", "egressway.dev/rules:", ""),
            &["5:5 annotation-value"],
        ),
        (
            object("Pod", "egressway.dev/rules: [allow]", ""),
            &["5:26 annotation-value"],
        ),
        (
            object(
                "Pod",
                "egressway.dev/rules: allow tcp\n    egressway.dev/rules: allow tcp",
                "",
            ),
            &["6:5 duplicate-annotation"],
        ),
        (
            object("Pod", "a: b", "  labels: {egressway.dev/rules: allow}\n"),
            &["6:12 label"],
        ),
        (
            object("Pod", "egressway.dev/rules: {{ .Values.rules }}", ""),
            &["5:26 template"],
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {{ .Values.all }}\n".to_owned(),
            &["4:16 template"],
        ),
        (
            object("Pod", "egressway.dev/rules: \"allow {{ .x }}\"", ""),
            &["5:33 template"],
        ),
    ] {
        assert_eq!(found(&text, false), wanted, "{text}");
    }
    for (list, wanted) in [
        ("203.0.113.9", &[][..]),
        ("198.51.100.1", &["5:30 egress-ip-refused"]),
        ("203.0.113.7", &["5:30 egress-ip-refused"]), // shop has it
        ("10.244.0.7", &["5:30 egress-ip-refused"]),
    ] {
        let text = object(
            "Namespace",
            &format!("egressway.dev/egress-ip: {list}"),
            "  name: erp\n",
        );
        assert_eq!(found(&text, true), wanted, "{text}");
    }
    // What no policy file could offer needs none.
    for (list, wanted) in [
        ("10.244.0.7", &[][..]),
        ("203.0.113.9, fe80::7", &["5:30 egress-ip-refused"]),
    ] {
        let list = format!("egressway.dev/egress-ip: {list}");
        let text = object("Namespace", &list, "  name: erp\n");
        assert_eq!(found(&text, false), wanted, "{text}");
    }
}

#[test]
fn policy_files() {
    assert_eq!(found(POLICY, false), [""; 0]);
    let edited = |from: &str, to: &str| POLICY.replacen(from, to, 1);
    for (text, wanted) in [
        (
            edited("deny to metadata", "deny to metdata"),
            &["4:11 rule-syntax"][..],
        ),
        (
            edited("deny to metadata", "deny"),
            &["4:3 cut-off", "12:37 overridden-rule"],
        ),
        (edited("clusterDNS", "clusterDNs"), &["6:1 policy-file"]),
        (edited("10.96.0.10", "10.96.0.300"), &["6:14 policy-file"]),
        (
            edited(
                "clusterCIDRs: [10.244.0.0/16, 10.96.0.0/12]",
                "defaults: deny to cluster",
            ),
            &["5:19 unknown-keyword"],
        ),
        (
            edited(
                "exemptNamespaces: [kube-system]",
                "defaults: deny to metadata",
            ),
            &["7:11 overridden-rule"],
        ),
        (
            edited("enforced-rules", "enforced-rulez"),
            &["12:7 unknown-annotation"],
        ),
        (edited("deny 25/tcp", "deny 25/tpc"), &["12:42 rule-syntax"]),
        (
            edited("203.0.113.7", "198.51.100.7"),
            &["13:32 egress-ip-refused"],
        ),
        (
            edited(
                "203.0.113.0/24]",
                "203.0.113.0/24, 10.0.0.0/8, 127.0.0.0/8]",
            ),
            &["8:29 egress-ip-refused", "8:41 egress-ip-refused"],
        ),
        (
            edited("apiVersion: egressway.dev/v1alpha1\n", ""),
            &["1:1 policy-file"],
        ),
    ] {
        assert_eq!(found(&text, false), wanted, "{text}");
    }
    // Behind another document, and in a ConfigMap.
    let second = format!("a: b\n---\n{}", edited("10.96.0.10", "10.96.0.300"));
    assert_eq!(found(&second, false), ["8:14 policy-file"]);
    let faulty = edited("10.96.0.10", "10.96.0.300").replace("deny to metadata", "deny to metdata");
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  policy.yaml: |\n    {}\n",
        faulty.replace('\n', "\n    ")
    );
    assert_eq!(
        found(&map, false),
        ["8:15 rule-syntax", "10:18 policy-file"]
    );
}

#[test]
fn files_that_are_no_yaml() {
    for (text, wanted) in [
        ("", &[][..]),
        ("# only\n", &[]),
        ("just a text\n", &[]),
        ("a: b\n", &[]),
        ("a: [\n", &[]), // not ours
        ("apiVersion: [\n", &["1:13 yaml-syntax"]),
        ("{{- if .Values.x }}\na: b\n", &[]),
        ("{{- if .Values.x }}\napiVersion: v1\n", &["1:3 template"]),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {annotations: {egressway.dev/rules: alow}}\n---\nb: [\n",
            &["3:47 rule-syntax", "5:4 yaml-syntax"],
        ),
    ] {
        assert_eq!(found(text, false), wanted, "{text}");
    }
}

#[test]
fn kinds_are_known_by_their_names() {
    for kind in kind::ALL {
        assert_eq!(kind::by_id(kind.id), Some(*kind), "{}", kind.id);
        assert!(!kind.meaning.ends_with('.'), "{}", kind.id);
    }
    assert_eq!(kind::by_id("rule"), None);
}
