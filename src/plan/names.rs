//! How our chains and sets are called, and whose a name is that was read from the kernel. What the base
//! has, [`super::base`] names.

use nft::Family;

/// How the names of pods' chains begin, and so on.
const POD: &str = "pod-";
const VETH: &str = "if-";
const ND: &str = "nd-";
const POLICY: &str = "pol-";
/// No hex digit: what stands before a policy's hash if it lets multicast out.
const MULTICAST: &str = "m";
/// Another one, behind that: the policy has rules with domain names.
const NAMED: &str = "n";
const LEARN: &str = "learn-";
const MANY: &str = "mc-";
const BRIDGE: &str = "bridge-";
const PORT: &str = "port-";

/// The chain that a pod's address leads to.
pub fn pod_chain(id: &str) -> String {
    format!("{POD}{id}")
}

/// The ingress chain of a veth.
pub fn veth_chain(id: &str) -> String {
    format!("{VETH}{id}")
}

/// The neighbour discovery of a veth.
pub fn nd_chain(id: &str) -> String {
    format!("{ND}{id}")
}

/// What a veth sends to many.
pub fn many_chain(id: &str) -> String {
    format!("{MANY}{id}")
}

/// The first chain of a policy, whether it lets any multicast out, and whether it has domain names.
pub(super) fn policy(hash: &str, multicast: bool, named: bool) -> String {
    let multicast = if multicast { MULTICAST } else { "" };
    let named = if named { NAMED } else { "" };
    format!("{POLICY}{multicast}{named}{hash}")
}

/// Whether the policy of this name lets any multicast out: then a chain of its name is in the other
/// table, too.
pub fn lets_multicast_out(policy: &str) -> bool {
    let hash = policy.strip_prefix(POLICY);
    hash.is_some_and(|hash| hash.starts_with(MULTICAST))
}

/// Whether the policy of this name has rules with domain names: then its pods' questions to clusterDNS are led to the
/// node's own resolver.
pub fn has_names(policy: &str) -> bool {
    let hash = policy.strip_prefix(POLICY);
    let hash = hash.map(|hash| hash.strip_prefix(MULTICAST).unwrap_or(hash));
    hash.is_some_and(|hash| hash.starts_with(NAMED))
}

