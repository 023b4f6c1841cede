//! Chains, and where base chains see packets.

use std::fmt;

use super::table::TableFamily;

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Unique in its table.
    pub name: String,
    /// Where it sees packets; `None` if it sees what other chains send there. Only of use to
    /// [`add`](super::Transaction::add) it.
    pub hook: Option<Hook>,
}

impl Chain {
    /// A chain to which others lead; or any chain, if it is only to be named.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { name, hook: None }
    }

    /// A base chain: it sees packets by itself.
    pub fn base(name: impl Into<String>, hook: Hook) -> Self {
        let (name, hook) = (name.into(), Some(hook));
        Self { name, hook }
    }
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hook {
    /// `type`
    pub kind: ChainKind,
    /// `hook`
    pub point: HookPoint,
    /// Lower is asked first. Conntrack is at -200, destination NAT at -100, filters by custom at 0,
    /// source NAT at 100 (`enum nf_ip_hook_priorities`).
    pub priority: i32,
    /// What happens to a packet that no rule decided: accept, else drop.
    pub accept: bool,
}

/// `type` of a base chain (`struct nft_chain_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// Decides about packets.
    Filter,
    /// Sees a flow's first packet, and translates the flow.
    Nat,
    /// At the output hook: a packet that a rule changes is routed anew.
    Route,
}

impl ChainKind {
    /// nft's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
            ChainKind::Route => "route",
        }
    }
}

/// Where a base chain sees packets (`enum nf_inet_hooks`, `nf_arp_hooks`, `nf_dev_hooks`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HookPoint {
    /// What comes in, before it is routed.
    Prerouting,
    /// What is for this host.
    Input,
    /// What goes through this host.
    Forward,
    /// What this host sends.
    Output,
    /// What goes out, after it was routed.
    Postrouting,
    /// What comes in by this device, before all else.
    Ingress(String),
    /// What goes out by this device, after all else (Linux 5.17).
    Egress(String),
}

impl HookPoint {
    pub(super) const fn number(&self, family: TableFamily) -> u32 {
        match (family, self) {
            (TableFamily::Arp, HookPoint::Input) => 0,
            (TableFamily::Arp, HookPoint::Output) => 1,
            (TableFamily::Inet, HookPoint::Ingress(_)) => 5,
            (_, HookPoint::Prerouting | HookPoint::Ingress(_)) => 0,
            (_, HookPoint::Input | HookPoint::Egress(_)) => 1,
            (_, HookPoint::Forward) => 2,
            (_, HookPoint::Output) => 3,
            (_, HookPoint::Postrouting) => 4,
        }
    }

    /// The device of a chain that sees just one's frames.
    pub fn device(&self) -> Option<&str> {
        match self {
            HookPoint::Ingress(device) | HookPoint::Egress(device) => Some(device),
            _ => None,
        }
    }

    const fn as_str(&self) -> &'static str {
        match self {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
            HookPoint::Ingress(_) => "ingress",
            HookPoint::Egress(_) => "egress",
        }
    }

    /// Whether chains of this family and kind can be there.
    pub(super) const fn suits(&self, family: TableFamily, kind: ChainKind) -> bool {
        use HookPoint::{Egress, Forward, Ingress, Input, Output};
        let is_ip = matches!(
            family,
            TableFamily::Ip | TableFamily::Ip6 | TableFamily::Inet
        );
        match (kind, self) {
            (ChainKind::Route, point) => is_ip && matches!(point, Output),
            (ChainKind::Nat, point) => is_ip && !matches!(point, Forward | Ingress(_) | Egress(_)),
            (ChainKind::Filter, Ingress(_)) => {
                matches!(family, TableFamily::Netdev | TableFamily::Inet)
            }
            (ChainKind::Filter, Egress(_)) => matches!(family, TableFamily::Netdev),
            (ChainKind::Filter, point) => match family {
                TableFamily::Netdev => false,
                TableFamily::Arp => matches!(point, Input | Output),
                _ => true,
            },
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, point) = (self.kind.as_str(), self.point.as_str());
        write!(f, "type {kind} hook {point}")?;
        if let Some(device) = self.point.device() {
            write!(f, " device \"{device}\"")?;
        }
        let policy = if self.accept { "accept" } else { "drop" };
        write!(f, " priority {}; policy {policy};", self.priority)
    }
}
