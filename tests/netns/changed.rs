//! The node as it is now, and not as it was at ADD: what others rename, move and renumber is mended without
//! touching the pod, or said.

mod uplinks;

use crate::harness::node::{FAR, ip};
use crate::harness::*;
use crate::sync::sync;
use serde_json::Value;

/// What `show` says of a pod; nothing: it is ok.
pub fn problems(node: &Node, name: &str) -> Vec<String> {
    let shown = node.tool_json(&format!("show {name} -o json"));
    let problems = shown["problems"].as_array().expect("problems");
    let text = |problem: &Value| problem.as_str().expect("text").to_owned();
    problems.iter().map(text).collect()
}

/// CHECK and `show` say it with this word, and `show` not only of the rules; `sync` mends it, once.
fn mended(node: &Node, pods: &[&Pod<'_>], what: &str, word: &str) {
    for pod in pods {
        let name = &pod.spec.name;
        let shown = problems(node, name).join("; ");
        assert!(shown.contains(word), "{what}: {name}: {word} in {shown:?}");
        let said = pod.ours("CHECK").error().text();
        assert!(said.contains(word), "{what}: {name}: {word} in {said:?}");
    }
    let (changes, good) = sync(node);
    let is_repaired = |change: &Value| change["did"] == "repaired" || change["did"] == "removed";
    assert!(
        good && !changes.is_empty() && changes.iter().all(is_repaired),
        "{what}: {changes:#?}\n{}",
        node.describe()
    );
    assert_eq!(sync(node), (vec![], true), "a second time after: {what}");
    for pod in pods {
        assert_eq!(problems(node, &pod.spec.name), [""; 0], "{what}");
        let check = pod.ours("CHECK");
        assert!(check.succeeded(), "{what}: {:?}", check.output);
    }
}

/// CHECK, `show` and `sync` say it with this word, and the pod keeps its rules.
pub fn said(node: &Node, pod: &Pod<'_>, word: &str) {
    let shown = problems(node, &pod.spec.name).join("; ");
    assert!(shown.contains(word), "{word} in {shown:?}");
    let check = pod.ours("CHECK").error().text();
    assert!(check.contains(word), "{word} in {check:?}");
    let (changes, good) = sync(node);
    assert!(!good, "sync ended well: {changes:#?}");
    let left = |change: &Value| change["did"] == "left";
    assert!(
        !changes.is_empty() && changes.iter().all(left),
        "{changes:#?}"
    );
    let text = Value::from(changes).to_string();
    assert!(text.contains(word), "{word} in {text}");
}

/// What `explain` adds to an answer.
fn notes(node: &Node, name: &str) -> String {
    let answer = node.tool_json(&format!("explain {name} {}:80/tcp -o json", FAR[0]));
    answer["notes"].to_string()
}

/// The rules of pods that deny port 81 hold, and the rest arrives.
fn enforced(node: &Node, pods: &[&Pod<'_>], families: &[usize]) {
    let mut probes = Vec::new();
    for pod in pods {
        for family in families {
            let far = ip(FAR[*family]);
            probes.push(Probe::tcp(&pod.netns, far, 80, Want::Reached));
            probes.push(Probe::tcp(&pod.netns, far, 81, Want::Silence));
        }
    }
    check(node, &probes);
}

fn spec(name: &str, primary: Primary) -> PodSpec {
    PodSpec::new(name, primary).rules("deny 81/tcp")
}

#[test]
fn a_bridge_gets_another_mac_and_another_name() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(spec("a", Primary::Bridge));
    let b = node.pod(spec("b", Primary::Bridge));
    let uncovered = node.pod(PodSpec::new("c", Primary::Bridge).uncovered());
    let served = [b.serve(&[80, 81]), uncovered.serve(&[80])];
    let between = || {
        check(
            &node,
            &[
                Probe::tcp(&a.netns, b.v4, 80, Want::Reached),
                Probe::tcp(&a.netns, b.v6, 80, Want::Reached),
                Probe::tcp(&a.netns, b.v4, 81, Want::Silence),
                Probe::tcp(&a.netns, b.v6, 81, Want::Silence),
                Probe::tcp(&a.netns, uncovered.v4, 80, Want::Reached),
                Probe::tcp(&uncovered.netns, b.v4, 80, Want::Reached),
            ],
        );
    };
    enforced(&node, &[&a, &b], &[0, 1]);
    between();
    node.netns.ip("link set cni0 address 02:00:00:00:77:01");
    mended(&node, &[&a, &b], "another MAC", "02:00:00:00:77:01");
    enforced(&node, &[&a, &b], &[0, 1]);
    between();
    node.netns.ip("link set cni0 name cni9");
    mended(&node, &[&a, &b], "another name", "cni9");
    enforced(&node, &[&a, &b], &[0, 1]);
    between();
    node.netns.ip("link set cni9 name cni0");
    mended(&node, &[&a, &b], "its old name", "cni0");
    drop(served);
    for pod in [a, b, uncovered] {
        pod.delete();
    }
    node.assert_nothing_left();
}

#[test]
fn a_renamed_veth_is_still_the_pods() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let pods = [
        node.pod(spec("a", Primary::Bridge)),
        node.pod(spec("b", Primary::Ptp)),
        node.pod(spec("c", Primary::Calico)),
    ];
    let mut all: Vec<&Pod<'_>> = pods.iter().collect();
    for (n, pod) in pods.iter().enumerate() {
        let new = format!("moved{n}");
        node.netns.ip(&format!("link set {} name {new}", pod.veth));
        // Nobody takes it for gone.
        let (gone, _) = (node.tool("gc -o json"), node.tool("gc"));
        assert!(gone.stdout_text().contains("\"changes\": []"), "{gone:?}");
        mended(&node, &[pod], &new, &new);
    }
    enforced(&node, &all, &[0, 1]);
    // Two that change their names: each note speaks of the other one.
    node.netns.ip("link set moved0 name x
         link set moved1 name moved0
         link set x name moved1");
    all.truncate(2);
    mended(&node, &all, "exchanged names", "is now called");
    enforced(&node, &all, &[0, 1]);
    // A DEL that comes before any sync finds it as well.
    node.netns.ip("link set moved2 name y");
    let [a, b, mut c] = pods;
    c.veth = "y".to_owned();
    c.delete();
    for pod in [a, b] {
        pod.delete();
    }
    node.assert_nothing_left();
}

#[test]
fn a_veth_that_moves_to_another_bridge_or_out_is_still_the_pods() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(spec("a", Primary::Bridge));
    let b = node.pod(spec("b", Primary::Bridge));
    let veth = &a.veth;
    node.netns.ip(&format!(
        "link add br9 type bridge
         addr add 10.244.1.1/24 dev br9
         addr add fd44:1::1/64 dev br9 nodad
         link set br9 up
         link set {veth} master br9
         route add {}/32 dev br9
         route add {}/128 dev br9",
        a.v4, a.v6
    ));
    mended(&node, &[&a], "another bridge", "br9");
    enforced(&node, &[&a, &b], &[0, 1]);
    node.netns.ip(&format!(
        "link set {veth} nomaster
         link del br9
         addr add fd44:1::1/128 dev {veth} nodad
         route add {}/32 dev {veth}
         route add {}/128 dev {veth}",
        a.v4, a.v6
    ));
    node.netns
        .sysctls(&[(&format!("net/ipv4/conf/{veth}/proxy_arp"), "1")]);
    mended(&node, &[&a], "out of the bridge", "not a port");
    a.netns.ip("neigh flush dev eth0");
    enforced(&node, &[&a, &b], &[0, 1]);
    // Where it can't be enforced, that is said, and the rules stay.
    node.netns.ip(&format!(
        "link add br8 type bridge
         link set br8 up
         link set {veth} master br8"
    ));
    said(&node, &a, "br8 is not the gateway");
    node.netns
        .ip(&format!("link set {veth} nomaster\nlink del br8"));
    assert_eq!(problems(&node, "a"), [""; 0]);
    a.delete();
    b.delete();
    node.assert_nothing_left();
}

