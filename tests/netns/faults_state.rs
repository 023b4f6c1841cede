//! A state directory in any condition, records and tables of other versions, clocks that jump, few
//! file descriptors: all or nothing, and what comes next works.

use crate::faults::{enforced, left, recovers, spec};
use crate::harness::egress::{has_egress_addresses, shop_node};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

fn node() -> Node {
    Node::new(NodeOptions::default())
}

fn record(pod: &Pod<'_>) -> PathBuf {
    let file = format!("attachments/{}.json", pod.id());
    pod.node.state_dir().join(file)
}

/// A fault and what follows: success is a whole pod, failure says why and leaves nothing.
fn whole_or_nothing(pod: &Pod<'_>, run: &PluginRun, what: &str) -> bool {
    let there = enforced(pod, what);
    assert_eq!(
        there,
        run.succeeded(),
        "{what}: {:?}\n{}",
        run.output,
        pod.node.describe()
    );
    if !there {
        assert!(!run.error().msg.is_empty(), "{what}");
    }
    there
}

#[test]
fn few_file_descriptors() {
    let node = node();
    let pod = node.pod(spec());
    let mut outcomes = Vec::new();
    for files in 3..14 {
        let what = format!("a limit of {files} files");
        let limit = format!("--nofile={files}");
        let run = pod
            .call("ADD")
            .run_under(&node.netns, &["/usr/bin/prlimit", &limit]);
        outcomes.push(whole_or_nothing(&pod, &run, &what));
        pod.ours("ADD").ok();
        let del = pod
            .call("DEL")
            .run_under(&node.netns, &["/usr/bin/prlimit", &limit]);
        assert!(del.succeeded(), "DEL with {what}: {:?}", del.output);
        recovers(&pod, files % 2 == 0, &what);
    }
    assert_eq!(
        (outcomes.first(), outcomes.last()),
        (Some(&false), Some(&true))
    );
}

/// Nothing can be written down: no pod starts. DEL takes the rules out all the same.
#[test]
fn a_read_only_state_directory() {
    let node = node();
    let pod = node.pod(spec());
    pod.ours("ADD").ok();
    pod.ours("DEL").ok();
    let dir = node.state_dir();
    let dir = dir.display();
    let script =
        format!("mount --bind {dir} {dir} && mount -o remount,bind,ro {dir} && exec \"$0\"");
    let read_only = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script];
    let run = pod.call("ADD").run_under(&node.netns, &read_only);
    assert!(!whole_or_nothing(&pod, &run, "a read-only state directory"));
    let text = run.error().text();
    assert!(
        text.contains(&dir.to_string()) && text.contains("Read-only"),
        "{text}"
    );
    recovers(&pod, true, "a read-only state directory");

    pod.ours("ADD").ok();
    let del = pod.call("DEL").run_under(&node.netns, &read_only);
    assert!(del.succeeded(), "{:?}", del.output);
    assert!(!node.ruleset().contains(&pod.id()), "{}", node.describe());
    recovers(&pod, false, "a DEL that could not write");
}

