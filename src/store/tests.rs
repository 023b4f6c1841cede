use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A record as a document has it.
pub(super) fn document(pod: &str) -> Value {
    json!({
        "version": 1, "layout": 4, "network": "net", "containerID": pod, "ifname": "eth0",
        "namespace": "shop", "pod": pod, "uid": null, "exempt": false, "vethIndex": 7,
        "uplink": null, "logGroup": 100, "guard": {"action": "drop", "tag": "0123456789abcdef"}, "id": attachment_id("net", pod, "eth0"), "veth": "veth7",
        "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.2", "fd00::2"], "linkLocal": ["fe80::1"],
        "bridge": {"name": "cni0", "index": 3, "mac": "02:00:00:00:00:09"},
        "policyChain": "pol-0123456789abcdef", "egressIPs": ["203.0.113.10"],
        "policy": "0123456789abcdef0123456789abcdef",
    })
}

/// A record that takes more than one write of a pipe's size.
pub(super) fn record(pod: &str) -> Record<PolicyKey> {
    let mut record: Record<PolicyKey> =
        document::decode(document(pod).to_string().as_bytes()).unwrap();
    record.network = "x".repeat(10_000);
    record
}

pub(super) fn owner(namespace: &str) -> Owner {
    document::decode(
        json!({
            "version": 1, "namespace": namespace, "uplink": "eth0", "uplinkIndex": 2, "users": [id("c1")],
            "lease": {"kubeconfig": "/etc/k", "node": "n1", "renewed": 1_700_000_000, "lost": false},
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap()
}

pub(super) fn state() -> (TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path().join("a/b"));
    (dir, state)
}

pub(super) fn id(container: &str) -> AttachmentId {
    attachment_id("net", container, "eth0")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

#[test]
fn ids() {
    // printf 'net\0c1\0eth0' | sha256sum
    assert_eq!(
        attachment_id("net", "c1", "eth0").as_str(),
        "26026bd18b7cde68"
    );
    assert_ne!(attachment_id("a", "bc", "e"), attachment_id("ab", "c", "e"));
    assert_eq!(id("c1").as_str().parse(), Ok(id("c1")));
    for text in [
        "",
        "0123456789abcde",
        "0123456789abcdef0",
        "0123456789ABCDEF",
        "0123456789abcdeg",
        "../../../../etc/x",
    ] {
        assert_eq!(text.parse::<AttachmentId>(), Err(NotAnId), "{text}");
        assert!(serde_json::from_value::<AttachmentId>(text.into()).is_err());
    }
    let json = serde_json::to_string(&id("c1")).unwrap();
    assert_eq!(
        serde_json::from_str::<AttachmentId>(&json).unwrap(),
        id("c1")
    );
}

#[test]
fn a_record_is_written_read_listed_and_removed() {
    let (_dir, state) = state();
    let (a, b) = (id("a"), id("b"));
    assert!(Record::read_alone(&state, &a).unwrap().is_none());
    assert!(state.list_attachments().unwrap().is_empty());
    state.remove_attachment(&a).unwrap();
    assert!(!state.root.exists(), "reading and removing create nothing");

    state.write_attachment(&a, &record("old")).unwrap();
    state.write_attachment(&a, &record("new")).unwrap();
    state.write_attachment(&b, &record("b")).unwrap();
    assert_eq!(Record::read_alone(&state, &a).unwrap(), Some(record("new")));
    let mut both = vec![a.clone(), b.clone()];
    both.sort();
    assert_eq!(state.list_attachments().unwrap(), both);

    state.remove_attachment(&a).unwrap();
    state.remove_attachment(&a).unwrap();
    assert!(Record::read_alone(&state, &a).unwrap().is_none());
    assert_eq!(state.list_attachments().unwrap(), [b]);
}

#[test]
fn only_root_may_look() {
    let (_dir, state) = state();
    state.write_attachment(&id("a"), &record("a")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.root), 0o700);
    assert_eq!(mode(&state.root.join("attachments")), 0o700);
    assert_eq!(mode(&state.attachment_path(&id("a"))), 0o600);
}

#[test]
fn damaged_records_are_told_and_other_files_are_not_listed() {
    let (_dir, state) = state();
    let a = id("a");
    state.write_attachment(&a, &record("a")).unwrap();
    let path = state.attachment_path(&a);
    let whole = fs::read(&path).unwrap();
    for bytes in [
        &b""[..],
        &whole[..whole.len() - 1],
        b"\xff",
        b"[]",
        b"{}",
        b"null",
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Record::read_alone(&state, &a).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
    for name in [
        ".new-x",
        "x.json",
        "0123456789abcdef",
        "0123456789abcdef.json.bak",
    ] {
        fs::write(path.with_file_name(name), "").unwrap();
    }
    assert_eq!(state.list_attachments().unwrap(), [a]);
}

#[test]
fn a_reader_never_sees_half_a_record() {
    let (_dir, state) = state();
    let a = id("a");
    state.write_attachment(&a, &record("0")).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..500 {
                state.write_attachment(&a, &record(&i.to_string())).unwrap();
            }
        });
        while !writer.is_finished() {
            assert!(Record::read_alone(&state, &a).unwrap().is_some());
        }
    });
    let left: Vec<_> = fs::read_dir(state.root.join("attachments"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
}

#[test]
fn io_errors_name_the_path_and_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let state = StateDir::new(&file);
    let errors = [
        state.write_attachment(&id("a"), &record("a")).unwrap_err(),
        Record::read_alone(&state, &id("a")).unwrap_err(),
        state.list_attachments().unwrap_err(),
        state.lock(soon()).unwrap_err(),
        state.set_link("veth0", &id("a")).unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        assert!(
            text.contains("Not a directory") || text.contains("File exists"),
            "{text}"
        );
    }
}

