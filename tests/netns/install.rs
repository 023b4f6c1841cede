//! `egressway install`, `agent` and `uninstall` on a node without a cluster: a network namespace, and temporary
//! directories as its paths.

use crate::harness::cni::binary;
use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node};
use crate::harness::node::{EXT, ip};
use crate::harness::{exec, *};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command};
use std::time::{Duration, Instant};

mod kept;

const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0", "name": "k8s-pod-network",
  "plugins": [
    {"type": "bridge", "mtu": 1450.0, "unknown": null}
  ]
}
"#;

/// A node's paths for an installation.
pub struct Paths<'a> {
    node: &'a Node,
}

impl<'a> Paths<'a> {
    /// A node with the bridge plugin, its conflist, and the policy that `node` has.
    pub fn new(node: &'a Node) -> Self {
        let paths = Paths { node };
        for dir in ["bin", "net.d"] {
            fs::create_dir(paths.path(dir)).expect("make a directory");
        }
        fs::copy(binary("bridge"), paths.path("bin/bridge")).expect("copy the bridge plugin");
        paths.write_conflist();
        paths
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.node.dir.path().join(name)
    }

    pub fn conflist(&self) -> PathBuf {
        self.path("net.d/10-pods.conflist")
    }

    /// As a primary does when it starts.
    fn write_conflist(&self) {
        fs::write(self.conflist(), CONFLIST).expect("write the conflist");
    }

    /// Our entry in the conflist, if it is there.
    pub fn entry(&self) -> Option<Map<String, Value>> {
        let text = fs::read_to_string(self.conflist()).expect("read the conflist");
        let list: Value = serde_json::from_str(&text).expect("the conflist is JSON");
        let last = list["plugins"].as_array()?.last()?.as_object()?.clone();
        (last["type"] == "egressway").then_some(last)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(binary("egressway"));
        command
            .arg(verb)
            .arg("--cni-bin-dir")
            .arg(self.path("bin"))
            .arg("--cni-conf-dir")
            .arg(self.path("net.d"))
            .arg("--policy-file")
            .arg(self.path("policy.yaml"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--service-account-dir")
            .arg(self.path("no-service-account"))
            .env_clear();
        command
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> exec::Output {
        let mut command = self.command(verb);
        self.node.netns.exec_with(command.args(arguments), b"")
    }

    pub fn start(&self) -> Agent<'_> {
        let child = self.node.netns.spawn(&mut self.command("agent"));
        Agent {
            node: self.node,
            child: Some(child),
        }
    }
}

/// A running agent. It ends with the test.
pub struct Agent<'a> {
    node: &'a Node,
    child: Option<Child>,
}

impl Agent<'_> {
    /// What it writes from now on.
    pub fn stdout(&mut self) -> ChildStdout {
        let child = self.child.as_mut().expect("it was started");
        child.stdout.take().expect("a pipe")
    }

    /// Ends it at once, as by a lack of memory.
    pub fn kill(mut self) {
        let mut child = self.child.take().expect("it was started");
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
    }

    pub fn child(&self) -> &Child {
        self.child.as_ref().expect("it was started")
    }

    /// Whether it is ready, and what it says about that.
    pub fn readiness(&self) -> (bool, String) {
        let (status, text) = get(&self.node.netns, "/readyz");
        (status == 200, text)
    }

    /// Waits until it is not ready, for this reason.
    fn until_not_ready(&self, why: &str) {
        until(why, || {
            let (ready, said) = self.readiness();
            !ready && said.contains(why)
        });
    }

    fn until_ready(&self) {
        until("it is ready", || self.readiness().0);
    }

    fn terminate(mut self) -> exec::Output {
        let child = self.child.take().expect("it was started");
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("send SIGTERM");
        let mut output = exec::finish(child, b"", "agent");
        output.stderr += &tool::said(&output.stdout);
        output
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks the agent of a node: the HTTP status, 0 if nobody answers, and the text.
pub fn get(netns: &Netns, path: &str) -> (u16, String) {
    let address = SocketAddr::new(ip("127.0.0.1"), 9471);
    let stream = netns.run(|| TcpStream::connect_timeout(&address, exec::limit()));
    let Ok(mut stream) = stream else {
        return (0, String::new());
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.read_to_string(&mut answer));
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    match (asked, status, answer.split_once("\r\n\r\n")) {
        (Ok(_), Some(status), Some((_, text))) => (status, text.to_owned()),
        _ => (0, answer),
    }
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + exec::limit() * 2;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn succeeded(output: &exec::Output) {
    assert_eq!(
        output.code,
        Some(0),
        "{} {}",
        output.stdout_text(),
        output.stderr
    );
}

/// Every file below a directory with its content.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let bytes = fs::read(&path).expect("read a file");
            files.push((path, bytes));
        }
    }
    files.sort();
    files
}

#[test]
fn an_installed_plugin_enforces_and_an_uninstalled_one_answers_del() {
    let mut node = shop_node();
    let entry = {
        let paths = Paths::new(&node);
        let before = node.pod(PodSpec::new("before", Primary::Bridge).uncovered());
        let output = paths.run("install", &[]);
        succeeded(&output);
        assert!(
            output
                .stderr
                .contains(&format!("1 pod of this node (interface {})", before.veth)),
            "{}",
            output.stderr
        );
        before.delete();
        paths.entry().expect("our entry is in the conflist")
    };
    assert_eq!(entry["stateDir"], json!(node.state_dir()));
    node.ours = entry;
    let paths = Paths { node: &node };
    let _server = node.serve_ext(&[80]);
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny to 172.30.0.0/16"));
    check(
        &node,
        &[0, 1].map(|f| {
            let want = [Want::Silence, Want::From(ip(EGRESS[1]))][f];
            Probe::tcp(&pod.netns, ip(EXT[f]), 80, want)
        }),
    );

    succeeded(&paths.run("uninstall", &[]));
    assert_eq!(paths.entry(), None);
    assert_eq!(
        fs::read_to_string(paths.conflist()).expect("the conflist"),
        CONFLIST
    );
    assert_eq!(
        node.netns.exec("nft list tables").trim(),
        "",
        "no table is left"
    );
    assert_eq!(has_egress_addresses(&node), [false, false]);
    assert!(!node.state_dir().exists());
    assert!(
        paths.path("policy.yaml").exists(),
        "it was not written by install"
    );
    // A runtime that keeps old configurations still calls the program that was left behind.
    let mut del = pod.call("DEL");
    del.plugin = paths.path("bin/egressway");
    assert!(del.run(&node.netns).ok().is_empty());
    succeeded(&paths.run("uninstall", &[]));
}