#[test]
fn garbage_in_the_state_directory() {
    let node = node();
    let pod = node.pod(spec());
    let state = node.state_dir();
    let write = |path: &str, text: &str| {
        let path = state.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("write");
    };
    let directory = |path: String| fs::create_dir_all(state.join(path)).expect("a directory");
    type Mess<'a> = Box<dyn Fn() + 'a>;
    let id = pod.id();
    let messes: Vec<(&str, Mess<'_>)> = vec![
        (
            "it is a file",
            Box::new(|| fs::write(&state, "x").expect("write")),
        ),
        (
            "records' place is a file",
            Box::new(|| write("attachments", "x")),
        ),
        ("links' place is a file", Box::new(|| write("links", "x"))),
        (
            "the lock is a directory",
            Box::new(|| directory("lock".to_owned())),
        ),
        (
            "the record is a directory",
            Box::new(|| directory(format!("attachments/{id}.json"))),
        ),
        (
            "the record is garbage",
            Box::new(|| write(&format!("attachments/{id}.json"), "\0{")),
        ),
        (
            "the record is empty",
            Box::new(|| write(&format!("attachments/{id}.json"), "")),
        ),
        (
            "the record is another's",
            Box::new(|| write(&format!("attachments/{id}.json"), "{\"version\":99}")),
        ),
        (
            "the record has no version",
            Box::new(|| write(&format!("attachments/{id}.json"), "{\"layout\":1}")),
        ),
        (
            "the link's note is garbage",
            Box::new(|| write(&format!("links/{}.json", pod.veth), "\u{fffd}/../..")),
        ),
        (
            "an unfinished file is a directory",
            Box::new(|| directory(format!("attachments/.new-{id}.json"))),
        ),
        (
            "files of nobody",
            Box::new(|| {
                for file in [
                    "attachments/x",
                    "attachments/x.json",
                    "links/%",
                    "links/%.json",
                    "egress/x.json",
                    "locks/%zz",
                    "x",
                ] {
                    write(file, "garbage");
                }
            }),
        ),
    ];
    for (what, mess) in messes {
        mess();
        let add = pod.ours("ADD");
        whole_or_nothing(&pod, &add, what);
        for words in ["show", "sync --dry-run", "gc --dry-run"] {
            let output = node.tool(words);
            assert!(
                output.code.is_some_and(|code| code < 2),
                "{words}, {what}: {output:?}"
            );
        }
        let del = pod.ours("DEL");
        assert!(del.succeeded(), "DEL, {what}: {:?}", del.output);
        assert!(!node.ruleset().contains(&id), "{what}: {}", node.describe());
        let gone = if state.is_dir() {
            fs::remove_dir_all(&state)
        } else {
            fs::remove_file(&state)
        };
        gone.expect("remove the state directory");
        recovers(&pod, true, what);
        fs::remove_dir_all(&state).expect("remove the state directory");
    }
}

/// The directory goes while pods run: they keep their rules, DEL finds all by the attachment's id.
#[test]
fn the_state_directory_is_emptied_under_a_pod() {
    let node = node();
    let pod = node.pod(spec());
    for again in [false, true] {
        pod.ours("ADD").ok();
        fs::remove_dir_all(node.state_dir()).expect("remove");
        assert!(node.ruleset().contains(&pod.id()));
        assert_eq!(pod.ours("CHECK").ok(), "");
        recovers(&pod, again, "an emptied state directory");
    }
}

/// Another version wrote the record, or what the kernel has: it is said by name, and not misread; DEL and the
/// next ADD work whatever it says.
#[test]
fn records_of_other_versions() {
    let node = node();
    let pod = node.pod(spec());
    let file = record(&pod);
    for round in 0..2 {
        for what in [
            "other objects in the kernel",
            "older",
            "without one",
            "newer",
            "newer, with other fields",
            "half",
            "empty",
        ] {
            pod.ours("ADD").ok();
            let whole = fs::read_to_string(&file).expect("a record");
            let mut changed: Value = serde_json::from_str(&whole).expect("JSON");
            match what {
                "other objects in the kernel" => changed["layout"] = json!(4711),
                "older" => changed["version"] = json!(0),
                "without one" => drop(changed.as_object_mut().expect("a record").remove("version")),
                _ => changed["version"] = json!(4711),
            }
            let text = match what {
                "half" => whole[..whole.len() / 2].to_owned(),
                "empty" => String::new(),
                "newer, with other fields" => {
                    json!({"version": 4711, "who": {"id": pod.id()}}).to_string()
                }
                _ => changed.to_string(),
            };
            fs::write(&file, text).expect("write");
            let check = pod.ours("CHECK");
            if what == "other objects in the kernel" {
                assert_eq!(check.ok(), "");
            } else {
                let text = check.error().text();
                let word = match what {
                    "older" => "older version",
                    "without one" => "no version",
                    "half" | "empty" => "damaged",
                    _ => "newer version",
                };
                assert!(
                    text.contains(word) && text.contains(&pod.id()),
                    "{what}: {text}"
                );
            }
            assert!(node.ruleset().contains(&pod.id()), "{what}");
            recovers(&pod, round == 1, &format!("a record: {what}"));
        }
    }
}

