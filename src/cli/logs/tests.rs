//! The whole command but for its process: rules that log, packets, lines.

use std::io::{PipeReader, Read, pipe};
use std::net::UdpSocket;
use std::time::Instant;

use clap::Parser;

use super::*;
use crate::verdicts::test_support::{attach, log_on_lo};
use netlink::test_support::{in_fresh_netns, soon};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(state: &std::path::Path, rest: &str) -> Args {
    let state = state.to_str().unwrap();
    let words = ["logs", "--state-dir", state]
        .into_iter()
        .chain(rest.split_whitespace());
    Cli::try_parse_from(words).unwrap().args
}

/// A node on which what two pods send to ports 7000 and 7001 is logged; so is port 7002, for
/// somebody else. The pods are addresses of lo.
fn node() -> tempfile::TempDir {
    log_on_lo(
        &["10.0.0.2", "fd00::3"],
        &[
            (7000, "egressway pod:erp deny"),
            (7001, "egressway cluster-defaults:3 allow"),
            (7002, "somebody else"),
        ],
    );
    let dir = tempfile::tempdir().unwrap();
    let (rules, egress) = ("# ERP\ndeny log name=erp", ["203.0.113.10"]);
    attach(dir.path(), "web", 7, &["10.0.0.2"], &egress, rules);
    attach(dir.path(), "db", 8, &["fd00::3"], &[], "");
    dir
}

/// Sends from pod `web`, from port 4000.
fn send_from_web(port: u16) {
    let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
    // Where nobody listens, the answer to an earlier one may be told now.
    let _ = socket.send_to(b"x", ("127.0.0.1", port));
}

/// Sends from pod `db`, from port 4000.
fn send_from_db(port: u16) {
    let socket = UdpSocket::bind("[fd00::3]:4000").unwrap();
    let _ = socket.send_to(b"x", ("::1", port));
}

/// Prints until the arguments say that it is enough.
fn printed(log: &mut Log, args: &Args) -> String {
    let (_never, stop) = nothing();
    let (mut reader, mut writer) = pipe().unwrap();
    log.print(args, stop.as_fd(), &mut writer).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// Something on which there is nothing to read while the first part lives.
fn nothing() -> (std::io::PipeWriter, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    (writer, reader)
}

/// The lines without their times, which are checked for their form.
fn untimed(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok());
            rest
        })
        .collect()
}

const WEB_7000: &str =
    "shop/web deny pod:erp udp 10.0.0.2:4000 -> 127.0.0.1:7000 interface=lo egress-ip=203.0.113.10";
const WEB_7001: &str = "shop/web allow cluster-defaults:3 udp 10.0.0.2:4000 -> 127.0.0.1:7001 interface=lo egress-ip=203.0.113.10";
const DB_7000: &str = "shop/db deny pod:erp udp [fd00::3]:4000 -> [::1]:7000 interface=lo";

#[test]
fn prints_what_rules_log_from_now_on() {
    in_fresh_netns(|| {
        let state = node();
        send_from_web(7000); // before
        let args = args(state.path(), "--count 3");
        let mut log = Log::open(&args).unwrap();
        send_from_web(7002); // somebody else's
        send_from_web(7000);
        send_from_db(7000);
        send_from_web(7001);
        send_from_db(7001); // beyond the count
        let text = printed(&mut log, &args);
        assert_eq!(untimed(&text), [WEB_7000, DB_7000, WEB_7001]);
    });
}

#[test]
fn prints_only_what_is_asked_for() {
    in_fresh_netns(|| {
        let state = node();
        for (filter, wanted) in [
            ("--pod web", &[WEB_7000, WEB_7001][..]),
            ("--pod db", &[DB_7000]),
            ("db", &[DB_7000]),
            ("shop/web", &[WEB_7000, WEB_7001]),
            ("other/web", &[]),
            ("web -n shop", &[WEB_7000, WEB_7001]),
            ("web -n other", &[]),
            ("-A", &[WEB_7000, DB_7000, WEB_7001]),
            ("--rule cluster-defaults:3", &[WEB_7001]),
            ("--verdict deny --namespace shop", &[WEB_7000, DB_7000]),
            ("--verdict deny,allow -f", &[WEB_7000, DB_7000, WEB_7001]),
            ("--namespace other", &[]),
            ("--verdict reject", &[]),
        ] {
            let args = args(state.path(), &format!("{filter} --for 1"));
            let mut log = Log::open(&args).unwrap();
            send_from_web(7000);
            send_from_db(7000);
            send_from_web(7001);
            assert_eq!(untimed(&printed(&mut log, &args)), wanted, "{filter}");
        }
    });
}

