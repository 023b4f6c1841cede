//! The policies and attachments that are compared.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use egressway::plan::{AttachmentPlan, Base, Bridge, Compiled};
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

/// The NFLOG group of all policies here.
pub const LOG_GROUP: u16 = 100;

pub fn facts() -> Facts {
    let nets = ["10.244.0.0/16", "10.96.0.0/12", "fd44::/48"];
    let dns = ["10.96.0.10", "169.254.20.10", "fd44::a"];
    Facts {
        cluster: nets.map(|net| net.parse().expect("a network")).to_vec(),
        dns: dns
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
        resolvers: dns
            .map(|address| address.parse().expect("an address"))
            .to_vec(),
        ..Facts::default()
    }
}

pub fn base() -> Base {
    Base::new(&facts().cluster)
}

/// Each tier's text, an empty one for no rules.
pub fn policy(texts: &[(Tier, &str)], default: DefaultAction, audit: bool) -> Effective {
    let tiers = texts
        .iter()
        .map(|(tier, text)| TierRules::parse(*tier, "test", text, audit).expect("valid rules"));
    Effective::new(tiers.collect(), default, audit, facts()).expect("all keywords are known")
}

pub fn fixed_policies() -> Vec<Effective> {
    use DefaultAction::{Allow, Deny};
    let every_port = "\
        allow 443/tcp,80-90/tcp to 203.0.113.0/25; allow 53/udp to 0.0.0.0/0
        reject udp, 1-65535/sctp, proto/47 to ::/0 log=7/s name=all-of-six
        deny icmp, icmp/8, icmp/3/4, icmpv6, icmpv6/128, icmpv6/1/3 log
        deny proto/0, proto/255; reject 1-65535/tcp; deny 65535/udp";
    let every_target = "\
        deny to metadata log name=no-metadata
        allow to cluster, node; allow to private, internet except node, dns, 10.0.0.0-10.0.0.9
        reject to 0.0.0.0-9.255.255.255, 240.0.0.0-255.255.255.255, 8000::/1, 203.0.113.7
        allow to dns except 169.254.20.10; deny to node, 2001:db8::7 except fd44::/48
        deny to 224.0.0.0/3 until=2027-01-31T00:00:00Z; deny to ff00::/9, 10.0.0.0/9
        deny to fe80::/10 until=9999-12-30T00:00:00Z; deny to fc00::/7 until=1970-01-01T00:00:00Z";
    let named = "\
        allow 443/tcp,80/tcp,icmp,icmpv6/128,53/udp to a.example,*.b.example,10.0.0.1 except 10.0.0.0/24 log name=cdn
        pass udp to c.example until=2027-01-31T00:00:00Z; deny to 10.96.0.10; allow to dns until=2027-01-31T00:00:00Z
        allow to d.example";
    let passing = "pass to private except dns; reject 25/tcp log; pass 443/tcp; deny to internet";
    vec![
        policy(&[(Tier::Pod, every_port)], Deny, false),
        policy(&[(Tier::Pod, every_target)], Deny, true),
        policy(
            &[(Tier::Pod, every_port), (Tier::Dns, "allow to dns")],
            Allow,
            true,
        ),
        policy(
            &[
                (Tier::ClusterEnforced, passing),
                (Tier::NamespaceEnforced, passing),
                (Tier::Dns, "allow to dns"),
                (Tier::Pod, every_target),
            ],
            Allow,
            false,
        ),
        policy(
            &[(Tier::ClusterEnforced, passing), (Tier::Pod, named)],
            Deny,
            false,
        ),
        deepest(),
        policy(&[(Tier::Pod, &looked_up())], Deny, false),
        policy(&[(Tier::Pod, &looked_up_together())], Deny, false),
        policy(&[], Allow, false),
    ]
}