#[test]
fn links() {
    let (_dir, state) = state();
    assert_eq!(state.link("veth0").unwrap(), None);
    state.remove_link("veth0", &id("a")).unwrap();
    state.set_link("veth0", &id("a")).unwrap();
    state.set_link("veth0", &id("b")).unwrap();
    state.remove_link("veth0", &id("a")).unwrap();
    assert_eq!(
        state.link("veth0").unwrap(),
        Some(id("b")),
        "a stale owner removes nothing"
    );
    state.remove_link("veth0", &id("b")).unwrap();
    assert_eq!(state.link("veth0").unwrap(), None);
    fs::write(state.link_path("veth0"), "x").unwrap();
    assert!(matches!(
        state.link("veth0"),
        Err(StateError::Damaged { .. })
    ));
}

#[test]
fn names_stay_inside_and_apart() {
    let names = [
        "veth0",
        "..",
        ".",
        "a/b",
        "../../lock",
        "a%2Fb",
        "eth0.1",
        "é",
        "%",
        "-x",
        "A",
        "a",
    ];
    let mut files: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    for file in &files {
        assert!(
            file.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-%".contains(c)),
            "{file}"
        );
    }
    files.sort();
    files.dedup();
    assert_eq!(files.len(), names.len());
}

#[test]
fn a_lock_excludes_until_it_is_dropped() {
    let (_dir, state) = state();
    let held = state.lock(soon()).unwrap();
    let started = Instant::now();
    let error = state.lock(soon()).unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(50));
    let _other = state.lock_named("egress-203.0.113.10", soon()).unwrap();
    let _another = state.lock_named("egress-2001:db8::10", soon()).unwrap();
    assert!(state.lock_named("egress-203.0.113.10", soon()).is_err());
    drop(held);
    state.lock(Instant::now()).unwrap();
}

#[test]
fn many_wait_for_one_lock() {
    let (_dir, state) = state();
    let counter = state.root.join("counter");
    let (threads, rounds) = (8, 5);
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                for _ in 0..rounds {
                    let _held = state
                        .lock(Instant::now() + Duration::from_secs(30))
                        .unwrap();
                    let n: usize = fs::read_to_string(&counter).map_or(0, |t| t.parse().unwrap());
                    thread::yield_now();
                    fs::write(&counter, (n + 1).to_string()).unwrap();
                }
            });
        }
    });
    assert_eq!(
        fs::read_to_string(&counter).unwrap(),
        (threads * rounds).to_string()
    );
}
