//! `egressway explain` with files whose rules name what only the cluster knows: Services, the API server.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Exit status, JSON and stderr of a question about the pod.
fn ask(question: &str) -> (i32, Value, String) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/explain");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    command.current_dir(fixtures).env_clear();
    command.args(["explain", "--manifest", "services.yaml", "-o", "json"]);
    let output = command.args(question.split(' ')).output().unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), answer, stderr)
}

/// `VERDICT RULE`, and behind it for which Services, of each answer.
fn answers(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |answer: &Value| {
        let mut words = vec![text(&answer["verdict"]), text(&answer["rule"])];
        let sent_to = answer["sentTo"].as_array().into_iter().flatten();
        words.extend(sent_to.map(text));
        words.join(" ")
    };
    report["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(one)
        .collect()
}

/// The notes, but for the first, that there is no policy file.
fn notes(report: &Value) -> &[Value] {
    &report["notes"].as_array().unwrap()[1..]
}

#[test]
fn the_service_may_be_said() {
    for (question, status, answer) in [
        (
            "10.244.3.4:8080/tcp --via svc/shop/db:5432",
            0,
            "allow pod:1",
        ),
        (
            "10.244.3.4:8080/tcp --via SVC/Shop/DB:5432",
            0,
            "allow pod:1",
        ),
        (
            "10.244.3.4:8080/tcp --via svc/shop/db:5433",
            1,
            "reject pod:3",
        ),
        // The same port on both sides.
        ("10.244.3.4:5432/tcp --via svc/shop/db", 0, "allow pod:1"),
        ("10.244.3.4:5432/tcp --via svc/shop/other", 1, "deny pod:5"),
        (
            "[fd44::4]:8080/tcp --via svc/shop/db:5432",
            0,
            "allow pod:1",
        ),
        // The API server is known by its Service, or by option.
        (
            "172.18.0.2:6443/tcp --via svc/default/kubernetes:443",
            0,
            "allow pod:2",
        ),
        ("172.18.0.2:6443/tcp --api-server", 0, "allow pod:2"),
    ] {
        let (code, report, stderr) = ask(question);
        assert_eq!(code, status, "{question}: {report:#} {stderr}");
        assert_eq!(answers(&report), [answer], "{question}");
    }
}

#[test]
fn without_a_word_it_was_sent_to_none_and_the_rest_is_told() {
    let (code, report, _) = ask("10.244.3.4:6443/tcp");
    assert_eq!((code, answers(&report)), (1, vec!["deny pod:5".to_owned()]));
    assert_eq!(
        notes(&report),
        [
            "if 10.244.3.4 is the API server: allow, by pod:2; ask with --api-server",
            "if the pod sent it to svc/shop/db:1-5431, svc/shop/db:5433-65535: reject, by pod:3; ask with --via",
            "if the pod sent it to svc/shop/db:5432: allow, by pod:1; ask with --via",
        ]
    );
    // What Services do not carry, and rules do not ask about.
    let (code, report, _) = ask("10.244.3.4/icmp/8");
    assert_eq!((code, notes(&report)), (1, &[][..]));
    // Said to be sent there itself.
    let (_, report, _) = ask("10.244.3.4:5432/tcp --via 10.244.3.4");
    assert_eq!(
        (answers(&report), notes(&report)),
        (vec!["deny pod:5".to_owned()], &[][..])
    );
}

#[test]
fn an_address_may_be_any_services() {
    let (code, report, _) = ask("10.244.3.4:8080/tcp --via 10.96.0.3:5432");
    assert_eq!(code, 4);
    assert_eq!(report["passes"], json!(null));
    assert_eq!(
        answers(&report),
        ["deny pod:5 anything else", "allow pod:1 svc/shop/db"]
    );
    // Where that makes no difference there is one answer.
    let (code, report, _) = ask("10.244.3.4:53/udp --via 10.96.0.10");
    assert_eq!((code, answers(&report)), (1, vec!["deny pod:5".to_owned()]));
}

#[test]
fn a_service_is_no_destination() {
    let (code, _, stderr) = ask("svc/shop/db:5432/tcp");
    assert_eq!(code, 2);
    assert!(
        stderr.contains("10.244.1.2:8080/tcp --via svc/shop/db:5432"),
        "{stderr}"
    );
}
