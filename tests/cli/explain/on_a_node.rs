//! From what is enforced for an attached pod.

use egressway::store::document::Unknown;
use egressway::store::{Owner, StateDir, attachment_id};

use super::*;
use crate::records;

/// Records a pod with these rules and an egress address; the attachment's id.
fn attach(dir: &Path, pod: &str, container: &str, veth_index: u32, rules: &str) -> String {
    let mut record = records::record(pod, veth_index, &["10.244.1.2"], rules);
    record.container_id = container.to_owned();
    record.id = attachment_id("net", container, "eth0");
    record.egress = vec!["203.0.113.10".parse().unwrap()];
    records::store(dir, &record);
    let owner = Owner {
        follows_route: false,
        arp_probe: true,
        namespace: "shop".to_owned(),
        uplink: "eth0".to_owned(),
        uplink_index: 2,
        users: vec![record.id.clone()],
        lease: None,
        unknown: Unknown::default(),
    };
    StateDir::new(dir)
        .write_egress("203.0.113.10".parse().unwrap(), &owner)
        .unwrap();
    record.id.as_str().to_owned()
}

fn state(dir: &Path) -> [&str; 2] {
    ["--state-dir", dir.to_str().unwrap()]
}

#[test]
fn by_name_id_and_address() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let id = attach(
        dir.path(),
        "web",
        "one",
        7,
        "allow 443/tcp\nallow to node\ndeny",
    );
    for source in ["shop/web", "web", &id, "10.244.1.2"] {
        let allowed = json(&[&state, &[source, "198.51.100.7:443/tcp"]]);
        assert_eq!(allowed["passes"], true, "{source}");
        assert_eq!(allowed["source"]["attachment"], id.as_str());
        assert_eq!(allowed["answers"][0]["egressIPs"], json!(["203.0.113.10"]));
    }
    assert_eq!(run(&[&state, &["shop/web", "198.51.100.7:80/tcp"]]).0, 1);
    // What never leaves a pod's interface no rule decides, although the node has this address.
    let node = json(&[&state, &["shop/web", "127.0.0.1:80/tcp"]]);
    assert_eq!(node["answers"][0]["rule"], "veth:loopback");
    // Whatever the rules say, an egress IP serves nothing.
    let guarded = json(&[&state, &["shop/web", "203.0.113.10:443/tcp"]]);
    assert_eq!(guarded["answers"][0]["rule"], "built-in:egress-ip");
    assert_eq!(guarded["passes"], false);
    for absent in [
        "shop/other",
        "payments/web",
        "10.244.1.3",
        "0123456789abcdef",
    ] {
        assert_refuses(
            &[&state, &[absent, "192.0.2.1"]],
            3,
            &format!("no pod {absent}"),
        );
    }
}

#[test]
fn a_pod_is_a_destination_too() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    attach(dir.path(), "web", "one", 7, "allow 443/tcp to 10.244.1.2");
    for (to, traffic) in [
        ("web:443", "10.244.1.2:443/tcp"),
        ("shop/web:443", "10.244.1.2:443/tcp"),
        ("pod/shop/web:443/tcp", "10.244.1.2:443/tcp"),
        ("shop/web/icmp/8", "10.244.1.2/icmp/8"),
    ] {
        let asked = json(&[&state, &["shop/web", to]]);
        assert_eq!(asked, json(&[&state, &["shop/web", traffic]]), "{to}");
    }
    assert_refuses(
        &[&state, &["shop/web", "payments/web:443"]],
        3,
        "no pod payments/web is attached on this node",
    );
    assert_refuses(
        &[&state, &["shop/web", "other:443"]],
        2,
        "other is a name and no pod of this node",
    );
    assert_refuses(
        &[&state, &["shop/web", "web/icmpv6"]],
        3,
        "no address of the IP version",
    );
}

#[test]
fn several_attachments() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    let old = attach(dir.path(), "web", "one", 7, "deny");
    let new = attach(dir.path(), "web", "two", 8, "allow");
    let ask = [&state[..], &["shop/web", "192.0.2.1"]];
    assert_refuses(&ask, 3, &old);
    assert_refuses(&ask, 3, &new);
    assert_eq!(run(&[&state, &[&old, "192.0.2.1"]]).0, 1);
    assert_eq!(run(&[&state, &[&new, "192.0.2.1"]]).0, 0);
    // An address is its last owner's.
    assert_eq!(run(&[&state, &["10.244.1.2", "192.0.2.1"]]).0, 0);
}

#[test]
fn a_record_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let state = state(dir.path());
    attach(dir.path(), "web", "one", 7, "allow");
    let damaged = dir.path().join("attachments/0000000000000000.json");
    std::fs::write(damaged, "{").unwrap();
    assert_eq!(run(&[&state, &["shop/web", "192.0.2.1"]]).0, 0);
    assert_refuses(&[&state, &["shop/other", "192.0.2.1"]], 3, "is damaged");
}
