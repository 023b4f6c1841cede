//! What NFLOG readers see.

use crate::harness::nflog::Logged;
use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Instant;

#[test]
fn every_logged_verdict_has_its_line() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(
        &Policy::default()
            .enforced("allow 7000/udp\ndeny 7001/udp log")
            .defaults("deny 7004/udp log name=last")
            .namespace("shop", "enforced-rules", "reject 7002/udp log name=no-such")
            .namespace("shop", "default-rules", "allow 7003/udp log"),
    );
    let pod = node.pod(
        PodSpec::new("a", Primary::Bridge)
            .rules("# the ERP\ndeny 7005/udp log name=erp\ndeny 7006/udp"),
    );
    let quiet = node.pod(PodSpec::new("b", Primary::Bridge).rules("deny 7005/udp name=erp"));
    let _servers = node.serve_ext(&[7003]);
    let mut log = Nflog::start(&node.netns, 100);
    let mut probes = Vec::new();
    for ext in EXT.map(ip) {
        probes.push(Probe::udp(&pod.netns, ext, 7001, Want::Silence));
        probes.push(Probe::udp(&pod.netns, ext, 7002, Want::Prohibited));
        probes.push(Probe::udp(&pod.netns, ext, 7003, Want::Reached));
        probes.push(Probe::udp(&pod.netns, ext, 7004, Want::Silence));
        probes.push(Probe::udp(&pod.netns, ext, 7005, Want::Silence));
        probes.push(Probe::udp(&pod.netns, ext, 7006, Want::Silence));
        probes.push(Probe::udp(&quiet.netns, ext, 7005, Want::Silence));
    }
    check(&node, &probes);
    for prefix in [
        "egressway cluster-enforced:2 deny",
        "egressway namespace-enforced:no-such reject",
        "egressway namespace-defaults:1 allow",
        "egressway cluster-defaults:last deny",
        "egressway pod:erp deny",
    ] {
        for address in pod.addresses() {
            let line = log.wait_for(soon(), |l| {
                l.prefix.trim_end() == prefix && l.source() == address
            });
            assert!(
                line.is_some(),
                "no {prefix:?} of {address} in {:?}\n{}",
                prefixes(&mut log),
                node.describe()
            );
        }
    }
    // A rule without `log` says nothing.
    let strays = log
        .read()
        .iter()
        .filter(|l| quiet.addresses().contains(&l.source()) || l.prefix.contains("pod:3"));
    assert_eq!(strays.count(), 0, "{:?}", prefixes(&mut log));
    assert!(log.read().iter().all(|l| l.packet.len() <= 128));
}

/// A flood of denied packets is a trickle of log lines, each rule at its own rate.
#[test]
fn log_lines_are_limited() {
    let node = Node::new(NodeOptions::default());
    let pod = node
        .pod(PodSpec::new("a", Primary::Bridge).rules("deny 7001/udp log\ndeny 7002/udp log=50/s"));
    let mut log = Nflog::start(&node.netns, 100);
    let started = Instant::now();
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for port in (0..600).map(|n| 7001 + n % 2) {
            socket.send_to(b"flood", (FAR[0], port)).expect("send");
        }
    });
    let last = |log: &mut Nflog| {
        log.wait_for(soon(), |l| l.prefix.trim_end() == "egressway pod:2 deny")
            .is_some()
    };
    assert!(last(&mut log), "{}", node.describe());
    let seconds = started.elapsed().as_secs_f64();
    let lines = prefixes(&mut log);
    let count = |rule: &str| {
        lines
            .get(&format!("egressway {rule} deny"))
            .copied()
            .unwrap_or_default()
    };
    // One second's worth may come at once.
    let most = |rate: f64| (rate * (seconds + 1.0)).ceil() as usize + 1;
    assert!(
        (1..=most(10.0)).contains(&count("pod:1")),
        "{lines:?} in {seconds} s"
    );
    assert!(
        (11..=most(50.0)).contains(&count("pod:2")),
        "{lines:?} in {seconds} s"
    );
}

