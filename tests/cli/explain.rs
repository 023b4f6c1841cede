//! `egressway explain` as it is called: answers, exit statuses, JSON, and what can go wrong.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const POLICY: [&str; 2] = ["--policy", "policy.yaml"];
const WEB: [&str; 4] = ["--policy", "policy.yaml", "--manifest", "web.yaml"];
const AUDITED: [&str; 4] = ["--policy", "policy.yaml", "--manifest", "audited.yaml"];
/// Within the rules' times.
const TIME: [&str; 2] = ["--time", "2026-05-01T00:00:00Z"];

fn command(args: &[&[&str]]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/explain");
    command.current_dir(fixtures).env_clear().arg("explain");
    command.args(args.iter().copied().flatten());
    command
}

/// Exit status, stdout and stderr.
fn run(args: &[&[&str]]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Fails unless this is exactly what is printed.
#[track_caller]
fn assert_prints(args: &[&[&str]], status: i32, expected: &str) {
    let (code, stdout, stderr) = run(args);
    assert_eq!((stdout.as_str(), stderr.as_str()), (expected, ""));
    assert_eq!(code, status);
}

/// Fails unless nothing is answered, with this status and reason.
#[track_caller]
fn assert_refuses(args: &[&[&str]], status: i32, reason: &str) {
    let (code, stdout, stderr) = run(args);
    assert_eq!(stdout, "");
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(code, status, "{stderr}");
}

fn json(args: &[&[&str]]) -> Value {
    let (_, stdout, stderr) = run(&[args.concat().as_slice(), &["-o", "json"]]);
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"))
}

#[test]
fn from_manifests() {
    assert_prints(
        &[&WEB, &TIME, &["198.51.100.66:443/tcp"]],
        0,
        "\
ALLOW  payments/deployment/web -> 198.51.100.66:443/tcp
by cluster-defaults:1, line 1 of policy.yaml: defaults
    allow 80/tcp,443/tcp to internet
source address: 203.0.113.10, the egress IP

cluster-enforced (policy.yaml: enforced)
    1  deny to metadata log name=no-metadata                                other address
    2  pass icmp to private                                                 other address
    3  reject icmp to private                                               other address
dns (built-in)
    1  allow to dns                                                         other address
pod (pod annotation egressway.dev/rules)
    2  allow 443/tcp to 198.51.100.0/24 except 198.51.100.66 name=provider  except
    3  allow 443/tcp to 2001:db8::/32                                       other family
    4  allow 5432/tcp to 192.0.2.5 until=2026-06-01T00:00:00Z               other address
    5  pass 8000-8100/tcp to internet                                       other port
    6  reject to private                                                    other address
cluster-defaults (policy.yaml: defaults)
>   1  allow 80/tcp,443/tcp to internet                                     decides
",
    );
}

#[test]
fn exit_statuses() {
    for (args, status) in [
        (&[&WEB[..], &TIME, &["192.0.2.5:5432/tcp"]][..], 0),
        (
            &[
                &WEB,
                &["--time", "2026-06-01T00:00:00Z", "192.0.2.5:5432/tcp"],
            ],
            1,
        ),
        (&[&WEB, &["10.1.1.1/icmp/8"]], 1),
        (&[&WEB, &["169.254.169.254:80/tcp"]], 1),
        (&[&WEB, &["198.51.100.7"]], 4),
        (
            &[&POLICY, &["--namespace", "kube-system", "169.254.169.254"]],
            0,
        ),
        // nothing but what the pod says
        (&[&["--manifest", "web.yaml", "198.51.100.7:443/tcp"]], 0),
        (&[&["--manifest", "web.yaml", "192.0.2.5"]], 0),
        (&[&["--manifest", "web.yaml", "10.1.1.1"]], 1),
        // audit
        (&[&AUDITED, &["mailer", "192.0.2.5:9/tcp"]], 0),
    ] {
        let (code, stdout, stderr) = run(args);
        assert_eq!(code, status, "{args:?}: {stdout}{stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
}

#[test]
fn audit_and_workloads_of_one_file() {
    let mail = json(&[
        &AUDITED,
        &["--namespace", "shop", "mailer", "192.0.2.5:25/tcp"],
    ]);
    assert_eq!(mail["passes"], true);
    let answer = &mail["answers"][0];
    assert_eq!(answer["verdict"], "would-reject");
    assert_eq!(answer["rule"], "namespace-enforced:1");
    assert_eq!(answer["egressIPs"], json!(["203.0.113.16/29"]));
    assert_eq!(
        answer["logPrefix"],
        "egressway namespace-enforced:1 would-reject"
    );
    let report = json(&[&AUDITED, &["cronjob/report", "192.0.2.5:443/tcp"]]);
    assert_eq!(report["source"]["pod"], "cronjob/report");
    assert_eq!(
        report["notes"],
        json!([
            "egressway.dev/ annotations of cronjob/report itself reach no pod: they belong to its template"
        ])
    );
}

#[test]
fn the_namespaces_manifest() {
    let web = [
        "--policy",
        "policy.yaml",
        "--namespace-manifest",
        "audited.yaml",
    ];
    let mail = json(&[&web, &["192.0.2.5:25/tcp"]]);
    assert_eq!(mail["source"]["namespace"], "shop");
    assert_eq!(mail["answers"][0]["verdict"], "would-reject");
    assert_refuses(
        &[&web, &["--namespace", "payments", "192.0.2.5"]],
        3,
        "the namespace's manifest says that the namespace is shop, not payments",
    );
}

#[test]
fn json_of_one_answer() {
    let args = [&WEB[..], &TIME, &["10.1.1.1/icmp/8"]];
    let mut answer = json(&args);
    let steps = answer["answers"][0]["steps"].take();
    assert_eq!(
        answer,
        json!({
            "source": {
                "namespace": "payments",
                "pod": "deployment/web",
                "attachment": null,
                "exempt": false,
            },
            "passes": false,
            "answers": [{
                "destination": "10.1.1.1",
                "traffic": ["icmp/8"],
                "verdict": "reject",
                "passes": false,
                "rule": "pod:6",
                "logged": false,
                "egressIPs": ["203.0.113.10"],
                "steps": null,
            }],
            "defaultAction": "deny",
            "defaultAudit": false,
            "clusterCIDRs": ["10.244.0.0/16", "10.96.0.0/12"],
            "clusterDNS": ["10.96.0.10"],
            "notes": [],
        })
    );
    assert_eq!(
        steps[1],
        json!({
            "rule": "cluster-enforced:2",
            "tier": "cluster-enforced",
            "source": "policy.yaml: enforced",
            "line": 2,
            "text": "pass icmp to private",
            "audit": false,
            "logged": false,
            "result": "passes on",
        })
    );
    let results: Vec<&Value> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["result"])
        .collect();
    assert_eq!(*results.last().unwrap(), "decides");
    assert_eq!(results.len(), 8);
    let all = json(&[&args.concat(), &["--all"]]);
    let steps = all["answers"][0]["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 12);
    assert_eq!(steps[11]["result"], "not reached");
}

#[test]
fn json_of_what_depends() {
    let depends = json(&[&POLICY, &["192.0.2.1"]]);
    assert_eq!(depends["passes"], Value::Null);
    let allowed = &depends["answers"][1];
    assert_eq!(allowed["traffic"], json!(["80/tcp", "443/tcp"]));
    assert_eq!(allowed["rule"], "cluster-defaults:1");
}

#[test]
fn names() {
    assert_refuses(&[&POLICY, &["example.com:443/tcp"]], 2, "--resolve");
    let local = json(&[&POLICY, &["--resolve", "localhost:443/tcp"]]);
    let to = local["answers"][0]["destination"].as_str().unwrap();
    assert!(["127.0.0.1", "::1"].contains(&to), "{local}");
}

#[test]
fn what_cannot_be_answered() {
    assert_refuses(&[&["192.0.2.1"]], 2, "no pod given");
    assert_refuses(&[&POLICY, &["shop/web", "192.0.2.1"]], 2, "SOURCE names");
    assert_refuses(&[&POLICY, &["192.0.2.1:443"]], 2, "`192.0.2.1:443/tcp`");
    let via = ["--via", "2001:db8::1", "192.0.2.1:443/tcp"];
    assert_refuses(&[&POLICY, &via], 2, "not of the same IP version");
    assert_refuses(
        &[&["--policy", "nothing.yaml", "192.0.2.1"]],
        3,
        "nothing.yaml",
    );
    assert_refuses(&[&["--policy", "web.yaml", "192.0.2.1"]], 3, "web.yaml");
    let none = ["--manifest", "policy.yaml", "192.0.2.1"];
    assert_refuses(&[&none], 3, "no Pod, Deployment");
    assert_refuses(&[&AUDITED, &["192.0.2.1"]], 3, "pod/mailer, cronjob/report");
}

/// The reader is gone before anything is written: the exit status still answers.
#[test]
fn a_closed_pipe_is_quiet() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&[&WEB, &["169.254.169.254:80/tcp"]]);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty());
}

#[test]
fn what_cannot_be_written_is_no_answer() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut command = command(&[&WEB, &["169.254.169.254:80/tcp"]]);
    let output = command
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
}

mod on_a_node;
