//! Whether this kernel can do all that is needed: the real rules of a sample policy, committed in a
//! network namespace that nobody else sees and that goes when this is done.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::enforce;
use crate::plan::{self, AttachmentPlan, Base, Bridge, Compiled};
use netlink::{self, Netns, Rtnl, conntrack, tc};
use nft::{self, Nft, Transaction};
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use rules::fault::Faults;

/// Every verb, kind of port, target and option that a policy can have.
const SAMPLE: &str = "\
pass icmp/3/4 to private until=2100-01-01T00:00:00Z
allow 443/tcp,8000-8100/udp,53/udp to 198.51.100.0/24,2001:db8::/32 except 198.51.100.7 log=5/s
reject tcp,sctp to node log name=node
allow icmpv6/128,icmp/8,proto/47 to internet,cluster
deny 22/tcp to metadata,10.0.0.1-10.0.0.9
allow 80/tcp to 192.0.2.1,192.0.2.3,192.0.2.5/32,2001:db8:1::/48
reject udp to any log=1/s
";

/// Rules of one shape, so many that they become sets of concatenated intervals.
fn many() -> String {
    let verbs = ["allow", "deny", "reject", "allow log"];
    let rule = |n: usize| {
        let (verb, options) = verbs[n % verbs.len()]
            .split_once(' ')
            .unwrap_or((verbs[n % 4], ""));
        format!(
            "{verb} {n}-{}/tcp,{n}/udp,icmp/{n},icmpv6/{n},proto/{} to 198.51.{n}.0/24,2001:db8:{n}::/48 {options}\n",
            n + 100,
            n + 140,
        )
    };
    (1..=24).map(rule).collect()
}

/// The oldest kernel whose nf_tables has all that is needed.
const OLDEST: (u32, u32) = (5, 10);

/// What this kernel lacks.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("this is Linux {release}: {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    TooOld { release: String },
    #[error(
        "this node is in a user namespace (a container of its own, a rootless node), where the kernel does not show which BPF programs handle a pod's packets: run the node as root of the machine"
    )]
    UserNamespace,
    #[error("listing the BPF programs of an interface (CAP_NET_ADMIN, CONFIG_BPF_SYSCALL): {0}")]
    Bpf(#[source] netlink::Error),
    #[error(
        "cannot make a network namespace to try the rules in (CAP_SYS_ADMIN and CONFIG_NET_NS are needed): {0}"
    )]
    Namespace(#[source] netlink::Error),
    #[error("{feature}: {source}")]
    Missing {
        feature: &'static str,
        #[source]
        source: nft::Error,
    },
    #[error("deleting connections (nf_conntrack_netlink): {0}")]
    Conntrack(#[source] netlink::Error),
    #[error("the sample policy is invalid: {0}")]
    Sample(#[from] Faults),
}

/// The kernel's release: `6.1.0-18-amd64`.
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Tries everything. The node's own namespace is not touched.
///
/// # Errors
/// The first thing that is missing, by the rule that the kernel refused.
pub fn check() -> Result<(), Error> {
    let release = release();
    if is_too_old(&release) {
        return Err(Error::TooOld { release });
    }
    // What can't be read says nothing.
    let uids = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if is_user_namespace(&uids) {
        return Err(Error::UserNamespace);
    }
    let policy = plan::compile(&sample()?, 100);
    let scratch = Netns::scratch().map_err(Error::Namespace)?;
    scratch.run(|| try_all(&policy)).map_err(Error::Namespace)?
}

/// Whether a uid_map is another than that of the first user namespace, which maps all to themselves
/// (user_namespaces(7)).
fn is_user_namespace(uid_map: &str) -> bool {
    let ids: Vec<&str> = uid_map.split_whitespace().collect();
    !ids.is_empty() && ids != ["0", "0", "4294967295"]
}

fn is_too_old(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().and_then(|n| n.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        _ => false, // a release that says nothing; the rules themselves will tell
    }
}

/// The stages of a pod's first ADD, each with what it is there for.
fn stages(policy: &Compiled) -> Vec<(&'static str, Transaction)> {
    let facts = facts();
    let bridge = Bridge {
        name: "cni0".to_owned(),
        index: 2,
        mac: [2, 0, 0, 0, 0, 1],
    };
    let attachment = AttachmentPlan {
        id: "0123456789abcdef".to_owned(),
        veth: "lo".to_owned(), // the one device that every namespace has
        mac: [2, 0, 0, 0, 0, 2],
        addresses: vec![
            IpAddr::V4(Ipv4Addr::new(10, 244, 0, 2)),
            IpAddr::V6(Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, 2)),
        ],
        link_local: vec![Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)],
        iif: Some(7),
        bridge: Some(bridge.clone()),
        policy: policy.name.clone(),
        egress: vec![
            IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
        ],
    };
    let mut at_bridge = bridge.add();
    at_bridge.append(bridge.cover_port("lo"));
    vec![
        (
            "tables, maps, connection tracking with labels (CONFIG_NF_CONNTRACK_LABELS) and source NAT",
            Base::new(&facts.cluster).add(&[]),
        ),
        ("the rules of a policy", policy.add()),
        ("the ingress hook of bridge ports", at_bridge),
        ("the rules of a pod's own interface", attachment.add()),
    ]
}

