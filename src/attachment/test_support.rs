//! Records of pods that were never attached, for the tests of what reads them.

use std::path::Path;

use crate::plan::{Base, LAYOUT};
use crate::store::document::Unknown;
use crate::store::{Guard, PolicyHead, PolicyKey, Record, StateDir, StateError, attachment_id};
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use rules::stored::StoredPolicy;

/// The record of a pod of namespace `shop` with these rules of its own.
pub(crate) fn record(pod: &str, veth_index: u32, addresses: &[&str], rules: &str) -> Record {
    let source = "pod annotation egressway.dev/rules";
    let tier = TierRules::parse(Tier::Pod, source, rules, false).expect("rules");
    let facts = Facts::default();
    let policy = Effective::new(vec![tier], DefaultAction::Deny, false, facts).expect("valid");
    Record {
        layout: LAYOUT,
        network: "net".to_owned(),
        container_id: pod.to_owned(),
        ifname: "eth0".to_owned(),
        namespace: Some("shop".to_owned()),
        pod: Some(pod.to_owned()),
        uid: None,
        exempt: false,
        netns: None,
        rules_ignored: false,
        veth_index,
        iif: None,
        uplink: None,
        log_group: 100,
        guard: Guard::Ignore,
        id: attachment_id("net", pod, "eth0"),
        veth: format!("veth{veth_index}"),
        mac: [2, 0, 0, 0, 0, 1],
        addresses: addresses
            .iter()
            .map(|a| a.parse().expect("an address"))
            .collect(),
        link_local: vec!["fe80::1".parse().expect("an address")],
        bridge: None,
        policy_chain: crate::plan::compile(&policy, 100).name,
        names: None,
        egress: Vec::new(),
        policy: StoredPolicy::from(&policy),
        unknown: Unknown::default(),
    }
}

/// Writes it where the plugin would.
pub(crate) fn store(dir: &Path, record: &Record) {
    let state = StateDir::new(dir);
    let rules = serde_json::to_vec(&record.policy).expect("JSON");
    let key = PolicyKey::of([&*rules]);
    let head = PolicyHead {
        chain: record.policy_chain.clone(),
        base: Base::new(&record.policy.facts.cluster).marker().to_owned(),
        exempt: record.exempt,
        egress: Vec::new(),
        names: None,
        start_without_agent: false,
    };
    state
        .keep_policy(&record.id, &key, false, || {
            Ok::<_, StateError>((head, record.policy.clone()))
        })
        .expect("writable");
    state
        .write_attachment(&record.id, &record.clone().with(key))
        .expect("writable");
}
