//! CHECK's comparison of the kernel with a plan.

use crate::nft::{self, Element, Family, Nft, Table};
use crate::plan::attachment::Entry;
use crate::plan::{AttachmentPlan, Base, Compiled, base};

/// Compares the kernel with a plan.
///
/// # Errors
/// The first thing that is missing or differs, in words; or the kernel does not tell.
pub fn verify(
    nft: &mut Nft,
    base: &Base,
    policy: &Compiled,
    plan: &AttachmentPlan,
) -> Result<Result<(), String>, nft::Error> {
    let missing = |what: String| Ok(Err(format!("{what} is missing or differs")));
    if let Some(name) = damaged_base(nft, base)? {
        return missing(format!("chain {name}"));
    }
    for (set, elements) in &policy.sets {
        if !nft.elements_are(Table::Inet, &set.name, elements)? {
            return missing(format!("the policy's set {}", set.name));
        }
    }
    if let Some(chain) = damaged_policy(nft, policy)? {
        return missing(format!("the policy's chain {chain}"));
    }
    if !same_rules(nft, Table::Inet, &plan.pod_chain(), &plan.pod_rules())? {
        return missing(format!("the pod's chain {}", plan.pod_chain()));
    }
    let veth = nft.chain(Table::Netdev, &plan.veth_chain())?;
    if !veth.is_some_and(|c| c.hangs_at(&plan.veth_hook()))
        || !same_rules(nft, Table::Netdev, &plan.veth_chain(), &plan.veth_rules())?
    {
        return missing(format!(
            "the ingress chain {} of {}",
            plan.veth_chain(),
            plan.veth
        ));
    }
    if !same_rules(nft, Table::Netdev, &plan.nd_chain(), &plan.nd_rules())? {
        return missing(format!("the chain {}", plan.nd_chain()));
    }
    if let Some(bridge) = &plan.bridge
        && !same_rules(nft, Table::Netdev, &bridge.chain(), &bridge.rules())?
    {
        return missing(format!(
            "the chain {} of bridge {}",
            bridge.chain(),
            bridge.name
        ));
    }
    for Entry {
        table,
        set,
        element,
    } in plan.entries()
    {
        let there = match &element {
            Element::Goto(a, chain) => nft.vmap_target(set, *a)?.as_ref() == Some(chain),
            Element::Map(a, to) => nft.mapped(set, *a)?.as_ref() == Some(to),
            Element::Address(a) => nft.has_element(table, set, *a)?,
            Element::Range(..) | Element::Cell(_) => true, // no attachment has one
        };
        if !there {
            return missing(format!("element {element} of {set}"));
        }
    }
    for address in &plan.egress {
        let set = base::egress(Family::of(address));
        if !nft.has_element(Table::Inet, set, *address)? {
            return missing(format!("element {address} of {set}"));
        }
    }
    Ok(Ok(()))
}

/// The first chain of the base that is missing or differs.
pub(super) fn damaged_base(nft: &mut Nft, base: &Base) -> Result<Option<&'static str>, nft::Error> {
    for (name, hook, rules) in base.chains() {
        let hangs = match (nft.chain(Table::Inet, name)?, &hook) {
            (Some(held), Some(hook)) => held.hangs_at(hook),
            (held, None) => held.is_some(),
            (None, Some(_)) => false,
        };
        if !hangs || !same_rules(nft, Table::Inet, name, &rules)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The first chain of a policy that is missing or differs.
pub(super) fn damaged_policy<'a>(
    nft: &mut Nft,
    policy: &'a Compiled,
) -> Result<Option<&'a str>, nft::Error> {
    for (chain, rules) in &policy.chains {
        if !same_rules(nft, Table::Inet, chain, rules)? {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

fn same_rules(
    nft: &mut Nft,
    table: Table,
    chain: &str,
    rules: &[nft::Rule],
) -> Result<bool, nft::Error> {
    if nft.chain(table, chain)?.is_none() {
        return Ok(false);
    }
    nft.rules_are(table, chain, rules)
}
