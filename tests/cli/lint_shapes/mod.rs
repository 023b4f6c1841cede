//! `egressway lint` finds a fault where it stands, in whatever way YAML writes a text: manifests in the
//! shapes of real projects, each with faults planted between « and ».

mod generated;

use serde_json::Value;

use crate::tool;

const BOM: &str = "\u{feff}";

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

/// What `lint` prints about a file of this content on stdin.
fn lint(format: &str, text: &[u8]) -> Vec<u8> {
    let output = tool::run(&["lint", "-o", format, "-"], text);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{stderr}");
    output.stdout
}

/// What `lint` points at in this text, behind a byte order mark or not.
fn found(mark: &str, text: &str) -> Vec<Place> {
    let file = format!("{mark}{text}");
    let value: Value = serde_json::from_slice(&lint("json", file.as_bytes())).unwrap();
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

/// Fails unless `lint` points at just what is marked, in each of these shapes.
#[track_caller]
fn assert_found(shapes: impl IntoIterator<Item = (String, String)>) {
    let mut wrong = String::new();
    for (shape, marked) in shapes {
        // A byte order mark is no character of the text (SARIF 2.1.0, 3.30.2).
        let (mark, marked) = marked.split_at(if marked.starts_with(BOM) {
            BOM.len()
        } else {
            0
        });
        let (text, mut planted) = unmarked(marked);
        let mut found = found(mark, &text);
        planted.sort();
        found.sort();
        assert!(!planted.is_empty(), "{shape}");
        if found != planted {
            wrong += &format!("{shape}: {found:?}, planted {planted:?}\n{text}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The same with Windows' ends of lines, and with a byte order mark.
fn also_of_windows((shape, text): (&str, &str)) -> [(String, String); 3] {
    [
        (shape.to_owned(), text.to_owned()),
        (format!("{shape}, CRLF"), text.replace('\n', "\r\n")),
        (format!("{shape}, BOM"), format!("{BOM}{text}")),
    ]
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
    egressway.dev/rules: {rules}
spec:
  containers: [{{name: web, image: web}}]
"
    )
}

#[test]
fn every_way_to_write_a_text() {
    let shapes = [
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
            "literal, empty lines",
            "|\n\n\n      allow 80/tcp\n\n      allow «443/tpc»\n",
        ),
        (
            "tabs between words",
            "|\n      allow\t«443/tpc»\tto internet",
        ),
        ("a tab behind the indicator", "|\t\n      allow «443/tpc»"),
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
        (
            "folded, deeper lines",
            ">\n      allow 80/tcp\n\n        allow «443/tpc»\n",
        ),
        ("plain", "allow «443/tpc» to internet"),
        (
            "plain, broken",
            "allow 80/tcp,\n      «443/tpc» to internet",
        ),
        ("plain, before a comment", "allow «443/tpc» # for the bank"),
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
            "double quotes, escaped letters",
            "\"# \\U0001F600 \\xe4\\nallow\\x20«443\\/tpc»\"",
        ),
        (
            "double quotes, broken lines",
            "\"allow 80/tcp;\\\n      allow «443/tpc»\"",
        ),
        ("an anchor", "&rules |\n      allow «443/tpc»"),
        ("a tag", "!!str allow «443/tpc»"),
    ];
    let shapes = shapes.iter().flat_map(|(shape, rules)| {
        let all = also_of_windows((shape, &pod(rules)));
        // Whether an escaped line break takes the carriage return with it is the parser's business.
        all.into_iter()
            .filter(|(shape, _)| shape != "double quotes, broken lines, CRLF")
    });
    assert_found(shapes);
}

#[test]
fn every_way_to_write_a_key() {
    let shapes = [
        ("quoted", "\n    \"egressway.dev/rules\": allow «443/tpc»"),
        ("flow", "{'egressway.dev/rules': 'allow «443/tpc»', a: b}"),
        (
            "flow over lines",
            "{\n      a: b,\n      egressway.dev/rules:\n        \"allow «443/tpc»\",\n    }",
        ),
        (
            "explicit",
            "\n    ? egressway.dev/rules\n    : allow «443/tpc»",
        ),
        (
            "on the next line",
            "\n    egressway.dev/rules:\n      allow «443/tpc»",
        ),
        ("wrong", "\n    «egressway.dev/rulez»: allow"),
        ("wrong and quoted", "\n    «\"egressway.dev/rulez\"»: allow"),
        ("no value", "\n    «egressway.dev/rules»:"),
        ("no text", "\n    egressway.dev/rules: «443»"),
    ];
    let shapes = shapes.iter().flat_map(|(shape, annotations)| {
        let head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:";
        also_of_windows((shape, &format!("{head} {annotations}\n")))
    });
    assert_found(shapes);
}

/// What stands once in the file is told once, where it stands.
#[test]
fn anchors_aliases_and_merges() {
    assert_found(also_of_windows((
        "a text used twice",
        "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: a
    annotations:
      egressway.dev/rules: &web |
        allow «443/tpc» to internet
- apiVersion: v1
  kind: Pod
  metadata: {name: b, annotations: {egressway.dev/rules: *web}}
",
    )));
    assert_found(also_of_windows((
        "an anchor that another document has, too",
        "apiVersion: v1
kind: Pod
metadata:
  annotations: &annotations
    egressway.dev/rules: allow «80/tpc»
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template: &pod
    metadata:
      annotations: &annotations
        egressway.dev/rules: allow «53/upd»
    spec: {containers: []}
  other:
    <<: *pod
",
    )));
    assert_found(also_of_windows((
        "annotations merged, and one overridden",
        "apiVersion: v1
kind: List
common: &common {egressway.dev/rules: allow «443/tpc», team: shop}
items:
- {apiVersion: v1, kind: Pod, metadata: {name: a, annotations: {<<: *common, team: bank}}}
- {apiVersion: v1, kind: Pod, metadata: {name: b, annotations: {<<: *common, egressway.dev/rules: allow «80/tpc»}}}
",
    )));
}

#[test]
fn json() {
    let shapes = [
        (
            "as kubectl prints it",
            "{
    \"apiVersion\": \"v1\",
    \"items\": [
        {
            \"apiVersion\": \"v1\",
            \"kind\": \"Pod\",
            \"metadata\": {
                \"annotations\": {
                    \"egressway.dev/rules\": \"allow\\t«443/tpc»\\nallow 80/tcp\\n\"
                },
                \"name\": \"web\"
            },
            \"spec\": {\"containers\": []}
        }
    ],
    \"kind\": \"List\"
}
",
        ),
        (
            "indented with tabs",
            "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\n\t\t\"annotations\": \
             {\n\t\t\t\"egressway.dev/rules\": \"allow «443/tpc»\"\n\t\t}\n\t}\n}\n",
        ),
        (
            "in one line, without its end",
            r##"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"egressway.dev/rules":"# \u6f22\ud83d\ude00\nallow «44\u0033/tpc»"}}}"##,
        ),
    ];
    assert_found(shapes.into_iter().flat_map(also_of_windows));
}

