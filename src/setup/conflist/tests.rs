use super::*;
use serde_json::json;

const BRIDGE: &str = r#"{
    "name": "pods",  "cniVersion":"1.0.0",
    "x-unknown": 1.50e+3, "big": 12345678901234567890123,
    "plugins": [
        { "type": "bridge", "mtu": 1450.0,
          "ipam": {"type": "host-local", "b": 1, "a": 2} },
        {"type":"portmap","capabilities":{"portMappings":true}}
    ],
    "disableCheck": false
}
"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours {
    r#type: &'static str,
    policy_file: &'static str,
}

fn entry() -> PluginEntry {
    let ours = Ours {
        r#type: conf::TYPE,
        policy_file: "/p",
    };
    PluginEntry::new(&ours).unwrap()
}

fn with(text: &str) -> String {
    let list = Conflist::parse(text).unwrap();
    list.with(&entry()).unwrap().expect("it was not there")
}

#[test]
fn every_other_byte_stays() {
    let after = with(BRIDGE);
    let ours = ",\n        {\n          \"type\": \"egressway\",\n          \"policyFile\": \"/p\"\n        }";
    assert_eq!(
        after,
        BRIDGE.replace(
            "\"portMappings\":true}}",
            &format!("\"portMappings\":true}}}}{ours}")
        )
    );
    let list = Conflist::parse(&after).unwrap();
    assert_eq!(list.with(&entry()), Ok(None), "again changes nothing");
    assert_eq!(list.without().unwrap().as_deref(), Some(BRIDGE));
    assert_eq!(Conflist::parse(BRIDGE).unwrap().without(), Ok(None));
    assert_eq!(list.others().collect::<Vec<_>>(), ["bridge", "portmap"]);
}

#[test]
fn a_list_in_one_line_stays_in_one_line() {
    let text = r#"{"name":"n","plugins":[{"type":"ptp"}]}"#;
    let after =
        r#"{"name":"n","plugins":[{"type":"ptp"}, {"type":"egressway","policyFile":"/p"}]}"#;
    assert_eq!(with(text), after);
    assert_eq!(
        Conflist::parse(&with(text))
            .unwrap()
            .without()
            .unwrap()
            .as_deref(),
        Some(text)
    );
}

#[test]
fn an_entry_that_is_old_double_or_not_last_is_replaced() {
    for (plugins, lack) in [
        (
            r#"{"type":"ptp"},{"type":"egressway"}"#,
            EntryFault::Different,
        ),
        (
            r#"{"type":"egressway","policyFile":"/p"},{"type":"ptp"}"#,
            EntryFault::NotLast,
        ),
        (
            r#"{"type":"egressway"},{"type":"egressway"},{"type":"ptp"},{"type":"egressway","policyFile":"/p"}"#,
            EntryFault::Twice,
        ),
    ] {
        let before = format!(r#"{{"name":"n","plugins":[{plugins}]}}"#);
        assert_eq!(
            Conflist::parse(&before).unwrap().lack(&entry()),
            Ok(Some(lack)),
            "{before}"
        );
        let after = with(&before);
        let value: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(
            value["plugins"],
            json!([{"type": "ptp"}, entry().value]),
            "{after}"
        );
    }
}

#[test]
fn another_programs_entry_of_our_name_is_left_alone() {
    for (theirs, keys) in [
        (
            r#"{"type":"egressway","routes":[],"vendor":"x"}"#,
            "routes, vendor",
        ),
        (r#"{"type":"egressway","\u001b[2J":1}"#, r"\u{1b}[2J"),
        (
            r#"{"type":"egressway","name":"a","gateway":true}"#,
            "gateway, name",
        ),
    ] {
        let text = format!(r#"{{"name":"n","plugins":[{{"type":"ptp"}},{theirs}]}}"#);
        let list = Conflist::parse(&text).unwrap();
        let stranger = Err(ListFault::Stranger(keys.to_owned()));
        assert_eq!(list.with(&entry()), stranger, "{text}");
        assert_eq!(list.check().map(|()| None), stranger, "{text}");
        assert_eq!(list.without(), Ok(None), "{text}");
        assert_eq!(list.ours(), None, "{text}");
    }
    // Written by hand, with a key of a later version, or misspelt, which the plugin itself refuses: ours.
    for ours in [
        r#"{"type":"egressway"}"#,
        r#"{"type":"egressway","capabilities":{"io.kubernetes.cri.pod-annotations":true}}"#,
        r#"{"type":"egressway","policyFile":"/p","newKey":1}"#,
    ] {
        let text = format!(r#"{{"name":"n","plugins":[{{"type":"ptp"}},{ours}]}}"#);
        let list = Conflist::parse(&text).unwrap();
        assert_eq!(list.check(), Ok(()), "{text}");
        assert!(list.without().unwrap().is_some(), "{text}");
    }
}

#[test]
fn a_conf_becomes_a_conflist_of_the_same_meaning() {
    let conf = "{ \"cniVersion\": \"0.3.1\",\n  \"type\": \"bridge\", \"mtu\": 1e3,\n  \"name\": \"n\" }\n";
    let list = from_single(conf).unwrap();
    let expected = "{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"n\",\n  \"plugins\": [\n    { \"cniVersion\": \"0.3.1\",\n      \"type\": \"bridge\", \"mtu\": 1e3,\n      \"name\": \"n\" }\n  ]\n}\n";
    assert_eq!(list, expected);
    assert!(with(&list).contains("egressway"));
    assert!(
        !from_single(r#"{"name":"n","type":"t"}"#)
            .unwrap()
            .contains("cniVersion")
    );
}

#[test]
fn what_no_runtime_could_use_is_named() {
    let fault = |text: &str| Conflist::parse(text).unwrap_err();
    assert_eq!(fault(""), ListFault::Empty);
    assert_eq!(fault(" \n"), ListFault::Empty);
    for text in [
        "{",
        "[]",
        "nonsense",
        &BRIDGE[..BRIDGE.len() / 2],
        "\u{feff}{}",
        "{} {}",
    ] {
        assert!(matches!(fault(text), ListFault::NotJson(_)), "{text:?}");
    }
    assert_eq!(fault(r#"{"plugins":[{"type":"a"}]}"#), ListFault::NoName);
    assert_eq!(
        fault(r#"{"name":"","plugins":[{"type":"a"}]}"#),
        ListFault::NoName
    );
    for plugins in [
        "",
        r#","plugins":[]"#,
        r#","plugins":{}"#,
        r#","plugins":null"#,
    ] {
        assert_eq!(
            fault(&format!(r#"{{"name":"n"{plugins}}}"#)),
            ListFault::NoPlugins
        );
    }
    assert_eq!(
        fault(r#"{"name":"n","plugins":[{"type":"a"},{"typo":"b"}]}"#),
        ListFault::NoType(2)
    );
    let version =
        |v: &str| format!(r#"{{"name":"n","cniVersion":{v},"plugins":[{{"type":"a"}}]}}"#);
    assert_eq!(
        fault(&version("\"2.0.0\"")),
        ListFault::Version("2.0.0".into())
    );
    assert_eq!(fault(&version("1")), ListFault::Version("1".into()));
    let ours = r#"{"name":"n","plugins":[{"type":"egressway"}]}"#;
    let list = Conflist::parse(ours).unwrap();
    assert_eq!(list.with(&entry()), Err(ListFault::OnlyOurs));
    assert_eq!(list.without(), Err(ListFault::OnlyOurs));
    assert_eq!(from_single("{}"), Err(ListFault::NoName));
    assert_eq!(from_single(r#"{"name":"n"}"#), Err(ListFault::NoType(1)));
}
