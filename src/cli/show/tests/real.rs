//! What is seen of real attachments in the kernel.

use super::super::kernel::Kernel;
use super::super::*;
use super::args;
use std::borrow::Cow;

use crate::attachment::test_support::{record, store};
use crate::enforce::{Install, Ledger, Shared};
use crate::plan::Base;
use crate::store::document::Unknown;
use crate::store::{Owner, StateDir};
use netlink::test_support::{has_carrier, in_fresh_netns, ip, link, run};

/// A node with pod `web`, its veth `host0` and an egress IP, as ADD leaves it.
fn node() -> (tempfile::TempDir, Record) {
    ip("link add host0 type veth peer name eth0 address 02:00:00:00:00:01");
    ip("link add uplink type bridge");
    ip("link add up0 type veth peer name up1");
    ip("link set up0 master uplink up");
    ip("link set up1 up");
    ip("link set uplink up");
    has_carrier("uplink");
    ip("addr add 203.0.113.10/32 dev uplink");
    let mut web = record(
        "web",
        link("host0").index,
        &["10.0.0.2", "fd00::2"],
        "deny 25/tcp, 26/tcp to 10.0.0.0/8, fd00::/8; allow",
    );
    web.veth = "host0".to_owned();
    web.egress = vec!["203.0.113.10".parse().expect("an address")];
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &web);
    let owner = Owner {
        namespace: "shop".to_owned(),
        uplink: "uplink".to_owned(),
        uplink_index: link("uplink").index,
        follows_route: false,
        arp_probe: true,
        users: vec![web.id.clone()],
        lease: None,
        unknown: Unknown::default(),
    };
    let written = StateDir::new(dir.path()).write_egress(web.egress[0], &owner);
    written.expect("writable");
    install(&web);
    (dir, web)
}

fn install(record: &Record) {
    let policy = record.policy.rebuild().expect("valid");
    let compiled = plan::compile(&policy, record.log_group);
    let base = Base::new(&[]);
    let shared = Shared {
        marker: base.marker(),
        base: &|| Ok(Cow::Borrowed(&base)),
        policy: &|| Ok(Cow::Borrowed(&compiled)),
    };
    let plan = AttachmentPlan::from(record);
    let install = Install {
        attachment: &plan,
        shared: &shared,
        before: None,
        bridge_ports: &[],
        previous: &[],
    };
    // Nothing is known there, so that all of it is looked at.
    let state = tempfile::tempdir().expect("a directory");
    let state = StateDir::new(state.path());
    let mut nft = Nft::open().expect("a socket");
    let mut ledger = Ledger::open(&state, &mut nft).expect("the kernel tells");
    install
        .commit(&mut nft, &mut ledger)
        .expect("the kernel takes it");
}

fn problems(dir: &tempfile::TempDir, record: &Record) -> Vec<String> {
    let state = StateDir::new(dir.path());
    let mut nft = Nft::open().expect("a socket");
    let kernel = Kernel::read(&mut nft, &state, [record]);
    kernel.expect("the kernel tells").problems(record, 1)
}

#[test]
fn each_damage_is_named() {
    in_fresh_netns(|| {
        let (dir, web) = node();
        assert_eq!(problems(&dir, &web), [""; 0]);
        let (id, policy) = (web.id.as_str(), &web.policy_chain);
        let damages = [
            (
                "delete element inet egressway pod4 { 10.0.0.2 }",
                "packets from 10.0.0.2 are not filtered",
            ),
            (
                "delete element inet egressway snatted4 { 10.0.0.2 }",
                "10.0.0.2 is not kept to egress IP 203.0.113.10",
            ),
            (
                "delete element inet egressway eip4 { 203.0.113.10 }",
                "10.0.0.2 is not kept to egress IP 203.0.113.10",
            ),
            ("flush chain inet egressway pod-ID", "chain pod-ID is empty"),
            ("flush chain inet egressway POLICY", "chain POLICY is empty"),
            (
                "flush chain inet egressway do-deny",
                "chain do-deny has other rules",
            ),
            (
                "flush chain inet egressway enforce",
                "chain enforce has other rules",
            ),
            (
                "flush chain netdev egressway if-ID",
                "chain if-ID lacks rules",
            ),
            (
                "flush chain netdev egressway nd-ID",
                "chain nd-ID lacks rules",
            ),
            (
                "delete chain netdev egressway if-ID",
                "chain if-ID is missing",
            ),
        ];
        for (damage, problem) in damages {
            let named = |text: &str| text.replace("ID", id).replace("POLICY", policy);
            run("nft", &[&named(damage)]);
            assert_eq!(problems(&dir, &web), [named(problem)], "{damage}");
            install(&web);
            assert_eq!(problems(&dir, &web), [""; 0], "after {damage}");
        }
        let mut other = web.clone();
        other.id = "0123456789abcdef".parse().expect("an id");
        let told = problems(&dir, &other);
        assert!(
            told.contains(&"fd00::2 is another attachment's".to_owned()),
            "{told:?}"
        );
        other.layout += 1;
        assert_eq!(
            problems(&dir, &other),
            ["added by another version of egressway: not compared"]
        );
        ip("link del host0");
        assert_eq!(problems(&dir, &web), ["host0 is gone"]);
        run("nft", &["delete table inet egressway"]);
        let told = problems(&dir, &web);
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
            ip(&format!(
                "link add veth{n} index {} type veth peer name peer{n} address 02:00:00:00:00:01",
                1000 + n
            ));
            let addresses = [format!("10.0.0.{n}"), format!("fd00::{n}")];
            let addresses = addresses.each_ref().map(String::as_str);
            let mut pod = record(
                &format!("web-{n}"),
                1000 + n,
                &addresses,
                "deny 25/tcp; allow",
            );
            pod.veth = format!("veth{n}");
            store(dir.path(), &pod);
            install(&pod);
        }
        let (_, text) = shown(&args(dir.path(), "")).expect("is shown");
        let healthy = text.lines().filter(|line| line.ends_with("  ok")).count();
        assert_eq!(healthy, PODS as usize, "{text}");
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
                "insert rule inet egressway {} accept",
                web.policy_chain
            )],
        );
        let named = format!(
            "the policy's chain {} is missing or differs",
            web.policy_chain
        );
        assert_eq!(state(), serde_json::json!([named]));
    });
}

#[test]
fn nft_takes_its_own_text() {
    in_fresh_netns(|| {
        let (dir, web) = node();
        let (_, text) = shown(&args(dir.path(), "10.0.0.2 --nft")).expect("is shown");
        assert!(text.contains(&format!("add chain inet egressway {}\n", web.policy_chain)));
        assert!(text.contains("hook ingress device \"host0\""), "{text}");
        run("nft", &["flush ruleset"]);
        let base = Base::new(&[]).add(&[]).to_string();
        run("nft", &[&(base + &text)]);
        assert_eq!(problems(&dir, &web), [""; 0]);
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
