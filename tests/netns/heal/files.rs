//! The state directory's documents.

use super::{RESTORED, agent, enforced};
use crate::harness::agent::promptly;
use crate::harness::egress::shop_node;
use crate::harness::*;
use std::fs;

#[test]
fn documents_that_somebody_removes_are_put_back() {
    let node = shop_node();
    let _servers = node.serve_ext(&[80, 81]);
    let a = node.pod(PodSpec::new("a", Primary::Bridge).rules("deny 81/tcp"));
    let agent = agent(&node);
    let b = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 82/tcp"));
    promptly("both are known", || {
        // The plugin's own changes wake nobody; that records are read tells the next thing that is broken.
        node.netns
            .nft(&format!("insert rule inet egressway pod-{} accept", b.id()));
        promptly("b is mended", || b.ours("CHECK").succeeded());
        true
    });
    let state = node.state_dir();
    let files = || node.state_files();
    let before = files();
    let record = state.join(format!("attachments/{}.json", a.id()));
    let text = fs::read(&record).expect("a record");
    let breaks: [(&str, &dyn Fn()); 4] = [
        ("a record", &|| fs::remove_file(&record).expect("remove")),
        ("an egress address's", &|| {
            fs::remove_file(state.join("egress/172.30.0.50.json")).expect("remove");
        }),
        ("all records and policies", &|| {
            // In one step each: what is put back meanwhile would be in the way.
            for name in ["attachments", "policies"] {
                fs::rename(state.join(name), node.dir.path().join(name)).expect("move");
            }
        }),
        ("all again, since its directory is another one", &|| {
            for file in fs::read_dir(state.join("attachments")).expect("list") {
                fs::remove_file(file.expect("a file").path()).expect("remove");
            }
        }),
    ];
    for (what, damage) in breaks {
        println!("{what}");
        let said = agent.lines(RESTORED).len();
        damage();
        promptly(&format!("{what}: it is said"), || {
            agent.lines(RESTORED).len() > said
        });
        promptly(&format!("{what}: files are there"), || {
            let now = files();
            before.iter().all(|file| now.contains(file))
        });
        assert_eq!(fs::read(&record).ok().as_ref(), Some(&text), "{what}");
        let (changes, good) = crate::sync::sync(&node);
        assert!(good && changes.is_empty(), "{what}: {changes:?}");
    }
    enforced(&node, &[&a]);
    // What goes for good stays away.
    a.delete();
    b.delete();
    assert_eq!(crate::sync::sync(&node), (vec![], true));
    node.assert_nothing_left();
}
