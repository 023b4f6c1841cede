//! What both tables hold whether or not there is a pod: the base chains, and the sets and maps that
//! lead from a pod's address to its chain.
//!
//! ```text
//! prerouting  -99  enforce   behind the Services' DNAT (-100): source address -> pod-ID -> pol-HASH
//! input      -150  guard     an egress address of this node serves nothing but ping
//! postrouting -190 opened    a flow's first packet: opened by a pod or towards one, before our eyes
//! postrouting  50  snat      before any masquerade (kindnet 90, kube-proxy and CNI plugins 100)
//! postrouting 110  leak-stop after every NAT: no pod with an egress IP leaves with another source
//! ```

mod hook;
mod judge;
mod link;

use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use nft::{
    Chain, Concat, DataType, Element, Elements, Family, Field, KeyType, Object, Set, SetName,
    Transaction,
};

use rules::set::Addresses;

use super::packet::{FAMILIES, key_type};
use super::{INET, NETDEV, named, values};

pub use super::chain::BaseChain;
pub use super::resolver::led;
pub(super) use hook::ingress;
pub use judge::ENFORCE;
pub(super) use link::{LINK_SCOPE, OWN_TARGET};

/// Counts a denied packet for its pod, then drops it.
pub const DENY: &str = "do-deny";
/// Counts a rejected packet for its pod, then refuses it.
pub const REJECT: &str = "do-reject";
/// Counts for its pod a packet that audit mode lets go, as if it had been denied.
pub const AUDIT: &str = "do-audit";

/// What the bases of earlier layouts had and this one has not.
pub const FORMER: [&str; 1] = ["related"];

/// Drops what would leave with another source than the egress address, and counts it.
pub const LEAK_STOP: &str = "leak-stop";

/// Address of a pod -> its chain; the elements count what was judged.
pub const fn pods(family: Family) -> &'static str {
    match family {
        Family::V4 => "pod4",
        Family::V6 => "pod6",
    }
}

/// Addresses of pods; the elements count what was denied.
pub const fn denied(family: Family) -> &'static str {
    match family {
        Family::V4 => "denied4",
        Family::V6 => "denied6",
    }
}

/// Addresses of pods of which something was denied, each with the time it has to live, which a denied
/// packet begins anew: so it tells when the last one was. (nf_tables' own word for that, `last`, makes
/// nft 1.0.6 crash in a set.)
pub const fn last_denied(family: Family) -> &'static str {
    match family {
        Family::V4 => "last4",
        Family::V6 => "last6",
    }
}

/// Addresses of pods that are judged, without counters.
pub const fn judged(family: Family) -> &'static str {
    match family {
        Family::V4 => "judged4",
        Family::V6 => "judged6",
    }
}

/// Flows without handshake that a pod has opened and may not use any more, each for as long as the pod tries:
/// nobody takes them up from the other end.
pub const fn revoked(family: Family) -> &'static str {
    match family {
        Family::V4 => "revoked4",
        Family::V6 => "revoked6",
    }
}

/// The flow's addresses and ports, as the pod's packets have them.
const fn own_tuple(family: Family) -> Concat {
    use Field::{Ip6Daddr, Ip6Saddr, IpDaddr, IpSaddr, L4proto, ThDport, ThSport};
    match family {
        Family::V4 => Concat::of([IpSaddr, IpDaddr, L4proto, ThSport, ThDport]),
        Family::V6 => Concat::of([Ip6Saddr, Ip6Daddr, L4proto, ThSport, ThDport]),
    }
}

/// The same, as packets to the pod have them.
const fn others_tuple(family: Family) -> Concat {
    use Field::{Ip6Daddr, Ip6Saddr, IpDaddr, IpSaddr, L4proto, ThDport, ThSport};
    match family {
        Family::V4 => Concat::of([IpDaddr, IpSaddr, L4proto, ThDport, ThSport]),
        Family::V6 => Concat::of([Ip6Daddr, Ip6Saddr, L4proto, ThDport, ThSport]),
    }
}

/// Address of a pod -> the address that the outside sees.
pub const fn snat(family: Family) -> &'static str {
    match family {
        Family::V4 => "snat4",
        Family::V6 => "snat6",
    }
}

/// The keys of [`snat`] as a set: kernels before 6.4 cannot ask a map just for its keys.
pub const fn snatted(family: Family) -> &'static str {
    match family {
        Family::V4 => "snatted4",
        Family::V6 => "snatted6",
    }
}

/// This node's egress addresses.
pub const fn egress(family: Family) -> &'static str {
    match family {
        Family::V4 => "eip4",
        Family::V6 => "eip6",
    }
}

/// Addresses of pods on bridges, in the netdev table.
pub const fn bridged(family: Family) -> &'static str {
    match family {
        Family::V4 => "bridged4",
        Family::V6 => "bridged6",
    }
}

/// How long it is known when something of a pod was denied last.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Of how many addresses that is known.
const REMEMBERED_ADDRESSES: u32 = 65535;
/// How long after the pod's last try a flow is known as [`revoked`].
const REVOKED: Duration = Duration::from_secs(3600);
/// How many flows are.
const REVOKED_FLOWS: u32 = 65535;

