//! A pod beside the one that is tried on: whatever goes wrong there, its rules hold.

use super::node::{EXT, ip};
use super::{Node, PodSpec, Primary, Probe, Want, check};

/// Runs `attempt` beside a covered pod. Afterwards the kernel and the state directory hold what they held before,
/// and the pod may do what it might before.
pub fn undisturbed(node: &Node, attempt: impl FnOnce()) {
    let bystander = node.pod(PodSpec::new("bystander", Primary::Bridge).rules("deny 81/tcp"));
    let _servers = node.serve_ext(&[80, 81]);
    let elements = || ["pod4", "pod6"].map(|set| node.elements(set).matches("goto").count());
    let before = (node.objects(), node.state_files(), elements());
    attempt();
    assert_eq!((node.objects(), node.state_files(), elements()), before);
    let mut probes = Vec::new();
    for ext in EXT.map(ip) {
        probes.push(Probe::tcp(&bystander.netns, ext, 80, Want::Reached));
        probes.push(Probe::tcp(&bystander.netns, ext, 81, Want::Silence));
    }
    check(node, &probes);
}
