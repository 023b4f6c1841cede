//! Addresses and interface names are reused; a late DEL must not take the next owner's rules.

use crate::harness::node::{EXT, ip};
use crate::harness::strace::injected;
use crate::harness::*;
use std::fs;
use std::time::{Duration, Instant};

/// The same interface under another container's name, as after a missed DEL.
fn as_container<'n>(pod: &Pod<'n>, container: &str) -> cni::Attachment {
    let mut who = pod.who.clone();
    container.clone_into(&mut who.container_id);
    who
}

fn call_as(pod: &Pod<'_>, who: &cni::Attachment, verb: &str) -> PluginRun {
    let call = pod.call(verb).env("CNI_CONTAINERID", &who.container_id);
    call.run(&pod.node.netns)
}

#[test]
fn a_late_del_leaves_the_next_owner_alone() {
    let node = Node::new(NodeOptions::default());
    let mut pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let _server = node.serve_ext(&[80, 81]);
    let (old, new) = (as_container(&pod, "old"), as_container(&pod, "new"));
    pod.spec = pod.spec.clone().rules("deny 80/tcp");
    call_as(&pod, &old, "ADD").ok();
    pod.spec = pod.spec.clone().rules("deny 81/tcp");
    call_as(&pod, &new, "ADD").ok();
    let news_rules_hold = || {
        let mut probes = Vec::new();
        for ext in EXT.map(ip) {
            probes.push(Probe::tcp(&pod.netns, ext, 80, Want::Reached));
            probes.push(Probe::tcp(&pod.netns, ext, 81, Want::Silence));
        }
        check(&node, &probes);
        assert_eq!(call_as(&pod, &new, "CHECK").ok(), "");
    };
    news_rules_hold();
    call_as(&pod, &old, "DEL").ok();
    node.assert_nothing_of(&old);
    news_rules_hold();
    call_as(&pod, &old, "DEL").ok();
    news_rules_hold();
    call_as(&pod, &new, "DEL").ok();
    node.assert_nothing_left();
}

/// A veth's name comes back on another pod's interface before the first pod's DEL.
#[test]
fn a_reused_veth_name_belongs_to_the_newer_pod() {
    let node = Node::new(NodeOptions::default());
    let first = node.pod(PodSpec::new("a", Primary::Calico).rules("deny to any"));
    let (name, old, late_del) = (first.veth.clone(), first.who.clone(), first.call("DEL"));
    drop(first);
    let started = Instant::now();
    while node.netns.try_exec(&format!("ip link show {name}")).code == Some(0) {
        assert!(
            started.elapsed() < exec::seconds(10),
            "{name} outlives its pod"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = node.pod(
        PodSpec::new("b", Primary::Calico)
            .uncovered()
            .rules("deny 81/tcp"),
    );
    node.netns.ip(&format!(
        "link set {} down\nlink set {} name {name}\nlink set {name} up",
        second.veth, second.veth
    ));
    let [v4, v6] = second.addresses();
    node.netns.ip(&format!(
        "route replace {v4}/32 dev {name}\nroute replace {v6}/128 dev {name}"
    ));
    second.prev_result = second.prev_result.replace(&second.veth, &name);
    second.veth.clone_from(&name);
    assert_eq!(second.ours("ADD").ok().trim_end(), second.prev_result);
    let _server = node.serve_ext(&[80, 81]);
    let seconds_rules_hold = || {
        let mut probes = Vec::new();
        for ext in EXT.map(ip) {
            probes.push(Probe::tcp(&second.netns, ext, 80, Want::Reached));
            probes.push(Probe::tcp(&second.netns, ext, 81, Want::Silence));
        }
        check(&node, &probes);
        assert_eq!(second.ours("CHECK").ok(), "");
        // A forged source does not leave by the renamed veth.
        let capture = Capture::start(&node.ext);
        scapy(
            &second.netns,
            "send(IP(src='10.244.3.250', dst='172.30.0.100')/UDP(dport=9)/Raw(b'forged'))
send(IP(dst='172.30.0.100')/UDP(dport=9)/Raw(b'honest'))",
        );
        assert!(capture.wait_for_marker("honest", soon()));
        assert!(!capture.saw("forged"), "{}", node.describe());
    };
    seconds_rules_hold();
    node.run(&late_del).ok();
    node.assert_nothing_of(&old);
    seconds_rules_hold();
    second.ours("DEL").ok();
    node.assert_nothing_left();
}

/// Two interfaces of one container are two attachments.
#[test]
fn interfaces_of_one_container_are_apart() {
    let node = Node::new(NodeOptions::default());
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    let b = node.pod(PodSpec::new("b", Primary::Ptp).uncovered());
    // The same container ID on another network is another attachment, too.
    let other = b.call("ADD").env("CNI_CONTAINERID", &a.who.container_id);
    let stdin = String::from_utf8(other.stdin.clone())
        .expect("text")
        .replace(cni::NETWORK, "second-network");
    node.run(&other.clone().stdin(stdin.clone())).ok();
    let del = b
        .call("DEL")
        .env("CNI_CONTAINERID", &a.who.container_id)
        .stdin(stdin);
    node.run(&del).ok();
    assert_eq!(a.ours("CHECK").ok(), "", "{}", node.describe());
    a.delete();
    node.assert_nothing_left();
}

/// Who takes an address over from a container that was never deleted inherits none of its
/// connections.
#[test]
fn connections_do_not_pass_to_the_next_owner() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Ptp).uncovered());
    let (old, new) = (as_container(&pod, "old"), as_container(&pod, "new"));
    call_as(&pod, &old, "ADD").ok();
    let _server = node.serve_ext(&[80]);
    check(
        &node,
        &[Probe::udp(&pod.netns, ip(EXT[0]), 80, Want::Reached)],
    );
    let connections = || {
        let list = node.netns.exec(&format!("conntrack -L -s {}", pod.v4));
        list.lines().count()
    };
    assert!(connections() > 0);
    call_as(&pod, &new, "ADD").ok();
    assert_eq!(connections(), 0);
    // Nor does the late DEL take the next owner's.
    check(
        &node,
        &[Probe::udp(&pod.netns, ip(EXT[0]), 80, Want::Reached)],
    );
    call_as(&pod, &old, "DEL").ok();
    assert!(connections() > 0);
    call_as(&pod, &new, "DEL").ok();
    assert_eq!(connections(), 0);
    node.assert_nothing_left();
}

