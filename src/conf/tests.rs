use std::time::Duration;

use serde_json::{Value, json};

use super::runtime::POD_ANNOTATIONS;
use super::*;
use crate::guard;

fn parse(command: Command, stdin: &str) -> Result<Conf, CniError> {
    Conf::new(&RawConf::decode(stdin.as_bytes())?, command)
}

fn parse_json(command: Command, stdin: &Value) -> Result<Conf, CniError> {
    parse(command, &stdin.to_string())
}

/// A good ADD with some keys added or replaced.
fn add_with(extra: Value) -> Result<Conf, CniError> {
    parse_json(Command::Add, &merged(extra))
}

fn merged(extra: Value) -> Value {
    let mut entry =
        json!({"cniVersion": "1.1.0", "name": "net", "type": "egressway", "prevResult": {}});
    for (key, value) in extra.as_object().unwrap() {
        entry[key] = value.clone();
    }
    entry
}

#[test]
fn defaults() {
    let conf = add_with(json!({})).unwrap();
    assert_eq!(conf.name, "net");
    assert_eq!(conf.cni_version, CniVersion::V1_1_0);
    assert_eq!(
        conf.policy_file,
        PathBuf::from("/etc/egressway/policy.yaml")
    );
    assert_eq!(conf.kubernetes, None);
    assert_eq!(conf.state_dir, PathBuf::from("/run/egressway"));
    assert_eq!(conf.uplink, None);
    assert_eq!(conf.log_group, 100);
    assert_eq!(conf.log_level, Level::INFO);
    assert_eq!(conf.log_file, None);
    assert_eq!(conf.unenforceable, WhenUnenforceable::Refuse);
    assert_eq!(conf.forged_checksums, guard::Mode::Drop);
    assert!(conf.arp_probe);
    assert_eq!(conf.pod_annotations, PodAnnotations::Absent);
    assert_eq!(conf.valid_attachments, ValidAttachments::Absent);
    assert!(conf.warnings.is_empty());
}

#[test]
fn null_is_the_default() {
    let conf = add_with(json!({
        "policyFile": null, "kubernetes": null, "stateDir": null, "uplink": null, "logGroup": null,
        "logLevel": null, "logFile": null, "unenforceable": null, "forgedChecksums": null, "runtimeConfig": null, "cniVersion": null,
    }))
    .unwrap();
    assert_eq!(conf.state_dir, PathBuf::from("/run/egressway"));
    assert_eq!(conf.kubernetes, None);
    assert_eq!(conf.cni_version, CniVersion::V0_1_0);
}

#[test]
fn every_key() {
    let conf = add_with(json!({
        "policyFile": "/p.yaml",
        "kubernetes": {
            "kubeconfig": "/k", "timeout": "1500ms", "whenUnreachable": "snapshot",
            "snapshotMaxAge": "1h30m", "nodeName": "node-1.example.com",
        },
        "stateDir": "/s", "uplink": "bond0.7", "logGroup": 65534, "logLevel": "trace", "logFile": "/l",
        "unenforceable": "allow",
        "forgedChecksums": "ignore",
        "arpProbe": "off",
    }))
    .unwrap();
    assert_eq!(conf.policy_file, PathBuf::from("/p.yaml"));
    let kubernetes = Kubernetes {
        kubeconfig: "/k".into(),
        timeout: Duration::from_millis(1500),
        when_unreachable: WhenUnreachable::Snapshot,
        snapshot_max_age: Duration::from_secs(5400),
        node_name: Some("node-1.example.com".to_owned()),
    };
    assert_eq!(conf.kubernetes, Some(kubernetes));
    assert_eq!(conf.state_dir, PathBuf::from("/s"));
    assert_eq!(conf.uplink.as_deref(), Some("bond0.7"));
    assert_eq!(conf.log_group, 65534);
    assert_eq!(conf.log_level, Level::TRACE);
    assert_eq!(conf.log_file, Some(PathBuf::from("/l")));
    assert_eq!(conf.unenforceable, WhenUnenforceable::Allow);
    assert_eq!(conf.forged_checksums, guard::Mode::Ignore);
    let resolve = add_with(json!({"forgedChecksums": "resolve"})).unwrap();
    assert_eq!(resolve.forged_checksums, guard::Mode::Resolve);
    assert!(!conf.arp_probe);

    let kubernetes = add_with(json!({"kubernetes": {}}))
        .unwrap()
        .kubernetes
        .unwrap();
    assert_eq!(
        kubernetes.kubeconfig,
        PathBuf::from("/etc/cni/net.d/egressway.d/kubeconfig")
    );
    assert_eq!(kubernetes.timeout, Duration::from_secs(5));
    assert_eq!(kubernetes.when_unreachable, WhenUnreachable::Refuse);
    assert_eq!(kubernetes.snapshot_max_age, Duration::from_secs(3600));
    assert_eq!(kubernetes.node_name, None);
    let name = kubernetes.node_name();
    assert!(!name.is_empty() && name == name.to_lowercase(), "{name}");
}

