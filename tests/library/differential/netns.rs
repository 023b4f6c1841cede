//! Fresh network namespaces, and the real `nft` in them.

use std::io::Write;
use std::panic;
use std::process::{Command, Output, Stdio};
use std::thread;

use nft::{Nft, Transaction};
use nix::sched::{CloneFlags, unshare};

/// The devices of every namespace, as veth pairs: hooks at ingress need theirs.
const DEVICES: [[&str; 2]; 2] = [["veth0", "veth1"], ["port0", "port1"]];

/// Runs a closure on a thread of its own, in a network namespace that ends with it.
pub fn in_new_namespace<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let outcome = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
                for [one, other] in DEVICES {
                    let pair = ["link", "add", one, "type", "veth", "peer", "name", other];
                    execute("ip", &pair, "");
                }
                run()
            })
            .join()
    });
    outcome.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// What the kernel holds, as `nft` tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub list: String,
    pub json: serde_json::Value,
    pub expressions: Vec<String>,
}

impl Held {
    /// In the calling thread's namespace.
    pub fn now() -> Self {
        Self {
            list: list(),
            json: super::normal::json(&nft(&["-j", "list", "ruleset"], "")),
            expressions: super::normal::expressions(&nft(
                &["--debug=netlink", "list", "ruleset"],
                "",
            )),
        }
    }
}

/// Transactions committed by our own encoder.
pub fn committed(transactions: &[Transaction]) -> Held {
    in_new_namespace(|| {
        for ops in transactions {
            commit(ops);
        }
        Held::now()
    })
}

/// The same transactions as text, loaded by `nft -f`.
pub fn loaded(transactions: &[Transaction]) -> Held {
    in_new_namespace(|| {
        for ops in transactions {
            nft(&["-f", "-"], &ops.to_string());
        }
        Held::now()
    })
}

/// Commits in the calling thread's namespace.
pub fn commit(ops: &Transaction) {
    let mut nft = Nft::open().expect("a netlink socket");
    nft.commit(ops).expect("the kernel takes it");
}

pub fn list() -> String {
    nft(&["list", "ruleset"], "")
}

/// Runs `nft -f` in the calling thread's namespace; what it complains of, if it does.
pub fn load(text: &str) -> Result<(), String> {
    let Output { status, stderr, .. } = run("nft", &["-f", "-"], text);
    if status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&stderr).into_owned())
}

fn nft(arguments: &[&str], input: &str) -> String {
    execute("nft", arguments, input)
}

/// Runs a command; its failure fails the test.
fn execute(program: &str, arguments: &[&str], input: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = run(program, arguments, input);
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8_lossy(&stdout).into_owned()
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC") // `meta time` is printed as local time
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("this test needs `{program}`: {e}"));
    let mut stdin = child.stdin.take().expect("is piped");
    let input = input.to_owned();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ran");
    // A program that failed may not have read all: its exit code tells.
    let _ = writer.join().expect("the writer does not panic");
    output
}
