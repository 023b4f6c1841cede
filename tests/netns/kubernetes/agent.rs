//! `egressway agent` on a node, as the DaemonSet runs it.

use crate::harness::cluster::{ACCOUNT, ADDRESS, ApiServer, PORT, SYSTEM};
use crate::harness::cni::binary;
use crate::harness::{Node, NodeOptions, exec, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub use crate::harness::agent::CONFLIST;

/// A node on which the DaemonSet's pod runs.
pub struct Agent<'a> {
    pub api: &'a ApiServer,
    pub node: Node,
    name: &'a str,
    child: Option<Child>,
}

impl<'a> Agent<'a> {
    /// A node with the bridge plugin, and a service account as the kubelet mounts it. `name` is that of
    /// the ConfigMap and of the DaemonSet; the account may only read those of `install/`.
    pub fn new(api: &'a ApiServer, name: &'a str) -> Self {
        let node = Node::new(NodeOptions::default());
        api.connect(&node.netns);
        let agent = Self {
            api,
            node,
            name,
            child: None,
        };
        for dir in ["bin", "net.d"] {
            fs::create_dir(agent.path(dir)).expect("make a directory");
        }
        fs::copy(binary("bridge"), agent.path("bin/bridge")).expect("copy the bridge plugin");
        fs::write(agent.path("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
        fs::remove_file(agent.path("policy.yaml")).expect("remove the policy file");
        let token = api.token(SYSTEM, ACCOUNT);
        api.kubeconfig(&agent.path("account"), &token);
        fs::write(agent.path("account/namespace"), SYSTEM).expect("write the namespace");
        agent
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.node.dir.path().join(name)
    }

    pub fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(binary("egressway"));
        command.arg(verb).env_clear();
        for (flag, path) in [
            ("--cni-bin-dir", "bin"),
            ("--cni-conf-dir", "net.d"),
            ("--policy-file", "policy.yaml"),
            ("--state-dir", "state"),
            ("--service-account-dir", "account"),
        ] {
            command.arg(flag).arg(self.path(path));
        }
        command
            .args(["--node-name", "node-1", "--api-server"])
            .arg(format!("https://{ADDRESS}:{PORT}"))
            .args(["--policy-configmap", &format!("{SYSTEM}/{}", self.name)])
            .args(["--daemonset", &format!("{SYSTEM}/egressway")]);
        command
    }

    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    pub fn start_with(&mut self, flags: &[&str]) {
        let mut command = self.command("agent");
        self.child = Some(self.node.netns.spawn(command.args(flags)));
    }

    pub fn set_policy(&self, data: &Value) {
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": SYSTEM}, "data": data,
        }));
    }

    pub fn policy(&self) -> String {
        fs::read_to_string(self.path("policy.yaml")).unwrap_or_default()
    }

    pub fn entry(&self) -> Option<Value> {
        let text = fs::read_to_string(self.path("net.d/10-pods.conflist")).ok()?;
        let list: Value = serde_json::from_str(&text).expect("the conflist is JSON");
        let last = list["plugins"].as_array()?.last()?.clone();
        (last["type"] == "egressway").then_some(last)
    }

    /// Ends it as nobody expects.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it was started");
        child.kill().expect("kill the agent");
        child.wait().expect("wait for the agent");
    }

    pub fn terminate(&mut self) -> String {
        let child = self.child.take().expect("it was started");
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("send SIGTERM");
        let output = exec::finish(child, b"", "agent");
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stderr + &tool::said(&output.stdout)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let said = child.wait_with_output();
            if let (true, Ok(said)) = (std::thread::panicking(), said) {
                println!("the agent said:\n{}", tool::said(&said.stdout));
            }
        }
    }
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + exec::limit() * 2;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
