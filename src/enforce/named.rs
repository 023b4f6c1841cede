//! The sets of domain names, what fills them, and the way of questions to the node's resolver.
//!
//! They are not the policies' own: they are there before the first one that asks them, and go after the last. What the
//! sets hold is never compared; the rest is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use super::ledger::Ledger;
use super::measured::TransactionKind;
use super::same_rules;
use crate::hex::hex;
use crate::plan::named::{self, CLASSES, Group, SECRETS, Tokens};
use crate::plan::names::{self, Purpose};
use crate::plan::{Compiled, INET};
use crate::store::{GroupName, NameGroup, StateDir};
use nft::{
    self, Chain, ChainState, Element, Elements, ErrorKind, Family, Nft, SetName, Transaction,
};

/// Makes the kernel hold all that a policy's domain names need, before the policy itself. The base is there.
pub(super) fn put(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    policy: &Compiled,
) -> Result<(), nft::Error> {
    if policy.groups.is_empty() {
        return Ok(());
    }
    let way = way(&policy.resolvers);
    if !ledger.has(&way) && damaged_way(nft, &policy.resolvers)?.is_some() {
        let ops = the_way(nft, &policy.resolvers)?;
        ledger.commit(nft, (TransactionKind::Put, &ops), &[&way], &[])?;
    }
    for group in &policy.groups {
        let part = part(&group.id);
        if ledger.has(&part) {
            continue;
        }
        let (tokens, is_new) = tokens(ledger.state(), group);
        if !is_new && damaged_group(nft, group, Some(&tokens))?.is_none() {
            continue;
        }
        let mut ops = Transaction::new();
        let wanted = group.elements(&tokens);
        for (secret, chain) in leading(nft, &group.id)? {
            let is_wanted = |element: &Element| {
                element.address() == Some(secret) && element.chain() == Some(&chain)
            };
            if !wanted.iter().any(is_wanted) {
                ops.delete(&INET, Elements::address(named::TOKENS, secret));
            }
        }
        ops.append(group.add(&tokens));
        ledger.commit(nft, (TransactionKind::Put, &ops), &[&part], &[])?;
    }
    Ok(())
}

/// What of a policy's domain names is missing or differs, in words.
pub(super) fn damaged(
    nft: &mut Nft,
    state: &StateDir,
    policy: &Compiled,
) -> Result<Option<String>, nft::Error> {
    if policy.groups.is_empty() {
        return Ok(None);
    }
    if let Some(part) = damaged_way(nft, &policy.resolvers)? {
        return Ok(Some(part));
    }
    for group in &policy.groups {
        let held = group.id.parse().map(|name| state.read_name_group(&name));
        let tokens = match held.unwrap_or(Ok(None)) {
            Ok(Some(held)) => Some(held.tokens),
            Ok(None) => return Ok(Some(format!("the file names/{}.json", group.id))),
            Err(e) if e.is_other_version() => None,
            Err(e) => return Ok(Some(format!("a file: {e}; it"))),
        };
        if let Some(part) = damaged_group(nft, group, tokens.as_ref())? {
            return Ok(Some(part));
        }
    }
    Ok(None)
}

/// Removes those of these groups that no policy asks any more: only the kernel knows. To be called under
/// [`StateDir::lock`].
///
/// # Errors
/// The kernel refuses, for another reason.
pub fn remove_names(
    nft: &mut Nft,
    ledger: &mut Ledger<'_>,
    groups: &[GroupName],
) -> Result<Vec<GroupName>, nft::Error> {
    let mut gone = Vec::new();
    for name in groups {
        let id = name.as_str();
        let mut ops = Transaction::new();
        for (secret, _) in leading(nft, id)? {
            ops.delete(&INET, Elements::address(named::TOKENS, secret));
        }
        let mut chains = Vec::new();
        for family in [Family::V4, Family::V6] {
            for (class, _) in CLASSES {
                let chain = names::learning(id, family, class);
                if nft.chain(&INET, &chain)?.is_some() {
                    ops.flush(&INET, Chain::new(&chain));
                    chains.push(chain);
                }
            }
            for set in [names::now(family, id), names::open(family, id)] {
                if nft.has_set(&INET, &set)? {
                    ops.delete(&INET, SetName(set));
                }
            }
        }
        for chain in chains {
            ops.delete(&INET, Chain::new(chain));
        }
        match ledger.commit(nft, (TransactionKind::TakeAway, &ops), &[], &[&part(id)]) {
            Ok(()) => gone.push(name.clone()),
            Err(e) if e.kind() == ErrorKind::Busy => continue,
            Err(e) => return Err(e),
        }
        let removed = ledger.state().remove_name_group(name);
        removed.unwrap_or_else(|e| tracing::warn!("{e}"));
    }
    Ok(gone)
}