/// Its chain would judge the next one's packets, too, and drop them.
fn the_next_add_finds_who_had_the_interface(fault: &str) {
    let node = Node::new(NodeOptions::default());
    let mut pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let missed = pod.id();
    pod.start_again();
    let note = node.state_dir().join(format!("links/{}.json", pod.veth));
    let of_its_veth = format!("chain if-{missed}");
    let noted = || -> Vec<String> {
        let note = fs::read(&note).expect("a note");
        let note: serde_json::Value = serde_json::from_slice(&note).expect("JSON");
        serde_json::from_value(note["attachments"].clone()).expect("ids")
    };
    let mut failed = 0;
    for call in 1..60 {
        let inject = format!("sendto:{fault}:when={call}");
        if injected(&node, &pod.call("ADD"), &inject).succeeded() {
            break; // what fails now is only what is noted afterwards
        }
        failed += 1;
        pod.ours("DEL").ok();
        assert_eq!(noted(), std::slice::from_ref(&missed), "sendto {call}");
    }
    assert!(failed >= 5, "{failed}");
    pod.ours("ADD").ok();
    assert!(!node.ruleset().contains(&of_its_veth), "{}", node.ruleset());
    assert_eq!(noted(), [pod.id()]);
}

#[test]
fn a_failed_add_does_not_hide_who_had_the_interface() {
    the_next_add_finds_who_had_the_interface("error=ENOMEM");
}

#[test]
fn a_killed_add_does_not_hide_who_had_the_interface() {
    the_next_add_finds_who_had_the_interface("signal=KILL");
}

/// Interface indexes come back, too, if somebody asks for one: it is another interface then, and a DEL
/// that comes late leaves it up. What had the index before is gone.
#[test]
fn an_index_that_another_link_has_is_not_the_pods() {
    let node = Node::new(NodeOptions::default());
    let spec = || PodSpec::new("a", Primary::Calico).rules("deny 81/tcp");
    for (verb, kind, same_name) in [
        ("DEL", "veth", false),
        ("DEL", "ifb", true),
        ("GC", "veth", false),
    ] {
        let pod = node.pod(spec());
        let index = node.netns.ip_json(&format!("link show {}", pod.veth))[0]["ifindex"].clone();
        let (who, name, late_del) = (pod.who.clone(), pod.veth.clone(), pod.call("DEL"));
        node.netns.ip(&format!("link del {name}"));
        let name = if same_name { &*name } else { "other" };
        node.netns.ip(&format!(
            "link add {name} index {index} type {kind}\nlink set {name} up"
        ));
        let call = match verb {
            "DEL" => late_del,
            _ => node.call("GC", "1.1.0", &[]),
        };
        node.run(&call).ok();
        node.assert_nothing_of(&who);
        let flags = node.netns.ip_json(&format!("link show {name}"))[0]["flags"].clone();
        let flags: Vec<&str> = flags
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| f.as_str())
            .collect();
        assert!(flags.contains(&"UP"), "{verb} {kind} {name}: {flags:?}");
        node.netns.ip(&format!("link del {name}"));
    }
    node.assert_nothing_left();
}
