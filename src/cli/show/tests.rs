//! Made-up attachments as they are printed.

use clap::{CommandFactory, Parser};

use super::detail::Counted;
use super::guards::ForgedChecksums;
use super::kernel::Kernel;
use super::list::{Row, ShownMode, State};
use super::*;
use crate::attachment::test_support::record;
use crate::store::Bridge;
use crate::store::document::Unknown;
use nft::Counter;

mod real;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(state: &std::path::Path, rest: &str) -> Args {
    let words = ["show", "--state-dir", state.to_str().expect("UTF-8")];
    let words = words.into_iter().chain(rest.split_whitespace());
    Cli::try_parse_from(words).expect("valid arguments").args
}

fn count(packets: u64, bytes: u64) -> Counter {
    Counter { packets, bytes }
}

/// A record, and what there would be to say of it.
fn made_up() -> (Record, Row) {
    let mut web = record(
        "web",
        7,
        &["10.0.0.2", "fd00::2"],
        "# mail\ndeny 25/tcp log name=no-mail; allow 443/tcp\nallow 80/tcp to 10.0.0.0/8 priority=5",
    );
    web.uid = Some("f81d4fae".to_owned());
    web.id = "0123456789abcdef".parse().expect("an id");
    web.policy_chain = "pol-0123456789abcdef".to_owned();
    web.egress = vec!["203.0.113.10".parse().expect("an address")];
    web.bridge = Some(Bridge {
        name: "cni0".to_owned(),
        index: 3,
        mac: [2, 0, 0, 0, 0, 9],
        unknown: Unknown::default(),
    });
    let mut row = Row::new(&web, &Kernel::default(), 1);
    (row.state, row.problems) = (State::Ok, Vec::new());
    (row.judged, row.denied) = (count(12, 720), count(3, 180));
    row.last_deny = Some(two_days_ago());
    row.forged_checksums = ForgedChecksums::dropped(9);
    (web, row)
}

fn two_days_ago() -> jiff::Timestamp {
    jiff::Timestamp::now() - jiff::SignedDuration::from_hours(49)
}

fn list() -> List {
    let (_, web) = made_up();
    let mut db = Row::new(&record("db-0", 8, &["10.0.0.3"], ""), &Kernel::default(), 1);
    (db.state, db.problems) = (State::Ok, Vec::new());
    (db.mode, db.pod) = (ShownMode::Audit, None);
    db.add_problems([
        "veth8 is gone".to_owned(),
        "packets from 10.0.0.3 are not filtered".to_owned(),
    ]);
    List {
        attachments: vec![db, web],
        leak_stop: count(2, 100),
        connections_failed: 7,
        pending: None,
        uncovered: None,
    }
}

