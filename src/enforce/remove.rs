//! DEL's transaction.

use std::net::IpAddr;

use crate::plan::attachment::{nd_chain, pod_chain, veth_chain};
use crate::plan::base;
use crate::plan::bridge::{self, Bridge};
use nft::{self, Family, Nft, Op, Table};

use super::{commit, delete_element, delete_elements, owner_of};

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

impl Remove<'_> {
    /// Removes what the attachment still has; whether there was anything. An address that another one
    /// took over stays there.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed.
    pub fn commit(&self, nft: &mut Nft) -> Result<bool, nft::Error> {
        commit(nft, |nft| self.operations(nft))
    }

    fn operations(&self, nft: &mut Nft) -> Result<Vec<Op>, nft::Error> {
        let mut ops = Vec::new();
        for address in self.owned_addresses(nft)? {
            delete_elements(nft, address, &mut ops)?;
        }
        for address in self.egress {
            delete_element(
                nft,
                Table::Inet,
                base::egress(Family::of(address)),
                *address,
                &mut ops,
            )?;
        }
        let pod = pod_chain(self.id);
        if nft.chain(Table::Inet, &pod)?.is_some() {
            let policy = nft.goto_of(Table::Inet, &pod)?;
            ops.push(Op::DeleteChain(Table::Inet, pod));
            if let Some(policy) = policy {
                delete_unused_policy(nft, &policy, &mut ops)?;
            }
        }
        let mut targets = Vec::new();
        for chain in [veth_chain(self.id), nd_chain(self.id)] {
            if nft.chain(Table::Netdev, &chain)?.is_some() {
                targets.extend(nft.targets(Table::Netdev, &chain)?);
                ops.push(Op::DeleteChain(Table::Netdev, chain));
            }
        }
        let is_bridge = |chain: &&String| chain.starts_with(bridge::BRIDGE);
        let bridge = self.bridge.map(Bridge::chain);
        if let Some(bridge) = bridge.or_else(|| targets.iter().find(is_bridge).cloned()) {
            let leaving = targets.iter().filter(|target| **target == bridge).count();
            delete_unused_bridge(nft, &bridge, leaving as u32, &mut ops)?;
        }
        Ok(ops)
    }

    fn owned_addresses(&self, nft: &mut Nft) -> Result<Vec<IpAddr>, nft::Error> {
        let own = pod_chain(self.id);
        let mut owned = Vec::new();
        if self.addresses.is_empty() && nft.chain(Table::Inet, &own)?.is_some() {
            // The record is lost: only the kernel knows.
            for family in [Family::V4, Family::V6] {
                let elements = nft.vmap_elements(base::pods(family))?;
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

/// A policy whose only reference is the pod chain that goes in this transaction.
pub(super) fn delete_unused_policy(
    nft: &mut Nft,
    name: &str,
    ops: &mut Vec<Op>,
) -> Result<(), nft::Error> {
    let Some(chain) = nft.chain(Table::Inet, name)? else {
        return Ok(());
    };
    if chain.uses > nft.rule_count(Table::Inet, name)? + 1 {
        return Ok(());
    }
    let parts = format!("{name}-");
    let chains = nft.chains(Table::Inet)?;
    let chains = chains
        .iter()
        .map(|c| &c.name)
        .filter(|c| **c == name || c.starts_with(&parts));
    // The parts refer to one another: all rules go first.
    let chains: Vec<_> = chains.cloned().collect();
    ops.extend(
        chains
            .iter()
            .map(|c| Op::FlushChain(Table::Inet, c.clone())),
    );
    // A map's elements lead to chains: it goes before them.
    let sets = nft.sets(Table::Inet)?;
    let sets = sets.into_iter().filter(|set| set.starts_with(&parts));
    ops.extend(sets.map(|set| Op::DeleteSet(Table::Inet, set)));
    ops.extend(chains.into_iter().map(|c| Op::DeleteChain(Table::Inet, c)));
    Ok(())
}

/// A bridge to which nobody refers but the `if-` chain that goes in this transaction.
fn delete_unused_bridge(
    nft: &mut Nft,
    bridge: &str,
    leaving: u32,
    ops: &mut Vec<Op>,
) -> Result<(), nft::Error> {
    let Some(chain) = nft.chain(Table::Netdev, bridge)? else {
        return Ok(());
    };
    if chain.uses > nft.rule_count(Table::Netdev, bridge)? + leaving {
        return Ok(());
    }
    let prefix = bridge::port_chain_prefix(bridge);
    let ports = nft.chains(Table::Netdev)?;
    let ports = ports.into_iter().filter(|c| c.name.starts_with(&prefix));
    ops.extend(ports.map(|c| Op::DeleteChain(Table::Netdev, c.name)));
    ops.push(Op::DeleteChain(Table::Netdev, bridge.to_owned()));
    Ok(())
}