#[test]
fn only_the_first_packet_of_an_allowed_flow_is_logged() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("allow 80/tcp log name=web"));
    let _servers = node.serve_ext(&[80]);
    let mut log = Nflog::start(&node.netns, 100);
    for ext in EXT.map(ip) {
        let mut conn = Conn::open(&pod.netns, (ext, 80).into(), soon()).expect("a connection");
        for _ in 0..5 {
            assert_eq!(conn.exchange(soon()), Ok(()));
        }
    }
    assert!(
        log.wait_for(soon(), |l| l.source() == pod.v6).is_some(),
        "{}",
        node.describe()
    );
    // A first packet may be sent twice: on a busy machine its answer comes late.
    let logged = log.read();
    assert!(logged.len() >= 2, "{logged:?}");
    for line in logged {
        assert_eq!(line.prefix.trim_end(), "egressway pod:web allow");
        assert_eq!(line.tcp_flags(), SYN, "{line:?}");
    }
}

/// Whatever conntrack calls it: a packet that can't begin a flow, and one that it was told to leave alone.
#[test]
fn an_allowed_packet_of_no_flow_has_its_line() {
    const FLOOD: usize = 400;
    let node = Node::new(NodeOptions::default());
    node.netns.nft(
        "table inet theirs { chain untracked { type filter hook prerouting priority -300; udp dport 7070 notrack; }; }",
    );
    node.set_policy(&Policy::default().enforced("allow log name=all"));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let mut log = Nflog::start(&node.netns, 100);
    scapy(
        &pod.netns,
        &format!(
            "
at = Ether(src='{}', dst='{}')
for family, packet in [(4, IP(src='{}', dst='{}')), (6, IPv6(src='{}', dst='{}'))]:
    for flags in ['FA', 'R', 'SA']:
        tx(at / packet / TCP(sport=5000, dport=80, flags=flags) / Raw(b'%s-%d-' % (flags.encode(), family)))
    tx(at / packet / UDP(dport=7070) / Raw(b'untracked-%d-' % family))
flood = bytes(at / packet / UDP(dport=7070) / Raw(b'flood'))
for _ in range({FLOOD}): wire.outs.send(flood)
tx(at / packet / UDP(dport=7071) / Raw(b'behind'))
",
            pod.mac,
            node.netns.mac("cni0"),
            pod.v4,
            EXT[0],
            pod.v6,
            EXT[1]
        ),
    );
    let said = |marker: &str| {
        let marker = marker.to_owned();
        move |line: &Logged| {
            line.prefix.trim_end() == "egressway cluster-enforced:all allow"
                && capture::contains(&line.packet, marker.as_bytes())
        }
    };
    let is_behind = said("behind");
    assert!(
        log.wait_for(soon(), is_behind).is_some(),
        "{}",
        node.describe()
    );
    for what in ["FA", "R", "SA", "untracked"] {
        for family in [4, 6] {
            let line = said(&format!("{what}-{family}-"));
            let found = log.read().iter().any(line);
            assert!(
                found,
                "no line of {what}, IPv{family}: {:?}",
                prefixes(&mut log)
            );
        }
    }
    // No flow that is left alone fills the log.
    let lines = log.read().iter().filter(|line| said("flood")(line)).count();
    assert!(lines < FLOOD, "{lines}");
}

/// The group is the conflist's choice.
#[test]
fn the_log_group_can_be_chosen() {
    let mut node = Node::new(NodeOptions::default());
    node.ours.insert("logGroup".to_owned(), 77.into());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 7001/udp log"));
    let (mut default, mut chosen) = (
        Nflog::start(&node.netns, 100),
        Nflog::start(&node.netns, 77),
    );
    check(
        &node,
        &[Probe::udp(&pod.netns, ip(EXT[0]), 7001, Want::Silence)],
    );
    assert!(
        chosen.wait_for(soon(), |l| l.source() == pod.v4).is_some(),
        "{}",
        node.describe()
    );
    assert!(default.read().is_empty());
}

/// Alone, it begins a connection (RFC 9293, 3.1).
const SYN: u8 = 2;

/// How many lines of each prefix.
fn prefixes(log: &mut Nflog) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in log.read() {
        *counts.entry(line.prefix.trim_end().to_owned()).or_default() += 1;
    }
    counts
}
