//! What the kernel holds of all attachments, in a few dumps whatever their number.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::guards::{ForgedChecksums, Guards};
use crate::attachment::now::Interface;
use crate::egress::place::Ways;
use crate::plan::base::{self, Base};
use crate::plan::names::pod_chain;
use crate::plan::{AttachmentPlan, LAYOUT};
use crate::plan::{INET, NETDEV};
use crate::store::{AttachmentId, Record, StateDir};
use netlink::{self, Rtnl, conntrack};
use nft::{self, ChainState, Counter, ElementCounter, Family, Nft, TableFamily};

/// How long the kernel may take to list the links.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the kernel does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Nft(#[from] nft::Error),
    #[error(transparent)]
    Net(#[from] netlink::Error),
}

/// The kernel's state at one moment, or nearly: another process may change it between two dumps.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    judged: HashMap<IpAddr, ElementCounter>,
    denied: HashMap<IpAddr, Counter>,
    last_denied: HashMap<IpAddr, Timestamp>,
    /// Pods' addresses with an egress address, in the map and in the set.
    translated: HashSet<IpAddr>,
    guarded: HashSet<IpAddr>,
    egress: HashSet<IpAddr>,
    inet: HashMap<String, ChainState>,
    netdev: HashMap<String, ChainState>,
    guards: Guards,
    interfaces: HashMap<AttachmentId, Interface>,
    /// What is wrong with egress addresses.
    places: HashMap<IpAddr, Vec<String>>,
    /// What would have left the node with another source than the egress address.
    pub leak_stop: Counter,
    /// Connections that the node could not take on.
    pub connections_failed: u64,
    /// What is wrong for all attachments.
    base: Vec<String>,
}

impl Kernel {
    /// `records`: whose veths are looked at one by one.
    pub(super) fn read<'r>(
        nft: &mut Nft,
        state: &StateDir,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Result<Self, Error> {
        let mut kernel = Kernel {
            inet: by_name(nft.chains(&INET)?),
            netdev: by_name(nft.chains(&NETDEV)?),
            ..Kernel::default()
        };
        for family in [Family::V4, Family::V6] {
            let mut addresses = |set| -> Result<Vec<IpAddr>, nft::Error> {
                let elements = nft.element_counters(&INET, set)?;
                Ok(elements.into_iter().map(|e| e.address).collect())
            };
            kernel.translated.extend(addresses(base::snat(family))?);
            kernel.guarded.extend(addresses(base::snatted(family))?);
            kernel.egress.extend(addresses(base::egress(family))?);
            let judged = nft.element_counters(&INET, base::pods(family))?;
            kernel
                .judged
                .extend(judged.into_iter().map(|e| (e.address, e)));
            let ages = nft.element_ages(&INET, base::last_denied(family), base::REMEMBERED)?;
            let now = Timestamp::now();
            kernel.last_denied.extend(
                ages.into_iter()
                    .filter_map(|(address, age)| Some((address, now.checked_sub(age).ok()?))),
            );
            let denied = nft.element_counters(&INET, base::denied(family))?;
            kernel
                .denied
                .extend(denied.into_iter().map(|e| (e.address, e.counter)));
        }
        let leaks = nft.rule_counters(&INET, base::LEAK_STOP)?;
        kernel.leak_stop = leaks.into_iter().map(|rule| rule.counter).sum();
        let mut rtnl = Rtnl::open(Instant::now() + TIMEOUT)?;
        let records: Vec<&Record> = records.into_iter().collect();
        kernel.look_at_node(&mut rtnl, state, &records)?;
        kernel.guards = Guards::read(&mut rtnl, records)?;
        kernel.connections_failed = conntrack::failed(Instant::now() + TIMEOUT)?;
        kernel.base = kernel.base_problems(nft)?;
        Ok(kernel)
    }

    /// How interfaces and egress addresses are by now.
    fn look_at_node(
        &mut self,
        rtnl: &mut Rtnl,
        state: &StateDir,
        records: &[&Record],
    ) -> Result<(), Error> {
        let ways = Ways::read(rtnl)?;
        for record in records {
            let interface = ways.devices.interface(rtnl, record)?;
            self.interfaces.insert(record.id.clone(), interface);
            for address in &record.egress {
                self.places.entry(*address).or_insert_with(|| {
                    let faults = match state.read_egress(*address) {
                        Ok(Some(owner)) => ways.faults(*address, &owner),
                        Ok(None) => return vec!["its file is missing".to_owned()],
                        Err(e) => return vec![e.to_string()],
                    };
                    faults.into_iter().map(|fault| fault.why).collect()
                });
            }
        }
        Ok(())
    }

    /// The packets of this attachment that rules looked at.
    pub(super) fn judged(&self, record: &Record) -> Counter {
        let own = self.own(record).filter_map(|a| self.judged.get(a));
        own.map(|element| element.counter).sum()
    }

    /// Those that were denied or rejected.
    pub(super) fn denied(&self, record: &Record) -> Counter {
        self.own(record)
            .filter_map(|a| self.denied.get(a))
            .copied()
            .sum()
    }

    /// When the last of them was. None: none yet, or not in the last 30 days.
    pub(super) fn last_denied(&self, record: &Record) -> Option<Timestamp> {
        // What an earlier owner of the address left behind says nothing of this one.
        let denied = |a: &&IpAddr| self.denied.get(a).is_some_and(|c| c.packets > 0);
        self.own(record)
            .filter(denied)
            .filter_map(|a| self.last_denied.get(a))
            .max()
            .copied()
    }

