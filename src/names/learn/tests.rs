use super::*;
use std::collections::BTreeMap;

use netlink::test_support::{in_fresh_netns, ip, run};

const TOKEN: &str = "00112233445566778899aabbccddeeff";
const OTHER: &str = "ffeeddccbbaa99887766554433221100";

fn tokens() -> Tokens {
    let of = |token: &str| BTreeMap::from([("90s".to_owned(), token.to_owned())]);
    Tokens::read(&NameGroup {
        patterns: vec!["a.example".to_owned()],
        tokens: BTreeMap::from([("4".to_owned(), of(TOKEN)), ("6".to_owned(), of(OTHER))]),
    })
}

/// Chain and sets as the plan makes them.
fn table(size: u32) {
    run(
        "nft",
        &[&format!(
            "table inet t {{
                set dn4 {{ type ipv4_addr; flags dynamic,timeout; size {size}; }}
                set dn6 {{ type ipv6_addr; flags dynamic,timeout; size {size}; }}
                chain learn4 {{ update @dn4 {{ ip daddr timeout 90s }} drop; }}
                chain learn6 {{ update @dn6 {{ ip6 daddr timeout 90s }} drop; }}
                chain learn {{
                    type filter hook output priority -301;
                    udp dport {LEARN_PORT} udp length 24 @th,64,128 0x{TOKEN} goto learn4
                    udp dport {LEARN_PORT} udp length 24 @th,64,128 0x{OTHER} goto learn6
                }}
            }}"
        )],
    );
}

fn elements(set: &str) -> String {
    run("nft", &["list", "set", "inet", "t", set])
}

fn put(learner: &Learner, address: &str) -> Result<(), Failure> {
    learner.put(
        &tokens(),
        address.parse().expect("an address"),
        Life::Seconds90,
    )
}

#[test]
fn an_address_is_in_its_set_when_the_packet_was_refused() {
    in_fresh_netns(|| {
        table(2);
        let learner = Learner::open().expect("sockets");
        // No route leads there, and none is needed.
        assert_eq!(put(&learner, "203.0.113.7"), Ok(()));
        assert!(elements("dn4").contains("203.0.113.7 timeout 1m30s"));
        assert_eq!(put(&learner, "2001:db8::7"), Err(Failure::NoRoute));
        ip("link add eth0 type veth peer name eth1");
        ip("link set eth0 up");
        ip("link set eth1 up");
        ip("-6 addr add 2001:db8:1::1/64 dev eth0 nodad");
        ip("-6 route add default dev eth0");
        assert_eq!(put(&learner, "2001:db8::7"), Ok(()));
        assert!(elements("dn6").contains("2001:db8::7 timeout 1m30s"));
        // As many as there may be. What is there may stay longer.
        assert_eq!(put(&learner, "203.0.113.8"), Ok(()));
        assert_eq!(put(&learner, "203.0.113.7"), Ok(()));
        assert_eq!(put(&learner, "203.0.113.9"), Err(Failure::NotTaken));
        let missing = learner.put(&tokens(), [203, 0, 113, 7].into(), Life::Hour);
        assert_eq!(missing, Err(Failure::NoToken));
        run("nft", &["flush", "ruleset"]);
        assert_eq!(put(&learner, "203.0.113.7"), Err(Failure::NotTaken));
    });
}

#[test]
fn documents_that_say_nothing_useful_teach_nothing() {
    for token in [
        "",
        "00",
        &TOKEN[1..],
        &format!("{TOKEN}00"),
        "zz112233445566778899aabbccddeeff",
    ] {
        let of = BTreeMap::from([("90s".to_owned(), token.to_owned())]);
        let group = NameGroup {
            patterns: Vec::new(),
            tokens: BTreeMap::from([("4".to_owned(), of)]),
        };
        assert_eq!(Tokens::read(&group), Tokens::default(), "{token}");
    }
}
