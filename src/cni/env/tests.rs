use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use super::*;

const NAMES: [&str; 6] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
];

/// The environment that the reference implementation's own tests use.
fn complete(command: &str) -> HashMap<&'static str, OsString> {
    let values = [
        command,
        "some-container-id",
        "/some/netns/path",
        "eth0",
        "some;extra;args",
        "/some/cni/path",
    ];
    NAMES.into_iter().zip(values.map(OsString::from)).collect()
}

fn read(env: &HashMap<&'static str, OsString>) -> Result<Invocation, CniError> {
    Invocation::from_env(|name| env.get(name).cloned())
}

fn with(
    command: &str,
    name: &'static str,
    value: impl Into<OsString>,
) -> Result<Invocation, CniError> {
    let mut env = complete(command);
    env.insert(name, value.into());
    read(&env)
}

#[test]
fn required_variables_by_verb() {
    let table: [(&str, &[&str]); 6] = [
        (
            "ADD",
            &[
                "CNI_COMMAND",
                "CNI_CONTAINERID",
                "CNI_NETNS",
                "CNI_IFNAME",
                "CNI_PATH",
            ],
        ),
        (
            "CHECK",
            &[
                "CNI_COMMAND",
                "CNI_CONTAINERID",
                "CNI_NETNS",
                "CNI_IFNAME",
                "CNI_PATH",
            ],
        ),
        (
            "DEL",
            &["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
        ),
        ("GC", &["CNI_COMMAND", "CNI_PATH"]),
        ("STATUS", &["CNI_COMMAND", "CNI_PATH"]),
        ("VERSION", &["CNI_COMMAND"]),
    ];
    for (command, required) in table {
        assert_eq!(read(&complete(command)).unwrap().command.as_str(), command);
        for name in NAMES {
            let mut env = complete(command);
            env.remove(name);
            let unset = read(&env);
            let empty = with(command, name, "");
            assert_eq!(unset, empty, "{command} {name}: empty is missing");
            if required.contains(&name) {
                let error = unset.unwrap_err();
                assert_eq!(error.code, 4, "{command} {name}");
                assert_eq!(
                    error.msg,
                    format!("required env variables [{name}] missing")
                );
            } else {
                unset.unwrap_or_else(|e| panic!("{command} without {name}: {e}"));
            }
        }
    }
}

#[test]
fn all_missing_variables_are_named() {
    let mut env = complete("ADD");
    for name in ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        env.remove(name);
    }
    let error = read(&env).unwrap_err();
    assert_eq!(
        error.msg,
        "required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"
    );
}

#[test]
fn unknown_commands() {
    for command in ["add", "UPDATE", "ADD ", "ADD\n"] {
        let error = with("ADD", "CNI_COMMAND", command).unwrap_err();
        assert_eq!(error.code, 4);
        assert!(
            error.msg.starts_with("unknown CNI_COMMAND: "),
            "{}",
            error.msg
        );
    }
}

#[test]
fn everything_is_read() {
    let mut env = complete("ADD");
    env.insert(
        "CNI_ARGS",
        "K8S_POD_UID=u-1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop".into(),
    );
    env.insert("CNI_NETNS_OVERRIDE", "TRUE".into());
    let expected = Invocation {
        command: Command::Add,
        container_id: "some-container-id".into(),
        ifname: "eth0".into(),
        netns: "/some/netns/path".into(),
        args: PodArgs {
            namespace: Some("shop".into()),
            name: Some("web".into()),
            uid: Some("u-1".into()),
        },
        netns_override: true,
    };
    assert_eq!(read(&env), Ok(expected));
}

#[test]
fn netns_override_values() {
    for (value, expected) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("0", false),
        ("yes", false),
        ("", false),
    ] {
        assert_eq!(
            with("ADD", "CNI_NETNS_OVERRIDE", value)
                .unwrap()
                .netns_override,
            expected,
            "{value}"
        );
    }
}

