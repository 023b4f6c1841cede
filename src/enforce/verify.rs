//! The comparison of the kernel with a plan: CHECK says what it finds, ADD and sync mend it.

use std::collections::HashSet;

use super::named;
use super::same_rules;
use crate::plan::attachment::BaseElement;
use crate::plan::{AttachmentPlan, Base, Compiled, INET, NETDEV, base};
use crate::store::StateDir;
use nft::{self, Data, Family, Nft, Value};

/// What several pods share and was found whole a moment ago: it is not compared for each of them.
#[derive(Debug, Default)]
pub struct Compared(HashSet<String>);

impl Compared {
    /// Whether a part was found whole: a base by its marker, a policy by its name.
    pub fn has(&self, part: &str) -> bool {
        self.0.contains(part)
    }
}

/// Compares the kernel with a plan: the first thing that is missing or differs, in words. What is `whole` already is
/// not compared again.
///
/// # Errors
/// The kernel does not tell.
pub fn verify(
    nft: &mut Nft,
    state: &StateDir,
    base: &Base,
    policy: &Compiled,
    plan: &AttachmentPlan,
    Compared(whole): &mut Compared,
) -> Result<Option<String>, nft::Error> {
    let missing = |what: String| Ok(Some(format!("{what} is missing or differs")));
    if !whole.contains(base.marker()) {
        if let Some(part) = damaged_base(nft, base)? {
            return missing(part);
        }
        whole.insert(base.marker().to_owned());
    }
    if !whole.contains(&policy.name) {
        if let Some(part) = damaged_policy(nft, policy)? {
            return missing(part);
        }
        if let Some(part) = named::damaged(nft, state, policy)? {
            return missing(part);
        }
        whole.insert(policy.name.clone());
    }
    if !same_rules(nft, &INET, &plan.pod_chain(), &plan.pod_rules())? {
        return missing(format!("the pod's chain {}", plan.pod_chain()));
    }
    let veth = nft.chain(&NETDEV, &plan.veth_chain())?;
    if !veth.is_some_and(|c| c.hangs_at(&plan.veth_hook()))
        || !same_rules(nft, &NETDEV, &plan.veth_chain(), &plan.veth_rules())?
    {
        return missing(format!(
            "the ingress chain {} of {}",
            plan.veth_chain(),
            plan.veth
        ));
    }
    if !same_rules(nft, &NETDEV, &plan.nd_chain(), &plan.nd_rules())? {
        return missing(format!("the chain {}", plan.nd_chain()));
    }
    if !same_rules(nft, &NETDEV, &plan.many_chain(), &plan.many_rules())? {
        return missing(format!("the chain {}", plan.many_chain()));
    }
    if let Some(bridge) = &plan.bridge
        && !whole.contains(&bridge.chain())
    {
        if !same_rules(nft, &NETDEV, &bridge.chain(), &bridge.rules())? {
            return missing(format!(
                "the chain {} of bridge {}",
                bridge.chain(),
                bridge.name
            ));
        }
        whole.insert(bridge.chain());
    }
    for BaseElement {
        table,
        set,
        element,
    } in plan.entries()
    {
        let Some(address) = element.address() else {
            continue; // no attachment has another one
        };
        let there = match element.data() {
            Some(Data::Verdict(verdict)) => {
                nft.vmap_target(table, set, address)?.as_deref() == verdict.chain()
            }
            Some(Data::Value(to)) => nft.mapped(table, set, address)?.map(Value::from) == Some(*to),
            None => nft.has_element(table, set, address)?,
        };
        if !there {
            return missing(format!("element {element} of {set}"));
        }
    }
    for address in &plan.egress {
        let set = base::egress(Family::of(address));
        if !nft.has_element(&INET, set, *address)? {
            return missing(format!("element {address} of {set}"));
        }
    }
    Ok(None)
}

/// Compares what every version does alike: whether the pod is judged at all. For a policy that
/// another version has compiled, whose chains this one does not know. The first thing that is missing, in
/// words.
///
/// # Errors
/// The kernel does not tell.
pub fn leads_somewhere(nft: &mut Nft, plan: &AttachmentPlan) -> Result<Option<String>, nft::Error> {
    for address in &plan.addresses {
        let target = super::owner_of(nft, *address)?;
        if target.is_none_or(|chain| chain != plan.pod_chain()) {
            return Ok(Some(format!("{address} does not lead to its chain")));
        }
    }
    let targets = nft.targets(&INET, &plan.pod_chain())?;
    if targets != [plan.policy.clone()] || nft.rule_count(&INET, &plan.policy)? == 0 {
        return Ok(Some("its policy is missing".to_owned()));
    }
    let veth = nft.chain(&NETDEV, &plan.veth_chain())?;
    if !veth.is_some_and(|chain| chain.hangs_at(&plan.veth_hook())) {
        return Ok(Some(format!(
            "the ingress chain of {} is missing",
            plan.veth
        )));
    }
    Ok(None)
}

/// The first part of the base that is missing or differs.
pub(super) fn damaged_base(nft: &mut Nft, base: &Base) -> Result<Option<String>, nft::Error> {
    // Everything is there, and no packet meets it.
    for table in [&INET, &NETDEV] {
        if nft.is_dormant(table)? {
            return Ok(Some(format!("that table {table} is awake (it is dormant)")));
        }
    }
    for (set, elements) in base.sets() {
        if !nft.elements_are(&INET, set, elements)? {
            return Ok(Some(format!("set {set}")));
        }
    }
    for set in [Family::V4, Family::V6].map(base::bridged) {
        if !nft.has_set(&NETDEV, set)? {
            return Ok(Some(format!("set {set}")));
        }
    }
    for chain in base.chains() {
        let (table, name) = (chain.table, chain.name);
        let hangs = match (nft.chain(table, name)?, &chain.hook) {
            (Some(held), Some(hook)) => held.hangs_at(hook),
            (held, None) => held.is_some(),
            (None, Some(_)) => false,
        };
        if !hangs || !same_rules(nft, table, name, &chain.rules)? {
            return Ok(Some(format!("chain {name}")));
        }
    }
    Ok(None)
}

/// The first part of a policy that is missing or differs.
pub(super) fn damaged_policy(
    nft: &mut Nft,
    policy: &Compiled,
) -> Result<Option<String>, nft::Error> {
    let multicast = policy.multicast.as_ref();
    let multicast = multicast.map(|part| (&NETDEV, &part.chains, &part.sets));
    for (table, chains, sets) in [Some((&INET, &policy.chains, &policy.sets)), multicast]
        .into_iter()
        .flatten()
    {
        for (chain, rules) in chains {
            if !same_rules(nft, table, chain, rules)? {
                return Ok(Some(format!("the policy's chain {chain}")));
            }
        }
        for (set, elements) in sets {
            if !nft.elements_are(table, &set.name, elements)? {
                return Ok(Some(format!("the policy's set {}", set.name)));
            }
        }
    }
    Ok(None)
}
