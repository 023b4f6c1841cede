//! Flowtables forward what they know ahead of every rule: a pod whose packets could get into one is refused.

use crate::harness::*;

const FLOWTABLE: &str = "table inet fast {
  flowtable f { hook ingress priority 0; devices = { DEVICES }; }
  chain forward { type filter hook forward priority 0; ct state established flow add @f; }
}";

#[test]
fn a_flowtable_on_the_pods_way_is_refused_by_name() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let load = |devices: &str| {
        let text = FLOWTABLE.replace("DEVICES", devices);
        let mut nft = std::process::Command::new("nft");
        node.netns.exec_with(nft.args(["-f", "-"]), text.as_bytes())
    };
    let only_the_uplink = load("eth0");
    if only_the_uplink.code != Some(0) {
        // A kernel without flowtables has nothing that could lead packets past the rules.
        let reason = &only_the_uplink.stderr;
        assert!(reason.contains("No such file or directory"), "{reason}");
        assert_eq!(pod.ours("CHECK").ok(), "");
        return;
    }
    // What comes in by the uplink is for the pod, not from it.
    assert_eq!(pod.ours("CHECK").ok(), "");
    node.netns.exec("nft delete table inet fast");

    let on_the_way = load("eth0, cni0");
    assert_eq!(on_the_way.code, Some(0), "{}", on_the_way.stderr);
    let failed = pod.ours("CHECK").error();
    assert_eq!(failed.code, 101);
    assert!(
        failed.text().contains("fast f") && failed.text().contains("cni0"),
        "{failed:?}"
    );
    let refused = node
        .add_pod(PodSpec::new("b", Primary::Bridge))
        .expect_err("refused");
    assert_eq!((&*refused.plugin, refused.error.code), ("egressway", 101));
    assert!(refused.error.text().contains("flowtable"), "{refused:?}");

    node.netns.exec("nft delete table inet fast");
    assert_eq!(pod.ours("CHECK").ok(), "");
    node.pod(PodSpec::new("c", Primary::Bridge));
}

/// ipvlan is in the distributions' kernels; without it, the harness can't make one, and neither can anybody else.
#[test]
fn an_ipvlan_pod_is_refused_by_name() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    pod.netns.ip("link del eth0");
    let make = "ip link add ipv0 link eth0 type ipvlan mode l2";
    let made = node.netns.try_exec(make);
    if made.code != Some(0) {
        assert!(
            made.stderr.contains("Unknown device type"),
            "{}",
            made.stderr
        );
        return;
    }
    node.netns.ip(&format!(
        "link set ipv0 netns {} name eth0",
        pod.netns.name()
    ));
    pod.netns
        .ip("link set eth0 up\naddr add 172.30.0.201/24 dev eth0");
    let refused = pod.ours("ADD").error();
    assert_eq!(refused.code, 101);
    assert!(refused.text().contains("ipvlan"), "{refused:?}");
}