#[test]
fn the_list_as_text() {
    assert_eq!(
        list().wide(false),
        "\
POD         ADDRESSES          VETH    RULES   MODE      EGRESS IP      PACKETS   DENIED   LAST   STATE
shop/db-0   10.0.0.3           veth8   0       audit     -              0         0        -      veth8 is gone; packets from 10.0.0.3 are not filtered
shop/web    10.0.0.2,fd00::2   veth7   3       enforce   203.0.113.10   12        3        2d     ok

forged checksums: 9 packets dropped

forged checksums of 1 pod: IGNORED

dropped on this node, about to leave with another source than the egress IP: 2 packets, 100 bytes

connections that this node could not take on: 7 (no free port on an egress IP, or conntrack's table is full)
"
    );
    let coloured = list().text(true, None);
    assert!(coloured.contains("\x1b[32mok\x1b[0m\n"), "{coloured:?}");
    assert!(coloured.contains("\x1b[31mveth8 is gone; "), "{coloured:?}");
}

#[test]
fn the_list_fits_into_80_columns() {
    let mut list = list();
    list.attachments[1].title = "payments/web-7f9c4d5b9-x2xkq".to_owned();
    let text = list.text(false, Some(80));
    let table: Vec<&str> = text.lines().take(3).collect();
    assert_eq!(
        table,
        [
            "POD                          MODE     RULES  DENIED  LAST  EGRESS IP     STATE",
            "shop/db-0                    audit    0      0       -     -             damaged",
            "payments/web-…9c4d5b9-x2xkq  enforce  3      3       2d    203.0.113.10  ok",
        ]
    );
    assert!(text.ends_with("\ndamaged: `egressway show POD` says what is missing\n"));
    assert!(
        list.text(false, None)
            .contains("veth8 is gone; packets from 10.0.0.3 are not filtered")
    );
}

#[test]
fn the_list_as_json() {
    let mut list = list();
    list.attachments.remove(0);
    assert_eq!(
        serde_json::to_value(&list).expect("JSON"),
        serde_json::json!({
            "attachments": [{
                "id": "0123456789abcdef",
                "namespace": "shop",
                "pod": "web",
                "uid": "f81d4fae",
                "containerID": "web",
                "interface": "eth0",
                "addresses": ["10.0.0.2", "fd00::2"],
                "veth": "veth7",
                "bridge": "cni0",
                "mode": "enforce",
                "rulesIgnored": false,
                "rules": 3,
                "egressIPs": ["203.0.113.10"],
                "judged": {"packets": 12, "bytes": 720},
                "denied": {"packets": 3, "bytes": 180},
                "forgedChecksums": {"action": "drop", "dropped": 9, "reason": null},
                "lastDeny": list.attachments[0].last_deny,
                "state": "ok",
                "problems": [],
                "policySince": null,
                "invalid": null,
                "lastLoggedDeny": null,
            }],
            "leakStop": {"packets": 2, "bytes": 100},
            "connectionsFailed": 7,
            "pending": null,
            "uncovered": null,
        })
    );
}

/// `made_up` with some counters; its rule of line 3 has none.
fn detail(users: usize) -> Detail {
    let (record, row) = made_up();
    let counted = Counted::from([
        ("pod:no-mail".to_owned(), count(3, 180)),
        ("pod:2".to_owned(), count(9, 540)),
        ("default:deny".to_owned(), count(0, 0)),
    ]);
    let policy = record.policy.rebuild().expect("valid");
    let dropped = [("source", count(1, 60)), ("mac", count(0, 0))];
    let dropped = dropped
        .map(|(kind, counter)| (kind.to_owned(), counter))
        .into();
    Detail::new(&record, row, users, dropped, Some(&policy), &counted)
}

#[test]
fn one_attachment_as_text() {
    let shown = detail(3);
    let time = format!("{:.0}", shown.row.last_deny.expect("a time"));
    assert_eq!(
        shown.text(false).replace(&time, "TIME"),
        "\
shop/web
  attachment        0123456789abcdef
  interface         eth0 of network net
  container         web
  uid               f81d4fae
  addresses         10.0.0.2,fd00::2
  link-local        fe80::1
  MAC               02:00:00:00:00:01
  veth              veth7, index 7
  bridge            cni0
  egress IP         203.0.113.10
  mode              enforce
  log group         100
  policy            pol-0123456789abcdef
  judged            12 packets, 720 bytes
  denied            3 packets, 180 bytes
  last deny         TIME, 2d ago, by pod:no-mail
  dropped           1 packet, 60 bytes, at the veth: source 1
  forged checksums  drop (9 dropped)
  state             ok

pod (pod annotation egressway.dev/rules)
  PACKETS   BYTES   NAME          RULE
  -         -       pod:3         allow 80/tcp to 10.0.0.0/8 priority=5
  3         180     pod:no-mail   deny 25/tcp log name=no-mail
  9         540     pod:2         allow 443/tcp

default
  PACKETS   BYTES   NAME           RULE
  0         0       default:deny   deny

The rules' counters are those of all 3 attachments that have this policy.
"
    );
    assert!(!detail(1).text(false).contains("attachments that have"));
}

#[test]
fn one_attachment_as_json() {
    let json = serde_json::to_value(detail(1)).expect("JSON");
    assert_eq!(json["judged"]["packets"], 12);
    assert_eq!(json["policyUsers"], 1);
    assert_eq!(
        json["droppedAtVeth"],
        serde_json::json!({"packets": 1, "bytes": 60})
    );
    assert_eq!(
        json["tiers"][0]["rules"][1],
        serde_json::json!({
            "rule": "pod:no-mail",
            "line": 2,
            "text": "deny 25/tcp log name=no-mail",
            "counted": {"packets": 3, "bytes": 180},
        })
    );
    assert_eq!(
        json["tiers"][0]["rules"][0]["counted"],
        serde_json::Value::Null
    );
    assert_eq!(
        json["default"],
        serde_json::json!({
            "rule": "default:deny",
            "action": "deny",
            "audit": false,
            "counted": {"packets": 0, "bytes": 0},
        })
    );
}

#[test]
fn help_names_every_field() {
    fn fields(value: &serde_json::Value, found: &mut Vec<String>) {
        if let Some(object) = value.as_object() {
            found.extend(object.keys().cloned());
            object.values().for_each(|value| fields(value, found));
        }
        for value in value.as_array().into_iter().flatten() {
            fields(value, found);
        }
    }
    let mut found = Vec::new();
    fields(&serde_json::to_value(list()).expect("JSON"), &mut found);
    fields(&serde_json::to_value(detail(1)).expect("JSON"), &mut found);
    assert!(found.len() > 30);
    let help = Cli::command().render_long_help().to_string();
    let documented: Vec<&str> = help.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for field in found {
        assert!(documented.contains(&field.as_str()), "{field}: {help}");
    }
}

#[test]
fn an_exempt_namespace_and_audit_mode_are_told() {
    let mut web = record("web", 7, &["10.0.0.2"], "deny 25/tcp");
    let mode = |record: &Record| Row::new(record, &Kernel::default(), 1).mode;
    assert_eq!(mode(&web), ShownMode::Enforce);
    web.policy.tiers[0].audit = true;
    assert_eq!(mode(&web), ShownMode::Audit);
    web.exempt = true;
    assert_eq!(mode(&web), ShownMode::Exempt);
}

#[test]
fn wrong_usage_is_refused() {
    for words in [
        "--nft",
        "web --nft -o json",
        "web --nft --watch",
        "web --pod web",
        "--watch=0",
        "--watch=x",
        "-o yaml",
        "a b",
    ] {
        let words = ["show"].into_iter().chain(words.split_whitespace());
        let words: Vec<&str> = words.collect();
        assert!(Cli::try_parse_from(&words).is_err(), "{words:?}");
    }
    let watching = args(std::path::Path::new("/"), "--watch web");
    assert_eq!(
        (watching.watch, watching.pod_name.as_deref()),
        (Some(Duration::from_secs(2)), Some("web"))
    );
}
