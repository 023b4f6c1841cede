//! What goes since no attachment has it.

use std::net::IpAddr;

use crate::plan::{Base, INET, NETDEV};
use nft::{self, Chain, Elements, Nft, Object, SetName, Table, Transaction};

use super::measured::TransactionKind;
use super::remove::delete_policies;
use super::verify::damaged_base;

/// Removes both tables in one step, with all that is in them.
///
/// # Errors
/// The kernel refuses; then nothing has changed.
pub fn remove_all(nft: &mut Nft) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    // Added first, so that nothing is an error of which there is none.
    for table in [&INET, &NETDEV] {
        ops.add(table, Object::Table).delete(table, Object::Table);
    }
    TransactionKind::Remove.commit(nft, &ops)
}

/// Removes these chains and sets of policies.
///
/// # Errors
/// The kernel refuses; then nothing has changed.
pub fn remove_policies(
    nft: &mut Nft,
    table: &'static Table,
    chains: Vec<String>,
    sets: Vec<String>,
) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    delete_policies(table, chains, sets, &mut ops);
    TransactionKind::Remove.commit(nft, &ops)
}

/// The sets of other bases than this one, if this one is whole: then nobody asks them.
///
/// # Errors
/// The kernel does not tell.
pub fn unasked_sets(nft: &mut Nft, base: &Base) -> Result<Vec<String>, nft::Error> {
    if damaged_base(nft, base)?.is_some() {
        return Ok(Vec::new());
    }
    let sets = nft.sets(&INET)?;
    Ok(base
        .outdated(&sets)
        .into_iter()
        .map(str::to_owned)
        .collect())
}

/// Removes sets that nobody asks.
///
/// # Errors
/// The kernel refuses; then nothing has changed.
pub fn remove_sets(nft: &mut Nft, sets: Vec<String>) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    for set in sets {
        ops.delete(&INET, SetName(set));
    }
    TransactionKind::Remove.commit(nft, &ops)
}

/// Removes the chain of a bridge or a port.
///
/// # Errors
/// The kernel refuses.
pub fn remove_bridge_chain(nft: &mut Nft, chain: &str) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    TransactionKind::Remove.commit(nft, ops.delete(&NETDEV, Chain::new(chain)))
}

/// Removes an address from one of the base's sets.
///
/// # Errors
/// The kernel refuses.
pub fn remove_element(
    nft: &mut Nft,
    table: &Table,
    set: &str,
    address: IpAddr,
) -> Result<(), nft::Error> {
    let mut ops = Transaction::new();
    TransactionKind::Remove.commit(nft, ops.delete(table, Elements::address(set, address)))
}
