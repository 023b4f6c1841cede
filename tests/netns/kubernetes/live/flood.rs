//! A flood through edits: nothing that is denied before and after gets out, nothing that is allowed is lost.

use super::{annotate, followed, object};
use crate::floods::flood::flooded_until;
use crate::floods::kinds::KINDS;
use crate::floods::{INSIDE_ADDRESSES, ONE, changes, policy};
use crate::harness::cluster::ApiServer;
use crate::harness::egress::BOTH;
use crate::harness::*;
use crate::kubernetes::agent::until;
use serde_json::json;

#[test]
fn edits_let_nothing_out_and_lose_nothing() {
    for kind in KINDS {
        println!("{}", kind.name);
        let api = ApiServer::start();
        api.namespace("shop", &json!({"egressway.dev/egress-ip": BOTH}));
        let agent = followed(&api, &policy(ONE));
        agent.node.ext.ip(INSIDE_ADDRESSES);
        let both = kind.pair();
        let object = object(&api, "shop", "web", &both[0]);
        let uid = object["metadata"]["uid"].as_str().expect("a UID");
        let spec = PodSpec::new("web", Primary::Ptp).rules(&both[0]).uid(uid);
        let mut pod = agent.node.pod(spec);
        kind.assert_is_of(&pod);
        let is_in_force = |word: &str| {
            let rules = || agent.node.netns.exec("nft list table inet egressway");
            until("it is in force", || rules().contains(word));
        };
        let edits = |_: &mut Pod<'_>| {
            for n in 0..changes() / KINDS.len() {
                annotate(&api, "shop", &both[(n + 1) % 2]);
                is_in_force(["198.51.100.1", "198.51.100.2"][(n + 1) % 2]);
            }
        };
        flooded_until(&mut pod, edits, |_| {
            annotate(&api, "shop", "allow; deny to 198.51.100.3");
            is_in_force("198.51.100.3");
        });
    }
}
