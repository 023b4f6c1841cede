//! An interface or an address that another attachment has by now.

use super::{all_are, record, sync};
use crate::harness::node::{EXT, ip};
use crate::harness::*;
use serde_json::{Value, json};
use std::fs;

/// Its record can't be read, or is gone, but another attachment has its interface and its addresses.
/// Without its note of who had the interface, that one's ADD has left the chain of the first.
#[test]
fn a_damaged_record_of_a_container_that_is_gone_goes() {
    let node = Node::new(NodeOptions::default());
    let mut pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let (mut old, mut file) = (pod.who.clone(), record(&pod));
    for (damage, noted) in [("{", true), ("", true), ("{", false), ("", false)] {
        pod.start_again();
        if !noted {
            let note = node.state_dir().join(format!("links/{}.json", pod.veth));
            fs::remove_file(note).expect("remove");
        }
        pod.ours("ADD").ok();
        match damage {
            "" => fs::remove_file(&file).expect("remove"),
            half => fs::write(&file, half).expect("write"),
        }
        let (changes, good) = sync(&node);
        assert!(good && all_are(&changes, "removed"), "{changes:#?}");
        node.assert_nothing_of(&old);
        (old, file) = (pod.who.clone(), record(&pod));
    }
    assert_eq!(pod.ours("CHECK").ok(), "");
    assert_eq!(sync(&node), (vec![], true));
    pod.delete();
    node.assert_nothing_left();
}

/// Its record can't be read, and nothing says where its interface was: that an address leads to its rules is enough,
/// since whoever has the address is judged by nothing else.
#[test]
fn a_damaged_record_of_who_is_judged_keeps_its_rules() {
    let node = Node::new(NodeOptions::default());
    let _servers = node.serve_ext(&[80, 81]);
    let pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let (file, note) = (
        record(&pod),
        node.state_dir().join(format!("links/{}.json", pod.veth)),
    );
    let whole = fs::read(&file).expect("a record");
    let id = pod.id();
    node.netns
        .nft(&format!("delete chain netdev egressway if-{id}"));
    fs::remove_file(note).expect("remove");
    fs::write(&file, "{").expect("write");
    let (changes, good) = sync(&node);
    assert!(!good && all_are(&changes, "left"), "{changes:#?}");
    let probe = |port, want| Probe::tcp(&pod.netns, ip(EXT[0]), port, want);
    check(&node, &[probe(80, Want::Reached), probe(81, Want::Silence)]);
    fs::write(&file, whole).expect("write");
    assert!(sync(&node).1);
    assert_eq!(pod.ours("CHECK").ok(), "");
    pod.delete();
    node.assert_nothing_left();
}

/// Whatever has made it so: what is found damaged is mended, not only said to be.
#[test]
fn what_is_known_to_be_whole_and_is_not_is_mended() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let known = node.state_dir().join("whole.json");
    let mut document: Value = {
        let text = fs::read(&known).expect("what is known");
        serde_json::from_slice(&text).expect("JSON")
    };
    let policy = document["parts"].as_array().expect("names of parts").iter();
    let mut policy = policy.filter_map(Value::as_str);
    let policy = policy.find(|part| part.starts_with("pol-"));
    let policy = policy.expect("the policy is known").to_owned();
    node.netns
        .nft(&format!("insert rule inet egressway {policy} accept"));
    let generation = document["generation"].as_u64().expect("a number");
    document["generation"] = json!(generation + 1);
    fs::write(&known, document.to_string()).expect("write");
    let (changes, good) = sync(&node);
    assert!(good && all_are(&changes, "repaired"), "{changes:#?}");
    assert_eq!(sync(&node), (vec![], true));
    assert_eq!(pod.ours("CHECK").ok(), "");
    pod.delete();
    node.assert_nothing_left();
}