/// Another version, or somebody, has put its own chains into the tables, or changed ours.
#[test]
fn tables_of_another_version() {
    let node = node();
    let _servers = node.serve_ext(&[80, 81]);
    let tables = [
        "add table inet egressway
         add chain inet egressway enforce { type filter hook prerouting priority 7; }",
        "add table inet egressway
         add chain inet egressway egress-snat { type nat hook postrouting priority 10; }
         add chain inet egressway do-deny
         add rule inet egressway do-deny accept",
        "add table inet egressway
         add set inet egressway pod9 { type ipv4_addr; }
         add chain inet egressway enforce-2 { type filter hook prerouting priority -99; }
         add rule inet egressway enforce-2 ip saddr @pod9 drop",
        "add table netdev egressway
         add chain netdev egressway if-old { type filter hook ingress device eth0 priority -500; }",
    ];
    for table in tables {
        node.netns.nft(table);
        let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
        assert!(enforced(&pod, table));
        let wants = [(80, Want::Reached), (81, Want::Silence)];
        let probes = wants.map(|(port, want)| Probe::tcp(&pod.netns, ip(FAR[0]), port, want));
        check(&node, &probes);
        pod.delete();
        node.netns.nft("flush ruleset");
        assert_eq!(left(&node), Vec::<String>::new(), "{table}");
    }
}

/// The node came up again: files of before, an empty kernel, other interfaces.
#[test]
fn stale_files_after_a_boot() {
    let before = shop_node();
    let pods =
        ["a", "b"].map(|name| before.pod(PodSpec::new(name, Primary::Ptp).rules("deny 81/tcp")));
    let after = shop_node();
    let copy = |from: &Path, to: &Path| {
        let line = format!("cp -r {} {}", from.display(), to.display());
        after.netns.exec(&line);
    };
    copy(&before.state_dir(), &after.state_dir());
    let new = after.pod(PodSpec::new("new", Primary::Ptp).rules("deny 82/tcp"));
    assert!(enforced(&new, "stale files"));
    assert_eq!(has_egress_addresses(&after), [true, true]);
    // The runtime deletes what it remembers of before.
    let [a, _] = &pods;
    let mut del = a.call("DEL");
    let stdin = String::from_utf8(del.stdin).expect("text");
    let dirs = [&before, &after].map(|node| node.dir.path().display().to_string());
    del.stdin = stdin.replace(&dirs[0], &dirs[1]).into_bytes();
    after.run(&del).ok();
    assert_eq!(after.records().len(), 2);
    assert_eq!(after.tool("gc").code, Some(0));
    assert_eq!(after.records(), [format!("{}.json", new.id())]);
    assert!(enforced(&new, "gc of stale files"));
    assert_eq!(has_egress_addresses(&after), [true, true]);
    new.delete();
    assert_eq!(left(&after), Vec::<String>::new());
    assert_eq!(has_egress_addresses(&after), [false, false]);
}

/// No file's time means anything, and a rule that has ended is still the same rule.
#[test]
fn clocks_that_jump() {
    let node = shop_node();
    let soon = node.netns.exec("date -u -d +3seconds +%FT%TZ");
    let rules = format!("deny 81/tcp until={}\nallow", soon.trim());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules(&rules));
    let state = node.state_dir();
    for when in ["2099-01-01", "1971-01-01"] {
        node.netns.exec(&format!(
            "find {} -exec touch -d {when} {{}} +",
            state.display()
        ));
        assert!(enforced(&pod, when));
        assert_eq!(node.tool("sync").code, Some(0), "{when}");
        pod.ours("ADD").ok();
    }
    let _servers = node.serve_ext(&[81]);
    let started = Instant::now();
    let probe = Probe::tcp(&pod.netns, ip(FAR[0]), 81, Want::Reached);
    while !matches!(probe.run(), Outcome::Reached(_)) {
        assert!(started.elapsed() < exec::seconds(15), "{}", node.describe());
        thread::sleep(Duration::from_millis(100));
    }
    assert!(enforced(&pod, "a rule that has ended"));
    node.netns.nft("flush ruleset");
    assert_eq!(node.tool("sync").code, Some(0));
    assert!(enforced(&pod, "a rule that had ended, put back"));
    pod.delete();
    assert_eq!(left(&node), Vec::<String>::new());
}
