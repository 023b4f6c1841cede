//! Without a cluster: the policy file alone says what changes.

use super::{far, meets};
use crate::harness::cni::binary;
use crate::harness::*;
use crate::kubernetes::agent::{CONFLIST, until};
use std::fs;
use std::process::{Child, Command};

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(node: &Node) -> Ends {
    let dir = node.dir.path();
    for name in ["bin", "net.d"] {
        fs::create_dir(dir.join(name)).expect("make a directory");
    }
    fs::copy(binary("bridge"), dir.join("bin/bridge")).expect("copy the bridge plugin");
    fs::write(dir.join("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
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
    Ends(node.netns.spawn(&mut command))
}

#[test]
fn the_policy_file_reaches_running_pods() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 443]);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("reject 80/tcp; pass"));
    let _agent = agent(&node);
    node.set_policy(&Policy::default().defaults("reject 443/tcp"));
    meets(&pod, far(443), Want::Refused);
    // Its own rules are what the runtime said when it started.
    meets(&pod, far(80), Want::Refused);
    node.set_policy(&Policy::default().namespace("shop", "enforced-rules", "allow 80/tcp"));
    meets(&pod, far(443), Want::Reached);
    meets(&pod, far(80), Want::Reached);
    // A faulty file changes nothing.
    fs::write(node.dir.path().join("policy.yaml"), "enforced: [").expect("write the policy file");
    until("it is said", || {
        let (status, text) = crate::install::get(&node.netns, "/readyz");
        status == 503 && text.contains("policy.yaml")
    });
    meets(&pod, far(80), Want::Reached);
    node.set_policy(&Policy::default());
    meets(&pod, far(80), Want::Refused);
    pod.ours("CHECK").ok();
    pod.delete();
}