#[test]
fn check_only_looks() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let before = tree(node.dir.path());
    let output = paths.run("install", &["--check"]);
    let text = output.stdout_text();
    assert_eq!(output.code, Some(0), "{text} {}", output.stderr);
    for line in [
        "ok      kernel",
        "ok      checksums",
        "change  program",
        "ok      policy",
        "change  conflist",
        "ok      pods",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    fs::write(paths.conflist(), "{").expect("write");
    fs::remove_file(paths.path("policy.yaml")).expect("remove");
    let output = paths.run("install", &["--check"]);
    let text = output.stdout_text();
    assert_eq!(output.code, Some(1), "{text}");
    assert!(
        text.contains("FAIL    policy") && text.contains("FAIL    conflist"),
        "{text}"
    );
    node.set_policy(&Policy::default());
    paths.write_conflist();
    assert_eq!(tree(node.dir.path()), before);
    assert_eq!(
        node.netns.exec("nft list tables").trim(),
        "",
        "no table was made"
    );
}

/// Before the first pod: what is missing in the kernel, and what that costs; the conflist says what was asked for.
#[test]
fn forged_checksums_are_told_of_before_the_first_pod() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let hidden = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let without_types = |arguments: &[&str]| {
        let own = paths.command("install");
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args(["--mount", "/bin/sh", "-c", hidden])
            .arg(own.get_program())
            .args(own.get_args())
            .args(arguments);
        node.netns.exec_with(&mut command, b"")
    };
    let output = without_types(&["--check"]);
    let text = output.stdout_text();
    assert_eq!(output.code, Some(0), "{text} {}", output.stderr);
    let line = text
        .lines()
        .find(|line| line.starts_with("note    checksums"));
    let line = line.unwrap_or_else(|| panic!("no note: {text}"));
    let words = ["CONFIG_DEBUG_INFO_BTF", "more than half", "throughput"];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    let said = without_types(&[]).stderr;
    assert_eq!(said.matches(words[0]).count(), 1, "{said}");
    assert_eq!(
        paths.entry().expect("our entry").get("forgedChecksums"),
        None
    );
    for (mode, word) in [
        ("resolve", "throughput"),
        ("ignore", "NET_RAW"),
        ("drop", "verified by a trial"),
    ] {
        let output = paths.run("install", &["--forged-checksums", mode]);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stderr.contains(word), "{mode}: {}", output.stderr);
        assert_eq!(paths.entry().expect("our entry")["forgedChecksums"], mode);
    }
    let wrong = paths.run("install", &["--forged-checksums", "rop"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("drop, resolve or ignore"),
        "{}",
        wrong.stderr
    );
}

/// In a shell on a cluster's node, what the agent has written of the cluster is as it should be.
#[test]
fn in_a_shell_the_clusters_entry_is_right_and_stays() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    succeeded(&paths.run("install", &[]));
    let text = fs::read_to_string(paths.conflist()).expect("the conflist");
    let mut list: Value = serde_json::from_str(&text).expect("JSON");
    let kubernetes =
        json!({"kubeconfig": "/etc/cni/net.d/egressway.d/kubeconfig", "nodeName": "node-1"});
    let last = list["plugins"]
        .as_array_mut()
        .and_then(|plugins| plugins.last_mut());
    last.expect("our entry")["kubernetes"] = kubernetes.clone();
    fs::write(paths.conflist(), list.to_string()).expect("write the conflist");
    let said = paths.run("install", &["--check"]).stdout_text();
    assert!(said.contains("ok      conflist"), "{said}");
    succeeded(&paths.run("install", &["--once"]));
    assert_eq!(paths.entry().expect("our entry")["kubernetes"], kubernetes);
}

#[test]
fn without_a_good_policy_the_conflist_is_not_touched() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    fs::write(paths.path("policy.yaml"), "kind: Nonsense\n").expect("write a bad policy");
    for arguments in [&["--once"][..], &[]] {
        let output = paths.run("install", arguments);
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains("policy.yaml"), "{}", output.stderr);
        assert_eq!(paths.entry(), None);
    }
    let agent = paths.start();
    agent.until_not_ready("policy.yaml");
    assert!(
        agent
            .readiness()
            .1
            .contains("not in the conflist, since there is no policy")
    );
    assert_eq!(paths.entry(), None);
    node.set_policy(&Policy::default());
    until("the entry is put in", || paths.entry().is_some());
    agent.until_ready();
}

/// Pods that run must not be cut off by an upgrade that hangs.
#[test]
fn it_ends_within_a_second() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let agent = paths.start();
    agent.until_ready();
    let told = Instant::now();
    succeeded(&agent.terminate());
    assert!(
        told.elapsed() < Duration::from_secs(1),
        "{:?}",
        told.elapsed()
    );
    assert_eq!(get(&node.netns, "/healthz").0, 0);
}