#[test]
fn wrong_values_name_the_key_and_what_was_expected() {
    let table = [
        (json!({"name": 5}), "name: expected a string, got \"5\""),
        (json!({"cniVersion": 1.1}), "cniVersion: expected a version"),
        (
            json!({"policyFile": ["/x"]}),
            "policyFile: expected an absolute path",
        ),
        (
            json!({"policyFile": "policy.yaml"}),
            "policyFile: expected an absolute path, got \"policy.yaml\"",
        ),
        (
            json!({"policyFile": ""}),
            "policyFile: expected an absolute path",
        ),
        (
            json!({"stateDir": "./state"}),
            "stateDir: expected an absolute path",
        ),
        (
            json!({"logFile": true}),
            "logFile: expected an absolute path",
        ),
        (json!({"uplink": 2}), "uplink: expected a device's name"),
        (
            json!({"uplink": "a/b"}),
            "uplink: interface name contains /",
        ),
        (json!({"uplink": ""}), "uplink: interface name is empty"),
        (
            json!({"logGroup": "100"}),
            "logGroup: expected a number from 0 to 65534, got \"\\\"100\\\"\"",
        ),
        (
            json!({"logGroup": 65535}),
            "logGroup: expected a number from 0 to 65534",
        ),
        (json!({"logGroup": -1}), "logGroup: expected"),
        (json!({"logGroup": 1.5}), "logGroup: expected"),
        (
            json!({"logLevel": "INFO"}),
            "logLevel: expected error, warn, info, debug or trace, got \"INFO\"",
        ),
        (json!({"arpProbe": "never"}), "arpProbe: expected on or off"),
        (json!({"arpProbe": false}), "arpProbe: expected on or off"),
        (
            json!({"unenforceable": "yes"}),
            "unenforceable: expected allow or refuse",
        ),
        (
            json!({"unenforceable": true}),
            "unenforceable: expected allow or refuse",
        ),
        (
            json!({"forgedChecksums": "Drop"}),
            "forgedChecksums: expected drop, resolve or ignore, got \"Drop\"",
        ),
        (
            json!({"forgedChecksums": false}),
            "forgedChecksums: expected drop, resolve or ignore",
        ),
        (
            json!({"kubernetes": true}),
            "kubernetes: expected an object",
        ),
        (
            json!({"kubernetes": {"timeout": 5}}),
            "kubernetes.timeout: expected a duration",
        ),
        (
            json!({"kubernetes": {"timeout": "5"}}),
            "kubernetes.timeout: expected a duration",
        ),
        (
            json!({"kubernetes": {"timeout": "0s"}}),
            "kubernetes.timeout: expected a duration",
        ),
        (
            json!({"kubernetes": {"timeout": "-1s"}}),
            "kubernetes.timeout: expected a duration",
        ),
        (
            json!({"kubernetes": {"timeout": "10s"}}),
            "less than the 10 s",
        ),
        (
            json!({"kubernetes": {"kubeconfig": "k"}}),
            "kubernetes.kubeconfig: expected an absolute path",
        ),
        (
            json!({"kubernetes": {"kubeConfig": "/k"}}),
            "did you mean \"kubeconfig\"?",
        ),
        (
            json!({"kubernetes": {"server": "x"}}),
            "kubernetes: \"server\": unknown key, expected one of kubeconfig, timeout, whenUnreachable, snapshotMaxAge, nodeName",
        ),
        (
            json!({"kubernetes": {"whenUnreachabel": "snapshot"}}),
            "did you mean \"whenUnreachable\"?",
        ),
        (
            json!({"kubernetes": {"snapshotMaxAges": "1h"}}),
            "did you mean \"snapshotMaxAge\"?",
        ),
        (
            json!({"kubernetes": {"whenUnreachable": "allow"}}),
            "kubernetes.whenUnreachable: expected refuse or snapshot, got \"allow\"",
        ),
        (
            json!({"kubernetes": {"snapshotMaxAge": "0s"}}),
            "kubernetes.snapshotMaxAge: expected a duration such as \"1h\"",
        ),
        (
            json!({"kubernetes": {"nodeName": "Node_1"}}),
            "kubernetes.nodeName: expected a node's name, got \"Node_1\"",
        ),
        (
            json!({"kubernetes": {"nodeName": ""}}),
            "kubernetes.nodeName: expected a node's name",
        ),
        (
            json!({"policyfile": "/x"}),
            "\"policyfile\": unknown key, did you mean \"policyFile\"?",
        ),
        (
            json!({"runtimeConfig": []}),
            "runtimeConfig: expected an object",
        ),
    ];
    for (extra, message) in table {
        let error = add_with(extra.clone()).unwrap_err();
        assert_eq!(error.code, 7, "{extra}");
        assert!(error.msg.contains(message), "{extra}: {}", error.msg);
    }
}

