//! What single rules do to real packets: verbs, ports, protocols, targets.

use crate::harness::node::{DNS_VIP, EXT, FAR, METADATA, NODE, ip};
use crate::harness::*;
use crate::primaries::under_every_primary;

under_every_primary!(verbs_and_ports, other_protocols, targets, cluster_dns);

fn node_with(bridge_nf: bool) -> Node {
    Node::new(NodeOptions {
        bridge_nf,
        ..NodeOptions::default()
    })
}

fn verbs_and_ports(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let pod = node.pod(PodSpec::new("a", primary).rules(
        "allow 8001/tcp to 172.30.0.100, fd30::100
         deny 8002/tcp, 8002/udp to 172.30.0.100, fd30::100
         reject 8003/tcp,8003/udp to 172.30.0.100,fd30::100; deny 8001/tcp # a comment
         ALLOW 8010-8012/TCP
         deny 8010-8020/tcp, 8010-8020/udp
         reject icmp/8, icmpv6/128 to 198.51.100.100, 2001:db8:99::100
         deny icmp, icmpv6 to 169.254.169.254, fd00:ec2::254
         deny udp to 198.51.100.100, 2001:db8:99::100
         allow 8030/tcp
         reject tcp to 198.51.100.100, 2001:db8:99::100",
    ));
    let ports = [8001, 8002, 8003, 8004, 8010, 8012, 8013, 8020, 8021, 8030];
    let _servers = node.serve_ext(&ports);
    let mut probes = Vec::new();
    for family in 0..2 {
        let [ext, far, metadata] = [EXT, FAR, METADATA].map(|a| ip(a[family]));
        let from = &pod.netns;
        let own = Want::From(pod.addresses()[family]);
        probes.extend([
            Probe::tcp(from, ext, 8001, own),
            Probe::tcp(from, far, 8001, Want::Silence),
            Probe::tcp(from, ext, 8002, Want::Silence),
            Probe::udp(from, ext, 8002, Want::Silence),
            Probe::udp(from, metadata, 8002, own),
            Probe::tcp(from, ext, 8003, Want::Refused),
            Probe::udp(from, ext, 8003, Want::Prohibited),
            Probe::tcp(from, ext, 8004, own),
            Probe::udp(from, ext, 8004, own),
            Probe::tcp(from, ext, 8010, own),
            Probe::udp(from, ext, 8010, Want::Silence),
            Probe::tcp(from, ext, 8012, own),
            Probe::tcp(from, ext, 8013, Want::Silence),
            Probe::tcp(from, ext, 8020, Want::Silence),
            Probe::udp(from, ext, 8020, Want::Silence),
            Probe::tcp(from, ext, 8021, own),
            Probe::udp(from, ext, 8021, own),
            Probe::ping(from, ext, Want::Reached),
            Probe::ping(from, far, Want::Prohibited),
            Probe::ping(from, metadata, Want::Silence),
            Probe::udp(from, far, 8004, Want::Silence),
            Probe::tcp(from, far, 8030, own),
            Probe::tcp(from, far, 8004, Want::Refused),
        ]);
    }
    check(&node, &probes);
    assert!(node.judged(&pod, false) > 0);
    assert!(node.judged(&pod, true) > 0);
    pod.delete();
    node.assert_nothing_left();
}

/// Protocols that no socket here speaks: the packets are made by hand and looked for at ext.
fn other_protocols(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let cases = "
def send_all(tag):
    for four, six, where in [('172.30.0.100', 'fd30::100', 'ext'), ('198.51.100.100', '2001:db8:99::100', 'far')]:
        for name, upper in [
            ('gre', GRE()), ('sctp', SCTP(sport=1000, dport=2000, tag=0) / SCTPChunkInit(init_tag=1)),
        ]:
            body = lambda family: Raw(('%s-%s%d-%s-' % (tag, name, family, where)).encode())
            send(IP(dst=four) / upper / body(4))
            send(IPv6(dst=six) / upper / body(6))
        send(IP(dst=four) / ICMP(type=13) / Raw(('%s-stamp-%s-' % (tag, where)).encode()))
        send(IP(dst=four) / ICMP(type=42, code=5) / Raw(('%s-code5-%s-' % (tag, where)).encode()))
        send(IP(dst=four) / ICMP(type=42, code=6) / Raw(('%s-code6-%s-' % (tag, where)).encode()))
        send(IP(dst=four) / UDP(dport=9) / Raw(('%s-end4-%s-' % (tag, where)).encode()))
        send(IPv6(dst=six) / UDP(dport=9) / Raw(('%s-end6-%s-' % (tag, where)).encode()))
";
    // What arrives when nobody forbids it.
    let capture = Capture::start(&node.ext);
    let bare = node.pod(PodSpec::new("bare", primary).uncovered());
    scapy(&bare.netns, &format!("{cases}\nsend_all('bare')"));
    for name in [
        "gre4", "gre6", "sctp4", "sctp6", "stamp", "code5", "code6", "end4", "end6",
    ] {
        for place in ["ext", "far"] {
            let marker = format!("bare-{name}-{place}-");
            assert!(
                capture.wait_for_marker(&marker, soon()),
                "{marker} does not even arrive unhindered"
            );
        }
    }
    bare.delete();

    let pod = node.pod(PodSpec::new("a", primary).rules(
        "allow proto/47, sctp to private
         deny proto/47, sctp
         deny icmp/13 to internet
         deny icmp/42/5 to internet",
    ));
    scapy(&pod.netns, &format!("{cases}\nsend_all('ruled')"));
    for marker in [
        "gre4-ext",
        "gre6-ext",
        "sctp4-ext",
        "sctp6-ext",
        "stamp-ext",
        "code5-ext",
        "code6-ext",
        "code6-far",
        "end4-far",
        "end6-far",
    ] {
        let marker = format!("ruled-{marker}-");
        assert!(
            capture.wait_for_marker(&marker, soon()),
            "{marker} is missing\n{}",
            node.describe()
        );
    }
    for marker in [
        "gre4-far",
        "gre6-far",
        "sctp4-far",
        "sctp6-far",
        "stamp-far",
        "code5-far",
    ] {
        let marker = format!("ruled-{marker}-");
        assert!(
            !capture.saw(&marker),
            "{marker} got through\n{}",
            node.describe()
        );
    }
}

