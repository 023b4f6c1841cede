//! Taking an egress address and giving it back.

use crate::harness::egress::{BOTH, EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use crate::sync::{all_are, sync};
use serde_json::json;
use std::fs;
use std::net::IpAddr;
use std::thread;

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

/// A router that answers for every address would never let one be taken.
#[test]
fn an_address_that_a_router_answers_for_is_taken_without_the_probe() {
    let mut node = Node::new(NodeOptions {
        dad: true,
        ..NodeOptions::default()
    });
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", EGRESS[0]));
    node.ext.ip(&format!("addr add {}/24 dev eth0", EGRESS[0]));
    let refused = node.add_pod(PodSpec::new("a", Primary::Bridge));
    let error = refused.expect_err("an address in use").error;
    assert!(error.text().contains("`arpProbe: off`"), "{error:?}");
    node.ours.insert("arpProbe".to_owned(), json!("off"));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    // Nor, if somebody takes it away, would it be put back.
    let before = uplink(&node);
    node.netns
        .ip(&format!("addr del {}/32 dev eth0", EGRESS[0]));
    let (changes, well) = sync(&node);
    assert!(well && all_are(&changes, "repaired"), "{changes:?}");
    assert_eq!(uplink(&node), before);
    pod.delete();
    // Of IPv6 the network is asked as before.
    node.set_policy(&Policy::default().namespace("shop", "egress-ip", EGRESS[1]));
    node.ext
        .ip(&format!("addr add {}/64 dev eth0 nodad", EGRESS[1]));
    let refused = node.add_pod(PodSpec::new("b", Primary::Bridge));
    assert_eq!(refused.expect_err("an address in use").error.code, 11);
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
        // Nobody's, or somebody's of the cluster, whatever is offered.
        anything().namespace("shop", "egress-ip", "10.244.1.77"),
        anything().namespace("shop", "egress-ip", "127.0.0.2"),
        anything().namespace("shop", "egress-ip", "fe80::7"),
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

/// Whatever may be asked for.
fn anything() -> Policy {
    Policy::default().set("egressIPs", json!(["0.0.0.0/0", "::/0"]))
}

/// Also where the policy file does not say which networks are the cluster's.
#[test]
fn an_address_of_a_pod_is_no_egress_address() {
    let node = Node::new(NodeOptions {
        dad: true,
        ..NodeOptions::default()
    });
    let other = PodSpec::new("b", Primary::Bridge).namespace("other");
    let other = node.pod(other);
    for address in other.addresses() {
        let policy = anything().set("clusterCIDRs", json!([]));
        node.set_policy(&policy.namespace("shop", "egress-ip", &address.to_string()));
        let refused = node.add_pod(PodSpec::new("a", Primary::Ptp));
        let error = refused.expect_err("an address of a pod").error;
        assert_eq!(error.code, 102, "{error:?}");
        assert!(error.text().contains("other/b"), "{error:?}");
        assert_eq!(other.ours("CHECK").ok(), "");
    }
    other.delete();
    node.assert_nothing_left();
}

/// Switches and neighbours hear of the address's new place.
#[test]
fn the_address_is_announced() {
    let node = shop_node();
    let capture = Capture::start(&node.ext);
    let mac: Vec<u8> = mac_bytes(&node.netns.mac("eth0"));
    let _pod = node.pod(PodSpec::new("a", Primary::Bridge));
    let octets = [172, 30, 0, 50];
    let gratuitous = capture.wait_for(soon(), |frame| {
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
    let unsolicited = capture.wait_for(soon(), |frame| {
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

/// The namespace starts pods again as soon as those of which nobody knows whose they are have gone.
#[test]
fn an_emptied_state_directory_locks_nobody_out_for_ever() {
    let node = shop_node();
    let before = uplink(&node);
    for namespace in ["shop", "other"] {
        let old = node.pod(PodSpec::new("old", Primary::Bridge));
        fs::remove_dir_all(node.state_dir()).expect("remove");
        // The list has moved to another namespace, perhaps: the kernel does not tell.
        node.set_policy(&Policy::default().namespace(namespace, "egress-ip", BOTH));
        let new = || PodSpec::new("new", Primary::Bridge).namespace(namespace);
        let refused = node
            .add_pod(new())
            .expect_err("an address of nobody knows whom");
        let text = refused.error.text();
        assert_eq!(refused.error.code, 102, "{text}");
        assert!(text.contains(&old.v4.to_string()), "{text}");
        let (changes, good) = sync(&node);
        let text = json!(changes).to_string();
        assert!(
            !good && text.contains("pods without records use it"),
            "{text}"
        );
        assert_eq!(has_egress_addresses(&node), [true, true]);

        old.delete();
        let new = node.pod(new());
        let _server = node.serve_ext(&[80]);
        let probe = |f: usize| Probe::tcp(&new.netns, ip(FAR[f]), 80, Want::From(ip(EGRESS[f])));
        check(&node, &[probe(0), probe(1)]);
        new.delete();
        assert_eq!(uplink(&node), before);
        node.assert_nothing_left();
        node.set_policy(&Policy::default().namespace("shop", "egress-ip", BOTH));
    }
}

#[test]
fn an_address_that_nobody_knows_of_goes() {
    let node = shop_node();
    let before = uplink(&node);
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    fs::remove_dir_all(node.state_dir()).expect("remove");
    pod.delete();
    assert_eq!(has_egress_addresses(&node), [true, true]);
    let dry = node.tool("sync --dry-run").stdout_text();
    assert!(dry.contains("egress IP 172.30.0.50"), "{dry}");
    assert_eq!(has_egress_addresses(&node), [true, true]);
    assert!(sync(&node).1);
    assert_eq!(uplink(&node), before);
    node.assert_nothing_left();
}

/// Without its files, an address still has the users that the records name.
#[test]
fn an_address_whose_file_is_lost_keeps_its_users() {
    for lose in [false, true] {
        let node = shop_node();
        let before = uplink(&node);
        let old = node.pod(PodSpec::new("old", Primary::Bridge));
        for address in EGRESS {
            let file = node.state_dir().join(format!("egress/{address}.json"));
            match lose {
                true => fs::remove_file(file).expect("remove"),
                false => fs::write(file, "{").expect("write"),
            }
        }
        node.pod(PodSpec::new("new", Primary::Bridge)).delete();
        assert_eq!(has_egress_addresses(&node), [true, true]);
        assert_eq!(old.ours("CHECK").ok(), "");
        // Somebody else's it is not.
        node.set_policy(&Policy::default().namespace("other", "egress-ip", BOTH));
        let other = PodSpec::new("other", Primary::Bridge).namespace("other");
        let refused = node.add_pod(other).expect_err("an address of shop");
        assert!(
            refused.error.text().contains("namespace shop"),
            "{refused:?}"
        );
        old.delete();
        assert_eq!(uplink(&node), before);
        node.assert_nothing_left();
    }
}

/// An address that somebody gave the node is not ours, whatever the list says.
#[test]
fn an_address_of_the_nodes_own_is_not_taken() {
    let node = shop_node();
    node.netns.ip("addr add 172.30.0.50/32 dev eth0");
    let refused = node
        .add_pod(PodSpec::new("a", Primary::Bridge))
        .expect_err("the node's own");
    assert_eq!(refused.error.code, 102);
    assert!(
        refused
            .error
            .text()
            .contains("already an address of this node"),
        "{refused:?}"
    );
    assert_eq!(has_egress_addresses(&node), [true, false]);
    node.assert_nothing_left();
    // Not even if the kernel guards it, on a device that is not the uplink.
    node.netns
        .ip("addr del 172.30.0.50/32 dev eth0\naddr add 172.30.0.50/32 dev lo");
    node.pod(PodSpec::new("b", Primary::Bridge).namespace("other"));
    node.netns
        .nft("add element inet egressway eip4 { 172.30.0.50 }");
    let refused = node
        .add_pod(PodSpec::new("a", Primary::Bridge))
        .expect_err("elsewhere");
    assert_eq!(refused.error.code, 102, "{refused:?}");
}

/// Somebody has moved it to another device of the node, where a neighbour that asks gets no answer.
#[test]
fn an_address_that_was_moved_is_not_taken_for_there() {
    let node = shop_node();
    let first = node.pod(PodSpec::new("a", Primary::Bridge));
    node.netns
        .ip("addr del 172.30.0.50/32 dev eth0\naddr add 172.30.0.50/32 dev lo");
    let refused = node
        .add_pod(PodSpec::new("b", Primary::Bridge))
        .expect_err("elsewhere");
    assert_eq!(refused.error.code, 102, "{refused:?}");
    assert!(refused.error.msg.contains("on device"), "{refused:?}");
    first.delete();
}

/// Of two families one can't be had: the other is given back by the ADD itself.
#[test]
fn what_a_failed_add_had_taken_goes_at_once() {
    let node = shop_node();
    node.ext
        .ip(&format!("addr add {}/64 dev eth0 nodad", EGRESS[1]));
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).uncovered());
    let error = pod.ours("ADD").error();
    assert!(error.msg.contains(EGRESS[1]), "{error:?}");
    assert_eq!(has_egress_addresses(&node), [false, false]);
}

/// A user whose record is gone keeps no address up.
#[test]
fn who_is_gone_uses_nothing() {
    let node = shop_node();
    let before = uplink(&node);
    let pod = node.pod(PodSpec::new("a", Primary::Bridge));
    for address in EGRESS {
        let file = node.state_dir().join(format!("egress/{address}.json"));
        let text = fs::read_to_string(&file).expect("a file");
        let mut owner: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let users = owner["users"].as_array_mut().expect("users");
        users.push(json!("0123456789abcdef"));
        fs::write(&file, owner.to_string()).expect("write");
    }
    pod.delete();
    assert_eq!(uplink(&node), before);
}
