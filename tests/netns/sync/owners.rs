//! An interface or an address that another attachment has by now.

use super::{all_are, record, sync};
use crate::harness::*;
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

/// Two interfaces, both there, and one address: who came last has it, and `sync` does not take it back
/// for the other, as often as it is asked.
#[test]
fn an_address_is_not_fought_for() {
    let node = Node::new(NodeOptions::default());
    let first = node.pod(PodSpec::new("a", Primary::Calico).rules("deny 81/tcp"));
    let second = node.pod(
        PodSpec::new("b", Primary::Calico)
            .uncovered()
            .rules("deny 82/tcp"),
    );
    let [own, others] = [&second, &first].map(|pod| pod.v4.to_string());
    let result = second.prev_result.replace(&own, &others);
    let add = second.call_with("ADD", &second.spec.annotations, Some(&result));
    node.run(&add).ok();
    for _ in 0..2 {
        let (changes, good) = sync(&node);
        assert!(!good && all_are(&changes, "left"), "{changes:#?}");
        let why = changes[0]["why"].as_str().expect("why");
        assert!(why.contains(&others) && why.contains(&second.id()), "{why}");
        let chain = format!("goto pod-{}", second.id());
        assert!(node.elements("pod4").contains(&chain), "{}", node.ruleset());
    }
    // Once the second is gone, the first has it again.
    node.run(&second.call("DEL")).ok();
    let (changes, good) = sync(&node);
    assert!(good && all_are(&changes, "repaired"), "{changes:#?}");
    assert_eq!(first.ours("CHECK").ok(), "");
    first.delete();
    node.assert_nothing_of(&second.who);
}
