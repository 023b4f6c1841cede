//! Puts an attachment's plan into the kernel, and takes it out again: one transaction each.
//!
//! What must be done depends on what is there already (the base, a policy that another pod has, the
//! remains of an earlier owner of an address). That is asked by name, a few small questions, never
//! by listing a table. All of it happens under the state directory's lock; should somebody else
//! change the tables at the same moment nevertheless, the transaction fails as a whole and is
//! made anew.

use std::net::IpAddr;

use crate::nft::{self, Element, Family, Nft, Op, Table};
use crate::plan::attachment::{Entry, nd_chain, pod_chain, veth_chain};
use crate::plan::{AttachmentPlan, Base, Bridge, Compiled, base};

/// How often a transaction that met somebody else's change is made anew.
const ATTEMPTS: u32 = 10;

/// What an ADD puts into the kernel.
pub struct Install<'a> {
    /// What both tables hold for all pods.
    pub base: &'a Base,
    /// The pod's policy, which others may share.
    pub policy: &'a Compiled,
    /// What is the attachment's own.
    pub attachment: &'a AttachmentPlan,
    /// The other ports of the attachment's bridge, to be covered when it is the bridge's first.
    pub bridge_ports: &'a [String],
    /// An older attachment that had a veth of the same name.
    pub previous: Option<&'a str>,
}

impl Install<'_> {
    /// Makes the kernel enforce the plan. Replaces what is left of an earlier ADD of the same
    /// attachment, and takes addresses over from whoever had them.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed.
    pub fn commit(&self, nft: &mut Nft) -> Result<(), nft::Error> {
        commit(nft, |nft| self.operations(nft))
    }

    /// The transaction for the kernel as it is now.
    fn operations(&self, nft: &mut Nft) -> Result<Vec<Op>, nft::Error> {
        let mut ops = Vec::new();
        // Later pods rely on what earlier ones put there, and a name alone does not say that it is
        // whole: `nft flush table` leaves chains without rules. There are few, whatever the policy.
        if !nft.has_set(Table::Inet, self.base.marker())?
            || !nft.has_set(Table::Netdev, base::bridged(Family::V6))?
            || damaged_base(nft, self.base)?.is_some()
        {
            let sets = nft.sets(Table::Inet)?;
            ops.extend(self.base.add(&self.base.outdated(&sets)));
        }
        if let Some(previous) = self.previous {
            self.clear_previous(nft, previous, &mut ops)?;
        }
        self.clear_own(nft, &mut ops)?;
        self.clear_addresses(nft, &mut ops)?;
        if let Some(bridge) = &self.attachment.bridge {
            self.prepare_bridge(nft, bridge, &mut ops)?;
        }
        if damaged_policy(nft, self.policy)?.is_some() {
            for (chain, _) in &self.policy.chains {
                if nft.chain(Table::Inet, chain)?.is_some() {
                    ops.push(Op::FlushChain(Table::Inet, chain.clone()));
                }
            }
            ops.extend(self.policy.add());
        }
        ops.extend(self.attachment.add());
        Ok(ops)
    }

    /// A netdev chain outlives its device since 6.16, and catches the next one of that name.
    fn clear_previous(&self, nft: &mut Nft, id: &str, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        if id == self.attachment.id {
            return Ok(());
        }
        let chain = veth_chain(id);
        let stale = nft.chain(Table::Netdev, &chain)?;
        if stale.is_some_and(|c| c.device.as_deref() == Some(&self.attachment.veth)) {
            ops.push(Op::DeleteChain(Table::Netdev, chain));
            if nft.chain(Table::Netdev, &nd_chain(id))?.is_some() {
                ops.push(Op::DeleteChain(Table::Netdev, nd_chain(id)));
            }
        }
        Ok(())
    }

    fn clear_own(&self, nft: &mut Nft, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        let plan = self.attachment;
        if nft.chain(Table::Netdev, &plan.veth_chain())?.is_some() {
            ops.push(Op::DeleteChain(Table::Netdev, plan.veth_chain()));
        }
        if nft.chain(Table::Netdev, &plan.nd_chain())?.is_some() {
            ops.push(Op::FlushChain(Table::Netdev, plan.nd_chain()));
        }
        if nft.chain(Table::Inet, &plan.pod_chain())?.is_some() {
            ops.push(Op::FlushChain(Table::Inet, plan.pod_chain()));
        }
        Ok(())
    }

    fn clear_addresses(&self, nft: &mut Nft, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
        for address in &self.attachment.addresses {
            if nft
                .vmap_target(base::pods(Family::of(address)), *address)?
                .is_some()
            {
                delete_elements(nft, *address, ops)?;
            }
        }
        Ok(())
    }

    fn prepare_bridge(
        &self,
        nft: &mut Nft,
        bridge: &Bridge,
        ops: &mut Vec<Op>,
    ) -> Result<(), nft::Error> {
        let own_port = bridge.port_chain(&self.attachment.veth);
        if nft.chain(Table::Netdev, &bridge.chain())?.is_some() {
            if nft.chain(Table::Netdev, &own_port)?.is_some() {
                ops.push(Op::DeleteChain(Table::Netdev, own_port));
            }
            return Ok(());
        }
        ops.extend(bridge.add());
        for port in self
            .bridge_ports
            .iter()
            .filter(|port| **port != self.attachment.veth)
        {
            ops.extend(bridge.cover_port(port));
        }
        Ok(())
    }
}

