//! What passes between pods without being judged is little: neighbour discovery and listeners' reports.

use crate::harness::*;
use serde_json::Value;

/// How many packets a pod's veth has dropped, as `show` says.
fn dropped(pod: &Pod<'_>) -> u64 {
    let output = pod.node.tool(&format!("show {} -o json", pod.v4));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    shown["droppedAtVeth"]["packets"].as_u64().expect("a count")
}

/// The frames of one kind, many at once: some pass, as many are counted as don't, and nobody else has less.
#[test]
fn a_flood_is_a_trickle() {
    const SENT: usize = 3000;
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let victim = node.pod(PodSpec::new("victim", Primary::Bridge));
    let other = node.pod(PodSpec::new("other", Primary::Bridge));
    let capture = Capture::start(&victim.netns);
    let frames = [
        (
            "solicitation",
            "IPv6(src=ll, dst='ff02::1:ff00:99', hlim=255) / ICMPv6ND_NS(tgt='fd44:1::99') / Raw(b'\\x0e\\x01flood0')",
        ),
        (
            "report",
            "IPv6(src=ll, dst='ff02::16', hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2() / Raw(b'flood1')",
        ),
    ];
    for (n, (what, frame)) in frames.into_iter().enumerate() {
        let before = dropped(&pod);
        scapy(
            &pod.netns,
            &format!(
                "
ll = [a for a, s, i in in6_getifaddr() if i == 'eth0' and a.startswith('fe80')][0]
frame = bytes(Ether(src='{}', dst='33:33:00:00:00:01') / {frame})
for _ in range({SENT}): wire.outs.send(frame)
tx(Ether(src='{}', dst='{}') / IP(src='{}', dst='{}') / UDP(dport=9) / Raw(b'behind{n}'))
",
                pod.mac,
                pod.mac,
                node.netns.mac("cni0"),
                pod.v4,
                victim.v4,
            ),
        );
        assert!(capture.wait_for_marker(&format!("behind{n}"), soon()));
        let mark = format!("flood{n}");
        let arrived = capture
            .frames()
            .iter()
            .filter(|f| capture::contains(f, mark.as_bytes()))
            .count();
        assert!(
            (1..SENT).contains(&arrived),
            "{what}: {arrived}\n{}",
            node.describe()
        );
        let counted = dropped(&pod) - before;
        assert_eq!(
            counted as usize,
            SENT - arrived,
            "{what}: {arrived} arrived"
        );
        // Each pod has its own measure.
        for (netns, to) in [(&other.netns, &victim), (&victim.netns, &other)] {
            netns.exec("ip -6 neigh flush dev eth0");
            check(&node, &[Probe::ping(netns, to.v6, Want::Reached)]);
        }
    }
    // The measure fills again.
    node.netns.exec("ip -6 neigh flush dev cni0");
    check(&node, &[Probe::ping(&pod.netns, victim.v6, Want::Reached)]);
}

/// A fragment that is not the first has no header of its protocol: what stands there may look like anything.
#[test]
fn later_fragments_are_no_messages() {
    // The types of errors, of neighbour discovery and of reports, and what no type is.
    const TYPES: [u8; 7] = [1, 3, 11, 0x60, 131, 135, 143];
    let node = Node::new(NodeOptions::default());
    for primary in [Primary::Bridge, Primary::Ptp] {
        let pod = node.pod(PodSpec::new("a", primary));
        let gateway = match primary {
            Primary::Bridge => "cni0",
            _ => &pod.veth,
        };
        let capture = Capture::start(&node.ext);
        let mark = |family: usize, kind: u8| format!("<{primary:?}-{family}-{kind}>");
        let program = format!(
            "
at = Ether(src='{}', dst='{}')
for kind in {TYPES:?}:
    def data(family): return bytes([kind]) * 3000 + b'<{primary:?}-%d-%d>' % (family, kind)
    ping4 = IP(src='{}', dst='{}', id=kind + 1) / ICMP(type=8) / Raw(data(4))
    for piece in fragment(ping4, fragsize=1400): tx(at / piece)
    ping6 = IPv6(src='{}', dst='{}') / IPv6ExtHdrFragment(id=kind + 1) / ICMPv6EchoRequest(data=data(6))
    for piece in fragment6(ping6, 1400): tx(at / piece)
",
            pod.mac,
            node.netns.mac(gateway),
            pod.v4,
            node::EXT[0],
            pod.v6,
            node::EXT[1],
        );
        scapy(&pod.netns, &program);
        for (family, kind) in [4, 6].into_iter().flat_map(|f| TYPES.map(|kind| (f, kind))) {
            let arrives = capture.wait_for_marker(&mark(family, kind), soon());
            assert!(arrives, "{}\n{}", mark(family, kind), node.describe());
        }
    }
}
