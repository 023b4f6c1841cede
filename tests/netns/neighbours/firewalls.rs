//! Other firewalls on the node: our deny stays a deny, their drop a drop, and their counters count.

use crate::harness::node::{EXT, NODE, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::process::Command;

/// The address of a Service; nobody's.
const VIPS: [&str; 2] = ["10.96.0.80", "fd96::80"];

/// Somebody else's rules: port 80 is accepted, port 81, which ours deny, too, and port 83 dropped.
struct Theirs {
    /// With `{names}` in it, as `filled` replaces them.
    rules: &'static str,
    tool: Tool,
    /// Whether port 80 of a Service leads to port 80 outside, and 81 and the node's 30081 to 81.
    services: bool,
    /// What becomes of a port that they say nothing about.
    otherwise: Want,
}

#[derive(Clone, Copy)]
enum Tool {
    Nft,
    /// `iptables-nft` or `iptables-legacy`.
    Iptables(&'static str),
}

impl Theirs {
    /// Loads the rules, over those that may be there: what a reload does.
    fn load(&self, node: &Node, pod: &Pod<'_>) {
        match self.tool {
            Tool::Nft if self.rules.contains("{family}") => {
                node.netns.nft(&filled(self.rules, 0, pod));
                node.netns.nft(&filled(self.rules, 1, pod));
            }
            Tool::Nft => node.netns.nft(&filled(self.rules, 0, pod)),
            Tool::Iptables(kind) => {
                for (n, program) in ["iptables", "ip6tables"].into_iter().enumerate() {
                    let mut restore = Command::new(format!("{program}-{kind}-restore"));
                    let rules = filled(self.rules, n, pod);
                    let output = node.netns.exec_with(restore.arg("-w"), rules.as_bytes());
                    assert_eq!(output.code, Some(0), "{}\n{rules}", output.stderr);
                }
            }
        }
    }

    /// How many packets their rules of this comment have counted.
    fn counted(&self, node: &Node, comment: &str) -> u64 {
        let listings = match self.tool {
            Tool::Nft => vec![node.ruleset()],
            Tool::Iptables(kind) => ["iptables", "ip6tables"]
                .map(|program| node.netns.exec(&format!("{program}-{kind}-save -c")))
                .into(),
        };
        let lines = listings.iter().flat_map(|listing| listing.lines());
        lines
            .filter(|line| line.contains(comment))
            .map(|line| {
                let number = match self.tool {
                    // tcp dport 83 counter packets 2 bytes 120 drop comment "their-drop"
                    Tool::Nft => line
                        .split("packets ")
                        .nth(1)
                        .and_then(|l| l.split(' ').next()),
                    // [2:120] -A FORWARD ...
                    Tool::Iptables(_) => line.strip_prefix('[').and_then(|l| l.split(':').next()),
                };
                let number = number.and_then(|n| n.parse::<u64>().ok());
                number.unwrap_or_else(|| panic!("no counter: {line}"))
            })
            .sum()
    }
}

/// The rules for one family.
fn filled(rules: &str, family: usize, pod: &Pod<'_>) -> String {
    let ext = ip(EXT[family]);
    let bracketed = if ext.is_ipv6() {
        format!("[{ext}]")
    } else {
        ext.to_string()
    };
    rules
        .replace("{family}", ["ip", "ip6"][family])
        .replace("{address}", ["ipv4_addr", "ipv6_addr"][family])
        .replace("{icmp}", ["icmp", "ipv6-icmp"][family])
        .replace("{vip}", VIPS[family])
        .replace("{pods}", ["10.244.0.0/16", "fd44::/16"][family])
        .replace("{ext_in_brackets}", &bracketed)
        .replace("{veth}", &pod.veth)
}

fn both_hold(theirs: &Theirs) {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let _servers = node.serve_ext(&[80, 81, 83, 85]);
    let mut probes = Vec::new();
    for family in 0..2 {
        let ext = ip(EXT[family]);
        probes.extend([
            Probe::tcp(&pod.netns, ext, 80, Want::Reached),
            Probe::tcp(&pod.netns, ext, 81, Want::Silence),
            Probe::tcp(&pod.netns, ext, 83, Want::Silence),
            Probe::tcp(&pod.netns, ext, 85, theirs.otherwise),
        ]);
        if theirs.services {
            let vip = ip(VIPS[family]);
            probes.extend([
                Probe::tcp(&pod.netns, vip, 80, Want::Reached),
                Probe::tcp(&pod.netns, vip, 81, Want::Silence),
                Probe::tcp(&pod.netns, ip(NODE[family]), 30081, Want::Silence),
            ]);
        }
    }
    // Behind ours; then reloaded; then ours once more, behind theirs.
    for round in 0..3 {
        if round == 2 {
            pod.ours("ADD").ok();
        } else {
            theirs.load(&node, &pod);
        }
        check(&node, &probes);
        assert_eq!(pod.ours("CHECK").ok(), "");
        for comment in ["their-accept", "their-drop"] {
            let counted = theirs.counted(&node, comment);
            assert!(
                counted > 0,
                "{comment} counted nothing\n{}",
                node.describe()
            );
        }
    }
    pod.delete();
    node.assert_nothing_left();
}

#[test]
fn kube_proxy_by_iptables_nft() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/kube-proxy.iptables"),
        tool: Tool::Iptables("nft"),
        services: true,
        otherwise: Want::Reached,
    });
}

#[test]
fn kube_proxy_by_iptables_legacy() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/kube-proxy.iptables"),
        tool: Tool::Iptables("legacy"),
        services: true,
        otherwise: Want::Reached,
    });
}

#[test]
fn kube_proxy_by_nft() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/kube-proxy.nft"),
        tool: Tool::Nft,
        services: true,
        otherwise: Want::Reached,
    });
}

#[test]
fn ufw_by_iptables_nft() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/ufw.iptables"),
        tool: Tool::Iptables("nft"),
        services: false,
        otherwise: Want::Silence,
    });
}

#[test]
fn ufw_by_iptables_legacy() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/ufw.iptables"),
        tool: Tool::Iptables("legacy"),
        services: false,
        otherwise: Want::Silence,
    });
}

#[test]
fn firewalld() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/firewalld.nft"),
        tool: Tool::Nft,
        services: false,
        otherwise: Want::Prohibited,
    });
}

#[test]
fn hooks_all_around_ours() {
    both_hold(&Theirs {
        rules: include_str!("rulesets/hooks.nft"),
        tool: Tool::Nft,
        services: false,
        otherwise: Want::Reached,
    });
}

/// Packets between pods of one bridge are routed, so that another firewall's forward chain sees them, too, as it does
/// those to other nodes. The reference plugin `firewall` is there to make the exceptions.
#[test]
fn a_forward_policy_of_drop_counts_within_a_bridge_too() {
    let node = Node::new(NodeOptions::default());
    let [a, b] = ["a", "b"].map(|name| node.pod(PodSpec::new(name, Primary::Bridge)));
    let _server = b.serve(&[80]);
    let b_hears = |pod: &Pod<'_>, want: Want| {
        let probes = b.addresses().map(|b| Probe::tcp(&pod.netns, b, 80, want));
        check(&node, &probes);
    };
    b_hears(&a, Want::Reached);
    for program in ["iptables", "ip6tables"] {
        node.netns.exec(&format!("{program} -w -P FORWARD DROP"));
    }
    b_hears(&a, Want::Silence);
    let firewall = json!({"type": "firewall"});
    let excepted = node.pod(PodSpec::new("c", Primary::Bridge).between(firewall, Value::Null));
    b_hears(&excepted, Want::Reached);
}
