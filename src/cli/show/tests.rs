//! Made-up attachments as they are printed, and what is seen of real ones in the kernel.

use clap::{CommandFactory, Parser};

use super::detail::Counted;
use super::kernel::Kernel;
use super::list::{Mode, Row, State};
use super::*;
use crate::cli::records::tests::{record, store};
use crate::enforce::Install;
use crate::net::test_support::{in_fresh_netns, ip, link, run};
use crate::nft::Counter;
use crate::plan::{Base, Bridge};

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
    web.plan.id = "0123456789abcdef".to_owned();
    web.plan.policy = "pol-0123456789abcdef".to_owned();
    web.plan.egress = vec!["203.0.113.10".parse().expect("an address")];
    web.plan.bridge = Some(Bridge {
        name: "cni0".to_owned(),
        index: 3,
        mac: [2, 0, 0, 0, 0, 9],
    });
    let mut row = Row::new(&web, &Kernel::default(), 1);
    (row.state, row.problems) = (State::Ok, Vec::new());
    (row.judged, row.denied) = (count(12, 720), count(3, 180));
    (web, row)
}

fn list() -> List {
    let (_, web) = made_up();
    let mut db = Row::new(&record("db-0", 8, &["10.0.0.3"], ""), &Kernel::default(), 1);
    (db.state, db.problems) = (State::Ok, Vec::new());
    (db.mode, db.pod) = (Mode::Audit, None);
    db.add_problems([
        "veth8 is gone".to_owned(),
        "10.0.0.3 is not judged".to_owned(),
    ]);
    List {
        attachments: vec![db, web],
        leak_stop: count(2, 100),
    }
}

#[test]
fn the_list_as_text() {
    assert_eq!(
        list().text(false),
        "\
POD         ADDRESSES          VETH    RULES   MODE      EGRESS IP      JUDGED   DENIED   STATE
shop/db-0   10.0.0.3           veth8   0       audit     -              0        0        veth8 is gone; 10.0.0.3 is not judged
shop/web    10.0.0.2,fd00::2   veth7   3       enforce   203.0.113.10   12       3        ok

2 packets of this node were dropped that would have left with another source than the egress IP
"
    );
    let coloured = list().text(true);
    assert!(coloured.contains("\x1b[32mok\x1b[0m\n"), "{coloured:?}");
    assert!(coloured.contains("\x1b[31mveth8 is gone; "), "{coloured:?}");
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
                "rules": 3,
                "egressIPs": ["203.0.113.10"],
                "judged": {"packets": 12, "bytes": 720},
                "denied": {"packets": 3, "bytes": 180},
                "state": "ok",
                "problems": [],
            }],
            "leakStop": {"packets": 2, "bytes": 100},
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
    Detail::new(&record, row, users, count(1, 60), Some(&policy), &counted)
}

#[test]
fn one_attachment_as_text() {
    assert_eq!(
        detail(3).text(false),
        "\
shop/web
  attachment  0123456789abcdef
  interface   eth0 of network net
  container   web
  uid         f81d4fae
  addresses   10.0.0.2,fd00::2
  link-local  fe80::1
  MAC         02:00:00:00:00:01
  veth        veth7, index 7
  bridge      cni0
  egress IP   203.0.113.10
  mode        enforce
  log group   100
  judged      12 packets, 720 bytes
  denied      3 packets, 180 bytes
  forged      1 packets, 60 bytes, dropped at the veth
  state       ok

pod (pod annotation)
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
        json["forged"],
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
    assert_eq!(mode(&web), Mode::Enforce);
    web.policy.tiers[0].audit = true;
    assert_eq!(mode(&web), Mode::Audit);
    web.policy.tiers.clear();
    web.policy.facts.dns = vec!["10.96.0.10".parse().expect("an address")];
    assert_eq!(mode(&web), Mode::Enforce, "it denies by default");
    web.policy.default_action = crate::policy::effective::DefaultAction::Allow;
    assert_eq!(mode(&web), Mode::Exempt);
}

/// A node with pod `web`, its veth `host0` and an egress IP, as ADD leaves it.
fn node() -> (tempfile::TempDir, Record) {
    ip("link add host0 type veth peer name eth0");
    let mut web = record(
        "web",
        link("host0").index,
        &["10.0.0.2", "fd00::2"],
        "deny 25/tcp, 26/tcp to 10.0.0.0/8, fd00::/8; allow",
    );
    web.plan.veth = "host0".to_owned();
    web.plan.egress = vec!["203.0.113.10".parse().expect("an address")];
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &web);
    install(&web);
    (dir, web)
}