/// The base of one cluster configuration.
#[derive(Debug, Clone)]
pub struct Base {
    /// The names of the two sets of destinations that keep their source address. They carry the
    /// base's version: if they exist, all of it does.
    inside: [String; 2],
    elements: [Vec<Element>; 2],
}

/// How the names of the sets in [`Base`] begin.
const INSIDE: [&str; 2] = ["inside4-", "inside6-"];

impl Base {
    /// The base for these `clusterCIDRs`.
    pub fn new(cluster: &[IpNet]) -> Self {
        let elements = rules::set::Family::ALL.map(|family| inside(family, cluster));
        let draft = Self {
            inside: INSIDE.map(str::to_owned),
            elements,
        };
        let digest = Sha256::digest(draft.add(&[]).to_string());
        let hash = crate::hex::hex(&digest[..8]);
        Self {
            inside: INSIDE.map(|prefix| format!("{prefix}{hash}")),
            ..draft
        }
    }

    /// The set whose existence says that this very base is in the kernel.
    pub fn marker(&self) -> &str {
        &self.inside[0]
    }

    /// The sets of [`INET`] that only this base has, each with its elements.
    pub fn sets(&self) -> impl Iterator<Item = (&str, &[Element])> {
        let elements = self.elements.iter().map(Vec::as_slice);
        self.inside.iter().map(String::as_str).zip(elements)
    }

    /// Those of a table's sets that belonged to another base.
    pub fn outdated<'a>(&self, sets: &'a [String]) -> Vec<&'a str> {
        sets.iter()
            .map(String::as_str)
            .filter(|set| INSIDE.iter().any(|prefix| set.starts_with(prefix)))
            .filter(|set| !self.inside.iter().any(|own| own == set))
            .collect()
    }

    /// Puts the base into the kernel where no pod is yet: all of it, in place of `outdated` sets.
    pub fn add(&self, outdated: &[&str]) -> Transaction {
        let mut ops = self.put();
        ops.append(self.hang());
        for set in outdated {
            ops.delete(&INET, SetName((*set).to_owned()));
        }
        ops
    }

    /// The tables and sets. What runs does not ask those of them that are new.
    pub fn put(&self) -> Transaction {
        let mut ops = Transaction::new();
        ops.add(&INET, Object::Table).add(&NETDEV, Object::Table);
        ops.add(&INET, named::tokens());
        for (n, family) in FAMILIES.into_iter().enumerate() {
            for set in shared_sets(family) {
                ops.add(&INET, set);
            }
            ops.add(&NETDEV, plain(bridged(family), family));
            let name = &self.inside[n];
            ops.add(&INET, interval(name, family));
            ops.add(&INET, Elements::new(name, self.elements[n].clone()));
        }
        ops
    }

    /// The chains, over those that may be there: they ask the sets that [`put`](Self::put) has made,
    /// from one packet to the next.
    pub fn hang(&self) -> Transaction {
        let mut ops = Transaction::new();
        let chains = self.chains();
        for chain in &chains {
            let (name, hook) = (chain.name.to_owned(), chain.hook.clone());
            ops.add(chain.table, Chain { name, hook });
            ops.flush(chain.table, Chain::new(chain.name));
        }
        for BaseChain {
            table, name, rules, ..
        } in chains
        {
            for rule in rules {
                ops.add(table, rule.in_chain(name));
            }
        }
        ops
    }

    /// The same under other names: what pods are led by while this one's sets are made anew.
    pub fn aside(&self) -> Self {
        Self {
            inside: self.inside.clone().map(|name| format!("{name}-aside")),
            ..self.clone()
        }
    }

    /// Every chain of the base.
    pub fn chains(&self) -> Vec<BaseChain> {
        let mut chains = judge::chains(&self.inside);
        chains.extend(link::chains());
        chains
    }
}

fn shared_sets(family: Family) -> impl Iterator<Item = Set> {
    let set = |name, data, counter| Set {
        data,
        counter,
        ..plain(name, family)
    };
    [
        set(pods(family), Some(DataType::Verdict), true),
        set(denied(family), None, true),
        Set {
            dynamic: true,
            timeout: Some(REMEMBERED),
            size: Some(REMEMBERED_ADDRESSES),
            ..plain(last_denied(family), family)
        },
        set(judged(family), None, false),
        Set {
            dynamic: true,
            timeout: Some(REVOKED),
            size: Some(REVOKED_FLOWS),
            ..Set::new(revoked(family), KeyType::Concat(own_tuple(family)))
        },
        set(snat(family), Some(DataType::Value(key_type(family))), false),
        set(snatted(family), None, false),
        set(egress(family), None, false),
        set(led(family), None, false),
    ]
    .into_iter()
}

fn plain(name: &str, family: Family) -> Set {
    Set::new(name, key_type(family))
}

fn interval(name: &str, family: Family) -> Set {
    Set {
        interval: true,
        ..plain(name, family)
    }
}

/// Where a pod keeps its source address: in the cluster, and where [`INSIDE`](rules::inside::INSIDE) says.
fn inside(family: rules::set::Family, cluster: &[IpNet]) -> Vec<Element> {
    Addresses::of(family, cluster.iter().chain(&rules::inside::INSIDE))
        .iter()
        .map(values)
        .map(|(low, high)| Element::range(low, high))
        .collect()
}