/// In another namespace nobody can judge what the pod sends; when it comes back, the rules are there.
#[test]
fn a_veth_that_leaves_the_node_is_not_gone() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(spec("a", Primary::Ptp));
    let other = Netns::new("other");
    let veth = &a.veth;
    node.netns
        .ip(&format!("link set {veth} netns {}", other.name()));
    said(&node, &a, "another network namespace");
    let gc = node.tool("gc -o json").stdout_text();
    assert!(gc.contains("another network namespace"), "{gc}");
    let back = Netns::of_another(std::path::Path::new(&node.netns.path()));
    other.ip(&format!("link set {veth} netns {}", back.name()));
    node.netns.ip(&format!(
        "link set {veth} up
         addr add 10.244.2.1/32 dev {veth}
         addr add fd44:2::1/128 dev {veth} nodad
         route add {}/32 dev {veth}
         route add {}/128 dev {veth}",
        a.v4, a.v6
    ));
    // Its guard went with the namespace.
    let (changes, good) = sync(&node);
    assert!(good, "{changes:#?}");
    enforced(&node, &[&a], &[0]);
    a.delete();
    node.assert_nothing_left();
}

/// What the pod gives itself is not allowed because it is there. It is said.
#[test]
fn addresses_and_macs_that_a_pod_gives_itself_are_said() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(spec("a", Primary::Bridge));
    for address in ["fd44:1::51aa:c/64", "fe80::77/64", "10.244.1.200/24"] {
        let bare = address.split('/').next().expect("an address");
        let nodad = if bare.contains(':') { "nodad" } else { "" };
        a.netns.ip(&format!("addr add {address} dev eth0 {nodad}"));
        said(&node, &a, bare);
        assert!(notes(&node, "a").contains(bare), "{bare}");
        a.netns.ip(&format!("addr del {address} dev eth0"));
        assert_eq!(sync(&node), (vec![], true), "{address}");
    }
    a.netns.ip("link set eth0 address 02:00:00:00:77:02");
    said(&node, &a, "02:00:00:00:77:02");
    assert!(notes(&node, "a").contains("02:00:00:00:77:02"));
    a.netns.ip(&format!("link set eth0 address {}", a.mac));
    assert_eq!(sync(&node), (vec![], true));
    assert_eq!(notes(&node, "a"), "[]");
    enforced(&node, &[&a], &[0]);
}

