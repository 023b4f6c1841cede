//! Who undoes it again and again, and who does not want to be seen.

use super::{RESTORED, agent, nft_called};
use crate::harness::agent::{promptly, within};
use crate::harness::*;
use crate::install::get;

/// The look that is taken whatever was heard.
fn by_the_look(what: &str, is_so: impl FnMut() -> bool) {
    within(exec::seconds(45), what, is_so);
}

#[test]
fn who_undoes_it_again_and_again_wins_until_the_next_look_and_is_named() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let agent = agent(&node);
    let damage = format!("flush chain inet egressway pod-{}", pod.id());
    let is_whole = || pod.ours("CHECK").succeeded();
    let mut rounds = 0;
    while agent.lines("something undoes").is_empty() {
        assert!(rounds < 20, "it never gave way");
        node.netns.nft(&damage);
        let before = rounds;
        promptly("it is whole again, or given up", || {
            is_whole() || !agent.lines("something undoes").is_empty()
        });
        rounds = before + 1;
    }
    let (status, text) = get(&node.netns, "/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("last by nft (process "), "{text}");
    // What else breaks is put back as before.
    node.netns
        .exec(&format!("tc qdisc del dev {} clsact", pod.veth));
    promptly("the guard is there", || {
        let said = agent.lines(RESTORED);
        said.iter().any(|line| line.contains("egressway_csum"))
    });
    node.netns.nft(&damage);
    by_the_look("the look puts it back", is_whole);
}

/// A name is no licence.
#[test]
fn who_has_the_programs_name_is_found_out_by_the_next_look() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let agent = agent(&node);
    nft_called(
        &node,
        "other",
        &format!("flush chain inet egressway pod-{}", pod.id()),
    );
    promptly("others are seen at once", || {
        !agent.lines("after other (process").is_empty()
    });
    nft_called(
        &node,
        "egressway",
        &format!("flush chain inet egressway pod-{}", pod.id()),
    );
    by_the_look("the look puts it back", || pod.ours("CHECK").succeeded());
}