fn install(record: &Record) {
    let policy = record.policy.rebuild().expect("valid");
    let compiled = plan::compile(&policy, record.log_group);
    Install {
        base: &Base::new(&[]),
        policy: &compiled,
        attachment: &record.plan,
        bridge_ports: &[],
        previous: None,
    }
    .commit(&mut Nft::open().expect("a socket"))
    .expect("the kernel takes it");
}

fn problems(record: &Record) -> Vec<String> {
    let kernel = Kernel::read(&mut Nft::open().expect("a socket")).expect("the kernel tells");
    kernel.problems(record, 1)
}

#[test]
fn each_damage_is_named() {
    in_fresh_netns(|| {
        let (_dir, web) = node();
        assert_eq!(problems(&web), [""; 0]);
        let (id, policy) = (&web.plan.id, &web.plan.policy);
        let damages = [
            (
                "delete element inet egress-cni pod4 { 10.0.0.2 }",
                "10.0.0.2 is not judged",
            ),
            (
                "delete element inet egress-cni snatted4 { 10.0.0.2 }",
                "10.0.0.2 is not kept to egress IP 203.0.113.10",
            ),
            (
                "delete element inet egress-cni eip4 { 203.0.113.10 }",
                "10.0.0.2 is not kept to egress IP 203.0.113.10",
            ),
            (
                "flush chain inet egress-cni pod-ID",
                "chain pod-ID is empty",
            ),
            (
                "flush chain inet egress-cni POLICY",
                "chain POLICY is empty",
            ),
            (
                "flush chain inet egress-cni do-deny",
                "chain do-deny has other rules",
            ),
            (
                "flush chain inet egress-cni enforce",
                "chain enforce has other rules",
            ),
            (
                "flush chain netdev egress-cni if-ID",
                "chain if-ID lacks rules",
            ),
            (
                "flush chain netdev egress-cni nd-ID",
                "chain nd-ID lacks rules",
            ),
            (
                "delete chain netdev egress-cni if-ID",
                "chain if-ID is missing",
            ),
        ];
        for (damage, problem) in damages {
            let named = |text: &str| text.replace("ID", id).replace("POLICY", policy);
            run("nft", &[&named(damage)]);
            assert_eq!(problems(&web), [named(problem)], "{damage}");
            install(&web);
            assert_eq!(problems(&web), [""; 0], "after {damage}");
        }
        let mut other = web.clone();
        other.plan.id = "0123456789abcdef".to_owned();
        let told = problems(&other);
        assert!(
            told.contains(&"fd00::2 is another attachment's".to_owned()),
            "{told:?}"
        );
        other.layout += 1;
        assert_eq!(
            problems(&other),
            ["added by another version of egress-cni: not compared"]
        );
        ip("link del host0");
        assert_eq!(problems(&web), ["host0 is gone"]);
        run("nft", &["delete table inet egress-cni"]);
        let told = problems(&web);
        assert!(
            told.contains(&"chain enforce is missing".to_owned()),
            "{told:?}"
        );
    });
}

