//! The harness without our plugin: what later tests see stopped does arrive without it.

use crate::harness::cni::Call;
use crate::harness::node::{EXT, FAR, METADATA, NODE, ip};
use crate::harness::probe::run_all;
use crate::harness::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn everything_reaches(primary: Primary, bridge_nf: bool) {
    let node = Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    });
    let a = node.pod(PodSpec::new("a", primary).uncovered());
    let b = node.pod(PodSpec::new("b", primary).uncovered());
    let _servers = [
        node.serve_ext(&[80, 8080]),
        node.serve_node(&[80]),
        a.serve(&[80]),
        b.serve(&[80]),
    ];
    let mut probes = Vec::new();
    for family in 0..2 {
        let (from, to) = (a.addresses()[family], b.addresses()[family]);
        for there in [EXT[family], FAR[family], METADATA[family], NODE[family]].map(ip) {
            probes.push(Probe::tcp(&a.netns, there, 80, Want::From(from)));
            probes.push(Probe::udp(&a.netns, there, 80, Want::From(from)));
            probes.push(Probe::ping(&a.netns, there, Want::Reached));
        }
        probes.push(Probe::tcp(&a.netns, to, 80, Want::From(from)));
        probes.push(Probe::udp(&a.netns, to, 80, Want::From(from)));
        probes.push(Probe::tcp(&a.netns, ip(EXT[family]), 81, Want::Refused));
        probes.push(Probe::udp(&a.netns, ip(EXT[family]), 81, Want::Refused));
        probes.push(Probe::tcp(&node.netns, from, 80, Want::Reached));
        probes.push(Probe::tcp(&node.ext, from, 80, Want::From(ip(EXT[family]))));
    }
    check(&node, &probes);
    a.delete();
    b.delete();
}

#[test]
fn bridge() {
    everything_reaches(Primary::Bridge, false);
}

#[test]
fn bridge_nf() {
    everything_reaches(Primary::Bridge, true);
}

#[test]
fn ptp() {
    everything_reaches(Primary::Ptp, false);
}

#[test]
fn calico() {
    everything_reaches(Primary::Calico, false);
}

#[test]
fn captures_and_logs_see_packets() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    node.netns.nft(
        "table inet t {
           chain c {
             type filter hook prerouting priority 0
             udp dport 4242 log prefix \"hello world\" group 7 drop
             udp dport 4243 reject with icmpx admin-prohibited
             udp dport 4244 drop
           }
         }",
    );
    let mut log = Nflog::start(&node.netns, 7);
    let capture = Capture::start(&node.ext);
    scapy(
        &pod.netns,
        &format!(
            "send(IP(dst='{}')/UDP(dport=4242)/Raw(b'first'))\nsend(IP(dst='{}')/GRE()/Raw(b'second'))",
            EXT[0], EXT[0]
        ),
    );
    assert!(capture.wait_for_marker("second", soon()));
    assert!(!capture.saw("first"));
    let logged = log.wait_for(soon(), |_| true).expect("a logged packet");
    assert_eq!(
        (logged.prefix.as_str(), logged.source()),
        ("hello world", pod.v4)
    );
    check(
        &node,
        &[
            Probe::udp(&pod.netns, ip(EXT[0]), 4243, Want::Prohibited),
            Probe::udp(&pod.netns, ip(EXT[1]), 4243, Want::Prohibited),
            Probe::udp(&pod.netns, ip(EXT[0]), 4244, Want::Silence),
            Probe::udp(&pod.netns, ip(EXT[1]), 4244, Want::Silence),
        ],
    );
}

/// Where silence is wanted, what arrives is seen, although nothing ever comes back: each time, on every way through a node.
#[test]
fn an_arrival_without_an_answer_is_no_silence() {
    let node = Node::new(NodeOptions::default());
    let a = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let b = node.pod(PodSpec::new("b", Primary::Ptp).uncovered());
    let c = node.pod(PodSpec::new("c", Primary::Calico).uncovered());
    let mute = "table inet t {
        chain c {
            type filter hook output priority 0
            ip daddr 10.244.0.0/16 ip saddr != 10.244.0.0/16 drop
            ip6 daddr fd44::/16 ip6 saddr != fd44::/16 drop
        }
    }";
    node.ext.nft(mute);
    // Only the answers to pods: the node's markers come back.
    c.netns.nft(
        "table inet t {
            chain c {
                type filter hook output priority 0
                tcp sport 80 drop
                udp sport 80 drop
            }
        }",
    );
    let _servers = [node.serve_ext(&[80]), c.serve(&[80])];
    for round in 0..20 {
        let (mut probes, mut wanted) = (Vec::new(), Vec::new());
        for family in 0..2 {
            for pod in [&a, &b] {
                let far = ip(FAR[family]);
                probes.extend([
                    Probe::tcp(&pod.netns, far, 80, Want::Silence),
                    Probe::udp(&pod.netns, far, 80, Want::Silence),
                    Probe::ping(&pod.netns, far, Want::Silence),
                ]);
                wanted.extend([(); 3].map(|()| Outcome::Arrived(node.ext.name().to_owned())));
                let to = c.addresses()[family];
                probes.extend([
                    Probe::tcp(&pod.netns, to, 80, Want::Silence),
                    Probe::udp(&pod.netns, to, 80, Want::Silence),
                ]);
                wanted.extend([(); 2].map(|()| Outcome::Arrived(c.netns.name().to_owned())));
            }
        }
        assert_eq!(run_all(&node, &probes), wanted, "round {round}");
    }
}

/// Without its markers, nothing is called silence.
#[test]
fn a_marker_that_does_not_come_back_fails_the_test() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    node.netns.nft(
        "table inet t {
            chain c {
                type filter hook prerouting priority 0
                icmp type echo-reply drop
                udp dport 80 drop
            }
        }",
    );
    let probes = [Probe::udp(&pod.netns, ip(EXT[0]), 80, Want::Silence)];
    let checked = catch_unwind(AssertUnwindSafe(|| check(&node, &probes)));
    let message = *checked.unwrap_err().downcast::<String>().expect("a text");
    assert!(message.contains("no marker from"), "{message}");
}

#[test]
fn a_failing_plugin_is_reported() {
    let node = Node::new(NodeOptions::default());
    let error = Call::new("bridge", "ADD", "{").run(&node.netns).error();
    assert_ne!(error.code, 0);
}

/// The masquerades that an egress address has to beat do hide the pod behind the node.
#[test]
fn masquerades_work() {
    let tools = [
        None,
        Some(["iptables-nft", "ip6tables-nft"]),
        Some(["iptables-legacy", "ip6tables-legacy"]),
    ];
    for (tools, primary) in tools
        .into_iter()
        .zip([Primary::Ptp, Primary::Bridge, Primary::Bridge])
    {
        let node = Node::new(NodeOptions::default());
        let mut spec = PodSpec::new("a", primary).uncovered();
        match tools {
            None => spec = spec.masquerade(),
            Some(tools) => {
                for (tool, range) in tools.iter().zip(["10.244.0.0/16", "fd44::/16"]) {
                    node.netns.exec(&format!(
                        "{tool} -w -t nat -A POSTROUTING -s {range} ! -d {range} -j MASQUERADE"
                    ));
                }
            }
        }
        let pod = node.pod(spec);
        let _servers = node.serve_ext(&[80]);
        let probes =
            [0, 1].map(|f| Probe::tcp(&pod.netns, ip(FAR[f]), 80, Want::From(ip(NODE[f]))));
        check(&node, &probes);
    }
}
