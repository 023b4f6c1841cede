//! Records of pods that were never attached, for the tests of what reads them.

use std::path::Path;

use super::{LAYOUT, Record};
use crate::plan::AttachmentPlan;
use crate::store::{StateDir, attachment_id};
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
        veth_index,
        uplink: None,
        log_group: 100,
        plan: AttachmentPlan {
            id: attachment_id("net", pod, "eth0").as_str().to_owned(),
            veth: format!("veth{veth_index}"),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: addresses
                .iter()
                .map(|a| a.parse().expect("an address"))
                .collect(),
            link_local: vec!["fe80::1".parse().expect("an address")],
            bridge: None,
            policy: crate::plan::compile(&policy, 100).name,
            egress: Vec::new(),
        },
        policy: StoredPolicy::from(&policy),
    }
}

/// Writes it where the plugin would.
pub(crate) fn store(dir: &Path, record: &Record) {
    let id = record.plan.id.parse().expect("an id");
    StateDir::new(dir)
        .write_attachment(&id, record)
        .expect("writable");
}
