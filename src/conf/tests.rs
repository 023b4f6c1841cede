use std::time::Duration;

use serde_json::{Value, json};

use super::runtime::POD_ANNOTATIONS;
use super::*;
use crate::guard;

mod conformance;
mod runtime;

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
