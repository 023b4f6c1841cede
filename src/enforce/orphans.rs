//! What goes since no attachment has it.

use std::net::IpAddr;

use crate::plan::{INET, NETDEV};
use nft::{self, Chain, Elements, Nft, Object, Table, Transaction};

use super::remove::delete_policies;

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
    nft.commit(&ops)
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
    nft.commit(&ops)
}

/// Removes the chain of a bridge or a port.
///
/// # Errors
/// The kernel refuses.
pub fn remove_bridge_chain(nft: &mut Nft, chain: &str) -> Result<(), nft::Error> {
    nft.commit(Transaction::new().delete(&NETDEV, Chain::new(chain)))
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
    nft.commit(Transaction::new().delete(table, Elements::address(set, address)))
}
