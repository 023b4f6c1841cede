//! Puts an attachment's plan into the kernel, and takes it out again: one transaction each, or several
//! where what running pods are led by changes (`switch`).
//!
//! What must be done depends on what is there already (the base, a policy that another pod has, the
//! remains of an earlier owner of an address). That is asked by name, a few small questions, never
//! by listing a table. All of it happens under the state directory's lock; should somebody else
//! change the tables at the same moment nevertheless, the transaction fails as a whole and is
//! made anew.

mod ahead;
mod counting;
mod install;
mod ledger;
mod measured;
mod named;
mod orphans;
mod remove;
mod switch;
mod verify;

use std::fmt;
use std::net::IpAddr;

use crate::plan::names::Purpose;
use crate::plan::{INET, NETDEV, base};
use crate::store::AttachmentId;
use nft::{self, ChainState, Elements, Family, Nft, Table, Transaction};

pub use ahead::{Ahead, being_put, put as put_ahead};
pub use counting::Counting;
pub use install::{Install, Shared};
pub use ledger::Ledger;
pub use measured::{BOUNDS, Measured, TransactionKind, conflicts};
pub use named::{name_groups, remove_names};
pub use orphans::{
    remove_all, remove_bridge_chain, remove_element, remove_policies, remove_sets, unasked_sets,
};
pub use remove::Remove;
pub use switch::{Move, put, rebase, switch, switch_all};
pub use verify::{Compared, leads_somewhere, verify};

/// How often a transaction that met somebody else's change is made anew.
const ATTEMPTS: u32 = 10;

/// Does something anew as long as somebody else changes the tables at the same moment.
fn again<T, E: fmt::Display>(
    is_conflict: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for attempt in 1..ATTEMPTS {
        match work() {
            Err(e) if is_conflict(&e) => {
                tracing::debug!(attempt, "somebody else changed the tables: {e}");
            }
            outcome => return outcome,
        }
    }
    work()
}

/// Commits operations as they are, to see what this kernel takes: in a namespace that goes afterwards.
///
/// # Errors
/// What the kernel refuses.
pub fn attempt(nft: &mut Nft, ops: &Transaction) -> Result<(), nft::Error> {
    nft.commit(ops)
}

/// The chain to which an address leads, if it is a pod's.
///
/// # Errors
/// The kernel does not tell.
pub fn owner_of(nft: &mut Nft, address: IpAddr) -> Result<Option<String>, nft::Error> {
    nft.vmap_target(&INET, base::pods(Family::of(&address)), address)
}

/// The attachments whose chains hang at an interface. It lists the table: for those who can't tell by any
/// name.
///
/// # Errors
/// The kernel does not tell.
pub fn attachments_at(nft: &mut Nft, veth: &str) -> Result<Vec<AttachmentId>, nft::Error> {
    let chains = nft.chains(&NETDEV)?.into_iter();
    let there = chains.filter(|chain| chain.device.as_deref() == Some(veth));
    let id = |chain: ChainState| match Purpose::of(&chain.name) {
        Some(Purpose::Veth(id)) => id.parse().ok(),
        _ => None,
    };
    Ok(there.filter_map(id).collect())
}

/// All that an address has in the base's sets, whoever put it there.
fn delete_elements(
    nft: &mut Nft,
    address: IpAddr,
    ops: &mut Transaction,
) -> Result<(), nft::Error> {
    let family = Family::of(&address);
    let inet = [
        base::pods(family),
        base::denied(family),
        base::last_denied(family),
        base::judged(family),
        base::led(family),
        base::snat(family),
        base::snatted(family),
    ];
    for set in inet {
        delete_element(nft, &INET, set, address, ops)?;
    }
    delete_element(nft, &NETDEV, base::bridged(family), address, ops)
}

/// Whether a chain is there with these rules.
fn same_rules(
    nft: &mut Nft,
    table: &Table,
    chain: &str,
    rules: &[nft::Rule],
) -> Result<bool, nft::Error> {
    if nft.chain(table, chain)?.is_none() {
        return Ok(false);
    }
    nft.rules_are(table, chain, rules)
}

fn delete_element(
    nft: &mut Nft,
    table: &Table,
    set: &str,
    address: IpAddr,
    ops: &mut Transaction,
) -> Result<(), nft::Error> {
    if nft.has_element(table, set, address)? {
        ops.delete(table, Elements::address(set, address));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::test_support::in_fresh_netns;
    use nft::{Chain, Object};

    #[test]
    fn a_conflict_is_met_with_a_new_look() {
        in_fresh_netns(|| {
            let mut nft = Nft::open().expect("a socket");
            let conflict = || {
                let mut ops = Transaction::new();
                ops.delete(&INET, Chain::new("gone"));
                ops
            };
            let harmless = || {
                let mut ops = Transaction::new();
                ops.add(&INET, Object::Table);
                ops
            };
            let mut looks = 0;
            let mended = again(nft::Error::is_conflict, || {
                looks += 1;
                nft.commit(&match looks {
                    1..3 => conflict(),
                    _ => harmless(),
                })
            });
            assert_eq!((mended.expect("the third is good"), looks), ((), 3));
            looks = 0;
            let never = again(nft::Error::is_conflict, || {
                looks += 1;
                nft.commit(&conflict())
            });
            assert!(never.is_err());
            assert_eq!(looks, ATTEMPTS);
        });
    }
}
