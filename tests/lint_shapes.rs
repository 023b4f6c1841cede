//! `egress-cni lint` finds a fault where it stands, in whatever way YAML writes a text: manifests in the
//! shapes of real projects, each with faults planted between « and ».

#![allow(clippy::unwrap_used)] // in tests

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Line, column and text of what is marked.
type Place = (u64, u64, String);

/// The text without marks, and what they mark.
fn unmarked(marked: &str) -> (String, Vec<Place>) {
    let (mut text, mut places) = (String::new(), Vec::new());
    for (number, line) in marked.split_inclusive('\n').enumerate() {
        let mut rest = line;
        let mut clean = String::new();
        while let Some((before, after)) = rest.split_once('«') {
            let (fault, after) = after.split_once('»').unwrap();
            clean.push_str(before);
            let column = clean.chars().count() as u64 + 1;
            places.push((number as u64 + 1, column, fault.to_owned()));
            clean.push_str(fault);
            rest = after;
        }
        text.push_str(&clean);
        text.push_str(rest);
    }
    (text, places)
}

/// What `lint` points at.
fn found(text: &str) -> Vec<Place> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_egress-cni"))
        .args(["lint", "-o", "json", "--ignore", "rule-covered", "-"])
        .env_remove("CNI_COMMAND")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let value: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let findings = value["findings"].as_array().unwrap();
    let number = |finding: &Value, key: &str| finding[key].as_u64().unwrap();
    findings
        .iter()
        .map(|finding| {
            let (line, column) = (number(finding, "line"), number(finding, "column"));
            let width = number(finding, "endColumn") - column;
            let whole = text.split('\n').nth(line as usize - 1).unwrap();
            let shown = whole.chars().skip(column as usize - 1).take(width as usize);
            (line, column, shown.collect())
        })
        .collect()
}

#[track_caller]
fn assert_found(shape: &str, marked: &str) {
    let (text, mut planted) = unmarked(marked);
    let mut found = found(&text);
    planted.sort();
    found.sort();
    assert!(!planted.is_empty());
    assert_eq!(found, planted, "{shape}:\n{text}");
}

/// A pod whose rules are written like this, behind the key.
fn pod(rules: &str) -> String {
    format!(
        "# Source: shop/templates/pod.yaml
apiVersion: v1
kind: Pod
metadata:
  name: web # the shop
  annotations:
    other.example/key: \"allow 443/tpc\"
    egress-cni.dev/rules: {rules}
spec:
  containers: [{{name: web, image: web}}]
"
    )
}

#[test]
fn every_way_to_write_a_text() {
    for (shape, rules) in [
        (
            "literal",
            "|\n      allow 80/tcp\n      allow «443/tpc» to internet",
        ),
        (
            "literal, stripped",
            "|-\n      # Größe\n      allow «443/tpc», 80/tcp",
        ),
        ("literal, kept", "|+\n      allow «443/tpc»\n\n"),
        ("literal, indented", "|2\n        allow «443/tpc»"),
        (
            "literal, with a comment",
            "| # our rules\n      allow «443/tpc»",
        ),
        (
            "literal, deeper lines",
            "|\n      allow 80/tcp\n        allow «443/tpc»",
        ),
        (
            "tabs between words",
            "|\n      allow\t«443/tpc»\tto internet",
        ),
        (
            "behind wide letters",
            "|\n      allow 80/tcp # 漢字\n      allow «443/tpc» # ü",
        ),
        (
            "several in a line",
            "|\n      allow «443/tpc»; allow «53/upd»",
        ),
        ("folded", ">\n      allow 80/tcp;\n      allow «443/tpc»"),
        (
            "folded, stripped",
            ">-\n      allow «443/tpc»\n      to internet",
        ),
        ("plain", "allow «443/tpc» to internet"),
        ("single quotes", "'allow «443/tpc»'"),
        (
            "single quotes, doubled",
            "'allow 80/tcp # isn''t; \n\n      allow «443/tpc»'",
        ),
        ("double quotes", "\"allow «443/tpc»\""),
        (
            "double quotes, escapes",
            "\"allow 80/tcp\\nallow «443/tpc»\\n\"",
        ),
        (
            "double quotes, broken lines",
            "\"allow 80/tcp;\\\n      allow «443/tpc»\"",
        ),
        ("an anchor", "&rules |\n      allow «443/tpc»"),
        ("a tag", "!!str allow «443/tpc»"),
    ] {
        assert_found(shape, &pod(rules));
        let windows = pod(rules).replace('\n', "\r\n");
        // An escaped line break takes the carriage return with it or not, as the parser likes.
        if shape != "double quotes, broken lines" {
            assert_found(&format!("{shape}, CRLF"), &windows);
        }
    }
}

#[test]
fn shapes_of_objects() {
    assert_found(
        "several documents, as Helm renders them",
        "---
# Source: shop/templates/namespace.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {egress-cni.dev/default-rules: 'deny to metadata; allow «443/tpc»', a: b}
---
# Source: shop/templates/empty.yaml
---
# Source: shop/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: &labels
    app.kubernetes.io/name: web
spec:
  selector: {matchLabels: *labels}
  template:
    metadata:
      labels: *labels
      annotations:
        checksum/config: 4b1d
        egress-cni.dev/rules: |
          # the bank

          allow 443/tcp to 198.51.100.0/24
          allow to «203.0.113.0/33»
    spec:
      containers:
        - name: web
          image: \"registry.example/web:1.2\"
...
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data:
  rules: allow 443/tpc
",
    );
    assert_found(
        "a List with a CronJob and a StatefulSet",
        "apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: report}
  spec:
    schedule: '0 3 * * *'
    jobTemplate:
      spec:
        template:
          metadata:
            annotations:
              egress-cni.dev/rules: >-
                allow 587/tcp to mail.example.com-but-no-agent,
                203.0.113.7
          spec: {containers: [{name: report, image: report}]}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db}
  spec:
    template:
      metadata:
        annotations:
          «egress-cni.dev/rule»: deny
      spec: {containers: [{name: db, image: db}]}
"
        .replace("mail.example.com-but-no-agent", "«10.0.0.1-10.0.0.0»")
        .as_str(),
    );
    assert_found(
        "JSON",
        "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Pod\",\n  \"metadata\": {\n    \"name\": \"web\",\n    \
         \"annotations\": {\"egress-cni.dev/rules\": \"allow\\t«443/tpc»\\nallow 80/tcp\"}\n  },\n  \"spec\": \
         {\"containers\": []}\n}\n",
    );
}