/// A bridge with a LAN's router behind it, which has an address there and routes nothing: to send its pods'
/// packets to it would lose them all.
#[test]
fn a_bridge_that_does_not_forward_is_refused() {
    for family in ["ipv4", "ipv6"] {
        let node = Node::new(NodeOptions::default());
        let a = node.pod(spec("a", Primary::Bridge));
        node.netns
            .sysctls(&[(&format!("net/{family}/conf/all/forwarding"), "0")]);
        let mut again = a.call("ADD");
        again = again.env("CNI_CONTAINERID", "another");
        let error = again.run(&node.netns).error();
        assert_eq!(error.code, 101, "{error:?}");
        assert!(error.text().contains("does not forward"), "{error:?}");
        node.netns.sysctls(&[
            ("net/bridge/bridge-nf-call-iptables", "1"),
            ("net/bridge/bridge-nf-call-ip6tables", "1"),
        ]);
        a.ours("DEL").ok();
        again.run(&node.netns).ok();
        a.call("DEL")
            .env("CNI_CONTAINERID", "another")
            .run(&node.netns)
            .ok();
    }
}

/// Pods that start together: the first to be attached covers the ports of the others, of which one is refused.
#[test]
fn a_refused_pod_leaves_no_chain_of_its_port() {
    let node = Node::new(NodeOptions::default());
    let refused = node.pod(PodSpec::new("refused", Primary::Bridge).uncovered());
    let a = node.pod(spec("a", Primary::Bridge));
    let ports = || {
        let objects = node.objects();
        objects.iter().filter(|o| o.contains(" port-")).count()
    };
    assert_eq!(ports(), 1, "{:?}", node.objects());
    let mut annotations = refused.spec.annotations.clone();
    annotations.insert("egressway.dev/rules".to_owned(), "nonsense".into());
    let add = refused.call_with("ADD", &annotations, Some(&refused.prev_result));
    assert_eq!(add.run(&node.netns).error().code, 100);
    let del = refused.call_with("DEL", &annotations, None);
    del.run(&node.netns).ok();
    assert_eq!(ports(), 0, "{:?}", node.objects());
    assert_eq!(sync(&node), (vec![], true));
    // What was covered and went without us goes with the next one that is refused.
    let other = node.pod(PodSpec::new("other", Primary::Bridge).uncovered());
    a.delete();
    let b = node.pod(spec("b", Primary::Bridge));
    assert_eq!(ports(), 2, "{:?}", node.objects());
    other.delete();
    del.run(&node.netns).ok();
    assert_eq!(ports(), 0, "{:?}", node.objects());
    refused.delete();
    b.delete();
    node.assert_nothing_left();
}
