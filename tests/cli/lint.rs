//! `egressway lint` as it is called: real-looking manifests, folders, stdin, every output, exit statuses.
//!
//! With `UPDATE_GOLDEN=1` in the environment, the golden outputs are written anew.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod files;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lint")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    command.arg("lint").args(arguments).current_dir(fixtures());
    command.env_remove("CNI_COMMAND").stdin(Stdio::null());
    command
}

fn lint(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn lint_stdin(arguments: &[&str], text: &str) -> Output {
    let mut command = command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    let text = stdout(output);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {}", stderr(output)))
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    let both = format!("{}{}", stdout(output), stderr(output));
    assert_eq!(output.status.code(), Some(status), "{both}");
}

#[track_caller]
fn assert_golden(name: &str, output: &Output) {
    let path = fixtures().join(name);
    let found = stdout(output);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} differs; found:\n{found}",
        path.display()
    );
}

/// A rule that stands in the file where it is said to: the line, and the text from the column on.
fn pointed_at(finding: &Value) -> String {
    let file = fs::read_to_string(fixtures().join(finding["file"].as_str().unwrap())).unwrap();
    let number = |key: &str| usize::try_from(finding[key].as_u64().unwrap()).unwrap();
    let line = file.lines().nth(number("line") - 1).unwrap();
    let width = number("endColumn") - number("column");
    line.chars()
        .skip(number("column") - 1)
        .take(width)
        .collect()
}

#[test]
fn good_manifests_are_silent() {
    for arguments in [
        &["good"][..],
        &["--strict", "good"],
        &["--strict", "good/shop.yaml", "./good/pod.json"],
        &[
            "--strict",
            "--policy",
            "good/policy.yml",
            "--service-cidr",
            "10.96.0.0/12",
            "good",
        ],
    ] {
        let output = lint(arguments);
        assert_status(&output, 0);
        assert_eq!(
            (stdout(&output), stderr(&output)),
            Default::default(),
            "{arguments:?}"
        );
    }
}

#[test]
fn planted_faults_are_found_where_they_are() {
    let arguments = [
        "--policy",
        "good/policy.yml",
        "--service-cidr",
        "10.96.0.0/12",
        "bad",
    ];
    let output = lint(&arguments);
    assert_status(&output, 1);
    assert_golden("bad.txt", &output);

    let output = lint(&[&arguments[..], &["-o", "json"]].concat());
    assert_status(&output, 1);
    let document = json(&output);
    let findings = document["findings"].as_array().unwrap();
    let pointed = |rule: &str| -> Vec<String> {
        let of_rule = findings.iter().filter(|finding| finding["rule"] == rule);
        of_rule.map(pointed_at).collect()
    };
    assert_eq!(pointed("rule-syntax"), ["443/tpc", "internt"]);
    assert_eq!(
        pointed("unreachable-rule"),
        [
            "deny 443/tcp to metadata, 192.0.2.0/24",
            "allow 5432/tcp to 10.20.0.5"
        ]
    );
    assert_eq!(pointed("duplicate-rule"), ["allow 443/TCP to internet"]);
    assert_eq!(
        pointed("redundant-rule"),
        ["allow 443/tcp to internet except 192.0.2.1"]
    );
    assert_eq!(pointed("service-address"), ["10.96.0.10"]);
    assert_eq!(pointed("no-guarantee"), ["\"NET_ADMIN\""]);
    assert_eq!(pointed("unknown-annotation"), ["egressway.dev/rule"]);
    assert_eq!(document["summary"]["files"], 5);
    let errors = findings
        .iter()
        .filter(|finding| finding["severity"] == "error")
        .count();
    assert_eq!(document["summary"]["errors"], errors);
    assert!(errors > 8 && errors < findings.len(), "{errors}");
}

