//! Without a cluster: the policy file alone says what changes.

use super::{far, meets};
use crate::harness::agent::NodeAgent;
use crate::harness::*;
use crate::kubernetes::agent::until;
use std::fs;

#[test]
fn the_policy_file_reaches_running_pods() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 443]);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("reject 80/tcp; pass"));
    let _agent = NodeAgent::start(&node);
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
