//! What was put back is an Event, too.

use super::{followed, pod};
use crate::harness::cluster::{ApiServer, SYSTEM};
use crate::harness::*;
use crate::kubernetes::agent::until;
use serde_json::json;

#[test]
fn who_changed_the_tables_is_told_by_an_event() {
    let api = ApiServer::start();
    api.namespace("shop", &json!({}));
    let agent = followed(&api, &Policy::default());
    let pod = pod(&agent, "shop", "deny");
    agent.node.netns.nft("flush ruleset");
    until("it is whole", || pod.ours("CHECK").succeeded());
    let told = |words: &[&str]| {
        let all = api.list(&json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": SYSTEM},
        }));
        let mut of = all.iter().filter(|event| event["reason"] == "NotEnforced");
        of.any(|event| {
            let message = event["message"].as_str().unwrap_or_default();
            words.iter().all(|word| message.contains(word))
        })
    };
    until("the rules' Event is there", || {
        told(&["after nft changed the tables", "shop/web"])
    });
    std::fs::remove_file(agent.path("bin/egressway")).expect("remove the program");
    until("the program is there", || {
        agent.path("bin/egressway").exists()
    });
    until("the program's Event is there", || told(&["bin/egressway"]));
}
