//! What the kernel holds for nobody: no record speaks of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::files::has_record;
use super::{Did, Error, Sync};
use crate::attachment::{Record, Rules};
use crate::enforce::Remove;
use crate::plan::attachment::{nd_chain, pod_chain, veth_chain};
use crate::plan::bridge::{BRIDGE, port_chain_prefix};
use crate::plan::{Base, INET, NETDEV, base};
use crate::store::AttachmentId;
use netlink::link;
use nft::{Chain, Elements, Family, SetName, Table, Transaction};

/// How the names of all chains and sets of a policy begin.
const POLICY: &str = "pol-";
/// How the names of all ports' chains begin.
const PORT: &str = "port-";

impl Sync<'_> {
    /// Attachments, policies, bridges and elements that nobody has.
    pub(super) fn orphans(&mut self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let records = self.records()?;
        self.orphaned_attachments()?;
        self.orphaned_policies(&records)?;
        self.orphaned_bridges(&records)?;
        self.orphaned_elements(&records)?;
        self.strangers()
    }

    fn records(&self) -> Result<Vec<Record<Rules>>, Error> {
        let state = self.options.state;
        let ids = state.list_attachments()?;
        Ok(ids
            .iter()
            .filter_map(|id| Record::read_alone(state, id).ok().flatten())
            .collect())
    }

    fn chains(&mut self, table: &Table) -> Result<Vec<String>, Error> {
        let chains = self.nft.chains(table)?;
        Ok(chains.into_iter().map(|chain| chain.name).collect())
    }

    /// The state directory may have been emptied by somebody while pods run: what still guards an
    /// interface that is there stays.
    fn orphaned_attachments(&mut self) -> Result<(), Error> {
        let mut names = self.chains(&INET)?;
        names.extend(self.chains(&NETDEV)?);
        let prefixes = [pod_chain(""), veth_chain(""), nd_chain("")];
        let id = |name: &String| {
            let rest = prefixes.iter().find_map(|p| name.strip_prefix(p.as_str()));
            rest?.parse::<AttachmentId>().ok()
        };
        let ids: BTreeSet<AttachmentId> = names.iter().filter_map(id).collect();
        for id in ids {
            if has_record(self.options.state, &id) {
                continue;
            }
            let what = format!("chains of attachment {id}");
            match self.guarded(&id)? {
                Some(why) => self.report.note(Did::Left, what, why),
                None => self.remove(what, "it has no record, and no interface", |nft, _| {
                    let id = id.as_str();
                    let remove = Remove {
                        id,
                        ..Remove::default()
                    };
                    remove.commit(nft).map(drop)
                }),
            }
        }
        Ok(())
    }

    /// Why the chains of an attachment without a record may still be needed.
    fn guarded(&mut self, id: &AttachmentId) -> Result<Option<String>, Error> {
        let chain = self.nft.chain(&NETDEV, &veth_chain(id.as_str()))?;
        let Some(device) = chain.and_then(|chain| chain.device) else {
            // Before Linux 6.16 a chain goes with its device, and its neighbour discovery stays.
            let nd = self.nft.chain(&NETDEV, &nd_chain(id.as_str()))?;
            let needed = nd.is_none() && self.is_judged(id)?;
            return Ok(needed.then(|| {
                "it has no record, and what it guards can't be told: if no pod needs it, delete it"
                    .to_owned()
            }));
        };
        if link::get_by_name(&mut self.rtnl()?, &device)?.is_none() {
            return Ok(None);
        }
        if self.carries_another(&device, id).is_some() {
            return Ok(None); // the device was given another attachment
        }
        Ok(Some(format!(
            "its record is gone, but {device} is there: the pod keeps its rules; start it again"
        )))
    }

    fn orphaned_policies(&mut self, records: &[Record<Rules>]) -> Result<(), Error> {
        let chains = self.chains(&INET)?;
        let mut used: BTreeSet<String> = records.iter().map(|r| r.plan.policy.clone()).collect();
        for pod in chains.iter().filter(|c| c.starts_with(&pod_chain(""))) {
            used.extend(self.nft.targets(&INET, pod)?);
        }
        let is_garbage = |name: &String| {
            let is_part = |policy: &String| {
                name.strip_prefix(policy.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            };
            name.starts_with(POLICY) && !used.iter().any(is_part)
        };
        let chains: Vec<String> = chains.into_iter().filter(is_garbage).collect();
        let sets: Vec<String> = self.nft.sets(&INET)?;
        let sets: Vec<String> = sets.into_iter().filter(is_garbage).collect();
        if chains.is_empty() && sets.is_empty() {
            return Ok(());
        }
        let what = format!(
            "policy objects {}",
            [&chains[..], &sets[..]].concat().join(", ")
        );
        let mut ops = Transaction::new();
        // They refer to one another: all rules go first.
        for chain in &chains {
            ops.flush(&INET, Chain::new(chain));
        }
        // A map's elements lead to chains: it goes before them.
        for set in sets {
            ops.delete(&INET, SetName(set));
        }
        for chain in chains {
            ops.delete(&INET, Chain::new(chain));
        }
        self.remove(what, "no pod has this policy", |nft, _| nft.commit(&ops));
        Ok(())
    }

    fn orphaned_bridges(&mut self, records: &[Record<Rules>]) -> Result<(), Error> {
        let chains = self.nft.chains(&NETDEV)?;
        let bridges = records.iter().filter_map(|r| r.plan.bridge.as_ref());
        let mut used: BTreeSet<String> = bridges.map(|bridge| bridge.chain()).collect();
        let mut garbage = Vec::new();
        for chain in chains.iter().filter(|c| c.name.starts_with(BRIDGE)) {
            if chain.uses > self.nft.rule_count(&NETDEV, &chain.name)? {
                used.insert(chain.name.clone());
            } else if !used.contains(&chain.name) {
                garbage.push((chain.name.clone(), "no pod is on this bridge"));
            }
        }
        let links = link::all(&mut self.rtnl()?)?;
        for chain in chains.iter().filter(|c| c.name.starts_with(PORT)) {
            let of = |bridge: &String| chain.name.starts_with(&port_chain_prefix(bridge));
            let device = chain.device.as_deref();
            if !used.iter().any(of) {
                garbage.push((chain.name.clone(), "no pod is on this bridge"));
            } else if !links.iter().any(|link| Some(link.name.as_str()) == device) {
                garbage.push((chain.name.clone(), "its port is gone"));
            }
        }
        for (chain, why) in garbage {
            self.remove(format!("chain {chain}"), why, |nft, _| {
                let mut ops = Transaction::new();
                nft.commit(ops.delete(&NETDEV, Chain::new(chain)))
            });
        }
        Ok(())
    }

    fn orphaned_elements(&mut self, records: &[Record<Rules>]) -> Result<(), Error> {
        for family in [Family::V4, Family::V6] {
            // An address that leads to a pod's chain is some attachment's, be its record damaged.
            let judged = self.nft.addresses(&INET, base::pods(family))?;
            let pods = records.iter().flat_map(|r| &r.plan.addresses);
            let pods: BTreeSet<IpAddr> = pods.copied().chain(judged).collect();
            let mut egress: BTreeSet<IpAddr> =
                records.iter().flat_map(|r| r.plan.egress.clone()).collect();
            egress.extend(self.options.state.list_egress()?);
            for address in self.nft.addresses(&INET, base::snat(family))? {
                if pods.contains(&address) {
                    egress.extend(self.nft.mapped(&INET, base::snat(family), address)?);
                }
            }
            let sets = [
                (&INET, base::denied(family), &pods),
                (&INET, base::snat(family), &pods),
                (&INET, base::snatted(family), &pods),
                (&NETDEV, base::bridged(family), &pods),
                (&INET, base::egress(family), &egress),
            ];
            for (table, set, used) in sets {
                let mut garbage = self.nft.addresses(table, set)?;
                garbage.retain(|address| !used.contains(address));
                for address in garbage {
                    let what = format!("element {address} of {set}");
                    let mut ops = Transaction::new();
                    ops.delete(table, Elements::address(set, address));
                    self.remove(what, "no pod has this address", |nft, _| nft.commit(&ops));
                }
            }
        }
        Ok(())
    }

    /// What others have put into our tables, or another version: it may be there for a reason.
    fn strangers(&mut self) -> Result<(), Error> {
        let base_chains = Base::new(&[]).chains();
        let prefixes = [
            pod_chain(""),
            veth_chain(""),
            nd_chain(""),
            POLICY.to_owned(),
            BRIDGE.to_owned(),
            PORT.to_owned(),
        ];
        for table in [&INET, &NETDEV] {
            for chain in self.chains(table)? {
                let is_ours = prefixes.iter().any(|prefix| chain.starts_with(prefix))
                    || base_chains.iter().any(|base| base.name == chain);
                if !is_ours {
                    let why = "this version of egressway knows no such chain: somebody else's, or another version's";
                    self.report
                        .note(Did::Left, format!("chain {chain} of {table}"), why);
                }
            }
        }
        Ok(())
    }
}
