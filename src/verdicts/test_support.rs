//! Log lines, records and a node that logs, for the tests of what reads them.

use std::path::Path;

use super::line::Line;
use crate::attachment::test_support::{record, store};
use netlink::test_support::{ip, run};

/// A line written as `shop/web deny pod:erp tcp 203.0.113.9 443`, `... icmp 203.0.113.9 8/0`, at so
/// many minutes past nine; `-` for what is not known.
pub(crate) fn line(minute: usize, text: &str) -> Line {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |name: &str| (name != "-").then(|| name.to_owned());
    let (namespace, pod) = words[0].split_once('/').unwrap();
    let detail = words.get(5).copied().unwrap_or_default();
    let (icmp_type, icmp_code) = detail.split_once('/').unzip();
    Line {
        time: format!("2026-01-31T09:{minute:02}:00.5Z").parse().unwrap(),
        node: None,
        namespace: name(namespace),
        pod: name(pod),
        pod_uid: None,
        workload: None,
        verdict: serde_json::from_value(words[1].into()).unwrap(),
        rule: words[2].to_owned(),
        rule_source: None,
        rule_line: None,
        rule_text: None,
        protocol: name(words[3]),
        source: [10, 0, 0, 2].into(),
        source_port: None,
        destination: words[4].parse().unwrap(),
        destination_port: detail.parse().ok(),
        original_destination: None,
        original_destination_port: None,
        icmp_type: icmp_type.map(|kind| kind.parse().unwrap()),
        icmp_code: icmp_code.map(|code| code.parse().unwrap()),
        name: None,
        asked: None,
        interface: None,
        egress_ip: None,
    }
}

/// Writes the record of namespace `shop`'s pod, with rules of its own.
pub(crate) fn attach(
    state: &Path,
    pod: &str,
    veth_index: u32,
    addresses: &[&str],
    egress: &[&str],
    rules: &str,
) {
    let mut record = record(pod, veth_index, addresses, rules);
    record.egress = egress.iter().map(|a| a.parse().unwrap()).collect();
    store(state, &record);
}

/// Gives lo these addresses, and logs with these prefixes to group 100 what goes to these UDP ports.
pub(crate) fn log_on_lo(addresses: &[&str], ports: &[(u16, &str)]) {
    for address in addresses {
        let length = if address.contains(':') {
            "128 nodad"
        } else {
            "32"
        };
        let (length, option) = length.split_once(' ').unwrap_or((length, ""));
        ip(format!("addr add {address}/{length} dev lo {option}").trim_end());
    }
    let mut rules = "add table inet t; \
                     add chain inet t in { type filter hook prerouting priority 0; }; "
        .to_owned();
    for (port, prefix) in ports {
        rules += &format!(
            "add rule inet t in udp dport {port} log prefix \"{prefix}\" group 100 snaplen 128; "
        );
    }
    run("nft", &[&rules]);
}
