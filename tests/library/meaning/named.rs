//! Cases that were wrong once.

use std::net::IpAddr;

use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use rules::evaluate::Packet;

use super::assert_agreement;

fn pod(text: &str) -> Effective {
    let tier = TierRules::parse(Tier::Pod, "test", text, false).expect("valid rules");
    Effective::new(vec![tier], DefaultAction::Allow, false, Facts::default()).expect("all known")
}

fn packet(time: &str) -> Packet {
    Packet {
        destination: IpAddr::from([203, 0, 113, 7]),
        protocol: 6,
        port: Some(443),
        icmp: None,
        original: None,
        local: false,
        time: time.parse().expect("a time"),
        names: Vec::new(),
    }
}

#[test]
fn a_rule_ends_at_a_whole_second_wherever_it_is_asked() {
    let policy = pod("deny until=2026-05-31T23:59:59.5Z");
    for time in [
        "2026-05-31T23:59:58.999999999Z",
        "2026-05-31T23:59:59Z",
        "2026-05-31T23:59:59.25Z",
        "2026-05-31T23:59:59.5Z",
    ] {
        assert_agreement(&policy, &packet(time));
    }
}
