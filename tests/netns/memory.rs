//! What stays for months must not grow: `agent`, and `logs`.

use crate::harness::exec::limit;
use crate::harness::node::EXT;
use crate::harness::*;
use crate::install::{Paths, until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

/// After so many rounds everything that is kept once is there.
const WARM: usize = 30;
const ROUNDS: usize = 130;
/// What each round brings, in bytes: who keeps it has far more than [`SLACK`] at the end.
const LOAD: usize = 32 << 10;
/// How much more memory may be in use then, in KiB: an allocator gives back what it wants to.
const SLACK: u64 = 1 << 10;

/// A number in a file of /proc/PID, such as `VmRSS:` in `status`.
fn number(child: &Child, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", child.id())).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let words = line.unwrap_or_else(|| panic!("no {key} in {text}"));
    let number = words.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

/// Runs the rounds and compares the memory of the process after the first ones and at the end.
fn assert_flat(child: &Child, mut round: impl FnMut(usize)) {
    let used = || number(child, "status", "VmRSS:");
    (0..WARM).for_each(&mut round);
    let before = used();
    (WARM..ROUNDS).for_each(&mut round);
    let after = used();
    assert!(
        after < before + SLACK,
        "{before} KiB after {WARM} rounds, {after} KiB after {ROUNDS}"
    );
}

/// A primary that writes its conflist again and again, and keeps our entry.
#[test]
fn the_agent_does_not_grow_with_what_it_reads() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let agent = paths.start();
    until("our entry is in the conflist", || paths.entry().is_some());
    let text = fs::read_to_string(paths.conflist()).expect("the conflist");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let child = agent.child();
    assert_flat(child, |round| {
        let mut list = list.clone();
        list["plugins"][0]["padding"] = json!(format!("{round:0LOAD$}"));
        let read = number(child, "io", "rchar:");
        let new = paths.path("net.d/.new");
        fs::write(&new, list.to_string()).expect("write");
        fs::rename(&new, paths.conflist()).expect("rename");
        until("it is read", || {
            number(child, "io", "rchar:") > read + LOAD as u64
        });
    });
    assert!(paths.entry().is_some());
}

/// Pods come and go, each with rules of its own, and a line is printed for each.
#[test]
fn logs_forgets_the_rules_of_pods_that_are_gone() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().set("limits", serde_json::json!({"logPerSecond": 10000})));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 9/udp log=1000/s name=nine"));
    let file = node
        .state_dir()
        .join(format!("attachments/{}.json", pod.id()));
    let record = fs::read(&file).expect("a record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let mut command = node.tool_command("logs -o json");
    let mut child = node.netns.spawn(command.stdout(Stdio::piped()));
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    let (tell, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let socket = pod
        .netns
        .run(|| UdpSocket::bind("0.0.0.0:0"))
        .expect("a socket");
    let say = || drop(socket.send_to(b"x", (EXT[0], 9)));
    until("it reads", || {
        say();
        lines
            .recv_timeout(std::time::Duration::from_millis(100))
            .is_ok()
    });
    assert_flat(&child, |round| {
        let text = format!("# {round:0LOAD$}\ndeny 9/udp log name=nine");
        let mut record = record.clone();
        record["policyChain"] = json!(format!("pol-{round:016x}"));
        let key = format!("{round:032x}");
        let policy = json!({
            "tiers": [{"tier": "pod", "source": format!("round {round}"), "text": text, "audit": false}],
            "defaultAction": "allow", "defaultAudit": false, "facts": {"cluster": [], "dns": []},
        });
        let head = json!({"version": 1, "chain": "", "base": "", "exempt": false, "egress": []});
        let own = file.with_file_name(format!("{}.{key}", pod.id()));
        fs::write(own, format!("{head}\n{policy}")).expect("write");
        record["policy"] = json!(key);
        let new = node.state_dir().join("attachments/.new");
        fs::write(&new, record.to_string()).expect("write");
        fs::rename(&new, &file).expect("rename");
        let of_this_round = format!("round {round}");
        say();
        loop {
            let line = lines.recv_timeout(limit()).expect("a line");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            if line["ruleSource"] == *of_this_round {
                break;
            }
        }
    });
    let _ = child.kill();
    let _ = child.wait();
    reader.join().expect("a reader");
}