/// Each kind of target denies its own port; the table says which destinations it covers.
fn targets(primary: Primary, bridge_nf: bool) {
    let places = ["ext", "far", "metadata", "node", "pod"];
    let table: &[(&str, &[&str])] = &[
        ("any", &places),
        ("internet", &["far"]),
        ("private", &["ext"]),
        ("cluster", &["pod"]),
        ("node", &["node"]),
        ("metadata", &["metadata"]),
        ("172.30.0.100, fd30::100", &["ext"]),
        ("172.30.0.0/24, fd30::/64", &["ext", "node"]),
        ("172.30.0.90-172.30.0.110, fd30::90-fd30::110", &["ext"]),
        ("any except internet", &["ext", "metadata", "node", "pod"]),
        (
            "any except cluster, node, 172.30.0.100, fd30::100",
            &["far", "metadata"],
        ),
        (
            "private, internet except 172.30.0.0/24, fd30::/64",
            &["far"],
        ),
        ("172.30.0.100", &["ext4"]),
        ("fd30::100", &["ext6"]),
    ];
    let node = node_with(bridge_nf);
    let peer = node.pod(PodSpec::new("peer", primary));
    let ports: Vec<u16> = (9000..).take(table.len()).collect();
    let rules: Vec<String> = table
        .iter()
        .zip(&ports)
        .map(|((targets, _), port)| format!("deny {port}/udp to {targets}"))
        .collect();
    let pod = node.pod(PodSpec::new("a", primary).rules(&rules.join("\n")));
    let _servers = [
        node.serve_ext(&ports),
        node.serve_node(&ports),
        peer.serve(&ports),
    ];
    let mut probes = Vec::new();
    for family in 0..2 {
        let there = [
            ip(EXT[family]),
            ip(FAR[family]),
            ip(METADATA[family]),
            ip(NODE[family]),
            peer.addresses()[family],
        ];
        for ((_, denied), port) in table.iter().zip(&ports) {
            for (place, address) in places.iter().zip(there) {
                let of_family = format!("{place}{}", [4, 6][family]);
                let silent = denied.contains(place) || denied.contains(&of_family.as_str());
                let want = if silent { Want::Silence } else { Want::Reached };
                probes.push(Probe::udp(&pod.netns, address, *port, want));
            }
        }
    }
    check(&node, &probes);
}

/// A kube-proxy stands between the pod and DNS; `deny to any` leaves DNS alone, unless an enforced rule says else.
fn cluster_dns(primary: Primary, bridge_nf: bool) {
    let node = node_with(bridge_nf);
    let dns = node.pod(PodSpec::new("dns", primary));
    node.netns.nft(&format!(
        "table inet kube-proxy {{
           chain services {{
             type nat hook prerouting priority -100
             ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {}:53
             ip6 daddr {} meta l4proto {{ tcp, udp }} th dport 53 dnat ip6 to [{}]:53
           }}
         }}",
        DNS_VIP[0], dns.v4, DNS_VIP[1], dns.v6
    ));
    let _servers = dns.serve(&[53, 54]);
    let pod = node.pod(PodSpec::new("a", primary).rules("deny to any"));
    let allowed = node.pod(PodSpec::new("b", primary).rules("allow 53/udp to dns\ndeny to any"));
    node.set_policy(&Policy::default().enforced("deny 53/tcp to dns"));
    let forbidden = node.pod(PodSpec::new("c", primary).rules("allow to any"));
    let mut probes = Vec::new();
    for family in 0..2 {
        let (vip, backend) = (ip(DNS_VIP[family]), dns.addresses()[family]);
        probes.extend([
            Probe::udp(&pod.netns, vip, 53, Want::From(pod.addresses()[family])),
            Probe::tcp(&pod.netns, vip, 53, Want::From(pod.addresses()[family])),
            Probe::udp(&pod.netns, backend, 53, Want::Silence),
            Probe::tcp(&pod.netns, backend, 54, Want::Silence),
            Probe::udp(&allowed.netns, vip, 53, Want::Reached),
            Probe::tcp(&forbidden.netns, vip, 53, Want::Silence),
            Probe::udp(&forbidden.netns, vip, 53, Want::Reached),
            Probe::tcp(&forbidden.netns, backend, 53, Want::Reached),
        ]);
    }
    check(&node, &probes);
}