#[test]
fn del_forgives_what_it_does_not_need() {
    let entry = merged(json!({
        "policyfile": "/x", "kubernetes": 1, "uplink": "a/b", "logGroup": "x", "logLevel": "loud",
        "logFile": "relative", "unenforceable": 1, "forgedChecksums": "", "runtimeConfig": 7, "prevResult": null,
    }));
    let conf = parse_json(Command::Del, &entry).unwrap();
    assert_eq!(conf.warnings.len(), 9, "{:?}", conf.warnings);
    assert_eq!(conf.log_group, 100);
    let error = parse_json(Command::Del, &merged(json!({"stateDir": "x"}))).unwrap_err();
    assert_eq!(error.code, 7);
}

#[test]
fn unknown_keys_of_others_are_tolerated() {
    add_with(json!({
        "capabilities": {"io.kubernetes.cri.pod-annotations": true}, "myKey": {"nested": 1}, "args": null,
        "ipam": {}, "dns": {}, "cni.dev/whatever": 1, "ipMasq": true, "": 0,
    }))
    .unwrap();
}

#[test]
fn pod_annotations_absent_null_and_given() {
    let read =
        |config: Value| add_with(json!({"runtimeConfig": config})).map(|c| c.pod_annotations);
    let present = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Ok(PodAnnotations::Present(pairs.collect()))
    };
    assert_eq!(read(json!({})), Ok(PodAnnotations::Absent));
    assert_eq!(
        read(json!({"portMappings": []})),
        Ok(PodAnnotations::Absent)
    );
    assert_eq!(
        read(json!({POD_ANNOTATIONS: null})),
        Ok(PodAnnotations::Absent)
    );
    assert_eq!(read(json!({POD_ANNOTATIONS: {}})), present(&[]));
    assert_eq!(
        read(json!({POD_ANNOTATIONS: {"egressway.dev/rules": "deny\nallow", "a": ""}})),
        present(&[("egressway.dev/rules", "deny\nallow"), ("a", "")])
    );
    for bad in [
        json!("x"),
        json!([]),
        json!({"a": 1}),
        json!({"a": null}),
        json!({"a": {"b": "c"}}),
    ] {
        let error = read(json!({POD_ANNOTATIONS: bad})).unwrap_err();
        assert_eq!(error.code, 7);
        assert!(
            error
                .msg
                .starts_with("runtimeConfig[\"io.kubernetes.cri.pod-annotations\"]"),
            "{}",
            error.msg
        );
    }
}

