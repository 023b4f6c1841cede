//! What a running pod's packets meet is never changed in the transaction that makes it.
//!
//! The kernel turns to a transaction's rules first and fills its new sets of intervals and of several
//! fields after that (`nf_tables_commit`); elements of a map that goes vanish at once, also for packets
//! that are still on their way through its chain. So each change is made in steps: *put* what is new,
//! to which nobody leads; *switch* to it, a few rules in one transaction; *settle*, until no packet can
//! still be on the old way; *take away* what nobody leads to any more. A process that dies in between
//! leaves each pod with one of both, whole.

use std::collections::BTreeSet;

use crate::plan::names::{Purpose, has_names, lets_multicast_out, many_chain, pod_chain};
use crate::plan::veth::many_rules;
use crate::plan::{Base, Compiled, INET, NETDEV, base};
use nft::{self, Chain, Element, Elements, Family, Nft, Rule, SetName, Transaction, Verdict};

use super::again;
use super::ledger::Ledger;
use super::measured::TransactionKind;
use super::named;
use super::remove::{delete_parts, delete_unused_policy};
use super::verify::{damaged_base, damaged_policy};

/// An attachment and the policy that it shall have from now on.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// The attachment's id.
    pub id: &'a str,
    /// The policy.
    pub policy: &'a Compiled,
}

/// Makes the kernel hold this policy whole, for those who are led to it later. To be called under
/// [`StateDir::lock`](crate::store::StateDir::lock).
///
/// # Errors
/// The kernel refuses: nobody is led to what is there of it.
pub fn put(nft: &mut Nft, ledger: &mut Ledger<'_>, policy: &Compiled) -> Result<(), nft::Error> {
    anew(nft, ledger, |nft, ledger| {
        if ledger.has(&policy.name) {
            return Ok(());
        }
        put_policy(nft, ledger, policy)
    })
}

/// Makes the kernel hold this base whole, instead of the one that it has. To be called under
/// [`StateDir::lock`](crate::store::StateDir::lock).
///
/// # Errors
/// The kernel refuses: the base before is in force, or this one.
pub fn rebase(nft: &mut Nft, ledger: &mut Ledger<'_>, base: &Base) -> Result<(), nft::Error> {
    anew(nft, ledger, |nft, ledger| {
        if ledger.has(base.marker()) {
            return Ok(());
        }
        put_base(nft, ledger, base)
    })
}

