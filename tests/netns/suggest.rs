//! From audit mode to a policy: what pods need is logged, suggested, enforced, and then goes; all else
//! does not.

use crate::harness::cni::binary;
use crate::harness::exec;
use crate::harness::nflog;
use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// What the pods of the shop need: protocol by protocol, to two places in both families.
fn needed<'a>(pods: &[&'a Pod<'_>]) -> Vec<Probe<'a>> {
    let mut probes = Vec::new();
    for pod in pods {
        for to in [EXT, FAR].concat().into_iter().map(ip) {
            probes.push(Probe::tcp(&pod.netns, to, 443, Want::Reached));
            probes.push(Probe::tcp(&pod.netns, to, 444, Want::Reached));
            probes.push(Probe::udp(&pod.netns, to, 5000, Want::Reached));
        }
    }
    probes
}

#[test]
fn what_audit_mode_logs_becomes_the_policy() {
    let node = Node::new(NodeOptions::default());
    let audited = Policy::default().default_action("deny");
    node.set_policy(&audited.clone().mode("audit"));
    let mut web = node.pod(PodSpec::new("web", Primary::Bridge));
    let mut db = node.pod(PodSpec::new("db", Primary::Calico));
    let _servers = node.serve_ext(&[443, 444, 445, 5000]);

    let running = node.netns.spawn(
        Command::new(binary("egressway"))
            .args(["logs", "-o", "json", "--for", "8", "--state-dir"])
            .arg(node.state_dir()),
    );
    nflog::until_read(&node.netns);
    // A rule logs ten packets a second: one pod, then the other, each probe for itself.
    for probe in needed(&[&web, &db]) {
        check(&node, &[probe]);
        thread::sleep(Duration::from_millis(100));
    }
    let log = exec::finish(running, b"", "logs");
    assert_eq!(log.code, Some(0), "{}", log.stderr);

    let mut suggest = Command::new(binary("egressway"));
    suggest.args(["suggest", "--namespace", "shop", "-"]);
    let suggest = node.netns.exec_with(&mut suggest, &log.stdout);
    let rules = suggest.stdout_text();
    assert_eq!(suggest.code, Some(0), "{rules}{}", suggest.stderr);
    // Neighbouring ports are one range; nothing is wider than what was seen.
    assert!(
        rules.contains("443-444/tcp") && rules.contains("5000/udp"),
        "{rules}"
    );
    assert!(!rules.contains("any") && !rules.contains("/0"), "{rules}");

    node.set_policy(&audited.namespace("shop", "default-rules", &rules));
    web.readd("");
    db.readd("");
    let mut probes = needed(&[&web, &db]);
    for pod in [&web, &db] {
        for to in EXT.map(ip) {
            probes.push(Probe::tcp(&pod.netns, to, 445, Want::Silence));
            probes.push(Probe::udp(&pod.netns, to, 443, Want::Silence));
        }
    }
    check(&node, &probes);
}
