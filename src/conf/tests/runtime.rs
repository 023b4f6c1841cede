//! What the runtime adds to our entry.

use super::*;

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
