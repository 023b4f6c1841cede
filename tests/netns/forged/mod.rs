//! Packets that are written after they were judged: a pod with NET_RAW, or a guest, leaves their
//! checksum to the kernel and says itself which two bytes that is.

mod attack;
mod frame;
mod honest;
mod places;
mod scene;
mod upkeep;

use self::attack::Writer;
use self::frame::{Frame, Rewrite};
use self::scene::{Sender, arrived, dropped, node, offload, set_offload};
use crate::harness::node::ip;
use crate::harness::*;

/// What the pod may send: to one port of whom it asks, nothing else.
const RULES: &str =
    "allow 443/udp to 172.30.0.100, fd30::100, 2001:db8:99::100, 10.244.0.0/16\ndeny";

fn pod(node: &Node, primary: Primary) -> Pod<'_> {
    node.pod(PodSpec::new("attacker", primary).rules(RULES))
}

/// `under(bridge, ptp ...)`: each with an uplink that leaves checksums to its device and one that does not.
macro_rules! with_every_uplink {
    ($($test:ident),+) => {
        mod bridge { $(mod $test {
            #[test] fn offload() { super::super::$test($crate::harness::Primary::Bridge, true); }
            #[test] fn no_offload() { super::super::$test($crate::harness::Primary::Bridge, false); }
        })+ }
        mod ptp { $(mod $test {
            #[test] fn offload() { super::super::$test($crate::harness::Primary::Ptp, true); }
            #[test] fn no_offload() { super::super::$test($crate::harness::Primary::Ptp, false); }
        })+ }
    };
}
with_every_uplink!(
    ignored_all_work,
    dropped_none_arrives,
    resolved_all_are_judged
);

/// Each works where nothing is done about it: else its absence would prove nothing.
fn ignored_all_work(primary: Primary, uplink_offload: bool) {
    let node = node("ignore", uplink_offload);
    let pod = pod(&node, primary);
    let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
    for (number, attack) in attack::all(&sender).iter().enumerate() {
        attack.frames.iter().for_each(|frame| sender.send(frame));
        sender.fence(&capture, &format!("fence-{number}."));
        let works = attack.writer == Writer::Fragmentation || !uplink_offload;
        let frames = arrived(&capture, &attack.mark);
        assert!(!frames.is_empty(), "{}: nothing arrived", attack.name);
        let written = frames.iter().any(|frame| attack.succeeded(frame));
        assert_eq!(written, works, "{}: {frames:x?}", attack.name);
    }
    assert_eq!(pod.ours("CHECK").ok(), "");
}

fn dropped_none_arrives(primary: Primary, uplink_offload: bool) {
    let node = node("drop", uplink_offload);
    let pod = pod(&node, primary);
    let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
    let attacks = attack::all(&sender);
    for attack in &attacks {
        attack.frames.iter().for_each(|frame| sender.send(frame));
    }
    sender.fence(&capture, "fence.");
    for attack in &attacks {
        let frames = arrived(&capture, &attack.mark);
        assert!(frames.is_empty(), "{}: {frames:x?}", attack.name);
    }
    let sent: usize = attacks.iter().map(|attack| attack.frames.len()).sum();
    assert_eq!(sender.dropped(), sent as u64);
}

/// Sends every attack: what arrives is as it was judged.
fn none_succeeds(sender: &Sender, capture: &Capture) {
    let attacks = attack::all(sender);
    for attack in &attacks {
        attack.frames.iter().for_each(|frame| sender.send(frame));
    }
    sender.fence(capture, "fence.");
    for attack in &attacks {
        for frame in arrived(capture, &attack.mark) {
            assert!(!attack.succeeded(&frame), "{}: {frame:x?}", attack.name);
        }
    }
}

/// The pod's own kernel writes: so what is judged is what leaves.
fn resolved_all_are_judged(primary: Primary, uplink_offload: bool) {
    let node = node("resolve", uplink_offload);
    let pod = pod(&node, primary);
    assert!(!offload(&pod.netns, "eth0"));
    let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
    none_succeeds(&sender, &capture);
    assert_eq!(sender.dropped(), 0);
    assert_eq!(pod.ours("CHECK").ok(), "");
}

