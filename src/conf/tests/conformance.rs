//! The versions of the specification, and the verbs that each has.

use super::*;

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
