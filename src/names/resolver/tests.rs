use super::*;
use std::collections::BTreeMap;
use std::path::Path;

use netlink::test_support::{in_fresh_netns, run};
use rules::effective::Facts;

use crate::attachment::test_support::{record as record_of, store};
use crate::names::message::A;
use crate::names::test_support::{answer, query, record};
use crate::plan::named::LEARN_PORT;
use crate::store::{GroupName, NameGroup, RecordNames};

/// A pod's address.
const WEB: [u8; 4] = [10, 0, 0, 2];

/// A group with its set in the kernel, as the plan makes them; `number` tells its secrets from others'.
fn group(state: &Path, patterns: &[&str], number: u8) -> GroupName {
    let name = GroupName::of(patterns.iter().copied());
    let tokens = |family: u8| {
        let token = |life: u8| crate::hex::hex(&[[number, family, life, 0x77]; 4].concat());
        let lives = Life::ALL.into_iter().zip(0..);
        let lives = lives.map(|(life, n)| (life.as_str().to_owned(), token(n)));
        lives.collect::<BTreeMap<String, String>>()
    };
    let document = NameGroup {
        patterns: patterns.iter().map(|text| (*text).to_owned()).collect(),
        tokens: BTreeMap::from([("4".to_owned(), tokens(4)), ("6".to_owned(), tokens(6))]),
    };
    let mut rules = format!(
        "add table inet t
         add set inet t dn4-{name} {{ type ipv4_addr; flags dynamic,timeout; size 4096; }}
         add chain inet t learn {{ type filter hook output priority -301; }}\n"
    );
    for (life, token) in &document.tokens["4"] {
        rules += &format!(
            "add chain inet t learn-{name}-4-{life}
             add rule inet t learn-{name}-4-{life} update @dn4-{name} {{ ip daddr timeout {life} }} drop
             add rule inet t learn udp dport {LEARN_PORT} @th,64,128 0x{token} goto learn-{name}-4-{life}\n"
        );
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rules).expect("writable");
    run("nft", &["-f", &file.path().display().to_string()]);
    let state = StateDir::new(state);
    state.write_name_group(&name, &document).expect("writable");
    name
}

fn pod(state: &Path, name: &str, address: [u8; 4], groups: &[&GroupName], only_allowed: bool) {
    let address = IpAddr::from(address).to_string();
    let mut record = record_of(name, 7, &[&address], "");
    record.set_names(Some(&RecordNames {
        groups: groups.iter().map(|name| (*name).clone()).collect(),
        only_allowed,
    }));
    store(state, &record);
}

fn resolver(state: &Path) -> Resolver {
    Resolver::new(StateDir::new(state), Duration::from_secs(60)).expect("sockets")
}

/// What a pod learns from an answer for `name` with these addresses.
fn told(resolver: &Resolver, pod: [u8; 4], name: &str, addresses: &[([u8; 4], u32)]) -> Learned {
    let question = Question::parse(&query(name, A)).expect("a question");
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .map(|(ip, ttl)| record(A, *ttl, ip))
        .collect();
    let answer = answer(name, A, 0, &records);
    resolver
        .answer(pod.into(), &question, &answer)
        .expect("an answer")
}

/// The addresses in a group's set, each with the time that is left, rounded up.
fn in_kernel(group: &GroupName) -> Vec<String> {
    let listed = run(
        "nft",
        &["-j", "list", "set", "inet", "t", &format!("dn4-{group}")],
    );
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let set = &listed["nftables"][1]["set"]["elem"];
    let elements = set.as_array().into_iter().flatten();
    let mut elements: Vec<String> = elements
        .map(|one| {
            let one = &one["elem"];
            let left = Duration::from_secs(one["expires"].as_u64().expect("a number"));
            let life = Life::at_least(left).duration().as_secs();
            format!("{} {life}", one["val"].as_str().unwrap_or("?"))
        })
        .collect();
    elements.sort();
    elements
}

