//! Whoever lists the node's rules must be able to, whatever ours are: nft 1.0.6 as Debian 12 has it, as text and as
//! JSON, and iptables on the same kernel.

use crate::harness::*;
use serde_json::Value;
use std::fmt::Write as _;

fn all_can_read(node: &Node) {
    let text = node.netns.exec("nft list ruleset");
    let handles = node.netns.exec("nft -a -s list ruleset");
    assert!(text.contains("table inet egressway") && handles.contains("# handle"));
    for command in ["nft -j list ruleset", "nft -j -t list ruleset"] {
        let listing: Value = serde_json::from_str(&node.netns.exec(command)).expect("JSON");
        let objects = listing["nftables"].as_array().expect("a list");
        let ours = objects
            .iter()
            .filter(|object| object["chain"]["table"] == "egressway");
        assert!(ours.count() >= 7, "{command}");
    }
    for line in text
        .lines()
        .filter(|line| line.trim_start().starts_with("chain "))
    {
        let chain = line.trim().split(' ').nth(1).expect("a name");
        let family = if node
            .netns
            .try_exec(&format!("nft list chain inet egressway {chain}"))
            .code
            == Some(0)
        {
            "inet"
        } else {
            "netdev"
        };
        node.netns
            .exec(&format!("nft list chain {family} egressway {chain}"));
    }
    for program in ["iptables", "ip6tables"] {
        for kind in ["nft", "legacy"] {
            node.netns.exec(&format!("{program}-{kind}-save"));
            node.netns.exec(&format!("{program}-{kind} -w -t nat -nvL"));
        }
    }
}

#[test]
fn of_an_empty_node() {
    let node = Node::new(NodeOptions::default());
    node.pod(PodSpec::new("a", Primary::Bridge)).delete();
    all_can_read(&node);
}

#[test]
fn of_rules_of_every_kind() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("deny to metadata log name=no-metadata\npass icmp, icmpv6 to private")
            .defaults("reject to internet except 198.51.100.0/24, 2001:db8:99::/48 log=7/s")
            .namespace("shop", "egress-ip", egress::BOTH),
    );
    let everything = "
        allow 443/tcp, 8000-8100/udp, 53/udp to 198.51.100.7, 203.0.113.0/24, 10.1.2.3-10.1.2.9, 2001:db8::/32
        deny icmp/3/4, icmp/8, icmpv6/128, sctp, proto/47 to any log name=strange
        reject tcp to node, private
        allow udp to cluster, dns until=2999-01-31T00:00:00Z
        deny to any except internet priority=2000";
    let _pods = [Primary::Bridge, Primary::Ptp, Primary::Calico]
        .map(|primary| node.pod(PodSpec::new("a", primary).rules(everything)));
    all_can_read(&node);
}

/// Many rules, of which most become lookups.
#[test]
fn of_hundreds_of_rules() {
    let node = Node::new(NodeOptions::default());
    let mut rules = String::new();
    for n in 0..100 {
        let verb = ["allow", "deny", "reject"][n % 3];
        let port = 1000 + n % 7;
        let _ = writeln!(
            rules,
            "{verb} {port}/tcp, {port}/udp to 198.51.{n}.0/24, 2001:db8:{n}::/48"
        );
        let _ = writeln!(rules, "{verb} tcp to 203.0.{n}.7 log");
    }
    let _pod = node.pod(PodSpec::new("a", Primary::Bridge).rules(&rules));
    all_can_read(&node);
}