#[test]
fn valid_attachments_absent_null_and_listed() {
    let read = |extra: Value| parse_json(Command::Gc, &merged(extra)).map(|c| c.valid_attachments);
    let listed = |ids: &[&str]| {
        let item = |id: &&str| AttachmentRef {
            container_id: id.to_string(),
            ifname: "eth0".into(),
        };
        Ok(ValidAttachments::Listed(ids.iter().map(item).collect()))
    };
    let list = |id: &str| json!([{"containerID": id, "ifname": "eth0", "later": 1}]);
    assert_eq!(read(json!({})), Ok(ValidAttachments::Absent));
    assert_eq!(
        read(json!({"cni.dev/valid-attachments": null})),
        listed(&[])
    );
    assert_eq!(read(json!({"cni.dev/valid-attachments": []})), listed(&[]));
    assert_eq!(
        read(json!({"cni.dev/valid-attachments": list("a")})),
        listed(&["a"])
    );
    assert_eq!(
        read(json!({"cni.dev/attachments": list("b")})),
        listed(&["b"])
    );
    let both = json!({"cni.dev/valid-attachments": list("a"), "cni.dev/attachments": list("b")});
    assert_eq!(read(both), listed(&["a"]));
    for bad in [
        json!("x"),
        json!({}),
        json!([1]),
        json!([{"containerID": "a"}]),
        json!([{"containerID": 1, "ifname": "e"}]),
    ] {
        let error = read(json!({"cni.dev/valid-attachments": bad})).unwrap_err();
        assert_eq!(error.code, 7);
        assert!(
            error.msg.starts_with("cni.dev/valid-attachments"),
            "{}",
            error.msg
        );
    }
}