/// A policy file inside a ConfigMap: a text in a text in a text.
#[test]
fn a_policy_in_a_config_map() {
    assert_found(also_of_windows((
        "a block in a block",
        "apiVersion: v1
kind: ConfigMap
metadata: {name: egressway, namespace: egressway-system}
data:
  policy.yaml: |
    apiVersion: egressway.dev/v1alpha1
    kind: ClusterEgressPolicy
    enforced: |
      deny to metadata   # Größe 漢
      deny to «metdata»
    namespaces:
      shop:
        annotations: {egressway.dev/default-rules: \"allow «443/tpc»\"}
",
    )));
    assert_found(also_of_windows((
        "a block in a quoted text",
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "data": {"policy.yaml": "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\nenforced: |\n  deny to metadata\n  deny to «metdata»\n"}}
"#,
    )));
}

/// The carets stand under the fault on a terminal, where some letters take two columns.
#[test]
fn carets_under_wide_letters() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {名前: 漢字 😀, egressway.dev/rules: 'allow 漢'}}\n";
    let printed = String::from_utf8(lint("text", text.as_bytes())).unwrap();
    assert_eq!(
        printed.lines().skip(1).take(2).collect::<Vec<_>>(),
        [
            "  …adata: {annotations: {名前: 漢字 😀, egressway.dev/rules: 'allow 漢'}}",
            "                                                                    ^^",
        ]
    );
}