/// Enough rules of each kind for every kind of lookup, maps to the chains of rules that log among them.
fn looked_up() -> String {
    let mut text = String::new();
    for n in 0..20 {
        let to = format!("10.{n}.0.0/16, 2001:db8:{n:x}::/48");
        let _ = writeln!(
            text,
            "allow 443/tcp to {to}; deny 25/tcp, 53/udp to {to} log"
        );
        let _ = writeln!(
            text,
            "reject icmp/8, icmpv6/128 to {to} log; deny udp to {to} log"
        );
        let _ = writeln!(text, "reject to {to} log");
    }
    text
}

/// The same with so many ports and protocols that these are looked up together with the address.
fn looked_up_together() -> String {
    let mut text = looked_up();
    for n in 1..=70 {
        let to = "192.0.2.1, 2001:db8:ffff::1";
        let _ = writeln!(text, "allow {n}/tcp, proto/{} to {to}", 180 + n);
    }
    text
}

/// The longest way through chains that there is.
pub fn deepest() -> Effective {
    let text = "pass to 10.0.0.0/8 except dns; pass 443/tcp to node; deny except dns log";
    policy(
        &[
            (Tier::ClusterEnforced, text),
            (Tier::NamespaceEnforced, text),
            (Tier::Dns, "allow to dns"),
            (Tier::Pod, text),
            (Tier::NamespaceDefaults, text),
            (Tier::ClusterDefaults, text),
        ],
        DefaultAction::Deny,
        false,
    )
}

/// A policy of one rule with this many networks of each family, and both ends of each family.
pub fn long_list(networks: u32) -> Effective {
    let mut text = "deny to 0.0.0.0, 255.255.255.255, ::, \
                    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        .to_owned();
    for n in 0..networks {
        let (high, low) = (n >> 8, n & 0xff);
        let _ = write!(text, ", 20.{high}.{low}.0/25, 2001:db8:{n:x}::/49");
    }
    policy(&[(Tier::Pod, &text)], DefaultAction::Allow, false)
}

/// What can differ between attachments. Their policy is still missing.
pub fn attachments() -> Vec<(&'static str, AttachmentPlan)> {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let link_local: Ipv6Addr = "fe80::48f:f8ff:fe62:38a5".parse().expect("an address");
    let bridge = || Bridge {
        name: "cni0".to_owned(),
        index: 7,
        mac: [0xd2, 0xf1, 0xd6, 0x42, 0xb9, 0x3e],
    };
    let plan = |addresses: &[&str]| AttachmentPlan {
        id: "0123456789abcdef".to_owned(),
        veth: "veth0".to_owned(),
        mac: [0x06, 0x8f, 0xf8, 0x62, 0x38, 0xa5],
        addresses: addresses.iter().map(|a| address(a)).collect(),
        link_local: Vec::new(),
        iif: Some(7),
        bridge: None,
        policy: String::new(),
        egress: Vec::new(),
    };
    let several = ["10.244.1.4", "10.244.1.5", "fd44::4", "fd44::5"];
    vec![
        ("routed, IPv4 only", plan(&["10.244.1.4"])),
        (
            "routed, IPv6 only, with an egress address",
            AttachmentPlan {
                link_local: vec![link_local],
                egress: vec![address("2001:db8::10")],
                ..plan(&["fd44::4"])
            },
        ),
        (
            "routed, dual stack",
            AttachmentPlan {
                link_local: vec![link_local],
                ..plan(&["10.244.1.4", "fd44::4"])
            },
        ),
        (
            "bridged, IPv4 only, with an egress address",
            AttachmentPlan {
                iif: Some(7),
                bridge: Some(bridge()),
                egress: vec![address("203.0.113.10")],
                ..plan(&["10.244.1.4"])
            },
        ),
        (
            "bridged, several addresses, with egress addresses of both families",
            AttachmentPlan {
                link_local: vec![link_local, "fe80::1".parse().expect("an address")],
                iif: Some(7),
                bridge: Some(bridge()),
                egress: vec![address("203.0.113.10"), address("2001:db8::10")],
                ..plan(&several)
            },
        ),
        ("without any address", plan(&[])),
    ]
}

pub fn with_policy(plan: AttachmentPlan, policy: &Compiled) -> AttachmentPlan {
    AttachmentPlan {
        policy: policy.name.clone(),
        ..plan
    }
}