#[test]
fn prev_result_is_kept_byte_for_byte() {
    let results = [
        r#"{}"#,
        "{ \"ips\" :[\t{\"b\":1,\n\n \"a\" : 2}\r\n] , \"cniVersion\":\"1.0.0\"}",
        r#"{"z":1,"a":2,"m":{"z":[],"a":{}}}"#,
        r#"{"u":"\u00e9\u0041\/\ud83d\ude00","raw":"é😀","dup":1,"dup":2}"#,
        r#"{"n":123456789012345678901234567890,"f":1.0,"e":1E400,"g":-0.0e-0,"h":0.1000000000000000055511151231257827}"#,
    ];
    for result in results {
        let stdin =
            format!(r#" {{ "name" : "net","prevResult":  {result}  ,"cniVersion":"0.4.0"}} "#);
        for command in [Command::Add, Command::Check, Command::Del] {
            let conf = parse(command, &stdin).unwrap();
            assert_eq!(conf.prev_result.unwrap().get(), result);
        }
    }
}

#[test]
fn a_chained_plugin_needs_prev_result() {
    for stdin in [
        r#"{"name":"net","cniVersion":"1.1.0"}"#,
        r#"{"name":"net","cniVersion":"1.1.0","prevResult": null}"#,
    ] {
        for command in [Command::Add, Command::Check] {
            let error = parse(command, stdin).unwrap_err();
            assert_eq!(error.code, 7);
            assert!(error.msg.contains("prevResult"), "{}", error.msg);
        }
        for command in [Command::Del, Command::Gc, Command::Status] {
            assert!(parse(command, stdin).unwrap().prev_result.is_none());
        }
    }
}

/// The cases of the reference implementation's `skel_test.go`, with our versions for its made-up ones.
#[test]
fn conformance() {
    use Command::*;
    let table: &[(&[Command], &str, u32, &str)] = &[
        (&[Add, Check, Del, Gc, Status], "", 6, "not a JSON object"),
        (&[Add, Check, Del, Gc, Status], "{", 6, "not a JSON object"),
        (
            &[Add, Check, Del, Gc, Status],
            "null",
            6,
            "not a JSON object",
        ),
        (&[Add, Check, Del, Gc, Status], "[]", 6, "not a JSON object"),
        (
            &[Add, Check, Del, Gc, Status],
            r#"{"name":"net"} x"#,
            6,
            "not a JSON object",
        ),
        (
            &[Add, Check, Del, Gc, Status],
            r#"{"some":"config"}"#,
            7,
            "missing network name",
        ),
        (
            &[Add, Check, Del, Gc, Status],
            r#"{"cniVersion":"9.8.7","name":""}"#,
            7,
            "missing network name",
        ),
        (
            &[Add, Check, Del, Gc, Status],
            r#"{"cniVersion":"0.4.0","name":"te%%st"}"#,
            7,
            "invalid characters",
        ),
        (
            &[Add, Check, Del, Gc, Status],
            r#"{"cniVersion":"9.8.7","name":"net"}"#,
            1,
            "incompatible CNI versions",
        ),
        (
            &[Add, Del],
            r#"{"cniVersion":"adsfsadf","name":"net"}"#,
            1,
            "incompatible CNI versions",
        ),
        (
            &[Check, Gc, Status],
            r#"{"cniVersion":"adsfsadf","name":"net"}"#,
            6,
            "is not a version",
        ),
        (
            &[Check],
            r#"{"name":"net"}"#,
            1,
            "config version does not allow CHECK",
        ),
        (
            &[Check],
            r#"{"cniVersion":"0.3.0","name":"net"}"#,
            1,
            "config version does not allow CHECK",
        ),
        (
            &[Check],
            r#"{"cniVersion":"0.3.1","name":"net"}"#,
            1,
            "config version does not allow CHECK",
        ),
        (
            &[Gc],
            r#"{"cniVersion":"1.0.0","name":"net"}"#,
            1,
            "config version does not allow GC",
        ),
        (
            &[Gc],
            r#"{"name":"net"}"#,
            1,
            "config version does not allow GC",
        ),
        (
            &[Status],
            r#"{"cniVersion":"1.0.0","name":"net"}"#,
            1,
            "config version does not allow STATUS",
        ),
        (
            &[Status],
            r#"{"cniVersion":"","name":"net"}"#,
            1,
            "config version does not allow STATUS",
        ),
    ];
    for (commands, stdin, code, message) in table {
        for command in *commands {
            let error = parse(*command, stdin).unwrap_err();
            assert_eq!(error.code, *code, "{command} {stdin}: {error}");
            assert!(error.msg.contains(message), "{command} {stdin}: {error}");
        }
    }
    let error = parse(Add, r#"{"cniVersion":"9.8.7","name":"net"}"#).unwrap_err();
    assert_eq!(
        error.details,
        r#"config is "9.8.7", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#
    );
}

#[test]
fn every_version_is_served_by_the_verbs_it_has() {
    for version in CniVersion::ALL {
        let stdin = format!(r#"{{"cniVersion":"{version}","name":"net","prevResult":{{}}}}"#);
        for (command, since) in [
            (Command::Add, CniVersion::V0_1_0),
            (Command::Del, CniVersion::V0_1_0),
            (Command::Check, CniVersion::V0_4_0),
            (Command::Gc, CniVersion::V1_1_0),
            (Command::Status, CniVersion::V1_1_0),
        ] {
            match parse(command, &stdin) {
                Ok(conf) => assert_eq!(conf.cni_version, version),
                Err(error) => assert!(
                    version < since && error.code == 1,
                    "{command} {version}: {error}"
                ),
            }
        }
    }
}

#[test]
fn stdin_is_limited_and_its_errors_are_told() {
    let too_long = std::io::repeat(b' ');
    assert_eq!(read(too_long).unwrap_err().code, 6);
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(libc::EIO))
        }
    }
    assert_eq!(read(Broken).unwrap_err().code, 5);
    assert_eq!(read(&b"{}"[..]).unwrap(), b"{}");
}

#[test]
fn deep_nesting_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(
        parse(
            Command::Add,
            &format!(r#"{{"name":"net","x":{deep},"prevResult":{{}}}}"#)
        )
        .is_ok()
    );
    assert_eq!(
        parse(
            Command::Add,
            &format!(r#"{{"name":"net","kubernetes":{deep},"prevResult":{{}}}}"#)
        )
        .unwrap_err()
        .code,
        7
    );
}
