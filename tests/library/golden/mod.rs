//! What the kernel gets for one small policy, to be read by people: `*.nft` beside this file.
//!
//! A change that is meant is written there by `UPDATE_GOLDEN=1 cargo test --test golden`.

use std::net::IpAddr;
use std::path::Path;

use egressway::plan::{AttachmentPlan, Base, Bridge, compile};
use nft::Transaction;
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

fn effective() -> Effective {
    let tier = |tier, text| TierRules::parse(tier, "test", text, false).expect("valid rules");
    let facts = Facts {
        cluster: ["10.244.0.0/16", "10.96.0.0/12", "fd44::/48"]
            .map(|net| net.parse().expect("a network"))
            .to_vec(),
        dns: vec!["10.96.0.10".parse().expect("an address")],
        ..Facts::default()
    };
    let tiers = vec![
        tier(
            Tier::ClusterEnforced,
            "deny to metadata log name=no-metadata",
        ),
        tier(
            Tier::NamespaceEnforced,
            "pass to cluster\nreject 25/tcp log=5/s name=no-mail",
        ),
        tier(Tier::Dns, "allow to dns"),
        tier(
            Tier::Pod,
            "allow 443/tcp, 8000-8100/tcp to 203.0.113.0/24 except 203.0.113.7\n\
             allow icmp/8, icmpv6/128 to private log\n\
             deny to 198.51.100.10-198.51.100.20 until=2027-01-31T00:00:00Z",
        ),
        tier(
            Tier::ClusterDefaults,
            "deny to internet log name=no-internet",
        ),
    ];
    Effective::new(tiers, DefaultAction::Allow, false, facts).expect("all keywords are known")
}

fn check(file: &str, ops: &Transaction) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/library/golden")
        .join(file);
    // The name of a policy changes with every version: what is shared must be one version's.
    let now = without_hash(ops.to_string());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).expect("can write");
    }
    let golden = std::fs::read_to_string(&path).expect("is there");
    for (n, (wanted, found)) in golden.lines().zip(now.lines()).enumerate() {
        assert_eq!(wanted, found, "{file}, line {}", n + 1);
    }
    assert_eq!(golden, now);
}

fn without_hash(text: String) -> String {
    let Some((_, rest)) = text.split_once("pol-") else {
        return text;
    };
    let hash = &rest[..16];
    assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    text.replace(hash, "HASH")
}

#[test]
fn the_base() {
    check("base.nft", &Base::new(&effective().facts.cluster).add(&[]));
}

#[test]
fn a_policy() {
    check("policy.nft", &compile(&effective(), 100).add());
}

/// Whether a packet goes to clusterDNS is decided once: every rule stands in two chains.
#[test]
fn a_policy_that_excepts_dns() {
    let text = "allow to 10.0.0.0/8\ndeny except dns";
    let tier = TierRules::parse(Tier::Pod, "test", text, false).expect("valid rules");
    let facts = effective().facts;
    let policy = Effective::new(vec![tier], DefaultAction::Allow, false, facts);
    let policy = policy.expect("all keywords are known");
    check("except-dns.nft", &compile(&policy, 100).add());
}

/// Each set's comments say which rule an element is of.
#[test]
fn a_policy_with_lookups() {
    let text = "allow 443/tcp to 203.0.113.0/24
        deny 440-450/tcp to 203.0.112.0/23 name=no-web
        allow 80/tcp,53/udp to 203.0.113.64/26
        deny 1-1000/udp to 10.0.0.0/8
        reject to 198.51.100.0/24, 2001:db8::/32 log
        deny udp to 203.0.113.0/25
        allow icmp/8 to 203.0.113.0/24
        deny 25/tcp to 10.0.0.0/8 log
        deny 25/tcp to 203.0.113.0/24 log
        deny 1-8191/udp to 192.0.2.0/24
        allow to 198.51.100.0/30
        allow to 10.1.0.0/16 name=inside
        allow to 192.0.2.0-192.0.2.130
        deny to 203.0.113.7
        deny to 198.18.0.0/15
        deny to 10.0.0.0/9
        deny to internet";
    let tier = TierRules::parse(Tier::Pod, "test", text, false).expect("valid rules");
    let policy = Effective::new(vec![tier], DefaultAction::Allow, false, Facts::default());
    let policy = policy.expect("all keywords are known");
    check("lookups.nft", &compile(&policy, 100).add());
}

#[test]
fn an_attachment() {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let bridge = Bridge {
        name: "cni0".to_owned(),
        index: 7,
        mac: [0xd2, 0xf1, 0xd6, 0x42, 0xb9, 0x3e],
    };
    let plan = AttachmentPlan {
        id: "0123456789abcdef".to_owned(),
        veth: "veth1fc022e8".to_owned(),
        mac: [0x06, 0x8f, 0xf8, 0x62, 0x38, 0xa5],
        addresses: vec![address("10.244.1.4"), address("fd44::4")],
        link_local: vec!["fe80::48f:f8ff:fe62:38a5".parse().expect("an address")],
        iif: Some(7),
        bridge: Some(bridge.clone()),
        policy: compile(&effective(), 100).name,
        egress: vec![address("203.0.113.10"), address("2001:db8::10")],
    };
    let mut ops = bridge.add();
    ops.append(bridge.cover_port("veth00000000"));
    ops.append(plan.add());
    check("attachment.nft", &ops);
}
