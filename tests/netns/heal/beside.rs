//! Beside ADDs and DELs.

use super::{RESTORED, agent};
use crate::harness::agent::promptly;
use crate::harness::egress::{has_egress_addresses, shop_node};
use crate::harness::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Each ADD and DEL beside it works, although somebody breaks something all the time; in the end all is as it should
/// be.
#[test]
fn adds_and_dels_are_not_disturbed() {
    let node = shop_node();
    let first = node.pod(PodSpec::new("first", Primary::Bridge));
    let agent = agent(&node);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pods: Vec<_> = (0..3)
            .map(|n| {
                let node = &node;
                scope.spawn(move || {
                    for round in 0..4 {
                        let spec = PodSpec::new(&format!("p{n}"), Primary::Bridge)
                            .rules(&format!("deny 1{round}{n}/tcp\nallow"));
                        node.pod(spec).delete();
                    }
                })
            })
            .collect();
        let breaks = scope.spawn(|| {
            let damage = format!("insert rule inet egressway pod-{} accept", first.id());
            while !done.load(Ordering::Relaxed) {
                node.netns.nft(&damage);
                node.netns.try_exec("ip addr del fd30::50/128 dev eth0");
                thread::sleep(exec::seconds(1));
            }
        });
        let ended: Vec<_> = pods
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        breaks.join().expect("breaks");
        assert!(ended.iter().all(Result::is_ok), "a pod's call failed");
    });
    assert!(!agent.lines(RESTORED).is_empty());
    super::super::harness::agent::within(exec::seconds(45), "all is well", || {
        first.ours("CHECK").succeeded() && has_egress_addresses(&node) == [true, true]
    });
    first.delete();
    promptly("no address stays", || {
        has_egress_addresses(&node) == [false, false]
    });
    node.assert_nothing_left();
}