fn try_all(policy: &Compiled) -> Result<(), Error> {
    let missing = |feature| move |source| Error::Missing { feature, source };
    let mut nft = Nft::open().map_err(missing("nf_tables"))?;
    for (feature, ops) in stages(policy) {
        enforce::attempt(&mut nft, &ops).map_err(missing(feature))?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let loopback = 1;
    Rtnl::open(deadline)
        .and_then(|mut rtnl| tc::detour(&mut rtnl, loopback, |_| false))
        .map_err(Error::Bpf)?;
    let nobody = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];
    conntrack::delete_of(&nobody, deadline)
        .map(drop)
        .map_err(Error::Conntrack)
}

fn facts() -> Facts {
    Facts {
        cluster: ["10.244.0.0/16", "fd44::/48"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect(),
        dns: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10))],
        ..Facts::default()
    }
}

/// The sample as enforced rules, and as a pod's own in audit mode; then many rules; what is left is denied.
fn sample() -> Result<Effective, Faults> {
    let tier = |tier, text: &str, audit| TierRules::parse(tier, "sample", text, audit);
    Effective::new(
        vec![
            tier(Tier::ClusterEnforced, SAMPLE, false)?,
            tier(Tier::Pod, SAMPLE, true)?,
            tier(Tier::ClusterDefaults, &many(), false)?,
        ],
        DefaultAction::Deny,
        false,
        facts(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{INET, NETDEV};

    #[test]
    fn this_kernel_can_and_is_left_alone() {
        let tables = || {
            let mut nft = Nft::open().unwrap();
            [&INET, &NETDEV].map(|t| nft.chains(t).unwrap().len())
        };
        let before = tables();
        check().unwrap();
        assert_eq!(tables(), before);
    }

    #[test]
    fn the_sample_uses_every_part_of_nf_tables_that_rules_can_have() {
        let policy = plan::compile(&sample().unwrap(), 100);
        let text: String = stages(&policy)
            .iter()
            .map(|(_, ops)| ops.to_string())
            .collect();
        for part in [
            "counter",
            "limit rate",
            "log prefix",
            "group 100",
            "reject",
            "meta time",
            "ct state",
            "ct direction",
            "fib daddr type @",
            "type fib_addrtype;",
            "snat",
            "vmap",
            "flags interval",
            "type ipv4_addr . inet_proto . inet_service",
            "type ipv6_addr . inet_proto . inet_service",
            "type ipv4_addr . icmp_type",
            "type ipv6_addr . icmpv6_type",
            "type ipv4_addr . inet_proto;",
            "goto",
            "sctp",
            "icmp",
            "icmpv6",
            "hook ingress device",
            "ether daddr set",
            "hook postrouting priority 110",
        ] {
            assert!(
                text.contains(part),
                "the sample does not try `{part}`:\n{text}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_piece() {
        // Without privileges in the namespace the kernel refuses the first piece.
        let policy = plan::compile(&sample().unwrap(), 100);
        let (feature, ops) = stages(&policy).remove(3);
        let alone = Netns::scratch().unwrap();
        let source = alone
            .run(|| Nft::open().unwrap().commit(&ops).unwrap_err())
            .unwrap();
        let text = Error::Missing { feature, source }.to_string();
        assert!(
            text.starts_with("the rules of a pod's own interface: the kernel refused `add "),
            "{text}"
        );
    }

    #[test]
    fn user_namespaces() {
        assert!(!is_user_namespace("         0          0 4294967295\n"));
        assert!(!is_user_namespace(""));
        assert!(is_user_namespace("         0       1000          1\n"));
        assert!(is_user_namespace("0 100000 65536\n"));
        assert!(is_user_namespace("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn releases() {
        for old in ["4.19.0-25-amd64", "5.9.16", "5.4"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in [
            "5.10.0",
            "5.10-rc1",
            "6.1.0-18-amd64",
            "10.0",
            "",
            "unknown",
        ] {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
