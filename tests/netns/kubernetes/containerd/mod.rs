//! A real containerd runs our plugin: what it hands over, what a pod's owner reads, and the DELs that
//! follow one another.

mod cri;
mod daemon;
mod image;

use crate::harness::node::{FAR, ip};
use crate::harness::{Node, NodeOptions, Probe, Want, check};
use cri::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata};
use daemon::Containerd;
use std::fs;

fn sandbox(node: &Node, name: &str, rules: &str) -> PodSandboxConfig {
    let cgroup = node.netns.name();
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "shop".to_owned(),
        }),
        log_directory: String::new(),
        annotations: [("egressway.dev/rules".to_owned(), rules.to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{cgroup}"),
        }),
    }
}

fn attachments(node: &Node) -> usize {
    let files = fs::read_dir(node.state_dir().join("attachments"));
    let names = files
        .into_iter()
        .flatten()
        .map(|file| file.expect("a file").file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".json"))
        .count()
}

#[test]
fn containerd_runs_a_pod_with_its_annotations() {
    let node = Node::new(NodeOptions::default());
    let containerd = Containerd::start(&node);
    let _servers = node.serve_ext(&[80, 81]);
    let config = sandbox(&node, "good", "reject 81/tcp to any");
    let id = containerd
        .runtime
        .run_pod_sandbox(config)
        .unwrap_or_else(|e| panic!("{e}\n{}", containerd.log()));
    let pod = containerd.pod_netns();
    let far = ip(FAR[0]);
    check(
        containerd.node(),
        &[
            Probe::tcp(&pod, far, 80, Want::Reached),
            Probe::tcp(&pod, far, 81, Want::Refused),
        ],
    );
    assert_eq!(attachments(&node), 1);

    containerd.runtime.stop_pod_sandbox(&id).expect("stop");
    assert_eq!(attachments(&node), 0, "{}", node.describe());
    containerd.runtime.remove_pod_sandbox(&id).expect("remove");
    // Stopping again, as kubelet does, or removing: DELs that know no namespace.
    let calls = containerd.calls();
    let later = calls.iter().filter(|call| *call == "DEL").count();
    assert!(later >= 1, "{calls:?}");
    let objects = node.netns.exec("nft list ruleset");
    assert!(!objects.contains("pod-"), "{objects}");
}

#[test]
fn containerd_shows_where_a_rule_is_wrong() {
    let node = Node::new(NodeOptions::default());
    let containerd = Containerd::start(&node);
    let config = sandbox(&node, "bad", "allow to cluster\nallow 443/tpc to internet");
    let message = containerd
        .runtime
        .run_pod_sandbox(config)
        .expect_err("the rules are wrong");
    let text = "  allow 443/tpc to internet\n        ^^^^^^^\n";
    assert!(message.contains(text), "{message}");
    assert!(
        message.contains("pod annotation egressway.dev/rules:2:7"),
        "{message}"
    );
    assert_eq!(attachments(&node), 0);
    // The runtime takes back what it did for the pod: a DEL after the failed ADD, with its namespace.
    let calls = containerd.calls();
    let (add, del) = (&calls[0], &calls[1]);
    assert!(add.starts_with("ADD /"), "{calls:?}");
    assert!(del.starts_with("DEL /"), "{calls:?}");
}
