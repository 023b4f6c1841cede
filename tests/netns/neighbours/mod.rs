//! Who else is at work on the node: the reference plugins that people chain, other firewalls, and whoever lists rules.

mod firewalls;
mod flowtables;
mod reading;

use crate::harness::node::{EXT, NODE, ip};
use crate::harness::*;
use serde_json::{Value, json};

fn bandwidth(direction: &str) -> Value {
    let (rate, burst) = (format!("{direction}Rate"), format!("{direction}Burst"));
    json!({"type": "bandwidth", rate: 100_000_000, burst: 100_000_000})
}

#[test]
fn all_of_them_in_one_chain() {
    let node = Node::new(NodeOptions::default());
    let mappings =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true});
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .masquerade()
            .between(json!({"type": "tuning", "sysctl": {}}), Value::Null)
            .between(json!({"type": "firewall"}), Value::Null)
            .between(portmap, mappings)
            .between(bandwidth("ingress"), Value::Null)
            .rules("deny 81/tcp"),
    );
    let _servers = [pod.serve(&[80]), node.serve_ext(&[80, 81])];
    let mut probes = Vec::new();
    for family in 0..2 {
        let ext = ip(EXT[family]);
        probes.extend([
            Probe::tcp(&pod.netns, ext, 80, Want::Reached),
            Probe::tcp(&pod.netns, ext, 81, Want::Silence),
            Probe::tcp(&node.ext, ip(NODE[family]), 8080, Want::Reached),
        ]);
    }
    check(&node, &probes);
    assert_eq!(pod.ours("CHECK").ok(), "");
    pod.delete();
    node.assert_nothing_left();
}

/// A limit of the egress bandwidth leads packets past the hook that tells forged ones from true.
#[test]
fn an_egress_limit_is_refused_with_its_reason() {
    let node = Node::new(NodeOptions::default());
    let spec = PodSpec::new("a", Primary::Bridge).between(bandwidth("egress"), Value::Null);
    let refused = node.add_pod(spec).expect_err("not enforceable");
    assert_eq!(
        (refused.plugin.as_str(), refused.error.code),
        ("egressway", 101)
    );
    assert!(refused.error.msg.contains("bandwidth"), "{refused:?}");
    node.assert_nothing_left();
}

#[test]
fn check_sees_an_egress_limit_behind_us() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    assert_eq!(pod.ours("CHECK").ok(), "");
    // That plugin's own qdisc has no place beside ours: its ADD fails, and the pod does not start.
    let qdisc = format!("tc qdisc add dev {} ingress", pod.veth);
    let refused = node.netns.try_exec(&qdisc);
    assert!(refused.stderr.contains("Exclusivity"), "{refused:?}");
    // Whoever leads packets away by the qdisc that is there is seen.
    node.netns.exec(&format!(
        "tc filter add dev {} ingress protocol all u32 match u32 0 0 action mirred egress redirect dev cni0",
        pod.veth
    ));
    assert_eq!(pod.ours("CHECK").error().code, 101);
}

/// Classic BPF needs no compiler: a program that lets everything go its way.
#[test]
fn a_bpf_program_at_the_veth_is_refused_by_name() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let tc = |line: &str| node.netns.exec(&format!("tc {line}"));
    tc(&format!("qdisc add dev {} clsact", pod.veth));
    let program = ["bpf", "direct-action", "bytecode", "1,6 0 0 4294967295,"];
    let at = ["filter", "add", "dev", &pod.veth, "ingress"];
    let mut command = std::process::Command::new("tc");
    let output = node.netns.exec_with(command.args(at).args(program), b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let error = pod.ours("ADD").error();
    assert_eq!(error.code, 101, "{error:?}");
    assert!(error.msg.contains("BPF program"), "{error:?}");
    node.assert_nothing_left();
}