fn failures(resolver: &Resolver) -> BTreeMap<&'static str, u64> {
    let failures = resolver.counts.failures();
    failures.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn what_a_rule_names_is_in_the_kernel_before_the_answer_goes_out() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let resolver = resolver(dir.path());
        let api = group(dir.path(), &["api.example.com"], 1);
        let org = group(dir.path(), &["*.example.org"], 2);
        pod(dir.path(), "web", WEB, &[&api, &org], false);
        pod(dir.path(), "other", [10, 0, 0, 3], &[&org], false);
        let one = ([203, 0, 113, 1], 0);
        assert_eq!(
            told(
                &resolver,
                WEB,
                "API.example.com",
                &[one, ([203, 0, 113, 2], 300)]
            ),
            Learned::Name
        );
        assert_eq!(in_kernel(&api), ["203.0.113.1 90", "203.0.113.2 600"]);
        assert_eq!(in_kernel(&org), [""; 0]);
        // Another pod's rules do not have that name, and nobody's questions are not these pods'.
        assert_eq!(
            told(
                &resolver,
                [10, 0, 0, 3],
                "api.example.com",
                &[([203, 0, 113, 3], 60)]
            ),
            Learned::Nothing
        );
        assert_eq!(
            told(
                &resolver,
                [10, 0, 0, 9],
                "api.example.com",
                &[([203, 0, 113, 4], 60)]
            ),
            Learned::Nothing
        );
        assert_eq!(
            told(
                &resolver,
                [10, 0, 0, 3],
                "a.b.example.org",
                &[([203, 0, 113, 5], 4000)]
            ),
            Learned::Name
        );
        assert_eq!(in_kernel(&api).len(), 2);
        assert_eq!(in_kernel(&org), ["203.0.113.5 86400"]);
        // What will be there for long enough is not put there for a shorter time.
        assert_eq!(
            told(&resolver, WEB, "x.example.org", &[([203, 0, 113, 5], 1)]),
            Learned::Name
        );
        assert_eq!(in_kernel(&org), ["203.0.113.5 86400"]);
        // And for a longer one it is.
        assert_eq!(
            told(
                &resolver,
                WEB,
                "api.example.com",
                &[([203, 0, 113, 1], 3000)]
            ),
            Learned::Name
        );
        assert_eq!(in_kernel(&api), ["203.0.113.1 3600", "203.0.113.2 600"]);
        assert_eq!(failures(&resolver), BTreeMap::new());
        // As people are told.
        let names = resolver.told(1);
        let addresses = &names
            .groups
            .iter()
            .find(|group| group.group == org.as_str())
            .expect("told")
            .addresses;
        assert_eq!(addresses[0].names, ["a.b.example.org", "x.example.org"]);
        assert_eq!(addresses[0].asked_by, "shop/web");
        let asked = &names
            .pods
            .iter()
            .find(|pod| pod.pod == "shop/other")
            .expect("told")
            .asked;
        assert_eq!(asked[0].name, "api.example.com");
        let naming =
            |pod: u8, last: u8| resolver.naming([10, 0, 0, pod].into(), [203, 0, 113, last].into());
        assert_eq!(naming(2, 1).name.as_deref(), Some("api.example.com"));
        assert_eq!(naming(3, 3).asked.as_deref(), Some("api.example.com"));
        assert_eq!(
            naming(3, 1),
            Naming::default(),
            "its rules do not have that name"
        );
    });
}

#[test]
fn what_belongs_to_the_cluster_is_never_learned() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let resolver = resolver(dir.path());
        let api = group(dir.path(), &["api.example.com"], 1);
        pod(dir.path(), "web", WEB, &[&api], false);
        let facts = Facts {
            cluster: vec!["10.0.0.0/8".parse().expect("a network")],
            ..Facts::default()
        };
        resolver.set_policy(Never::new(&facts, []), Duration::from_secs(60));
        let addresses = [
            [10, 96, 0, 1],
            [169, 254, 169, 254],
            [127, 0, 0, 1],
            [192, 168, 0, 1],
        ];
        assert_eq!(
            told(
                &resolver,
                WEB,
                "api.example.com",
                &addresses.map(|ip| (ip, 60))
            ),
            Learned::Name
        );
        assert_eq!(in_kernel(&api), ["192.168.0.1 90"]);
        assert_eq!(failures(&resolver), BTreeMap::from([("never", 3)]));
    });
}