    /// What is done about its packets that would be written behind the rules.
    pub(super) fn forged_checksums(&self, record: &Record) -> ForgedChecksums {
        self.guards.of(record)
    }

    /// The attachment's addresses that lead to its chain: another may have taken them over.
    fn own<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = &'a IpAddr> {
        let chain = pod_chain(record.id.as_str());
        record.addresses.iter().filter(move |address| {
            let element = self.judged.get(address);
            element.is_some_and(|e| e.chain.as_ref() == Some(&chain))
        })
    }

    /// What an attachment lacks, as far as the dumps tell: not what single rules say. `users`: how
    /// many attachments have its policy.
    pub(super) fn problems(&self, record: &Record, users: usize) -> Vec<String> {
        if record.layout != LAYOUT {
            return vec!["added by another version of egressway: not compared".to_owned()];
        }
        let mut problems = self.base.clone();
        self.veth_problems(record, &mut problems);
        self.address_problems(record, &mut problems);
        let policy = &record.policy_chain;
        match self.inet.get(policy) {
            None => problems.push(format!("chain {policy} is missing")),
            // What refers to it are the pods' chains; the rest are its own rules.
            Some(chain) if chain.uses as usize <= users => {
                problems.push(format!("chain {policy} is empty"));
            }
            Some(_) => {}
        }
        problems
    }

    fn base_problems(&self, nft: &mut Nft) -> Result<Vec<String>, nft::Error> {
        let mut problems = Vec::new();
        // Names, hooks and numbers of rules are the same whatever the cluster's networks are.
        for chain in Base::new(&[]).chains() {
            let name = chain.name;
            let held = match chain.table.family {
                TableFamily::Netdev => &self.netdev,
                _ => &self.inet,
            };
            let there = held.get(name);
            match (there, chain.hook) {
                (None, _) => problems.push(format!("chain {name} is missing")),
                (Some(there), Some(hook)) if !there.hangs_at(&hook) => {
                    problems.push(format!("chain {name} is at another hook"));
                }
                _ if nft.rule_count(chain.table, name)? as usize != chain.rules.len() => {
                    problems.push(format!("chain {name} has other rules"));
                }
                _ => {}
            }
        }
        Ok(problems)
    }

    fn veth_problems(&self, record: &Record, problems: &mut Vec<String>) {
        let plan = &AttachmentPlan::from(record);
        match self.interfaces.get(&record.id) {
            None | Some(Interface::Gone) => {
                problems.push(format!("{} is gone", plan.veth));
                return; // its chain goes with it
            }
            Some(Interface::Elsewhere) => {
                problems.push(format!("{} is in another network namespace", plan.veth));
                return;
            }
            Some(Interface::Here(now)) => {
                problems.extend(now.changed.iter().chain(&now.told).cloned());
            }
        }
        problems.extend(self.guards.problem(record.veth_index));
        let (name, nd) = (plan.veth_chain(), plan.nd_chain());
        match self.netdev.get(&name) {
            None => problems.push(format!("chain {name} is missing")),
            Some(chain) if !chain.hangs_at(&plan.veth_hook()) => {
                problems.push(format!(
                    "chain {name} is not at the ingress of {}",
                    plan.veth
                ));
            }
            Some(chain) if (chain.uses as usize) < plan.veth_rules().len() => {
                problems.push(format!("chain {name} lacks rules"));
            }
            Some(_) => {
                // One of the veth's rules refers to each.
                for (chain, rules) in [
                    (nd, plan.nd_rules()),
                    (plan.many_chain(), plan.many_rules()),
                ] {
                    match self.netdev.get(&chain) {
                        None => problems.push(format!("chain {chain} is missing")),
                        Some(held) if held.uses as usize <= rules.len() => {
                            problems.push(format!("chain {chain} lacks rules"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        if let Some(bridge) = &plan.bridge
            && !self.netdev.contains_key(&bridge.chain())
        {
            problems.push(format!("chain {} is missing", bridge.chain()));
        }
    }

    fn address_problems(&self, record: &Record, problems: &mut Vec<String>) {
        let plan = &AttachmentPlan::from(record);
        let name = plan.pod_chain();
        match self.inet.get(&name) {
            None => problems.push(format!("chain {name} is missing")),
            // Its addresses refer to it.
            Some(chain) if chain.uses as usize <= self.own(record).count() => {
                problems.push(format!("chain {name} is empty"));
            }
            Some(_) => {}
        }
        for address in &plan.addresses {
            match self.judged.get(address).map(|e| e.chain.as_ref()) {
                None => problems.push(format!("packets from {address} are not filtered")),
                Some(chain) if chain != Some(&name) => {
                    problems.push(format!("{address} is another attachment's"));
                }
                Some(_) => {}
            }
            let family = Family::of(address);
            let Some(egress) = plan.egress.iter().find(|e| Family::of(e) == family) else {
                continue;
            };
            for why in self.places.get(egress).into_iter().flatten() {
                problems.push(format!("egress IP {egress}: {why}"));
            }
            if !self.translated.contains(address)
                || !self.guarded.contains(address)
                || !self.egress.contains(egress)
            {
                problems.push(format!("{address} is not kept to egress IP {egress}"));
            }
        }
    }
}

fn by_name(chains: Vec<ChainState>) -> HashMap<String, ChainState> {
    chains.into_iter().map(|c| (c.name.clone(), c)).collect()
}
