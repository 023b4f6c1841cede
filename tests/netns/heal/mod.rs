//! What others break while the agent runs is put back because the kernel tells of it, and not because somebody
//! looks from time to time.

mod beside;
mod contested;
mod files;

use crate::harness::agent::{NodeAgent, promptly};
use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use crate::install::{get, until};
use std::process::Command;

/// What the agent says each time it has put something back.
const RESTORED: &str = "restored";

/// An agent that has looked at everything once.
fn agent(node: &Node) -> NodeAgent {
    let agent = NodeAgent::start(node);
    until("the agent is ready", || {
        get(&node.netns, "/readyz").0 == 200
    });
    agent
}

/// It is broken, so that CHECK of some pod says it, unless it was put back already; then it is put back, and the agent
/// says so once, with this word.
fn is_mended(agent: &NodeAgent, pods: &[&Pod<'_>], what: &str, word: &str, damage: impl FnOnce()) {
    let before = agent.lines(RESTORED).len();
    damage();
    promptly(&format!("{what}: it is said"), || {
        agent.lines(RESTORED).len() > before
    });
    for pod in pods {
        promptly(&format!("{what}: CHECK of {}", pod.spec.name), || {
            pod.ours("CHECK").succeeded()
        });
    }
    let said = agent.lines(RESTORED).split_off(before);
    assert!(
        said.iter().any(|line| line.contains(word)),
        "{what}: {word} in {said:?}"
    );
}

/// The rules of pods that deny port 81 hold, and the rest leaves with an egress address.
fn enforced(node: &Node, pods: &[&Pod<'_>]) {
    let mut probes = Vec::new();
    for pod in pods {
        for family in 0..2 {
            let (far, egress) = (ip(FAR[family]), Want::From(ip(EGRESS[family])));
            probes.push(Probe::tcp(&pod.netns, far, 80, egress));
            probes.push(Probe::tcp(&pod.netns, far, 81, Want::Silence));
        }
    }
    check(node, &probes);
}

#[test]
fn what_others_change_in_the_tables_is_put_back_and_they_are_named() {
    let node = shop_node();
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let mut healing = agent(&node);
    // One that starts beside it is as well looked after.
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 81/tcp"));
    let pods = [&a, &b];
    let id = a.id();
    let found = node.objects();
    let name = |beginning: &str| {
        let found = found.iter().find(|o| o.starts_with(beginning));
        let found = found.unwrap_or_else(|| panic!("no {beginning}*"));
        found.split(' ').next_back().expect("a name").to_owned()
    };
    let (policy, bridge) = (name("inet chain pol-"), name("netdev chain bridge-"));
    let damages = [
        "flush ruleset".to_owned(),
        "delete table inet egressway".to_owned(),
        "delete table netdev egressway".to_owned(),
        "flush table inet egressway".to_owned(),
        format!("delete element inet egressway pod4 {{ {} }}", a.v4),
        format!("delete element inet egressway snat6 {{ {} }}", b.v6),
        "delete element inet egressway eip4 { 172.30.0.50 }".to_owned(),
        format!("insert rule inet egressway pod-{id} accept"),
        format!("insert rule inet egressway {policy} tcp dport 81 accept"),
        format!("delete chain netdev egressway if-{id}"),
        format!("flush chain netdev egressway {bridge}"),
        "insert rule inet egressway enforce accept".to_owned(),
        "chain inet egressway enforce { policy drop; }".to_owned(),
        "add table inet egressway { flags dormant; }".to_owned(),
        "add table netdev egressway { flags dormant; }".to_owned(),
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        println!("{damage}");
        // One that is not tired of it yet.
        if n % 5 == 4 {
            drop(healing);
            healing = agent(&node);
        }
        is_mended(&healing, &pods, &damage, "after nft (process ", || {
            node.netns.nft(&damage);
        });
        promptly(&format!("{damage}: everything is as it was"), || {
            node.objects() == found
        });
    }
    enforced(&node, &pods);
    assert_eq!(crate::sync::sync(&node), (vec![], true));
    a.delete();
    b.delete();
    assert_eq!(crate::sync::sync(&node), (vec![], true));
    node.assert_nothing_left();
}

#[test]
fn what_others_change_of_devices_is_put_back() {
    let node = shop_node();
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 81/tcp"));
    let (pods, agent) = ([&a, &b], agent(&node));
    let veth = &a.veth;
    for (what, word, damage) in [
        (
            "an address",
            EGRESS[0],
            "addr del 172.30.0.50/32 dev eth0".to_owned(),
        ),
        (
            "the other",
            EGRESS[1],
            "addr del fd30::50/128 dev eth0".to_owned(),
        ),
        (
            "a veth's name",
            "called other0",
            format!("link set {veth} name other0"),
        ),
        (
            "the bridge's MAC",
            "MAC",
            "link set cni0 address 02:00:00:00:00:77".to_owned(),
        ),
    ] {
        println!("{what}");
        is_mended(&agent, &pods, what, word, || node.netns.ip(&damage));
        promptly("addresses are there", || {
            has_egress_addresses(&node) == [true, true]
        });
    }
    enforced(&node, &pods);
    // IPv6 addresses go with a link that is down; IPv4 ones stay.
    node.netns.ip("link set eth0 down");
    promptly("it is said that the uplink is down", || {
        !agent.lines("not restored: egress IP").is_empty()
    });
    is_mended(&agent, &pods, "the uplink", EGRESS[1], || {
        node.netns.ip("link set eth0 up");
        // The node's own address and routes went with it, too; they are not ours.
        node.netns.ip("addr replace fd30::11/64 dev eth0 nodad");
        for (n, router) in ["172.30.0.100", "fd30::100"].into_iter().enumerate() {
            let family = ["-4", "-6"][n];
            node.netns
                .exec(&format!("ip {family} route replace default via {router}"));
        }
    });
    promptly("addresses are there", || {
        has_egress_addresses(&node) == [true, true]
    });
    // What drops forged checksums.
    is_mended(&agent, &pods, "the guard", "egressway_csum", || {
        node.netns
            .exec(&format!("tc qdisc del dev {} clsact", b.veth));
    });
}

/// Its own transactions, those of the plugin and of the tool, and what others do elsewhere are no reason to do
/// anything.
#[test]
fn nothing_is_done_when_nothing_is_wrong() {
    let node = shop_node();
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    let agent = agent(&node);
    for n in 1..5 {
        let name = format!("p{n}");
        let pod = node.pod(PodSpec::new(&name, Primary::Bridge).rules(&format!("deny {n}/tcp")));
        assert_eq!(crate::sync::sync(&node), (vec![], true));
        node.netns.nft(&format!(
            "add table inet others{n}; delete table inet others{n}"
        ));
        node.netns.ip("link add other type bridge\nlink del other");
        pod.delete();
    }
    node.netns
        .nft(&format!("insert rule inet egressway pod-{} accept", a.id()));
    promptly("what is wrong is put back", || {
        !agent.lines(RESTORED).is_empty()
    });
    let said = agent.lines(RESTORED);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("after nft (process ") && said[0].contains("shop/a"),
        "{said:?}"
    );
    assert_eq!(agent.lines("not restored"), [""; 0]);
}

/// Runs nft under another name.
fn nft_called(node: &Node, name: &str, line: &str) {
    let path = node.dir.path().join(name);
    if !path.exists() {
        let nft = std::fs::canonicalize("/usr/sbin/nft").expect("nft");
        std::fs::copy(nft, &path).expect("copy nft");
    }
    let output = node.netns.exec_with(Command::new(path).arg(line), b"");
    assert_eq!(output.code, Some(0), "{line}: {}", output.stderr);
}