#[test]
fn hostile_values_are_refused_in_a_short_message() {
    let long = "a".repeat(100_000);
    let table: [(&'static str, &[&str]); 4] = [
        ("CNI_COMMAND", &["../ADD", "A\nDD", &long]),
        (
            "CNI_CONTAINERID",
            &[
                "some-%%container-id",
                "../x",
                "a/b",
                ".hidden",
                "-x",
                "a\nb",
                "a b",
                "é",
                &long,
            ],
        ),
        (
            "CNI_IFNAME",
            &[
                "1234567890123456",
                ".",
                "..",
                "test/test",
                "test:test",
                "test test",
                "a\nb",
                "a\u{1}",
                &long,
            ],
        ),
        ("CNI_NETNS", &["/run/netns/\n", &long]),
    ];
    for (name, values) in table {
        let bytes = OsString::from_vec(b"/run/\xff\xfe".to_vec());
        for value in values.iter().map(OsString::from).chain([bytes]) {
            let error = with("ADD", name, value.clone()).unwrap_err();
            assert_eq!(error.code, 4, "{name} {value:?}");
            assert!(error.msg.contains(name), "{}", error.msg);
            assert!(error.msg.len() < 300, "{name}: {} bytes", error.msg.len());
            assert!(
                !error.msg.contains(|c: char| c.is_control()),
                "{:?}",
                error.msg
            );
        }
    }
}

#[test]
fn valid_names() {
    for id in ["a", "0", "some-container_id.1", &"f".repeat(64)] {
        assert_eq!(with("ADD", "CNI_CONTAINERID", id).unwrap().container_id, id);
    }
    for ifname in ["e", "eth0", "123456789012345", "net1.100", "a@b", "..."] {
        assert_eq!(with("ADD", "CNI_IFNAME", ifname).unwrap().ifname, ifname);
    }
}

#[test]
fn gc_and_status_look_at_no_attachment() {
    for command in ["GC", "STATUS", "VERSION"] {
        let call = with(command, "CNI_CONTAINERID", "not/valid").unwrap();
        assert_eq!((call.container_id.as_str(), call.ifname.as_str()), ("", ""));
    }
}

#[test]
fn args_of_runtimes() {
    let read = |text: &str| with("ADD", "CNI_ARGS", text).unwrap().args;
    let pod = PodArgs {
        namespace: Some("default".into()),
        name: Some("smoke".into()),
        uid: Some("dd4ae8d3-2aff-4bde-9f8c-47bde9631832".into()),
    };
    let containerd = "K8S_POD_INFRA_CONTAINER_ID=ea36;K8S_POD_UID=dd4ae8d3-2aff-4bde-9f8c-47bde9631832;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=smoke";
    assert_eq!(read(containerd), pod);
    // CRI-O puts its own environment's CNI_ARGS in front, and IP and MAC behind.
    let crio = "X=a=b;K8S_POD_NAME=old;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=smoke;K8S_POD_UID=dd4ae8d3-2aff-4bde-9f8c-47bde9631832;IP=;MAC=";
    assert_eq!(read(crio), pod);
    for nothing in [
        "",
        ";",
        "some;extra;args",
        "K8S_POD_NAME=",
        "k8s_pod_name=x",
        &format!("X={}", "y".repeat(100_000)),
    ] {
        assert_eq!(read(nothing), PodArgs::default(), "{nothing}");
    }
}

#[test]
fn broken_args_stop_add_but_not_del() {
    let broken = [
        "K8S_POD_NAME",
        "K8S_POD_NAMESPACE=a/b",
        "K8S_POD_NAMESPACE=..",
        "K8S_POD_NAME=a=b",
        "K8S_POD_UID=x\ny",
        &format!("K8S_POD_NAME={}", "a".repeat(254)),
    ];
    for text in broken {
        assert_eq!(
            with("ADD", "CNI_ARGS", text).unwrap_err().code,
            4,
            "{text:?}"
        );
        assert_eq!(
            with("CHECK", "CNI_ARGS", text).unwrap_err().code,
            4,
            "{text:?}"
        );
        assert_eq!(
            with("DEL", "CNI_ARGS", text).unwrap().args,
            PodArgs::default()
        );
    }
    let bytes = OsString::from_vec(b"K8S_POD_NAME=\xff".to_vec());
    assert_eq!(with("ADD", "CNI_ARGS", bytes.clone()).unwrap_err().code, 4);
    assert_eq!(
        with("DEL", "CNI_ARGS", bytes).unwrap().args,
        PodArgs::default()
    );
    let netns = OsString::from_vec(b"/run/netns/\xff".to_vec());
    assert_eq!(
        with("DEL", "CNI_NETNS", netns).unwrap().netns,
        PathBuf::new()
    );
}