#[test]
fn an_answer_teaches_no_more_than_so_many_addresses() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let resolver = resolver(dir.path());
        let api = group(dir.path(), &["api.example.com"], 1);
        pod(dir.path(), "web", WEB, &[&api], false);
        let many: Vec<_> = (0..100).map(|last| ([203, 0, 113, last], 60)).collect();
        assert_eq!(
            told(&resolver, WEB, "api.example.com", &many),
            Learned::Name
        );
        assert_eq!(in_kernel(&api).len(), MOST_OF_AN_ANSWER);
        assert_eq!(failures(&resolver), BTreeMap::from([("full", 1)]));
    });
}

#[test]
fn a_successor_knows_what_is_in_the_sets_and_fills_new_ones() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let old = resolver(dir.path());
        let api = group(dir.path(), &["api.example.com"], 1);
        pod(dir.path(), "web", WEB, &[&api], false);
        told(&old, WEB, "api.example.com", &[([203, 0, 113, 1], 4000)]);
        old.write_known().expect("writable");
        let new = resolver(dir.path());
        assert_eq!(new.known_counts(), (1, 1));
        assert_eq!(
            new.naming(WEB.into(), [203, 0, 113, 1].into())
                .name
                .as_deref(),
            Some("api.example.com")
        );
        // Both live for a while, and neither loses what the other has written.
        told(&new, WEB, "api.example.com", &[([203, 0, 113, 2], 4000)]);
        new.write_known().expect("writable");
        old.write_known().expect("writable");
        assert_eq!(resolver(dir.path()).known_counts(), (1, 2));
        // Sets that are made anew have other secrets; what was known is put there at the next look.
        run("nft", &["flush", "ruleset"]);
        group(dir.path(), &["api.example.com"], 2);
        new.tidy();
        assert_eq!(in_kernel(&api), ["203.0.113.1 86400", "203.0.113.2 86400"]);
        // Somebody has emptied them.
        run("nft", &["flush", "set", "inet", "t", &format!("dn4-{api}")]);
        new.put_all_again();
        assert_eq!(in_kernel(&api), ["203.0.113.1 86400", "203.0.113.2 86400"]);
        // The last pod is gone, and the group with it.
        StateDir::new(dir.path())
            .remove_name_group(&api)
            .expect("removable");
        new.write_known().expect("writable");
        assert_eq!(resolver(dir.path()).known_counts(), (0, 0));
    });
}

#[test]
fn a_pod_that_may_ask_for_its_own_names_only_asks_for_no_others() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let resolver = resolver(dir.path());
        let api = group(dir.path(), &["*.example.com"], 1);
        pod(dir.path(), "web", WEB, &[&api], true);
        pod(dir.path(), "other", [10, 0, 0, 3], &[&api], false);
        let leave = |pod: [u8; 4], name: &str| {
            let question = Question::parse(&query(name, A)).expect("a question");
            resolver.leave(pod.into(), &question)
        };
        for (name, wanted) in [
            ("api.example.com", Leave::Ask),
            ("example.com", Leave::No),
            ("secret.evil.test", Leave::No),
            ("api.example.com.evil.test", Leave::No),
        ] {
            assert_eq!(leave(WEB, name), wanted, "{name}");
            assert_eq!(leave([10, 0, 0, 3], name), Leave::Ask, "{name}");
            assert_eq!(leave([10, 0, 0, 9], name), Leave::Ask, "{name}");
        }
        let asked = &resolver.told(1).pods[1].asked;
        let asked: Vec<&str> = asked.iter().map(|asked| asked.name.as_str()).collect();
        assert_eq!(
            asked,
            [
                "api.example.com.evil.test",
                "example.com",
                "secret.evil.test"
            ]
        );
    });
}
