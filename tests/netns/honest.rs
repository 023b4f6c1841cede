//! What a pod may say to its link and about its own packets passes the chain that stops lies.

use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;

/// How many packets the drops of the pod's own chains have counted.
fn dropped(pod: &Pod<'_>) -> u64 {
    let id = pod.id();
    let chains = ["if", "nd", "mc"].map(|kind| {
        let line = format!("nft list chain netdev egressway {kind}-{id}");
        pod.node.netns.exec(&line)
    });
    let text = chains.concat();
    let counts = text.split("counter packets ").skip(1);
    counts
        .map(|rest| rest.split(' ').next().and_then(|n| n.parse::<u64>().ok()))
        .map(|count| count.expect("a count"))
        .sum()
}

/// Each kind of message from each source that the pod may have: before it has an address, and after.
#[test]
fn what_is_the_pods_own_passes() {
    let node = Node::new(NodeOptions::default());
    let _server = node.serve_ext(&[80]);
    for primary in [Primary::Bridge, Primary::Ptp] {
        let pod = node.pod(PodSpec::new("a", primary));
        let before = dropped(&pod);
        let send = |lines: &str| {
            let names = format!(
                "
me4, me6, mac = '{}', '{}', '{}'
ll = [a for a, s, i in in6_getifaddr() if i == 'eth0' and a.startswith('fe80')][0]
far4, far6 = '{}', '{}'
def say(packet, kind): tx(Ether(src=mac, dst='33:33:00:00:00:01', type=kind) / packet)
{lines}",
                pod.v4, pod.v6, pod.mac, FAR[0], FAR[1]
            );
            scapy(&pod.netns, &names);
            // What comes behind has arrived: so has what went before.
            check(
                &node,
                &[Probe::tcp(&pod.netns, ip(EXT[0]), 80, Want::Reached)],
            );
        };
        send(
            "
alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
for source in ['::', ll]:
    link = lambda to: IPv6(src=source, dst=to, hlim=1) / alert
    say(link('ff02::1:ff00:1') / ICMPv6MLReport(mladdr='ff02::1:ff00:1'), 0x86dd)
    say(link('ff02::2') / ICMPv6MLDone(mladdr='ff02::1:ff00:1'), 0x86dd)
    say(link('ff02::16') / ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst='ff02::1:ff00:1')]), 0x86dd)
    say(IPv6(src=source, dst='ff02::2', hlim=255) / ICMPv6ND_RS(), 0x86dd)
for target in [me6, ll]:
    say(IPv6(src='::', dst='ff02::1:ff00:1', hlim=255) / ICMPv6ND_NS(tgt=target), 0x86dd)
    for source in [me6, ll]:
        mine = ICMPv6NDOptDstLLAddr(lladdr=mac)
        say(IPv6(src=source, dst='ff02::1', hlim=255) / ICMPv6ND_NA(tgt=target, R=0) / mine, 0x86dd)
for source in [me6, ll]:
    mine = ICMPv6NDOptSrcLLAddr(lladdr=mac)
    say(IPv6(src=source, dst='ff02::1:ff00:1', hlim=255) / ICMPv6ND_NS(tgt='fe80::1') / mine, 0x86dd)
for operation, source in [(1, me4), (2, me4), (1, '0.0.0.0')]:
    say(ARP(op=operation, hwsrc=mac, psrc=source, pdst=me4), 0x806)
",
        );
        assert_eq!(
            dropped(&pod),
            before,
            "of the link's own\n{}",
            node.describe()
        );
        send(
            "
to4 = IP(src=far4, dst=me4) / UDP(sport=7, dport=8) / Raw(b'x' * 8)
for kind, code in [(3, 4), (4, 0), (5, 0), (11, 0), (12, 0)]:
    say(IP(src=me4, dst=far4) / ICMP(type=kind, code=code) / to4, 0x800)
to6 = IPv6(src=far6, dst=me6) / UDP(sport=7, dport=8) / Raw(b'x' * 8)
for error in [ICMPv6DestUnreach(), ICMPv6PacketTooBig(), ICMPv6TimeExceeded(), ICMPv6ParamProblem()]:
    say(IPv6(src=me6, dst=far6) / error / to6, 0x86dd)
",
        );
        assert_eq!(
            dropped(&pod),
            before,
            "of errors about its own packets\n{}",
            node.describe()
        );
        send("say(IPv6(src='::', dst='ff02::1', hlim=255) / ICMPv6ND_NS(tgt=far6), 0x86dd)");
        assert_eq!(dropped(&pod), before + 1, "a lie counts");
    }
}
