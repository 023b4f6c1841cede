//! An address, and the IPv4 addresses that it may stand for behind NAT64.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::facts::Facts;
use crate::nat64;

/// An address, and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) address: Option<IpAddr>,
    /// If it is behind a NAT64 prefix: see [`nat64::behind`].
    pub(super) behind: Option<RangeInclusive<u32>>,
}

impl Destination {
    pub(super) fn of(address: IpAddr, facts: &Facts) -> Self {
        let behind = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => nat64::behind(&facts.nat64, v6),
        };
        Self {
            address: Some(address),
            behind,
        }
    }

    /// Only what it stands for, if that is another address: what is behind NAT64 is private, or of the
    /// Internet, as its IPv4 address is.
    pub(super) fn classed(self) -> Self {
        Self {
            address: self.address.filter(|_| self.behind.is_none()),
            behind: self.behind,
        }
    }

    /// Whether one of the networks has the address, or all that it may stand for.
    pub(super) fn is_in<'n>(&self, nets: impl IntoIterator<Item = &'n IpNet>) -> bool {
        let all = |net| ends(net).is_some_and(|(first, last)| self.stands_in(first, last));
        nets.into_iter().any(|net| self.has(net) || all(net))
    }

    /// Whether one of the networks has the address, or some of what it may stand for.
    pub(super) fn touches<'n>(&self, nets: impl IntoIterator<Item = &'n IpNet>) -> bool {
        let some = |net| {
            let (Some(behind), Some((first, last))) = (&self.behind, ends(net)) else {
                return false;
            };
            first <= *behind.end() && *behind.start() <= last
        };
        nets.into_iter().any(|net| self.has(net) || some(net))
    }

    fn has(&self, net: &IpNet) -> bool {
        self.address.is_some_and(|address| net.contains(&address))
    }

    pub(super) fn stands_in(&self, first: u32, last: u32) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|behind| first <= *behind.start() && *behind.end() <= last)
    }
}

/// Both ends of an IPv4 network.
fn ends(net: &IpNet) -> Option<(u32, u32)> {
    match net {
        IpNet::V4(net) => Some((net.network().into(), net.broadcast().into())),
        IpNet::V6(_) => None,
    }
}
