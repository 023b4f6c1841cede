//! Egress addresses where the packets leave: routes that move, links that go down, addresses that others take away.

use super::{problems, said};
use crate::harness::egress::{BOTH, EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use crate::sync::sync;
use serde_json::{Value, json};

fn seen(node: &Node, pods: &[&Pod<'_>]) {
    let mut probes = Vec::new();
    for pod in pods {
        for family in 0..2 {
            let egress = Want::From(ip(EGRESS[family]));
            probes.push(Probe::tcp(&pod.netns, ip(FAR[family]), 80, egress));
        }
    }
    check(node, &probes);
}

/// A second link between the node and ext, with a network of its own.
fn second_uplink(node: &Node) {
    node.netns.ip(&format!(
        "link add eth1 type veth peer name eth1 netns {}
         addr add 172.31.0.11/24 dev eth1
         addr add fd31::11/64 dev eth1 nodad
         link set eth1 up",
        node.ext.name()
    ));
    node.ext.ip("addr add 172.31.0.100/24 dev eth1
         addr add fd31::100/64 dev eth1 nodad
         link set eth1 up");
}

/// The default routes take the second one, and ext finds what came by there on that side.
fn leave_by_second(node: &Node) {
    node.netns
        .ip("route replace default via 172.31.0.100 dev eth1
         route replace default via fd31::100 dev eth1");
    node.ext.ip("route add 172.30.0.50/32 dev eth1
         route add fd30::50/128 dev eth1");
}

fn egress_on(node: &Node, device: &str) -> usize {
    let link = &node.netns.ip_json(&format!("addr show dev {device}"))[0];
    let infos = link["addr_info"].as_array().expect("addresses");
    let is_egress = |info: &&Value| EGRESS.contains(&info["local"].as_str().unwrap_or_default());
    infos.iter().filter(is_egress).count()
}

#[test]
fn addresses_follow_the_default_route() {
    for by_sync in [false, true] {
        let node = shop_node();
        second_uplink(&node);
        let _servers = node.serve_ext(&[80]);
        let a = node.pod(PodSpec::new("a", Primary::Bridge));
        seen(&node, &[&a]);
        leave_by_second(&node);
        let told = problems(&node, "a").join("; ");
        assert!(told.contains("eth1"), "{told}");
        let check = a.ours("CHECK").error().text();
        assert!(check.contains("eth1"), "{check}");
        if by_sync {
            let (changes, good) = sync(&node);
            assert!(good && changes.len() == 2, "{changes:#?}");
        }
        let b = node.pod(PodSpec::new("b", Primary::Bridge));
        assert_eq!((egress_on(&node, "eth0"), egress_on(&node, "eth1")), (0, 2));
        assert_eq!(sync(&node), (vec![], true));
        assert_eq!(problems(&node, "a"), [""; 0]);
        seen(&node, &[&a, &b]);
        a.delete();
        b.delete();
        assert_eq!(egress_on(&node, "eth1"), 0);
        node.assert_nothing_left();
    }
}

/// Somebody else there has the address: the pods keep it where it was, and the new one does not start.
#[test]
fn an_address_that_cannot_move_stays() {
    let node = shop_node();
    second_uplink(&node);
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    node.netns
        .ip("route replace default via 172.31.0.100 dev eth1");
    node.ext.ip("addr add 172.30.0.50/32 dev lo");
    let refused = node.add_pod(PodSpec::new("b", Primary::Bridge));
    let error = refused.expect_err("somebody answers for it").error;
    assert_eq!(error.code, 11, "{error:?}");
    assert_eq!(has_egress_addresses(&node), [true, true]);
    let (changes, good) = sync(&node);
    assert!(!good && changes[0]["did"] == "failed", "{changes:#?}");
    assert_eq!(has_egress_addresses(&node), [true, true]);
    a.delete();
    node.assert_nothing_left();
}

/// As a network manager does it: down, up, the node's own addresses and routes anew, and none of ours.
#[test]
fn what_a_network_manager_takes_away_is_put_back() {
    let node = shop_node();
    let _servers = node.serve_ext(&[80]);
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    node.netns.ip("link set eth0 down");
    said(&node, &a, "eth0 is down");
    node.netns.ip("addr flush dev eth0
         addr add 172.30.0.11/24 dev eth0
         addr add fd30::11/64 dev eth0 nodad
         link set eth0 up
         route add default via 172.30.0.100
         route add default via fd30::100");
    assert_eq!(
        has_egress_addresses(&node),
        [false, false],
        "{:?}",
        uplink(&node)
    );
    let told = problems(&node, "a").join("; ");
    assert!(told.contains("missing on eth0"), "{told}");
    let check = a.ours("CHECK").error().text();
    assert!(check.contains("missing on eth0"), "{check}");
    let (changes, good) = sync(&node);
    assert!(good && changes.len() == 2, "{changes:#?}");
    assert_eq!(problems(&node, "a"), [""; 0]);
    seen(&node, &[&a]);
    a.delete();
    node.assert_nothing_left();
}

#[test]
fn an_uplink_has_to_carry() {
    let mut node = shop_node();
    second_uplink(&node);
    let refused = |node: &Node, code: u64, word: &str| {
        let refused = node.add_pod(PodSpec::new("x", Primary::Bridge));
        let error = refused.expect_err(word).error;
        assert!(
            error.code == code && error.text().contains(word),
            "{error:?}"
        );
        assert_eq!(egress_on(node, "eth0") + egress_on(node, "eth1"), 0);
        node.assert_nothing_left();
    };
    node.ours.insert("uplink".to_owned(), json!("eth1"));
    refused(&node, 102, "the default route takes eth0");
    // By a route of its own, some of it leaves there.
    node.netns.ip("route add 203.0.113.0/24 via 172.31.0.100
         route add 2001:db8:203::/64 via fd31::100");
    let a = node.pod(PodSpec::new("a", Primary::Bridge));
    assert_eq!(egress_on(&node, "eth1"), 2);
    node.ext.ip("link set eth1 down");
    said(&node, &a, "eth1 has no carrier");
    a.delete();
    refused(&node, 11, "eth1 has no carrier");
    node.netns.ip("link set eth1 down");
    refused(&node, 11, "eth1 is down");
    node.ours.remove("uplink");
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", BOTH));
    let b = node.pod(PodSpec::new("b", Primary::Bridge));
    assert_eq!(has_egress_addresses(&node), [true, true]);
    b.delete();
    node.assert_nothing_left();
}

/// With `arp_ignore=8` nobody would be answered.
#[test]
fn an_address_that_nobody_is_answered_for_is_refused() {
    let node = shop_node();
    node.netns
        .sysctls(&[("net/ipv4/conf/eth0/arp_ignore", "8")]);
    let refused = node.add_pod(PodSpec::new("a", Primary::Bridge));
    let error = refused.expect_err("arp_ignore=8").error;
    assert_eq!(error.code, 102, "{error:?}");
    assert!(error.text().contains("arp_ignore=8"), "{error:?}");
    node.assert_nothing_left();
    let _servers = node.serve_ext(&[80]);
    for value in ["2", "1"] {
        node.netns
            .sysctls(&[("net/ipv4/conf/eth0/arp_ignore", value)]);
        let a = node.pod(PodSpec::new("a", Primary::Bridge));
        node.ext.ip("neigh flush dev eth0");
        seen(&node, &[&a]);
        a.delete();
    }
    let log = std::fs::read_to_string(node.dir.path().join("egressway.log")).expect("a log");
    let told = "fd30::50 is listed before fd30::11 on eth0";
    assert!(log.contains(told), "{told} in {log}");
}
