//! Log lines and records for the tests of the commands that read them.

use std::path::Path;

use super::line::Line;
use super::pods;
use crate::policy::effective::Tier;
use crate::policy::stored::StoredTier;

/// A line written as `shop/web deny pod:erp tcp 203.0.113.9 443`, `... icmp 203.0.113.9 8/0`, at so
/// many minutes past nine; `-` for what is not known.
pub(in crate::cli) fn line(minute: usize, text: &str) -> Line {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |name: &str| (name != "-").then(|| name.to_owned());
    let (namespace, pod) = words[0].split_once('/').unwrap();
    let detail = words.get(5).copied().unwrap_or_default();
    let (icmp_type, icmp_code) = detail.split_once('/').unzip();
    Line {
        time: format!("2026-01-31T09:{minute:02}:00.5Z").parse().unwrap(),
        namespace: name(namespace),
        pod: name(pod),
        verdict: serde_json::from_value(words[1].into()).unwrap(),
        rule: words[2].to_owned(),
        protocol: name(words[3]),
        source: [10, 0, 0, 2].into(),
        source_port: None,
        destination: words[4].parse().unwrap(),
        destination_port: detail.parse().ok(),
        original_destination: None,
        original_destination_port: None,
        icmp_type: icmp_type.map(|kind| kind.parse().unwrap()),
        icmp_code: icmp_code.map(|code| code.parse().unwrap()),
        interface: None,
        egress_ip: None,
    }
}

/// Writes the record of namespace `shop`'s pod, with rules of its own.
pub(in crate::cli) fn attach(state: &Path, pod: &str, rules: &str) {
    let tier = StoredTier {
        tier: Tier::Pod,
        source: "pod annotation egress-cni.dev/rules".to_owned(),
        text: rules.to_owned(),
        audit: false,
    };
    pods::tests::attach_with(state, pod, 7, &["10.0.0.2"], &[], vec![tier]);
}
