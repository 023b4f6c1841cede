//! `egressway agent` on a node without a cluster, and what it says.

use super::cni::binary;
use super::{Node, exec};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The runtime's list, as it is before the agent puts its entry in.
pub const CONFLIST: &str =
    r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}"#;

/// An agent that runs until this ends.
pub struct NodeAgent {
    child: Child,
    log: PathBuf,
}

impl NodeAgent {
    /// Starts it.
    pub fn start(node: &Node) -> NodeAgent {
        let dir = node.dir.path();
        for name in ["bin", "net.d"] {
            fs::create_dir_all(dir.join(name)).expect("make a directory");
        }
        fs::copy(binary("bridge"), dir.join("bin/bridge")).expect("copy the bridge plugin");
        let conflist = dir.join("net.d/10-pods.conflist");
        if !conflist.exists() {
            fs::write(conflist, CONFLIST).expect("write the conflist");
        }
        let log = dir.join("agent.log");
        let file = File::create(&log).expect("make a file");
        let mut command = Command::new(binary("egressway"));
        command.arg("agent").env_clear();
        for (flag, path) in [
            ("--cni-bin-dir", "bin"),
            ("--cni-conf-dir", "net.d"),
            ("--policy-file", "policy.yaml"),
            ("--state-dir", "state"),
        ] {
            command.arg(flag).arg(dir.join(path));
        }
        command.args(["--node-name", "node-1"]);
        command.stdout(file.try_clone().expect("a descriptor"));
        command.stderr(file).stdin(Stdio::null());
        let child = node.netns.run(|| command.spawn().expect("start the agent"));
        NodeAgent { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, or by somebody else.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("look after it").is_some()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its lines with this in them.
    pub fn lines(&self, word: &str) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter(|line| line.contains(word));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for NodeAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the agent said:\n{}", self.said());
        }
    }
}

/// Waits until it is so, sooner than anybody looks who was not told.
pub fn promptly(what: &str, is_so: impl FnMut() -> bool) {
    within(exec::seconds(8), what, is_so);
}

/// Waits until it is so.
pub fn within(longest: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + longest;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
