//! What the kernel holds for nobody: no record speaks of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Did, Error, Sync};
use crate::enforce::{self, Ledger, Remove};
use crate::plan::names::{self, Purpose, nd_chain, veth_chain};
use crate::plan::{Base, Bridge, INET, NETDEV, base, named};
use crate::store::{AttachmentId, GroupName, PolicyKey, Record};
use netlink::link;
use nft::{ChainState, Family, Table};

impl Sync<'_> {
    /// Attachments, policies, bridges and elements that nobody has.
    pub(super) fn orphans(&mut self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let records = self.records()?;
        self.orphaned_attachments()?;
        self.orphaned_policies(&records)?;
        self.orphaned_names(&records)?;
        self.orphaned_bridges(&records)?;
        self.orphaned_elements(&records)?;
        self.orphaned_base()?;
        self.strangers()
    }

    /// Policies alone.
    pub(super) fn led_to_by_nobody(&mut self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let records = self.records()?;
        self.orphaned_policies(&records)
    }

    fn records(&self) -> Result<Vec<Record<PolicyKey>>, Error> {
        let records = self.options.state.records()?.into_iter();
        Ok(records.map(|(_, record)| record).collect())
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
        let id = |name: &String| Purpose::of(name)?.attachment()?.parse().ok();
        let ids: BTreeSet<AttachmentId> = names.iter().filter_map(id).collect();
        for id in ids {
            if self.options.state.has_attachment(&id) {
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
                    remove.commit(nft, None)
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
                "it has no record, and its pod is unknown: delete it if no pod needs it".to_owned()
            }));
        };
        if link::get_by_name(&mut self.rtnl()?, &device)?.is_none() {
            return Ok(None);
        }
        if self.carries_another_for_sure(&device, id)?.is_some() {
            return Ok(None); // the device was given another attachment
        }
        Ok(Some(format!(
            "its record is gone, but {device} is there: the pod keeps its rules; recreate it"
        )))
    }

    fn orphaned_policies(&mut self, records: &[Record<PolicyKey>]) -> Result<(), Error> {
        let chains = self.chains(&INET)?;
        let mut used: BTreeSet<String> = records.iter().map(|r| r.policy_chain.clone()).collect();
        used.extend(enforce::being_put(self.options.state));
        for pod in chains.iter().filter(|c| is_pods(c)) {
            used.extend(self.nft.targets(&INET, pod)?);
        }
        let is_garbage = |name: &String| {
            names::is_policys(name) && !used.iter().any(|policy| names::is_part_of(policy, name))
        };
        for (table, chains) in [(&INET, chains), (&NETDEV, self.chains(&NETDEV)?)] {
            let chains: Vec<String> = chains.into_iter().filter(is_garbage).collect();
            let sets: Vec<String> = self.nft.sets(table)?;
            let sets: Vec<String> = sets.into_iter().filter(is_garbage).collect();
            if chains.is_empty() && sets.is_empty() {
                continue;
            }
            let what = format!(
                "policy objects {}",
                [&chains[..], &sets[..]].concat().join(", ")
            );
            self.remove(what, "no pod has this policy", |nft, _| {
                enforce::remove_policies(nft, table, chains, sets)
            });
        }
        Ok(())
    }

    /// Sets of domain names that no policy asks, which only the kernel knows for sure.
    fn orphaned_names(&mut self, records: &[Record<PolicyKey>]) -> Result<(), Error> {
        let state = self.options.state;
        let mut groups = enforce::name_groups(&mut self.nft)?;
        groups.extend(state.list_name_groups()?);
        let used = records.iter().flat_map(|record| &record.names);
        let used: BTreeSet<&GroupName> = used.flat_map(|names| &names.groups).collect();
        groups.retain(|group| !used.contains(group));
        groups.sort();
        groups.dedup();
        if groups.is_empty() || !self.removes {
            return Ok(());
        }
        if self.options.dry_run {
            // Whether anything asks them is not found out without removing them.
            return Ok(());
        }
        let mut ledger = Ledger::open(state, &mut self.nft)?;
        for id in enforce::remove_names(&mut self.nft, &mut ledger, &groups)? {
            let what = format!("sets of domain names {id}");
            self.report
                .note(Did::Removed, what, "no pod has rules with these");
        }
        Ok(())
    }

    /// What a call left that was killed while it gave the node another base.
    fn orphaned_base(&mut self) -> Result<(), Error> {
        // A base has two: to tell which it is, all records have to be read.
        if Base::new(&[]).outdated(&self.nft.sets(&INET)?).len() <= 2 {
            return Ok(());
        }
        let ids = self.options.state.list_attachments()?;
        let base = self.current_base(&ids)?;
        let sets = enforce::unasked_sets(&mut self.nft, &base)?;
        if !sets.is_empty() {
            let what = format!("sets {}", sets.join(", "));
            self.remove(what, "another base is in force", |nft, _| {
                enforce::remove_sets(nft, sets)
            });
        }
        Ok(())
    }

    fn orphaned_bridges(&mut self, records: &[Record<PolicyKey>]) -> Result<(), Error> {
        let chains = self.nft.chains(&NETDEV)?;
        let bridges = records.iter().filter_map(|r| r.bridge.as_ref());
        let mut used: BTreeSet<String> =
            bridges.map(|bridge| Bridge::from(bridge).chain()).collect();
        let mut garbage = Vec::new();
        let of_kind = |kind| move |c: &&ChainState| Purpose::of(&c.name) == Some(kind);
        for chain in chains.iter().filter(of_kind(Purpose::Bridge)) {
            if chain.uses > self.nft.rule_count(&NETDEV, &chain.name)? {
                used.insert(chain.name.clone());
            } else if !used.contains(&chain.name) {
                garbage.push((chain.name.clone(), "no pod is on this bridge"));
            }
        }
        let links = link::all(&mut self.rtnl()?)?;
        for chain in chains.iter().filter(of_kind(Purpose::Port)) {
            let of = |bridge: &String| names::is_port_of(bridge, &chain.name);
            let device = chain.device.as_deref();
            if !used.iter().any(of) {
                garbage.push((chain.name.clone(), "no pod is on this bridge"));
            } else if !links.iter().any(|link| Some(link.name.as_str()) == device) {
                garbage.push((chain.name.clone(), "its port is gone"));
            }
        }
        for (chain, why) in garbage {
            self.remove(format!("chain {chain}"), why, |nft, _| {
                enforce::remove_bridge_chain(nft, &chain)
            });
        }
        Ok(())
    }

    fn orphaned_elements(&mut self, records: &[Record<PolicyKey>]) -> Result<(), Error> {
        for family in [Family::V4, Family::V6] {
            // An address that leads to a pod's chain is some attachment's, be its record damaged.
            let judged = self.nft.addresses(&INET, base::pods(family))?;
            let pods = records.iter().flat_map(|r| &r.addresses);
            let pods: BTreeSet<IpAddr> = pods.copied().chain(judged).collect();
            let mut egress: BTreeSet<IpAddr> =
                records.iter().flat_map(|r| r.egress.clone()).collect();
            egress.extend(self.options.state.list_egress()?);
            for address in self.nft.addresses(&INET, base::snat(family))? {
                if pods.contains(&address) {
                    egress.extend(self.nft.mapped(&INET, base::snat(family), address)?);
                }
            }
            let sets = [
                (&INET, base::denied(family), &pods),
                (&INET, base::judged(family), &pods),
                (&INET, base::led(family), &pods),
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
                    self.remove(what, "no pod has this address", |nft, _| {
                        enforce::remove_element(nft, table, set, address)
                    });
                }
            }
        }
        Ok(())
    }

    /// What others have put into our tables, or another version: it may be there for a reason.
    fn strangers(&mut self) -> Result<(), Error> {
        let base_chains = Base::new(&[]).chains();
        for table in [&INET, &NETDEV] {
            for chain in self.chains(table)? {
                let is_ours = Purpose::of(&chain).is_some()
                    || named::CHAINS.contains(&&*chain)
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

fn is_pods(chain: &str) -> bool {
    matches!(Purpose::of(chain), Some(Purpose::Pod(_)))
}