/// `4` or `6`.
pub const fn digit(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

/// What the names of a group stand for now.
pub fn now(family: Family, group: &str) -> String {
    format!("dn{}-{group}", digit(family))
}

/// Where connections are open that the names of a group have let through.
pub fn open(family: Family, group: &str) -> String {
    format!("dl{}-{group}", digit(family))
}

/// The group to which a set of addresses belongs.
pub fn group_of(set: &str) -> Option<&str> {
    let prefixes = ["dn4-", "dn6-", "dl4-", "dl6-"];
    prefixes.iter().find_map(|prefix| set.strip_prefix(prefix))
}

/// The chain that learns an address of a family for this long.
pub fn learning(group: &str, family: Family, class: &str) -> String {
    format!("{LEARN}{group}-{}-{class}", digit(family))
}

/// Another chain, or a set, of a policy.
pub(super) fn policy_part(policy: &str, part: &str) -> String {
    format!("{policy}-{part}")
}

/// The chain of a bridge.
pub(super) fn bridge(hash: &str) -> String {
    format!("{BRIDGE}{hash}")
}

/// The chain of a port of the bridge with this chain.
pub(super) fn port(bridge: &str, port_hash: &str) -> String {
    let hash = bridge.strip_prefix(BRIDGE).unwrap_or(bridge);
    format!("{PORT}{hash}-{port_hash}")
}

/// What a chain of ours is for, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// What a pod's address leads to; the attachment's id.
    Pod(&'a str),
    /// A veth's ingress; the attachment's id.
    Veth(&'a str),
    /// A veth's neighbour discovery; the attachment's id.
    Nd(&'a str),
    /// What a veth sends to many; the attachment's id.
    Many(&'a str),
    /// A policy, or a part of one.
    Policy,
    /// A bridge.
    Bridge,
    /// A port of a bridge.
    Port,
    /// It fills a set of the names of some rule; the group's id.
    Learn(&'a str),
}

impl<'a> Purpose<'a> {
    /// None: it is one of the base's, or none of ours.
    pub fn of(name: &'a str) -> Option<Self> {
        let id = |prefix| name.strip_prefix(prefix);
        let is = |prefix, kind| name.starts_with(prefix).then_some(kind);
        (id(POD).map(Purpose::Pod))
            .or_else(|| id(VETH).map(Purpose::Veth))
            .or_else(|| id(ND).map(Purpose::Nd))
            .or_else(|| id(MANY).map(Purpose::Many))
            .or_else(|| is(POLICY, Purpose::Policy))
            .or_else(|| is(BRIDGE, Purpose::Bridge))
            .or_else(|| is(PORT, Purpose::Port))
            .or_else(|| {
                let (group, _) = id(LEARN)?.split_once('-')?;
                Some(Purpose::Learn(group))
            })
    }

    /// The id of the attachment whose chain it is.
    pub const fn attachment(self) -> Option<&'a str> {
        match self {
            Purpose::Pod(id) | Purpose::Veth(id) | Purpose::Nd(id) | Purpose::Many(id) => Some(id),
            Purpose::Policy | Purpose::Bridge | Purpose::Port | Purpose::Learn(_) => None,
        }
    }
}

/// Whether a chain or set is part of some policy.
pub fn is_policys(name: &str) -> bool {
    Purpose::of(name) == Some(Purpose::Policy)
}

/// Whether a chain or set is this policy's: its first chain, or a part.
pub fn is_part_of(policy: &str, name: &str) -> bool {
    let rest = name.strip_prefix(policy);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether a chain is that of a port of the bridge with this chain.
pub fn is_port_of(bridge: &str, name: &str) -> bool {
    name.starts_with(&port(bridge, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    #[test]
    fn every_name_is_recognised_as_what_it_is() {
        for (name, chain) in [
            (pod_chain(ID), Purpose::Pod(ID)),
            (veth_chain(ID), Purpose::Veth(ID)),
            (nd_chain(ID), Purpose::Nd(ID)),
            (many_chain(ID), Purpose::Many(ID)),
            (policy(ID, false, false), Purpose::Policy),
            (policy(ID, false, true), Purpose::Policy),
            (learning(ID, Family::V6, "90s"), Purpose::Learn(ID)),
            (policy(ID, true, false), Purpose::Policy),
            (
                policy_part(&policy(ID, false, false), "t1"),
                Purpose::Policy,
            ),
            (bridge("01234567"), Purpose::Bridge),
            (port(&bridge("01234567"), "89abcdef"), Purpose::Port),
        ] {
            assert_eq!(Purpose::of(&name), Some(chain), "{name}");
        }
        for family in [Family::V4, Family::V6] {
            assert_eq!(group_of(&now(family, ID)), Some(ID));
            assert_eq!(group_of(&open(family, ID)), Some(ID));
        }
        for name in [
            "", "pod", "pod4", "policy", "enforce", "do-deny", "bridged4",
        ] {
            assert_eq!(Purpose::of(name), None, "{name}");
        }
    }

    #[test]
    fn names_that_begin_alike_are_told_apart() {
        assert!(
            lets_multicast_out(&policy("00", true, false))
                && !lets_multicast_out(&policy("00", false, false))
        );
        for (multicast, named) in [(false, false), (false, true), (true, false), (true, true)] {
            let name = policy("00", multicast, named);
            assert_eq!(
                (lets_multicast_out(&name), has_names(&name)),
                (multicast, named)
            );
        }
        let own = policy("00", false, false);
        assert!(is_part_of(&own, &own) && is_part_of(&own, &policy_part(&own, "s1")));
        assert!(!is_part_of(&own, &policy("001", false, false)) && !is_part_of(&own, "00"));
        let own = bridge("00");
        assert!(is_port_of(&own, &port(&own, "1")));
        assert!(!is_port_of(&own, &port(&bridge("001"), "1")) && !is_port_of(&own, &own));
    }
}
