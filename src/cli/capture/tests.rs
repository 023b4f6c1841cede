//! The whole command but for its process: rules that log, packets, a pcap file.

use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::net::UdpSocket;
use std::thread;

use clap::Parser;

use super::*;
use crate::attachment::test_support::{record, store};
use crate::store::StateDir;
use crate::verdicts::test_support::log_on_lo;
use netlink::test_support::{in_fresh_netns, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(state: &Path, rest: &str) -> Args {
    let words = ["capture", "--state-dir", state.to_str().expect("UTF-8")];
    let words = words.into_iter().chain(rest.split_whitespace());
    Cli::try_parse_from(words).expect("valid arguments").args
}

/// A node on which port 9000 is denied, port 9001 allowed, and port 9002 somebody else's business;
/// all are logged. The pods `web` and `db` are addresses of lo.
fn node() -> tempfile::TempDir {
    log_on_lo(
        &["10.0.0.2", "10.0.0.3"],
        &[
            (9000, "egressway pod:erp deny"),
            (9001, "egressway cluster-defaults:3 allow"),
            (9002, "somebody else"),
        ],
    );
    let dir = tempfile::tempdir().expect("a directory");
    store(dir.path(), &record("web", 7, &["10.0.0.2"], ""));
    store(dir.path(), &record("db", 8, &["10.0.0.3"], ""));
    dir
}

/// Sends a datagram of `length` bytes.
fn send(from: &str, port: u16, length: usize) {
    let socket = UdpSocket::bind((from, 0)).expect("a socket");
    // Where nobody listens, the answer to an earlier one may be told now.
    let _ = socket.send_to(&vec![b'x'; length], ("127.0.0.1", port));
}

/// Something on which there is nothing to read while the first part lives.
fn nothing() -> (PipeWriter, PipeReader) {
    let (reader, writer) = pipe().expect("a pipe");
    (writer, reader)
}

/// Captures while `traffic` runs, until the arguments say that it is enough.
fn captured(dir: &Path, rest: &str, traffic: impl FnOnce()) -> Vec<u8> {
    let args = args(dir, rest);
    let records = Records::read(dir).expect("readable");
    let record = records.find(&args.pod, None).expect("is there");
    let source = open(&args, record).expect("a group");
    let mut capture = Capture::new(&args, record, source).expect("a header");
    traffic();
    let (_never, stop) = nothing();
    let (mut reader, mut writer) = pipe().expect("a pipe");
    let outcome = capture.write_to(&mut writer, "a pipe", stop.as_fd());
    outcome.expect("a capture");
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("a file");
    bytes
}

/// What tcpdump makes of it, without the times.
fn read_back(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file.pcap");
    std::fs::write(&path, bytes).expect("writable");
    run(
        "tcpdump",
        &["-n", "-t", "-r", path.to_str().expect("UTF-8")],
    )
}

#[test]
fn only_what_was_denied_to_the_pod() {
    in_fresh_netns(|| {
        let dir = node();
        let traffic = || {
            send("10.0.0.2", 9001, 1);
            send("10.0.0.2", 9002, 1);
            send("10.0.0.3", 9000, 1);
            send("10.0.0.2", 9000, 1000);
        };
        let text = read_back(&captured(dir.path(), "web --count 1", traffic));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("IP 10.0.0.2."), "{text}");
        assert!(
            text.contains("> 127.0.0.1.9000: UDP, length 1000"),
            "{text}"
        );

        let text = read_back(&captured(
            dir.path(),
            "web --count 2 --verdict any",
            traffic,
        ));
        assert!(
            text.contains("127.0.0.1.9001: UDP") && text.contains("127.0.0.1.9000: UDP"),
            "{text}"
        );
    });
}

#[test]
fn it_ends_in_time_or_with_the_pod() {
    in_fresh_netns(|| {
        let dir = node();
        let started = Instant::now();
        let bytes = captured(dir.path(), "web --for 1", || ());
        assert_eq!((bytes.len(), read_back(&bytes).as_str()), (24, ""));
        assert!(started.elapsed() >= Duration::from_secs(1));
        // The pod goes; nobody sends anything.
        thread::scope(|scope| {
            let gone = || {
                let state = StateDir::new(dir.path());
                let id = record("web", 7, &["10.0.0.2"], "").id;
                state.remove_attachment(&id).expect("removable");
            };
            captured(dir.path(), "web", || drop(scope.spawn(gone)));
        });
    });
}

#[test]
fn a_file_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("denied.pcap");
    let file = create(&path).expect("creatable");
    let mode = file.metadata().expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = create(dir.path()).expect_err("a directory");
    assert_eq!(
        error.to_string(),
        format!(
            "cannot create {}: Is a directory (os error 21)",
            dir.path().display()
        )
    );
}