/// The groups of which the kernel has a part.
///
/// # Errors
/// The kernel does not tell.
pub fn name_groups(nft: &mut Nft) -> Result<Vec<GroupName>, nft::Error> {
    let (chains, sets) = (nft.chains(&INET)?, nft.sets(&INET)?);
    let of_chain = |chain: &ChainState| match Purpose::of(&chain.name) {
        Some(Purpose::Learn(group)) => group.parse().ok(),
        _ => None,
    };
    let of_set = |set: &String| names::group_of(set)?.parse().ok();
    let mut groups: Vec<GroupName> = chains.iter().filter_map(of_chain).collect();
    groups.extend(sets.iter().filter_map(of_set));
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// How a group is called in the ledger.
fn part(id: &str) -> String {
    format!("names-{id}")
}

fn way(resolvers: &[IpAddr]) -> String {
    let said: Vec<String> = resolvers.iter().map(ToString::to_string).collect();
    format!("dns {}", said.join(" "))
}

fn damaged_way(nft: &mut Nft, resolvers: &[IpAddr]) -> Result<Option<String>, nft::Error> {
    for chain in named::chains(resolvers) {
        let held = nft.chain(chain.table, chain.name)?;
        let hangs = match (&held, &chain.hook) {
            (Some(held), Some(hook)) => held.hangs_at(hook),
            _ => false,
        };
        if !hangs || !same_rules(nft, chain.table, chain.name, &chain.rules)? {
            return Ok(Some(format!("chain {}", chain.name)));
        }
    }
    Ok(None)
}

/// All of it over what may be there, from one packet to the next.
fn the_way(nft: &mut Nft, resolvers: &[IpAddr]) -> Result<Transaction, nft::Error> {
    let mut ops = Transaction::new();
    for chain in named::chains(resolvers) {
        if let (Some(held), Some(hook)) = (nft.chain(chain.table, chain.name)?, &chain.hook)
            && !held.hangs_at(hook)
        {
            ops.delete(chain.table, Chain::new(chain.name));
        }
        let hook = chain.hook.clone();
        let name = chain.name.to_owned();
        ops.add(chain.table, Chain { name, hook });
        ops.flush(chain.table, Chain::new(chain.name));
        for rule in chain.rules {
            ops.add(chain.table, rule.in_chain(chain.name));
        }
    }
    Ok(ops)
}

/// `tokens`: if they are known.
fn damaged_group(
    nft: &mut Nft,
    group: &Group,
    tokens: Option<&Tokens>,
) -> Result<Option<String>, nft::Error> {
    for set in group.sets() {
        if !nft.has_set(&INET, &set.name)? {
            return Ok(Some(format!("set {}", set.name)));
        }
    }
    for (chain, rules) in group.chains() {
        if !same_rules(nft, &INET, &chain, &rules)? {
            return Ok(Some(format!("chain {chain}")));
        }
    }
    let Some(tokens) = tokens else {
        return Ok(None);
    };
    let mut held = leading(nft, &group.id)?;
    held.sort();
    let wanted = group.elements(tokens).into_iter();
    let wanted = wanted.filter_map(|e| Some((e.address()?, e.chain()?.to_owned())));
    let mut wanted: Vec<(IpAddr, String)> = wanted.collect();
    wanted.sort();
    let differs = wanted.len() != SECRETS || held != wanted;
    Ok(differs.then(|| format!("what leads to learn-{}", group.id)))
}

/// The secrets of a group's chains, as the kernel has them.
fn leading(nft: &mut Nft, id: &str) -> Result<Vec<(IpAddr, String)>, nft::Error> {
    let mut all = nft.vmap_elements(&INET, named::TOKENS)?;
    all.retain(|(_, chain)| Purpose::of(chain) == Some(Purpose::Learn(id)));
    Ok(all)
}

/// A group's secrets, and whether they are new. New ones are written down at once; if that fails, names of the group stay
/// closed until it is mended.
fn tokens(state: &StateDir, group: &Group) -> (Tokens, bool) {
    let Ok(name) = group.id.parse::<GroupName>() else {
        return (Tokens::new(), true); // no group is called so
    };
    match state.read_name_group(&name) {
        Ok(Some(held)) if group.elements(&held.tokens).len() == SECRETS => {
            return (held.tokens, false);
        }
        Err(e) => tracing::warn!("{e}; it is made anew"),
        Ok(_) => {}
    }
    let mut tokens = Tokens::new();
    for family in [Family::V4, Family::V6] {
        let of = CLASSES.map(|(class, _)| (class.to_owned(), secret()));
        tokens.insert(names::digit(family).to_owned(), BTreeMap::from(of));
    }
    let held = NameGroup {
        patterns: group.patterns.iter().map(ToString::to_string).collect(),
        tokens: tokens.clone(),
    };
    let written = state.write_name_group(&name, &held);
    written.unwrap_or_else(|e| tracing::warn!("{e}; domain names stay closed"));
    (tokens, true)
}

/// Nobody guesses it.
fn secret() -> String {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => hex(&bytes),
        Err(e) => {
            // None at all: nobody can teach, and the next repair makes one.
            tracing::warn!("cannot read /dev/urandom: {e}; domain names stay closed");
            String::new()
        }
    }
}
