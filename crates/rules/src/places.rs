//! Where addresses are: what targets come to as sets, with what of IPv6 is behind NAT64.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::class::{LINK_LOCAL, METADATA, NOT_INTERNET, PRIVATE, WIRESERVER};
use super::facts::Facts;
use super::set::{Addresses, Family};

/// Addresses of both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of IPv4.
    pub v4: Addresses,
    /// Of IPv6.
    pub v6: Addresses,
}

impl Places {
    /// Every address.
    pub fn everywhere() -> Places {
        Places {
            v4: Addresses::all(Family::V4),
            v6: Addresses::all(Family::V6),
        }
    }

    /// These networks, and what of them is behind NAT64.
    pub fn of<'a, N>(prefixes: &[Ipv6Net], nets: N) -> Places
    where
        N: IntoIterator<Item = &'a IpNet> + Clone,
    {
        let v6 = Addresses::of(Family::V6, nets.clone());
        if prefixes.is_empty() {
            let v4 = Addresses::of(Family::V4, nets);
            return Places { v4, v6 };
        }
        // Each by itself: what an address behind NAT64 may stand for must all be in one of them.
        let each = nets.into_iter().map(|net| Addresses::of(Family::V4, [net]));
        let each: Vec<Addresses> = each.collect();
        let behind: Vec<Addresses> = each.iter().map(|one| one.behind(prefixes)).collect();
        Places {
            v4: Addresses::union_of(Family::V4, &each),
            v6: Addresses::union_of(Family::V6, behind.iter().chain([&v6])),
        }
    }

    /// A range, both ends included, and what of it is behind NAT64.
    pub fn between(prefixes: &[Ipv6Net], first: IpAddr, last: IpAddr) -> Places {
        let of = |family| Addresses::between(family, first, last);
        with_nat64(prefixes, of(Family::V4), of(Family::V6))
    }

    /// What `private` stands for, but that addresses of this node are not meant.
    pub fn private(facts: &Facts) -> Places {
        elsewhere(facts, |family| Addresses::of(family, &PRIVATE))
    }

    /// What `internet` stands for, but that addresses of this node are not meant, and the WireServer's is as far
    /// as it is no metadata.
    pub fn internet(facts: &Facts) -> Places {
        elsewhere(facts, |family| {
            Addresses::all(family)
                .minus(&Addresses::of(family, &NOT_INTERNET))
                .minus(&Addresses::of(family, &PRIVATE))
                .minus(&Addresses::of(family, [&WIRESERVER.address]))
        })
    }

    /// What of `internet` [`WIRESERVER`] is.
    pub fn wireserver(facts: &Facts) -> Places {
        elsewhere(facts, |family| Addresses::of(family, [&WIRESERVER.address]))
    }

    /// What a domain name may stand for, but that addresses of this node are not meant: whoever answers for a name
    /// opens nothing of the cluster, its nodes, or a metadata service, and nothing that is no address of one host.
    pub fn nameable(facts: &Facts) -> Places {
        elsewhere(facts, |family| {
            Addresses::all(family)
                .minus(&Addresses::of(family, &NOT_INTERNET))
                .minus(&Addresses::of(family, &LINK_LOCAL))
                .minus(&Addresses::of(family, [&WIRESERVER.address]))
        })
    }

    /// Those of one family.
    pub const fn of_family(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

fn with_nat64(prefixes: &[Ipv6Net], v4: Addresses, v6: Addresses) -> Places {
    let behind = v4.behind(prefixes);
    let v6 = match behind.is_none() {
        true => v6,
        false => Addresses::union_of(Family::V6, [&v6, &behind]),
    };
    Places { v4, v6 }
}

/// A class of addresses less the cluster, the nodes, and metadata services that have an address of their
/// own. What is behind NAT64 is of the class that its IPv4 address is of.
fn elsewhere(facts: &Facts, class: impl Fn(Family) -> Addresses) -> Places {
    let rest = |family, all: Addresses| {
        let metadata = METADATA.iter().map(|service| &service.address);
        all.minus(&Addresses::of(family, &facts.cluster))
            .minus(&Addresses::of(family, &facts.nodes))
            .minus(&Addresses::of(family, metadata))
    };
    let v4 = rest(Family::V4, class(Family::V4));
    let prefixes: Vec<IpNet> = facts.nat64.iter().copied().map(IpNet::V6).collect();
    let v6 = class(Family::V6).minus(&Addresses::of(Family::V6, &prefixes));
    let Places { v4, v6 } = with_nat64(&facts.nat64, v4, v6);
    Places {
        v4,
        v6: rest(Family::V6, v6),
    }
}
