//! DEL's transaction.

use std::net::IpAddr;

use crate::plan::names::{
    Purpose, is_part_of, is_port_of, lets_multicast_out, many_chain, nd_chain, pod_chain,
    veth_chain,
};
use crate::plan::{Bridge, INET, NETDEV, base};
use nft::{self, Chain, Family, Nft, SetName, Table, Transaction};

use super::ledger::Ledger;
use super::measured::TransactionKind;
use super::{again, delete_element, delete_elements, owner_of};

/// What a DEL takes out of the kernel.
#[derive(Debug, Default)]
pub struct Remove<'a> {
    /// The attachment's id.
    pub id: &'a str,
    /// As far as known; what is not known is looked up.
    pub addresses: &'a [IpAddr],
    /// The bridge that it is on, if that is known; else it is looked up.
    pub bridge: Option<&'a Bridge>,
    /// Egress addresses of which this was the last user.
    pub egress: &'a [IpAddr],
}

/// What goes, and which policy with it.
struct Removal {
    ops: Transaction,
    policy: Option<String>,
}

impl Remove<'_> {
    /// Removes what the attachment still has. An address that another one
    /// took over stays there.
    ///
    /// What is known of the parts that pods share stays known, but for a policy of which this was the last user.
    /// Without a ledger it is not.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed.
    pub fn commit(
        &self,
        nft: &mut Nft,
        mut ledger: Option<&mut Ledger<'_>>,
    ) -> Result<(), nft::Error> {
        let mut is_first = true;
        again(nft::Error::is_conflict, || {
            let is_first = std::mem::take(&mut is_first);
            let Removal { ops, policy } = self.removal(nft)?;
            let gone: Vec<&str> = policy.as_deref().into_iter().collect();
            match &mut ledger {
                Some(ledger) => {
                    if !is_first {
                        ledger.forget(nft)?;
                    }
                    ledger.commit(nft, (TransactionKind::Remove, &ops), &[], &gone)
                }
                None => TransactionKind::Remove.commit(nft, &ops),
            }
        })
    }

    fn removal(&self, nft: &mut Nft) -> Result<Removal, nft::Error> {
        let mut ops = Transaction::new();
        let mut gone = None;
        for address in self.owned_addresses(nft)? {
            delete_elements(nft, address, &mut ops)?;
        }
        for address in self.egress {
            delete_element(
                nft,
                &INET,
                base::egress(Family::of(address)),
                *address,
                &mut ops,
            )?;
        }
        let mut targets = Vec::new();
        for chain in [veth_chain(self.id), nd_chain(self.id), many_chain(self.id)] {
            if nft.chain(&NETDEV, &chain)?.is_some() {
                targets.extend(nft.targets(&NETDEV, &chain)?);
                ops.delete(&NETDEV, Chain::new(chain));
            }
        }
        let pod = pod_chain(self.id);
        if nft.chain(&INET, &pod)?.is_some() {
            let policy = nft.goto_of(&INET, &pod)?;
            ops.delete(&INET, Chain::new(pod));
            if let Some(policy) = policy
                && delete_unused_policy(nft, &policy, 1, &mut ops)?
            {
                gone = Some(policy);
            }
        }
        let is_bridge = |chain: &&String| Purpose::of(chain) == Some(Purpose::Bridge);
        let bridge = self.bridge.map(Bridge::chain);
        if let Some(bridge) = bridge.or_else(|| targets.iter().find(is_bridge).cloned()) {
            let leaving = targets.iter().filter(|target| **target == bridge).count();
            delete_unused_bridge(nft, &bridge, leaving as u32, &mut ops)?;
        }
        Ok(Removal { ops, policy: gone })
    }

    fn owned_addresses(&self, nft: &mut Nft) -> Result<Vec<IpAddr>, nft::Error> {
        let own = pod_chain(self.id);
        let mut owned = Vec::new();
        if self.addresses.is_empty() && nft.chain(&INET, &own)?.is_some() {
            // The record is lost: only the kernel knows.
            for family in [Family::V4, Family::V6] {
                let elements = nft.vmap_elements(&INET, base::pods(family))?;
                owned.extend(
                    elements
                        .into_iter()
                        .filter(|(_, c)| *c == own)
                        .map(|(a, _)| a),
                );
            }
            return Ok(owned);
        }
        for address in self.addresses {
            let target = owner_of(nft, *address)?;
            if target.is_some_and(|chain| chain == own) {
                owned.push(*address);
            }
        }
        Ok(owned)
    }
}

/// A policy to which nobody leads but those `leaving` pods' chains that go in this transaction; whether it goes.
pub(super) fn delete_unused_policy(
    nft: &mut Nft,
    name: &str,
    leaving: u32,
    ops: &mut Transaction,
) -> Result<bool, nft::Error> {
    let Some(chain) = nft.chain(&INET, name)? else {
        return Ok(false);
    };
    if chain.uses > nft.rule_count(&INET, name)? + leaving {
        return Ok(false);
    }
    // Who flushes a pod's chain leaves what its veth sends to many.
    if lets_multicast_out(name)
        && let Some(chain) = nft.chain(&NETDEV, name)?
        && chain.uses > nft.rule_count(&NETDEV, name)? + leaving
    {
        return Ok(false);
    }
    delete_parts(nft, name, ops)?;
    Ok(true)
}

/// All that there is of a policy, in both tables.
pub(super) fn delete_parts(
    nft: &mut Nft,
    policy: &str,
    ops: &mut Transaction,
) -> Result<(), nft::Error> {
    let mut tables = vec![&INET];
    if lets_multicast_out(policy) {
        tables.push(&NETDEV);
    }
    let of_policy = |part: &String| is_part_of(policy, part);
    for table in tables {
        let chains = nft.chains(table)?.into_iter().map(|chain| chain.name);
        let chains: Vec<String> = chains.filter(of_policy).collect();
        let sets = nft.sets(table)?;
        let sets: Vec<String> = sets.into_iter().filter(of_policy).collect();
        delete_policies(table, chains, sets, ops);
    }
    Ok(())
}

/// Whole policies, in the order in which the kernel lets them go.
pub(super) fn delete_policies(
    table: &'static Table,
    chains: Vec<String>,
    sets: Vec<String>,
    ops: &mut Transaction,
) {
    // Their parts refer to one another: all rules go first.
    for chain in &chains {
        ops.flush(table, Chain::new(chain));
    }
    // A map's elements lead to chains: it goes before them.
    for set in sets {
        ops.delete(table, SetName(set));
    }
    for chain in chains {
        ops.delete(table, Chain::new(chain));
    }
}

/// A bridge to which nobody refers but the `if-` chain that goes in this transaction.
fn delete_unused_bridge(
    nft: &mut Nft,
    bridge: &str,
    leaving: u32,
    ops: &mut Transaction,
) -> Result<(), nft::Error> {
    let Some(chain) = nft.chain(&NETDEV, bridge)? else {
        return Ok(());
    };
    if chain.uses > nft.rule_count(&NETDEV, bridge)? + leaving {
        return Ok(());
    }
    let ports = nft.chains(&NETDEV)?;
    let ports = ports.into_iter().filter(|c| is_port_of(bridge, &c.name));
    for port in ports {
        ops.delete(&NETDEV, Chain::new(port.name));
    }
    ops.delete(&NETDEV, Chain::new(bridge));
    Ok(())
}
