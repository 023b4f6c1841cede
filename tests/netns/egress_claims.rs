//! Taking an egress address and giving it back.

use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use serde_json::json;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(4);

#[test]
fn the_last_pod_gives_the_address_back() {
    let node = shop_node();
    let _server = node.serve_ext(&[80]);
    let before = uplink(&node);
    let (a, b) = (
        node.pod(PodSpec::new("a", Primary::Bridge)),
        node.pod(PodSpec::new("b", Primary::Ptp)),
    );
    let mut probes = Vec::new();
    for pod in [&a, &b] {
        probes.extend(
            [0, 1].map(|f| Probe::tcp(&pod.netns, ip(FAR[f]), 80, Want::From(ip(EGRESS[f])))),
        );
    }
    check(&node, &probes);
    a.delete();
    assert_eq!(
        has_egress_addresses(&node),
        [true, true],
        "b still needs them"
    );
    let probes = [0, 1].map(|f| Probe::tcp(&b.netns, ip(FAR[f]), 80, Want::From(ip(EGRESS[f]))));
    check(&node, &probes);
    b.delete();
    assert_eq!(uplink(&node), before);
    node.assert_nothing_left();
}

#[test]
fn an_address_in_use_is_refused_with_its_holder() {
    for address in EGRESS {
        let node = Node::new(NodeOptions {
            dad: true,
            ..NodeOptions::default()
        });
        node.set_policy(&Policy::default().namespace("shop", "egress-ip", address));
        let length = if address.contains(':') {
            "64 nodad"
        } else {
            "24"
        };
        node.ext
            .ip(&format!("addr add {address}/{length} dev eth0"));
        let before = uplink(&node);
        let error = node
            .add_pod(PodSpec::new("a", Primary::Bridge))
            .expect_err("an address in use")
            .error;
        assert_eq!(error.code, 11, "{error:?}");
        assert!(error.text().contains(address), "{error:?}");
        assert!(
            error.text().contains(&node.ext.mac("eth0")),
            "who holds it? {error:?}"
        );
        assert_eq!(uplink(&node), before);
        node.assert_nothing_left();
        // Free again: the same pod starts.
        node.ext
            .ip(&format!("addr del {address}/{} dev eth0", &length[..2]));
        node.pod(PodSpec::new("a", Primary::Bridge)).delete();
    }
}

#[test]
fn an_address_that_is_not_the_namespaces_is_refused() {
    let node = Node::new(NodeOptions {
        dad: true,
        ..NodeOptions::default()
    });
    let before = uplink(&node);
    let policies = [
        // Outside the policy file's egressIPs.
        Policy::default().namespace("shop", "egress-ip", "172.30.0.99"),
        Policy::default().namespace("shop", "egress-ip", "fd30::99"),
        // Listed by another namespace.
        Policy::default()
            .namespace("shop", "egress-ip", EGRESS[0])
            .namespace("other", "egress-ip", EGRESS[0]),
        // Nothing may be asked for.
        Policy::default()
            .set("egressIPs", json!([]))
            .namespace("shop", "egress-ip", EGRESS[0]),
    ];
    for policy in policies {
        node.set_policy(&policy);
        let error = node
            .add_pod(PodSpec::new("a", Primary::Bridge))
            .expect_err("a foreign address")
            .error;
        assert_eq!(error.code, 102, "{error:?}");
        assert_eq!(uplink(&node), before);
        node.assert_nothing_left();
    }
}

/// Switches and neighbours hear of the address's new place.
#[test]
fn the_address_is_announced() {
    let node = shop_node();
    let capture = Capture::start(&node.ext);
    let mac: Vec<u8> = mac_bytes(&node.netns.mac("eth0"));
    let _pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let octets = [172, 30, 0, 50];
    let gratuitous = capture.wait_for(SOON, |frame| {
        frame.len() >= 42
            && frame[12..14] == [0x08, 0x06]
            && frame[22..28] == mac[..]
            && frame[28..32] == octets
            && frame[38..42] == octets
    });
    assert!(gratuitous.is_some(), "no gratuitous ARP seen");
    let IpAddr::V6(target) = ip(EGRESS[1]) else {
        unreachable!("an IPv6 address")
    };
    let unsolicited = capture.wait_for(SOON, |frame| {
        // Ethernet, IPv6 with ICMPv6 next, Neighbor Advertisement, its target.
        frame.len() >= 78
            && frame[12..14] == [0x86, 0xdd]
            && frame[54] == 136
            && frame[62..78] == target.octets()
    });
    assert!(
        unsolicited.is_some(),
        "no unsolicited neighbour advertisement seen"
    );
}

fn mac_bytes(text: &str) -> Vec<u8> {
    text.split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a hardware address"))
        .collect()
}

/// The first of a list is taken; a range counts as its addresses.
#[test]
fn the_first_of_a_list_is_taken() {
    for (list, first) in [
        ("172.30.0.53, 172.30.0.52", "172.30.0.53"),
        ("172.30.0.56/29", "172.30.0.56"),
    ] {
        let node = Node::new(NodeOptions {
            dad: true,
            ..NodeOptions::default()
        });
        node.set_policy(&Policy::default().namespace("shop", "egress-ip", list));
        let pod = node.pod(PodSpec::new("a", Primary::Bridge));
        let _server = node.serve_ext(&[80]);
        check(
            &node,
            &[Probe::tcp(
                &pod.netns,
                ip(FAR[0]),
                80,
                Want::From(ip(first)),
            )],
        );
    }
}

#[test]
fn many_at_once_share_and_give_back() {
    let node = shop_node();
    let before = uplink(&node);
    node.pod(PodSpec::new("first", Primary::Bridge).namespace("other"))
        .delete();
    let pods: Vec<Pod<'_>> = thread::scope(|scope| {
        let add = |n: usize| {
            let node = &node;
            scope.spawn(move || node.pod(PodSpec::new(&format!("p{n}"), Primary::Bridge)))
        };
        let adds: Vec<_> = (0..8).map(add).collect();
        adds.into_iter()
            .map(|add| add.join().expect("an ADD"))
            .collect()
    });
    assert_eq!(has_egress_addresses(&node), [true, true]);
    assert_eq!(uplink(&node).len(), before.len() + 2);
    thread::scope(|scope| {
        for pod in pods {
            scope.spawn(|| pod.delete());
        }
    });
    assert_eq!(uplink(&node), before);
    node.assert_nothing_left();
}
