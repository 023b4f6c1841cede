//! What `show` tells beside what is in force: what audit mode would have denied, and what is written and not in force yet.

use crate::harness::agent::NodeAgent;
use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::install::until;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::UdpSocket;

fn send(pod: &Pod<'_>, port: u16, count: usize) {
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for _ in 0..count {
            socket.send_to(b"x", (ip(EXT[0]), port)).expect("send");
        }
    });
}

#[test]
fn what_audit_mode_would_have_denied_is_shown_and_counted() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().namespace("shop", "mode", "audit"));
    let _agent = NodeAgent::start(&node);
    until("the agent reads verdicts", || {
        let told = node.tool("logs --since 1s --no-follow");
        told.code == Some(0) && !told.stderr.contains("reads no verdicts")
    });
    let rules = "deny 7001/udp log=1000/s\nreject 7002/udp log=1000/s\nallow";
    let pod = node.pod(
        PodSpec::new("web", Primary::Bridge)
            .uid("1-2-3")
            .rules(rules),
    );
    let arrives = node.ext.run(|| UdpSocket::bind((ip(EXT[0]), 7001)));
    let arrives = arrives.expect("a socket");
    let patience = Some(exec::limit());
    arrives.set_read_timeout(patience).expect("a timeout");
    send(&pod, 7001, 3);
    send(&pod, 7002, 2);
    send(&pod, 7003, 4);
    for _ in 0..3 {
        arrives.recv_from(&mut [0; 8]).expect("nothing is denied");
    }
    let detail = node.tool_json("show shop/web -o json");
    assert_eq!(detail["mode"], "audit", "{detail:#}");
    assert_eq!(detail["wouldDeny"]["packets"], 5, "{detail:#}");
    assert_eq!(detail["denied"]["packets"], 5, "{detail:#}");
    let text = node.tool("show shop/web").stdout_text();
    let line = text.lines().find(|line| line.contains("would deny"));
    let line = line.unwrap_or_else(|| panic!("no such line: {text}"));
    assert!(line.contains(" 5 packets, "), "{line}");
    until("the last one is told with its destination", || {
        let deny = node.tool_json("show shop/web -o json")["lastLoggedDeny"].clone();
        let said = (&deny["verdict"], &deny["destinationPort"], &deny["rule"]);
        said == (&json!("would-reject"), &json!(7002), &json!("pod:2"))
    });
    assert_eq!(node.tool_json("show -o json")["pending"], Value::Null);
}

/// Everywhere that it is shown; nowhere: nothing is pending.
fn pending(node: &Node, word: Option<&str>) -> bool {
    let list = node.tool_json("show -o json");
    let one = node.tool_json("show shop/web -o json");
    let texts = [node.tool("show"), node.tool("show shop/web")].map(|o| o.stdout_text());
    match word {
        Some(word) => {
            let json = [&list["pending"], &one["pending"]];
            let in_json = json.iter().all(|said| {
                let said = said.as_str();
                said.is_some_and(|said| said.contains(word))
            });
            let in_text = texts.iter().all(|text| {
                let line = text.lines().find(|line| line.starts_with("pending: "));
                line.is_some_and(|line| line.contains("keep their rules"))
            });
            in_json && in_text
        }
        None => {
            (&list["pending"], &one["pending"]) == (&Value::Null, &Value::Null)
                && !texts.concat().contains("pending")
        }
    }
}

/// What is written can't be read, what is written can't be put in place: the pod has what it had, and it is said.
#[test]
fn what_is_written_and_not_in_force_is_pending() {
    let node = Node::new(NodeOptions::default());
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules("deny 7001/udp\nallow"));
    let _agent = NodeAgent::start(&node);
    until("nothing is pending", || pending(&node, None));
    let policy = |pod: &Pod<'_>| {
        let id = pod.id();
        let rules = node
            .netns
            .exec(&format!("nft list chain inet egressway pod-{id}"));
        let mut words = rules.split_whitespace();
        let policy = words.find(|word| word.starts_with("pol-"));
        policy.expect("it is led to a policy").to_owned()
    };
    let before = policy(&pod);
    let file = node.dir.path().join("policy.yaml");
    fs::write(&file, "enforced: [").expect("write the policy file");
    until("the faulty file is pending", || {
        pending(&node, Some("policy.yaml"))
    });
    assert_eq!(policy(&pod), before);
    node.set_policy(&Policy::default());
    until("nothing is pending any more", || pending(&node, None));

    // Somebody else is at work on the node, and does not come to an end.
    let lock = File::open(node.state_dir().join("lock")).expect("the lock's file");
    lock.lock().expect("locked");
    node.set_policy(&Policy::default().enforced("deny 7002/udp"));
    until("the edit is pending", || pending(&node, Some("lock")));
    assert_eq!(policy(&pod), before);
    drop(lock);
    until("it is in force, and not pending", || {
        policy(&pod) != before && pending(&node, None)
    });
}