/// [`switch`], made anew while others change the tables.
///
/// # Errors
/// As [`switch`].
pub fn switch_all(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    moves: &[Move<'_>],
) -> Result<(), nft::Error> {
    anew(nft, ledger, |nft, ledger| switch(nft, ledger, moves))
}

/// Does something anew as long as somebody else changes the tables at the same moment, and knows nothing of them then.
fn anew(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    mut work: impl FnMut(&mut Nft, &mut Ledger<'_>) -> Result<(), nft::Error>,
) -> Result<(), nft::Error> {
    let mut is_first = true;
    again(nft::Error::is_conflict, || {
        if !std::mem::take(&mut is_first) {
            ledger.forget(nft)?;
        }
        work(nft, ledger)
    })
}

/// Gives running attachments other policies: all of them in one transaction, after all policies are
/// there. An attachment without a chain in the kernel is left out. To be called under
/// [`StateDir::lock`](crate::store::StateDir::lock).
///
/// # Errors
/// The kernel refuses, or somebody else changes the tables: each attachment has its old policy or its
/// new one, and the call may be repeated.
pub fn switch(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    moves: &[Move<'_>],
) -> Result<(), nft::Error> {
    let mut seen = BTreeSet::new();
    for Move { policy, .. } in moves {
        if seen.insert(&policy.name) && !ledger.has(&policy.name) {
            put_policy(nft, ledger, policy)?;
        }
    }
    let mut ops = Transaction::new();
    let mut left = BTreeSet::new();
    let (mut gain, mut lose) = (BTreeSet::new(), BTreeSet::new());
    for Move { id, policy } in moves {
        let chain = pod_chain(id);
        if nft.chain(&INET, &chain)?.is_none() {
            continue;
        }
        let before = nft.goto_of(&INET, &chain)?;
        if before.as_deref() != Some(&*policy.name) {
            lead(nft, &chain, &policy.name, &mut ops)?;
            match (
                before.as_deref().is_some_and(has_names),
                has_names(&policy.name),
            ) {
                (false, true) => gain.insert(chain),
                (true, false) => lose.insert(chain),
                _ => false,
            };
            left.extend(before);
        }
    }
    let policies: Vec<&str> = seen.iter().map(|name| name.as_str()).collect();
    // A policy without domain names does not know what to make of a question that was led to the node's resolver.
    let unlead = questions(nft, &lose, false)?;
    ledger.commit(nft, (TransactionKind::Switch, &unlead), &[], &[])?;
    ledger.commit(nft, (TransactionKind::Switch, &ops), &policies, &[])?;
    let lead = questions(nft, &gain, true)?;
    ledger.commit(nft, (TransactionKind::Switch, &lead), &[], &[])?;
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    take_away(nft, ledger, &left)
}

/// The pod's chain leads to this policy, and nowhere else; and so does what its veth sends to many.
fn lead(nft: &mut Nft, chain: &str, policy: &str, ops: &mut Transaction) -> Result<(), nft::Error> {
    let rule = Rule::new().then(Verdict::goto(policy)).in_chain(chain);
    // The last rule leads to a policy; one before it asks where the packet came in, and stays.
    let leads = nft.goto_of(&INET, chain)?.is_some();
    match nft.rules(&INET, chain)?.last().filter(|_| leads) {
        Some(last) => ops.replace(&INET, rule.at(last.handle)),
        None => ops.add(&INET, rule),
    };
    let Some(many) = Purpose::of(chain)
        .and_then(Purpose::attachment)
        .map(many_chain)
    else {
        return Ok(());
    };
    if nft.chain(&NETDEV, &many)?.is_some() {
        lead_many(&many, policy, ops);
    }
    Ok(())
}

/// Whether the questions of the pods with these chains are led to the node's resolver, from now on.
fn questions(
    nft: &mut Nft,
    chains: &BTreeSet<String>,
    led: bool,
) -> Result<Transaction, nft::Error> {
    let mut ops = Transaction::new();
    if chains.is_empty() {
        return Ok(ops);
    }
    for family in [Family::V4, Family::V6] {
        for (address, chain) in nft.vmap_elements(&INET, base::pods(family))? {
            let set = base::led(family);
            if !chains.contains(&chain) || nft.has_element(&INET, set, address)? == led {
                continue;
            }
            let element = Elements::address(set, address);
            match led {
                true => ops.add(&INET, element),
                false => ops.delete(&INET, element),
            };
        }
    }
    Ok(ops)
}

/// What a veth sends to many is led by this policy, or is dropped if the policy says nothing of it.
fn lead_many(many: &str, policy: &str, ops: &mut Transaction) {
    ops.flush(&NETDEV, Chain::new(many));
    for rule in many_rules(policy) {
        ops.add(&NETDEV, rule.in_chain(many));
    }
}

/// Removes those policies to which nobody leads, once no packet can be in them.
pub(super) fn take_away(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    policies: &[&str],
) -> Result<(), nft::Error> {
    if policies.is_empty() {
        return Ok(());
    }
    nft.settle();
    let mut ops = Transaction::new();
    let mut gone = Vec::new();
    for policy in policies {
        let steps = ops.steps().len();
        delete_unused_policy(nft, policy, 0, &mut ops)?;
        if ops.steps().len() > steps {
            gone.push(*policy);
        }
    }
    ledger.commit(nft, (TransactionKind::TakeAway, &ops), &[], &gone)
}

/// Makes the kernel hold this policy whole, whoever is led by it by now.
pub(super) fn put_policy(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    policy: &Compiled,
) -> Result<(), nft::Error> {
    named::put(nft, ledger, policy)?;
    if damaged_policy(nft, policy)?.is_none() {
        return Ok(());
    }
    let users = users_of(nft, &policy.name)?;
    if users.is_empty() {
        return make_policy(nft, ledger, policy);
    }
    // Meanwhile they are led by another one that says the same.
    let aside = policy.aside();
    if damaged_policy(nft, &aside)?.is_some() {
        if !users_of(nft, &aside.name)?.is_empty() {
            tracing::warn!("{} is damaged, too", aside.name);
        }
        make_policy(nft, ledger, &aside)?;
    }
    lead_all(nft, ledger, &users, &aside.name)?;
    make_policy(nft, ledger, policy)?;
    let users = users_of(nft, &aside.name)?;
    lead_all(nft, ledger, &users, &policy.name)?;
    take_away(nft, ledger, &[&aside.name])
}

/// All chains in one transaction; then no packet is on its old way any more.
fn lead_all(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    chains: &[String],
    policy: &str,
) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    for chain in chains {
        lead(nft, chain, policy, &mut ops)?;
    }
    ledger.commit(nft, (TransactionKind::Switch, &ops), &[], &[])?;
    nft.settle();
    Ok(())
}

/// Whether the kernel has anything under the policy's name, in whichever table.
pub(super) fn has_some_of(nft: &mut Nft, policy: &str) -> Result<bool, nft::Error> {
    let is_in_netdev = lets_multicast_out(policy) && nft.chain(&NETDEV, policy)?.is_some();
    Ok(is_in_netdev || nft.chain(&INET, policy)?.is_some())
}

/// In place of what is left of it, to which nobody leads.
fn make_policy(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    policy: &Compiled,
) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    unhook(nft, &policy.name, &mut ops)?;
    delete_parts(nft, &policy.name, &mut ops)?;
    ops.append(policy.add());
    ledger.commit(nft, (TransactionKind::Put, &ops), &[&policy.name], &[])
}

/// Somebody may have flushed the chain of a pod and left what its veth sends to many, which keeps the
/// policy from going: that is dropped until the pod's chains are repaired.
fn unhook(nft: &mut Nft, policy: &str, ops: &mut Transaction) -> Result<(), nft::Error> {
    if !lets_multicast_out(policy) {
        return Ok(());
    }
    for chain in nft.chains(&NETDEV)? {
        let is_many = matches!(Purpose::of(&chain.name), Some(Purpose::Many(_)));
        if is_many && nft.references(&NETDEV, &chain.name, policy)? > 0 {
            lead_many(&chain.name, "", ops);
        }
    }
    Ok(())
}

/// The pods' chains that lead to this policy.
pub(super) fn users_of(nft: &mut Nft, policy: &str) -> Result<Vec<String>, nft::Error> {
    let Some(chain) = nft.chain(&INET, policy)? else {
        return Ok(Vec::new());
    };
    if chain.uses == nft.rule_count(&INET, policy)? {
        return Ok(Vec::new());
    }
    let mut users = Vec::new();
    for chain in nft.chains(&INET)? {
        let is_pod = matches!(Purpose::of(&chain.name), Some(Purpose::Pod(_)));
        if is_pod && nft.references(&INET, &chain.name, policy)? > 0 {
            users.push(chain.name);
        }
    }
    Ok(users)
}

/// Makes the kernel hold the base whole, whatever pods are on the node.
pub(super) fn put_base(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    base: &Base,
) -> Result<(), nft::Error> {
    if damaged_base(nft, base)?.is_none() {
        return Ok(());
    }
    let mut damaged = Vec::new();
    for (set, elements) in base.sets() {
        if nft.has_set(&INET, set)? && !nft.elements_are(&INET, set, elements)? {
            damaged.push(set);
        }
    }
    if !damaged.is_empty() {
        // Chains that run ask these sets: meanwhile they ask others that hold the same.
        let aside = base.aside();
        let mut remains = Transaction::new();
        for (set, elements) in aside.sets() {
            if nft.has_set(&INET, set)? && !nft.elements_are(&INET, set, elements)? {
                remains.delete(&INET, SetName(set.to_owned()));
            }
        }
        remains.append(aside.put());
        ledger.commit(nft, (TransactionKind::Put, &remains), &[], &[])?;
        hang(nft, ledger, &aside)?;
    }
    let mut ops = Transaction::new();
    for set in damaged {
        ops.delete(&INET, SetName(set.to_owned()));
    }
    ops.append(base.put());
    judge_all(nft, &mut ops)?;
    ledger.commit(nft, (TransactionKind::Put, &ops), &[], &[])?;
    hang(nft, ledger, base)?;
    let mut ops = Transaction::new();
    let sets = nft.sets(&INET)?;
    for outdated in base.outdated(&sets) {
        ops.delete(&INET, SetName(outdated.to_owned()));
    }
    for chain in base::FORMER {
        if nft.chain(&INET, chain)?.is_some() {
            ops.delete(&INET, Chain::new(chain));
        }
    }
    ledger.commit(
        nft,
        (TransactionKind::TakeAway, &ops),
        &[base.marker()],
        &[],
    )
}

/// Every pod that is led to a chain is known as judged: those of an older layout, too, whose own ADD did not say so.
fn judge_all(nft: &mut Nft, ops: &mut Transaction) -> Result<(), nft::Error> {
    for family in [Family::V4, Family::V6] {
        let known = nft.addresses(&INET, base::judged(family))?;
        let pods = nft.addresses(&INET, base::pods(family))?;
        let unknown = pods.into_iter().filter(|pod| !known.contains(pod));
        let unknown: Vec<Element> = unknown.map(Element::of).collect();
        if !unknown.is_empty() {
            ops.add(&INET, Elements::new(base::judged(family), unknown));
        }
    }
    Ok(())
}

/// The base's chains ask its sets; then no packet asks others any more.
fn hang(nft: &mut Nft, ledger: &mut Ledger<'_>, base: &Base) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    for chain in base.chains() {
        // Nothing else of a base chain's hook can be changed but its policy.
        if let (Some(held), Some(hook)) = (nft.chain(chain.table, chain.name)?, chain.hook)
            && !held.is_placed_at(&hook)
        {
            ops.delete(chain.table, Chain::new(chain.name));
        }
    }
    ops.append(base.hang());
    // Another base may be there with all its sets, but nobody asks it: it is not whole.
    let sets = nft.sets(&INET)?;
    let switch = (TransactionKind::Switch, &ops);
    ledger.commit(nft, switch, &[base.marker()], &base.outdated(&sets))?;
    nft.settle();
    Ok(())
}

#[cfg(test)]
mod tests;