#[test]
fn a_file_cannot_talk_to_the_terminal_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let name = "a\u{1b}[2K\u{202e}b\nc.yaml";
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {egressway.dev/rules: alow}}\n";
    fs::write(dir.path().join(name), pod).unwrap();
    fs::write(dir.path().join(format!("bad{name}")), b"\xff").unwrap();
    let output = lint(&[dir.path().to_str().unwrap()]);
    assert_status(&output, 3);
    let (found, told) = (stdout(&output), stderr(&output));
    let shown = "a\\u{1b}[2K\\u{202e}b\\nc.yaml";
    assert!(found.contains(&format!("/{shown}:3:")), "{found}");
    assert!(
        told.contains(&format!("/bad{shown}: it is not UTF-8")),
        "{told}"
    );
    for text in [&found, &told] {
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn further_networks_are_warned_of() {
    let pod = |networks: &str, rules: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    k8s.v1.cni.cncf.io/networks: {networks}\n    {rules}\nspec: {{}}\n"
        )
    };
    let rules = "egressway.dev/rules: allow tcp";
    for (text, wanted) in [
        (pod("storage", rules), "-:5:34: warning: "),
        (pod("'[{\"name\": \"a\"}]'", rules), "-:5:34: warning: "),
        (pod("''", rules), ""),
        (pod("storage", "a: b"), ""),
    ] {
        let output = lint_stdin(&["-"], &text);
        assert_status(&output, 0);
        let found = stdout(&output);
        assert!(found.starts_with(wanted), "{text}{found}");
        assert_eq!(found.contains("[second-network]"), !wanted.is_empty());
    }
}

#[test]
fn warnings_fail_only_if_strict() {
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {egressway.dev/rules: deny}}\n";
    assert_status(&lint_stdin(&["-"], pod), 0);
    let output = lint_stdin(&["--strict", "-"], pod);
    assert_status(&output, 1);
    assert!(
        stdout(&output).starts_with("-:3:47: warning: "),
        "{}",
        stdout(&output)
    );
    let output = lint_stdin(&["--strict", "--ignore", "cut-off", "-"], pod);
    assert_status(&output, 0);
    assert_eq!(stdout(&output), "");
}

#[test]
fn exit_statuses() {
    for (arguments, status, said) in [
        (&[][..], 2, "FILE|DIR|-"),
        (&["--nonsense", "good"], 2, "--nonsense"),
        (
            &["--service-cidr", "10.96.0.1/12", "good"],
            2,
            "10.96.0.0/12",
        ),
        (&["--ignore", "no-such-rule", "good"], 2, "--list-checks"),
        (&["-o", "xml", "good"], 2, "sarif"),
        (&["no-such-file.yaml"], 3, "cannot read no-such-file.yaml"),
        (
            &["no-such-file.yaml", "bad"],
            3,
            "cannot read no-such-file.yaml",
        ),
        (
            &["--policy", "no-such-file.yaml", "good"],
            3,
            "cannot read no-such-file.yaml",
        ),
        (
            &["--policy", "good/values.yaml", "good"],
            3,
            "good/values.yaml is no policy file",
        ),
        (
            &["-v", "good/values.yaml"],
            0,
            "good/values.yaml: document 1 has no Kubernetes object",
        ),
        (&["--list-checks"], 0, ""),
        (&["--help"], 0, ""),
    ] {
        let output = lint(arguments);
        assert_status(&output, status);
        assert!(
            stderr(&output).contains(said),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    // What could be read is told, even so.
    assert!(stdout(&lint(&["no-such-file.yaml", "bad"])).contains("bad/workloads.yaml:13:17"));
    let output = lint_stdin(&["-"], "apiVersion: v1\n\u{0}");
    assert_status(&output, 1);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut command = command(&["-o", "json", "bad"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    // What was found still decides.
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn no_colour_in_a_pipe() {
    assert!(!stdout(&lint(&["bad"])).contains('\u{1b}'));
}

#[test]
fn every_kind_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/lint.md")).unwrap();
    let kinds = json(&lint(&["--list-checks", "-o", "json"]));
    let kinds = kinds.as_array().unwrap();
    for kind in kinds {
        let heading = format!(
            "\n### `{}` ({})\n",
            kind["id"].as_str().unwrap(),
            kind["severity"].as_str().unwrap()
        );
        assert!(document.contains(&heading), "docs/lint.md has no {heading}");
    }
    assert_eq!(document.matches("\n### `").count(), kinds.len());
}

/// Each example in docs/lint.md shows what it says.
#[test]
fn documented_examples_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/lint.md")).unwrap();
    for section in document.split("\n### `").skip(1) {
        let id = section.split('`').next().unwrap();
        let (_, rest) = section
            .split_once("```yaml\n")
            .unwrap_or_else(|| panic!("{id}"));
        let (example, _) = rest.split_once("```").unwrap();
        let policy = root.join("conf/policy-full.yaml");
        let policy = policy.to_str().unwrap();
        let options = [
            "-o",
            "json",
            "--service-cidr",
            "10.96.0.0/12",
            "--no-api",
            "--policy",
            policy,
            "-",
        ];
        let document = json(&lint_stdin(&options, example));
        let findings = document["findings"].as_array().unwrap();
        assert!(
            findings.iter().any(|finding| finding["rule"] == id),
            "{id}: {findings:?}"
        );
    }
}
