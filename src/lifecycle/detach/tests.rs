use std::thread;

use serde_json::json;

use super::*;
use crate::lifecycle::ByLeases;
use netlink::Netns;
use netlink::test_support::{in_fresh_netns, link, new_netns, soon, until, veth};

const ID: &str = "0123456789abcdef";

fn record(veth_index: u32) -> Record<PolicyKey> {
    let record = json!({
        "layout": 2, "network": "net", "containerID": "c", "ifname": "eth0",
        "namespace": null, "pod": null, "uid": null, "exempt": false,
        "vethIndex": veth_index, "uplink": null, "logGroup": 100, "guard": {"action": "ignore"},
        "id": ID, "veth": "host0", "mac": "02:00:00:00:00:01", "addresses": ["10.1.0.2"],
        "linkLocal": [], "bridge": null, "policyChain": "pol-1", "egressIPs": [],
        "policy": "0123456789abcdef0123456789abcdef",
    });
    serde_json::from_value(record).expect("a record")
}

/// Between sync's look and the removal the runtime has called DEL and ADD: what was found to be
/// nobody's is another pod's now.
#[test]
fn what_was_added_anew_is_not_stale() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, id) = (StateDir::new(dir.path()), ID.parse().expect("an id"));
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        let index = link("host0").index;
        state.write_attachment(&id, &record(index)).expect("write");
        state.set_link("host0", &id).expect("write");

        remove_stale(&state, &ByLeases, &id, &record(index + 1), soon()).expect("nothing to do");
        assert!(link("host0").up);
        assert!(Record::read_alone(&state, &id).expect("read").is_some());
        let noted = state.link("host0").expect("read");
        assert_eq!(noted.as_ref(), Some(&id), "its note");

        remove_stale(&state, &ByLeases, &id, &record(index), soon()).expect("removed");
        assert!(Record::read_alone(&state, &id).expect("read").is_none());
        assert_eq!(state.link("host0").expect("read"), None);
    });
}

/// The same while the removal is at work, but has let go of the lock.
#[test]
fn what_is_added_anew_meanwhile_keeps_its_record() {
    in_fresh_netns(|| {
        let node = Netns::current().expect("a namespace");
        let dir = tempfile::tempdir().expect("a directory");
        let (state, id) = (&StateDir::new(dir.path()), &ID.parse().expect("an id"));
        for index in 1000..1030 {
            let [old, new] = [record(index), record(index + 1)];
            state.write_attachment(id, &old).expect("write");
            state.set_link("host0", id).expect("write");
            thread::scope(|scope| {
                let removal =
                    scope.spawn(|| node.run(|| remove_stale(state, &ByLeases, id, &old, soon())));
                until("the link's note is gone", || {
                    state.link("host0").expect("read").is_none().then_some(())
                });
                let lock = state.lock(soon()).expect("a lock");
                state.write_attachment(id, &new).expect("write");
                drop(lock);
                let removed = removal.join().expect("a removal");
                removed.expect("the namespace").expect("removed");
            });
            let kept = Record::read_alone(state, id).expect("read");
            assert_eq!(kept.map(|record| record.veth_index), Some(index + 1));
        }
    });
}

/// A pod that is there must not speak once nobody judges it; another's veth may.
#[test]
fn only_the_veth_that_is_meant_goes_down() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let (state, id) = (StateDir::new(dir.path()), ID.parse().expect("an id"));
        let pod = new_netns(); // with it the veth would go
        veth("host0", "eth0", &pod);
        let index = link("host0").index;
        state
            .write_attachment(&id, &record(index + 1))
            .expect("write");
        remove(&state, &ByLeases, &id, soon()).expect("removed");
        assert!(link("host0").up);
        state.write_attachment(&id, &record(index)).expect("write");
        remove(&state, &ByLeases, &id, soon()).expect("removed");
        assert!(!link("host0").up);
    });
}