/// A few dumps, not a query a pod.
#[test]
fn many_pods_are_listed_at_once() {
    const PODS: u32 = 250;
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        for n in 0..PODS {
            ip(&format!("link add veth{n} index {} type veth peer name peer{n}", 1000 + n));
            let addresses = [format!("10.0.0.{n}"), format!("fd00::{n}")];
            let addresses = addresses.each_ref().map(String::as_str);
            let mut pod = record(
                &format!("web-{n}"),
                1000 + n,
                &addresses,
                "deny 25/tcp; allow",
            );
            pod.plan.veth = format!("veth{n}");
            store(dir.path(), &pod);
            install(&pod);
        }
        let started = Instant::now();
        let (_, text) = shown(&args(dir.path(), "")).expect("is shown");
        let took = started.elapsed();
        let healthy = text.lines().filter(|line| line.ends_with("   ok")).count();
        assert_eq!(healthy, PODS as usize, "{text}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        eprintln!("TOOK {took:?}");
    });
}

/// Runs the command with its output in a text.
fn shown(args: &Args) -> Result<(ExitCode, String), String> {
    let mut out = Vec::new();
    let code = show(args, &mut out).map_err(|e| e.to_string())?;
    Ok((code, String::from_utf8(out).expect("UTF-8")))
}

#[test]
fn a_single_rule_that_differs_is_found_in_full_view() {
    in_fresh_netns(|| {
        let (dir, web) = node();
        let one = args(dir.path(), "web -o json");
        let state = || {
            let (_, text) = shown(&one).expect("is shown");
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(
                json["tiers"][0]["rules"][0]["counted"]["packets"], 0,
                "{text}"
            );
            json["problems"].clone()
        };
        assert_eq!(state(), serde_json::json!([]));
        run(
            "nft",
            &[&format!(
                "insert rule inet egress-cni {} accept",
                web.plan.policy
            )],
        );
        let named = format!(
            "the policy's chain {} is missing or differs",
            web.plan.policy
        );
        assert_eq!(state(), serde_json::json!([named]));
    });
}

#[test]
fn nft_takes_its_own_text() {
    in_fresh_netns(|| {
        let (dir, web) = node();
        let (_, text) = shown(&args(dir.path(), "10.0.0.2 --nft")).expect("is shown");
        assert!(text.contains(&format!("add chain inet egress-cni {}\n", web.plan.policy)));
        assert!(text.contains("hook ingress device \"host0\""), "{text}");
        run("nft", &["flush ruleset"]);
        let base = nft::text(&Base::new(&[]).add(&[]));
        run("nft", &[&(base + &text)]);
        assert_eq!(problems(&web), [""; 0]);
    });
}

#[test]
fn nothing_there_is_a_failure_only_if_it_was_asked_for() {
    in_fresh_netns(|| {
        let (dir, _) = node();
        let empty = tempfile::tempdir().expect("a directory");
        let code = |dir: &tempfile::TempDir, rest| shown(&args(dir.path(), rest)).map(|(c, _)| c);
        let is = |found: Result<ExitCode, String>, wanted: ExitCode| {
            assert_eq!(
                format!("{found:?}"),
                format!("{:?}", Ok::<_, String>(wanted))
            );
        };
        is(code(&empty, ""), ExitCode::SUCCESS);
        is(code(&empty, "-o json"), ExitCode::SUCCESS);
        is(code(&empty, "--namespace shop"), ExitCode::FAILURE);
        is(code(&dir, "--namespace shop --pod web"), ExitCode::SUCCESS);
        is(code(&dir, "--pod db -o json"), ExitCode::FAILURE);
        let told = code(&dir, "db").expect_err("no such pod");
        assert_eq!(
            told,
            format!(
                "no pod db is attached on this node, by {}",
                dir.path().display()
            )
        );
        // Damaged records hide no others.
        let damaged = dir.path().join("attachments/0000000000000000.json");
        std::fs::write(damaged, "{").expect("writable");
        let (_, text) = shown(&args(dir.path(), "")).expect("is shown");
        assert!(text.contains("\nshop/web "), "{text}");
    });
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
        (Some(2), Some("web"))
    );
}