/// What a DEL takes out of the kernel.
#[derive(Debug, Default)]
pub struct Remove<'a> {
    /// The attachment's id.
    pub id: &'a str,
    /// As far as known; what is not known is looked up.
    pub addresses: &'a [IpAddr],
    /// The bridge that it is on.
    pub bridge: Option<&'a Bridge>,
    /// Egress addresses of which this was the last user.
    pub egress: &'a [IpAddr],
}

impl Remove<'_> {
    /// Removes what the attachment still has. An address that another one took over stays there.
    ///
    /// # Errors
    /// The kernel refuses; then nothing has changed.
    pub fn commit(&self, nft: &mut Nft) -> Result<(), nft::Error> {
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
        let veth = veth_chain(self.id);
        let mut bridge_uses = 0;
        if nft.chain(Table::Netdev, &veth)?.is_some() {
            if let Some(bridge) = self.bridge {
                bridge_uses = nft.references(Table::Netdev, &veth, &bridge.chain())?;
            }
            ops.push(Op::DeleteChain(Table::Netdev, veth));
        }
        if nft.chain(Table::Netdev, &nd_chain(self.id))?.is_some() {
            ops.push(Op::DeleteChain(Table::Netdev, nd_chain(self.id)));
        }
        if let Some(bridge) = self.bridge {
            delete_unused_bridge(nft, bridge, bridge_uses, &mut ops)?;
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

fn commit(
    nft: &mut Nft,
    mut operations: impl FnMut(&mut Nft) -> Result<Vec<Op>, nft::Error>,
) -> Result<(), nft::Error> {
    let mut attempt = 1;
    loop {
        let ops = operations(nft)?;
        match nft.commit(&ops) {
            Err(e) if e.is_conflict() && attempt < ATTEMPTS => {
                tracing::debug!(attempt, "somebody else changed the tables: {e}");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// The chain to which an address leads, if it is a pod's.
///
/// # Errors
/// The kernel does not tell.
pub fn owner_of(nft: &mut Nft, address: IpAddr) -> Result<Option<String>, nft::Error> {
    nft.vmap_target(base::pods(Family::of(&address)), address)
}

/// All that an address has in the base's sets, whoever put it there.
fn delete_elements(nft: &mut Nft, address: IpAddr, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
    let family = Family::of(&address);
    let inet = [
        base::pods(family),
        base::denied(family),
        base::snat(family),
        base::snatted(family),
    ];
    for set in inet {
        delete_element(nft, Table::Inet, set, address, ops)?;
    }
    delete_element(nft, Table::Netdev, base::bridged(family), address, ops)
}

fn delete_element(
    nft: &mut Nft,
    table: Table,
    set: &str,
    address: IpAddr,
    ops: &mut Vec<Op>,
) -> Result<(), nft::Error> {
    if nft.has_element(table, set, address)? {
        ops.push(Op::DeleteElements(table, set.to_owned(), vec![address]));
    }
    Ok(())
}

/// A policy whose only reference is the pod chain that goes in this transaction.
fn delete_unused_policy(nft: &mut Nft, name: &str, ops: &mut Vec<Op>) -> Result<(), nft::Error> {
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
    ops.extend(chains.into_iter().map(|c| Op::DeleteChain(Table::Inet, c)));
    let sets = nft.sets(Table::Inet)?;
    let sets = sets.into_iter().filter(|set| set.starts_with(&parts));
    ops.extend(sets.map(|set| Op::DeleteSet(Table::Inet, set)));
    Ok(())
}

/// A bridge to which nobody refers but the `if-` chain that goes in this transaction.
fn delete_unused_bridge(
    nft: &mut Nft,
    bridge: &Bridge,
    leaving: u32,
    ops: &mut Vec<Op>,
) -> Result<(), nft::Error> {
    let Some(chain) = nft.chain(Table::Netdev, &bridge.chain())? else {
        return Ok(());
    };
    if chain.uses > bridge.rules().len() as u32 + leaving {
        return Ok(());
    }
    let prefix = bridge.port_chain_prefix();
    let ports = nft.chains(Table::Netdev)?;
    let ports = ports.into_iter().filter(|c| c.name.starts_with(&prefix));
    ops.extend(ports.map(|c| Op::DeleteChain(Table::Netdev, c.name)));
    ops.push(Op::DeleteChain(Table::Netdev, bridge.chain()));
    Ok(())
}

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
            Element::Range(..) => true, // no attachment has one
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
fn damaged_base(nft: &mut Nft, base: &Base) -> Result<Option<&'static str>, nft::Error> {
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
fn damaged_policy<'a>(nft: &mut Nft, policy: &'a Compiled) -> Result<Option<&'a str>, nft::Error> {
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
    nft.rules_are(table, chain, &rules.iter().collect::<Vec<_>>())
}