/// The same, and the entry of the interface's link is damaged as well: the record of who has the interface
/// and the addresses that lead there still tell. One `sync` is enough, whichever it looks at first.
#[test]
fn who_has_an_interface_is_known_without_its_entry() {
    let node = Node::new(NodeOptions::default());
    let mut pod = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let entry = |pod: &Pod<'_>| node.state_dir().join(format!("links/{}.json", pod.veth));
    for round in 0..6 {
        let (old, file) = (pod.who.clone(), record(&pod));
        pod.start_again();
        fs::remove_file(entry(&pod)).expect("remove");
        pod.ours("ADD").ok();
        match round % 3 {
            0 => fs::write(&file, "{").expect("write"),
            1 => fs::remove_file(&file).expect("remove"),
            _ => {}
        }
        fs::write(entry(&pod), "{").expect("write");
        let (changes, good) = sync(&node);
        assert!(good, "round {round}: {changes:#?}");
        node.assert_nothing_of(&old);
        assert_eq!(sync(&node), (vec![], true), "round {round}");
        assert_eq!(pod.ours("CHECK").ok(), "");
    }
    pod.delete();
    node.assert_nothing_left();
}

/// Two interfaces, both there, and one address, as two networks give it out: who came first has it, and keeps
/// it whatever becomes of the other. No rules of anybody else judge it meanwhile.
#[test]
fn an_address_is_not_fought_for() {
    let node = Node::new(NodeOptions::default());
    let first = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let second = node.pod(
        PodSpec::new("b", Primary::Calico)
            .uncovered()
            .rules("deny 82/tcp"),
    );
    let _server = node.serve_ext(&[81, 82]);
    let firsts_rules_hold = || {
        let mut probes = Vec::new();
        for ext in EXT.map(ip) {
            probes.push(Probe::tcp(&first.netns, ext, 81, Want::Silence));
            probes.push(Probe::tcp(&first.netns, ext, 82, Want::Reached));
        }
        check(&node, &probes);
        assert_eq!(first.ours("CHECK").ok(), "");
        assert_eq!(sync(&node), (vec![], true));
    };
    for (own, others) in second.addresses().into_iter().zip(first.addresses()) {
        let [own, others] = [own, others].map(|address| address.to_string());
        let result = second.prev_result.replace(&own, &others);
        let add = second.call_with("ADD", &second.spec.annotations, Some(&result));
        // Also where nothing but records tells whose it is.
        for flushed in [false, true] {
            if flushed {
                node.netns.nft("flush ruleset");
            }
            let error = node.run(&add).error();
            assert_eq!(error.code, 11, "{error:?}");
            for word in [&*others, "shop/a", &first.id(), &first.veth] {
                assert!(error.text().contains(word), "{word}: {error:?}");
            }
            node.assert_nothing_of(&second.who);
            if flushed {
                let (changes, good) = sync(&node);
                assert!(good && all_are(&changes, "repaired"), "{changes:#?}");
            }
            firsts_rules_hold();
        }
    }
    node.run(&second.call("DEL")).ok();
    firsts_rules_hold();
    // What has given it up, or is not up any more, holds nothing.
    let (firsts, seconds) = (first.v4.to_string(), second.v4.to_string());
    let result = second.prev_result.replace(&seconds, &firsts);
    let add = second.call_with("ADD", &second.spec.annotations, Some(&result));
    let give = |from: &Netns, to: &Netns| {
        from.ip(&format!("addr del {firsts}/32 dev eth0"));
        to.ip(&format!("addr add {firsts}/32 dev eth0"));
    };
    give(&first.netns, &second.netns);
    node.run(&add).ok();
    let (changes, good) = sync(&node);
    assert!(!good && all_are(&changes, "left"), "{changes:#?}");
    let why = changes[0]["why"].as_str().expect("why");
    assert!(
        why.contains("shop/b") && why.contains(&second.id()),
        "{why}"
    );
    node.run(&second.call("DEL")).ok();
    node.netns.ip(&format!("link set {} up", second.veth));
    give(&second.netns, &first.netns);
    let (changes, good) = sync(&node);
    assert!(good && all_are(&changes, "repaired"), "{changes:#?}");
    assert_eq!(node.run(&add).error().code, 11);
    node.netns.ip(&format!("link set {} down", first.veth));
    node.run(&add).ok();
    node.run(&second.call("DEL")).ok();
    first.delete();
    node.assert_nothing_left();
}
