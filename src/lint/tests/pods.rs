//! Objects that are pods, or make some.

use super::*;

#[test]
fn pods_that_no_rule_holds() {
    let with = |spec: &str| {
        object(
            "Pod",
            "egressway.dev/rules: allow tcp",
            &format!("spec:\n  {spec}\n"),
        )
    };
    for (spec, wanted) in [
        ("hostNetwork: true", &["7:16 host-network"][..]),
        ("hostNetwork: false", &[]),
        (
            "containers: [{securityContext: {privileged: true}}]",
            &["7:47 no-guarantee"],
        ),
        (
            "initContainers: [{securityContext: {capabilities: {add: [CHOWN, NET_ADMIN]}}}]",
            &["7:67 no-guarantee"],
        ),
        (
            "containers: [{securityContext: {capabilities: {drop: [NET_ADMIN], add: [NET_RAW]}}}]",
            &["7:75 raw-packets"],
        ),
        (
            "hostUsers: false\n  containers: [{securityContext: {privileged: true}}]",
            &[],
        ),
    ] {
        assert_eq!(found(&with(spec), false), wanted, "{spec}");
    }
    let without_rules = object("Pod", "a: b", "spec: {hostNetwork: true}\n");
    assert_eq!(found(&without_rules, false), [""; 0]);
}

#[test]
fn forged_checksums_that_are_ignored() {
    let list = |mode: &str| {
        format!(
            r#"{{"name": "n", "plugins": [{{"type": "ptp"}}, {{"type": "egressway", "forgedChecksums": "{mode}"}}]}}"#
        )
    };
    assert_eq!(found(&list("drop"), false), [""; 0]);
    assert_eq!(found(&list("resolve"), false), ["1:85 forged-checksums"]);
    assert_eq!(found(&list("ignore"), false), ["1:85 forged-checksums"]);
    let network = format!(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nspec:\n  config: '{}'\n",
        list("ignore")
    );
    assert_eq!(found(&network, false), ["4:96 forged-checksums"]);
    let agent = |words: &str| {
        format!(
            "apiVersion: apps/v1\nkind: DaemonSet\nspec:\n  template:\n    spec:\n      hostNetwork: true\n      containers: [{{args: [agent, {words}]}}]\n"
        )
    };
    for (words, wanted) in [
        ("--forged-checksums, ignore", &["7:55 forged-checksums"][..]),
        ("--forged-checksums=resolve", &["7:35 forged-checksums"]),
        ("--forged-checksums=drop", &[]),
        ("--forged-checksums", &[]),
    ] {
        assert_eq!(found(&agent(words), false), wanted, "{words}");
    }
    // With rules or without: who could send some is named where they are ignored, and only there.
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nspec:\n  {spec}\n---\n");
    for (spec, wanted) in [
        ("containers: [{name: a}]", &["4:23 forged-checksums"][..]),
        ("hostNetwork: true\n  containers: [{name: a}]", &[]),
        (
            "containers: [{name: a, securityContext: {capabilities: {drop: [all]}}}]",
            &[],
        ),
        (
            "containers: [{name: a, securityContext: {capabilities: {drop: [NET_RAW]}}}]",
            &[],
        ),
        (
            "containers: [{name: a, securityContext: {capabilities: {drop: [CHOWN]}}}]",
            &["4:23 forged-checksums"],
        ),
        (
            "containers: [{name: a, securityContext: {capabilities: {drop: [ALL], add: [net_raw]}}}]",
            &["4:23 forged-checksums"],
        ),
        ("runtimeClassName: kata-qemu", &["4:21 forged-checksums"]),
    ] {
        let text = pod(spec) + &list("ignore");
        let mut told = found(&text, false);
        let last = told.pop().expect("the conflist's own");
        assert!(last.ends_with(":85 forged-checksums"), "{last}");
        assert_eq!(told, wanted, "{spec}");
        assert_eq!(
            found(&(pod(spec) + &list("drop")), false),
            [""; 0],
            "{spec}"
        );
    }
}

#[test]
fn every_kind_of_object_that_makes_pods() {
    let template = r#"{"metadata": {"annotations": {"egressway.dev/rules": "alow"}}, "spec": {"containers": []}}"#;
    for (kind, spec) in [
        ("Deployment", r#""spec": {"template": @}"#),
        ("StatefulSet", r#""spec": {"template": @}"#),
        ("DaemonSet", r#""spec": {"template": @}"#),
        ("ReplicaSet", r#""spec": {"template": @}"#),
        ("ReplicationController", r#""spec": {"template": @}"#),
        ("Job", r#""spec": {"template": @}"#),
        ("Rollout", r#""spec": {"template": @}"#), // a custom resource
        (
            "CronJob",
            r#""spec": {"jobTemplate": {"spec": {"template": @}}}"#,
        ),
        ("PodTemplate", r#""template": @"#),
        (
            "Pod",
            r#""metadata": {"annotations": {"egressway.dev/rules": "alow"}}"#,
        ),
        (
            "List",
            r#""items": [{"apiVersion": "v1", "kind": "PodList", "items": [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"egressway.dev/rules": "alow"}}}]}]"#,
        ),
    ] {
        let text = format!(
            r#"{{"apiVersion": "x/v1", "kind": "{kind}", {}}}"#,
            spec.replace('@', template)
        );
        let at = text.find("alow").expect("is there");
        let line = text[..at].matches('\n').count() + 1;
        let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1) + 1;
        assert_eq!(
            found(&text, false),
            [format!("{line}:{column} rule-syntax")],
            "{text}"
        );
    }
}