/// On a bridge with a port into the LAN, an ARP reply of the pod's own address becomes one of the
/// gateway's, behind anti-spoofing.
#[test]
fn no_arp_reply_is_written_into_another_ones() {
    for (setting, arrives) in [("ignore", true), ("drop", false), ("resolve", false)] {
        let node = node(setting, true);
        let pod = pod(&node, Primary::Bridge);
        node.netns.ip(&format!(
            "link add lan0 type veth peer name lan0 netns {}
             link set lan0 master cni0 up",
            node.ext.name()
        ));
        node.ext.ip("link set lan0 up");
        set_offload(&node.netns, "lan0", false);
        let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
        let mut ends = sender.to(ip("10.244.1.250"));
        ends.to_mac = [0xff; 6];
        let reply = |tail: &str| ends.arp_reply(pod.v4, &[b"\0\0", tail.as_bytes()].concat());
        // The gateway's: 10.244.1.1.
        let rewrite = Rewrite {
            at: 30,
            to: [1, 1],
            offset: 0,
        };
        sender.send(&Frame::forged(reply("<forged>"), rewrite, 42));
        sender.send(&Frame::plain(reply("<honest>")));
        let seen = capture.wait_for_marker("<honest>", std::time::Duration::from_secs(4));
        assert!(seen, "{setting}: an honest reply does not arrive");
        let forged = arrived(&capture, "<forged>");
        let as_gateway = forged.iter().any(|frame| frame[30..32] == rewrite.to);
        assert_eq!(as_gateway, arrives, "{setting}: {forged:x?}");
        assert_eq!(sender.dropped(), u64::from(setting == "drop"), "{setting}");
    }
}

/// A pod of the same node, at whose host's side somebody has switched the offload off.
#[test]
fn no_neighbour_receives_what_was_written() {
    for primary in [Primary::Bridge, Primary::Ptp] {
        for (setting, arrives) in [("ignore", true), ("drop", false), ("resolve", false)] {
            let node = node(setting, true);
            let pod = pod(&node, primary);
            let victim = node.pod(PodSpec::new("victim", primary));
            set_offload(&node.netns, &victim.veth, false);
            let (sender, capture) = (Sender::new(&pod), Capture::start(&victim.netns));
            let to_port = |port, mark: &[u8]| sender.to(victim.v4).udp(port, mark);
            let rewrite = Rewrite {
                at: 36,
                to: 53u16.to_be_bytes(),
                offset: 0,
            };
            sender.send(&Frame::forged(to_port(443, b"\0\0<forged>"), rewrite, 42));
            sender.send(&Frame::plain(to_port(443, b"<honest>")));
            let seen = capture.wait_for_marker("<honest>", std::time::Duration::from_secs(4));
            assert!(seen, "{setting}: an honest packet does not arrive");
            let forged = arrived(&capture, "<forged>");
            let written = forged.iter().any(|frame| frame[36..38] == rewrite.to);
            assert_eq!(written, arrives, "{primary:?}, {setting}: {forged:x?}");
            let counted = u64::from(setting == "drop");
            assert_eq!(sender.dropped(), counted, "{primary:?}, {setting}");
        }
    }
}

/// What is in the node's log of a pod's start where the kernel can't have the filter.
#[test]
fn without_the_kernels_types_the_pod_writes_its_checksums() {
    let node = node("drop", false);
    let mut pod = node.pod(
        PodSpec::new("attacker", Primary::Ptp)
            .rules(RULES)
            .uncovered(),
    );
    pod.spec.covered = true;
    let hidden = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\"";
    let wrapper = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", hidden];
    pod.call("ADD").run_under(&node.netns, &wrapper).ok();
    assert!(!offload(&pod.netns, "eth0"));
    let log = std::fs::read_to_string(node.dir.path().join("egressway.log")).expect("the log");
    let words = "CONFIG_DEBUG_INFO_BTF";
    assert_eq!(log.matches(words).count(), 1, "{log}");
    let shown = node.tool(&format!("show {}", pod.v4)).stdout_text();
    let line = "forged checksums  resolve (slow: this kernel has no type information";
    assert!(shown.contains(line), "{shown}");
    // Told once; said by every look.
    pod.call("ADD").run_under(&node.netns, &wrapper).ok();
    let log = std::fs::read_to_string(node.dir.path().join("egressway.log")).expect("the log");
    assert_eq!(log.matches(words).count(), 1, "{log}");
    assert_eq!(pod.ours("CHECK").ok(), "");
    let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
    none_succeeds(&sender, &capture);
    // With the types, the next ADD has the filter, and the pod's offload is as it was.
    pod.ours("ADD").ok();
    assert!(offload(&pod.netns, "eth0"));
    assert_eq!((scene::filters(&pod).len(), dropped(&pod)), (1, 0));
    let sent = attack::all(&sender);
    let frames = sent.iter().flat_map(|attack| &attack.frames);
    let sent = frames.map(|frame| sender.send(frame)).count();
    sender.fence(&capture, "again.");
    assert_eq!(dropped(&pod), sent as u64);
}