#[test]
fn json_is_one_object_a_line() {
    in_fresh_netns(|| {
        let state = node();
        let args = args(state.path(), "--count 2 -o json");
        let mut log = Log::open(&args).unwrap();
        send_from_web(7000);
        send_from_db(7000);
        let text = printed(&mut log, &args);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["egressIP"], "203.0.113.10");
        assert_eq!(lines[0]["interface"], "lo");
        assert_eq!(lines[0]["ruleLine"], 2);
        assert_eq!(lines[0]["ruleText"], "deny log name=erp");
        assert_eq!(lines[1]["ruleSource"], serde_json::Value::Null);
        assert_eq!(lines[1]["pod"], "db");
        assert_eq!(lines[1]["destinationPort"], 7000);
    });
}

#[test]
fn json_tells_what_was_lost() {
    in_fresh_netns(|| {
        let state = node();
        let all = args(state.path(), "--for 1 -o json");
        let mut log = Log::open(&all).unwrap();
        let Source::Kernel(stream) = &log.source else {
            panic!("an agent answers");
        };
        stream.shrink_backlog();
        const SENT: usize = 5000;
        let socket = UdpSocket::bind("10.0.0.2:4000").unwrap();
        for _ in 0..SENT {
            let _ = socket.send_to(b"x", "127.0.0.1:7000");
        }
        // First what is left is printed; then one more message, before which the gap shows.
        let (mut reader, writer) = pipe().unwrap();
        let text = std::thread::scope(|scope| {
            let text = scope.spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            });
            let (_never, stop) = nothing();
            let mut writer = writer;
            log.print(&all, stop.as_fd(), &mut writer).unwrap();
            let _ = socket.send_to(b"x", "127.0.0.1:7000");
            let one = args(state.path(), "--count 1 -o json");
            log.print(&one, stop.as_fd(), &mut writer).unwrap();
            drop(writer);
            text.join().unwrap()
        });
        let records: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let losses: Vec<_> = records.iter().filter(|r| r.get("lost").is_some()).collect();
        let lost: u64 = losses.iter().map(|r| r["lost"].as_u64().unwrap()).sum();
        assert!(lost > 0 && (lost as usize) < SENT, "{losses:?}");
        assert_eq!(losses.last().unwrap()["lostMore"], false);
    });
}

#[test]
fn destinations_are_networks_or_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let line = |original: Option<&str>| Line {
        original_destination: original.map(|a| a.parse().unwrap()),
        ..crate::verdicts::test_support::line(1, "shop/web deny pod:1 tcp 203.0.113.9 443")
    };
    for (wanted, original, shown) in [
        ("203.0.113.9", None, true),
        ("198.51.100.0/24,203.0.113.0/24", None, true),
        ("203.0.113.0/29", None, false),
        ("::/0", None, false),
        ("10.96.0.0/12", None, false),
        ("10.96.0.0/12", Some("10.96.0.20"), true),
    ] {
        let args = args(dir.path(), &format!("--destination {wanted}"));
        assert_eq!(args.wants(&line(original)), shown, "{wanted}");
    }
    let words = ["logs", "--destination", "example.com"];
    assert!(Cli::try_parse_from(words).is_err());
}

#[test]
fn ends_when_nobody_reads_or_somebody_stops_it() {
    in_fresh_netns(|| {
        let state = node();
        let args = args(state.path(), "--for 60");
        let mut log = Log::open(&args).unwrap();
        let limit = soon();

        let (_never, stop) = nothing();
        let (reader, mut writer) = pipe().unwrap();
        drop(reader);
        log.print(&args, stop.as_fd(), &mut writer).unwrap();

        // As a signal would.
        let (mut ring, stop) = nothing();
        ring.write_all(b"x").unwrap();
        let (_reader, mut writer) = pipe().unwrap();
        log.print(&args, stop.as_fd(), &mut writer).unwrap();
        assert!(Instant::now() < limit);
    });
}

#[test]
fn help_names_every_field() {
    use clap::CommandFactory;
    let help = Cli::command().render_long_help().to_string();
    let line = Line {
        time: jiff::Timestamp::UNIX_EPOCH,
        node: Some(String::new()),
        namespace: Some(String::new()),
        pod: Some(String::new()),
        pod_uid: Some(String::new()),
        workload: Some(String::new()),
        verdict: Verdict::Deny,
        rule: String::new(),
        rule_source: Some(String::new()),
        rule_line: Some(0),
        rule_text: Some(String::new()),
        protocol: Some(String::new()),
        source: [0, 0, 0, 0].into(),
        source_port: Some(0),
        destination: [0, 0, 0, 0].into(),
        destination_port: Some(0),
        original_destination: Some([0, 0, 0, 0].into()),
        original_destination_port: Some(0),
        icmp_type: Some(0),
        icmp_code: Some(0),
        name: Some(String::new()),
        asked: Some(String::new()),
        interface: Some(String::new()),
        egress_ip: Some([0, 0, 0, 0].into()),
    };
    let json = serde_json::to_value(&line).unwrap();
    let documented: Vec<&str> = help.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for field in json.as_object().unwrap().keys() {
        assert!(documented.contains(&field.as_str()), "{field}: {help}");
    }
}
