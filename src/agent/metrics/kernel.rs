//! What the kernel and the state directory say of this node's pods, when they are asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink::conntrack;
use nft::{Family, Nft};
use rules::effective::Effective;
use rules::verdict::Verdict;

use super::sums::Sums;
use crate::agent::seen::Attached;
use crate::enforce;
use crate::plan::names::pod_chain;
use crate::plan::{self, INET, base};
use crate::store::{PolicyKey, Record, StateDir};

/// So many pods and rules have series of their own; what is above that is `other`.
const PODS: usize = 1000;
const RULES: usize = 500;
const OTHER: &str = "other";

/// How long a namespace's sums stay without a pod of it on this node.
const STAYS: Duration = Duration::from_secs(3600);

/// How long the kernel may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A rule's series: namespace, rule, verdict.
pub type RuleSeries = (String, String, &'static str);

/// An attachment's counter: its id, and the address.
type Of = (String, IpAddr);

/// Keeps the sums.
pub struct Sampler {
    state: StateDir,
    policies: HashMap<String, Policy>,
    pub evaluated: Sums<Of, String>,
    /// By namespace.
    pub denied: Sums<Of, String>,
    pub denied_of_pods: Sums<Of, (String, String)>,
    pub rules: Sums<(String, String), RuleSeries>,
}

/// What counts for a policy in the kernel, and the verdicts of its rules.
struct Policy {
    places: enforce::Counting,
    verdicts: HashMap<String, &'static str>,
}

/// What is as it is now.
#[derive(Debug, Default)]
pub struct Readings {
    pub enforced: u64,
    pub damaged: u64,
    pub policies: u64,
    /// By namespace and family: the address is held, and was not lost.
    pub egress: BTreeMap<(String, &'static str), bool>,
    pub ports_exhausted: u64,
    /// Who has a record.
    pub attached: Attached,
}

impl Sampler {
    /// Of this state directory.
    pub fn new(state: StateDir) -> Sampler {
        Sampler {
            state,
            policies: HashMap::new(),
            evaluated: Sums::new(STAYS),
            denied: Sums::new(STAYS),
            denied_of_pods: Sums::new(Duration::ZERO),
            rules: Sums::new(STAYS),
        }
    }

    /// Asks the kernel.
    ///
    /// # Errors
    /// Why it does not tell. The sums are as before.
    pub fn look(&mut self) -> Result<Readings, String> {
        let records = self.state.records().map_err(|e| e.to_string())?;
        let records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
        let mut nft = Nft::open().map_err(|e| e.to_string())?;
        let mut now = Readings::default();
        self.count_pods(&mut nft, &records, &mut now)?;
        self.count_rules(&mut nft, &records, &mut now)?;
        now.ports_exhausted =
            conntrack::failed(Instant::now() + TIMEOUT).map_err(|e| e.to_string())?;
        for address in self.state.list_egress().unwrap_or_default() {
            let Ok(Some(owner)) = self.state.read_egress(address) else {
                continue;
            };
            if owner.users.is_empty() {
                continue;
            }
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let is_held = !owner.is_lost();
            let known = now.egress.entry((owner.namespace, family)).or_insert(true);
            *known &= is_held;
        }
        Ok(now)
    }

    fn count_pods(
        &mut self,
        nft: &mut Nft,
        records: &[Record<PolicyKey>],
        now: &mut Readings,
    ) -> Result<(), String> {
        let (mut evaluated, mut denied) = (HashMap::new(), HashMap::new());
        for family in [Family::V4, Family::V6] {
            let elements = nft.element_counters(&INET, base::pods(family));
            for element in elements.map_err(|e| e.to_string())? {
                evaluated.insert(element.address, element);
            }
            let elements = nft.element_counters(&INET, base::denied(family));
            for element in elements.map_err(|e| e.to_string())? {
                denied.insert(element.address, element.counter.packets);
            }
        }
        let (mut of_evaluated, mut of_denied, mut of_pods) = (Vec::new(), Vec::new(), Vec::new());
        let known = self.denied_of_pods.all();
        let with_series = known.filter(|((_, pod), _)| pod != OTHER).count();
        let mut left = PODS.saturating_sub(with_series);
        for record in records {
            let (namespace, pod) = names(record);
            now.attached.add(record);
            let chain = pod_chain(record.id.as_str());
            let mut leads_there = false;
            // Pods that have series keep them.
            let mut series = (namespace.clone(), pod);
            if !self.denied_of_pods.has(&series) {
                match left {
                    0 => series.1 = OTHER.to_owned(),
                    _ => left -= 1,
                }
            }
            for address in &record.addresses {
                let element = evaluated.get(address);
                let Some(element) = element.filter(|e| e.chain.as_ref() == Some(&chain)) else {
                    continue; // another may have taken it over
                };
                leads_there = true;
                let of = (record.id.to_string(), *address);
                of_evaluated.push((of.clone(), namespace.clone(), element.counter.packets));
                if let Some(packets) = denied.get(address) {
                    of_denied.push((of.clone(), namespace.clone(), *packets));
                    of_pods.push((of, series.clone(), *packets));
                }
            }
            match leads_there || record.addresses.is_empty() {
                true => now.enforced += 1,
                false => now.damaged += 1,
            }
        }
        let at = Instant::now();
        self.evaluated.see(of_evaluated, at);
        self.denied.see(of_denied, at);
        self.denied_of_pods.see(of_pods, at);
        Ok(())
    }

    fn count_rules(
        &mut self,
        nft: &mut Nft,
        records: &[Record<PolicyKey>],
        now: &mut Readings,
    ) -> Result<(), String> {
        // A policy of several namespaces counts for all of them at once: then the label is empty.
        let mut namespaces: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for record in records {
            let chain = record.policy_chain.as_str();
            namespaces.entry(chain).or_default().insert(names(record).0);
            if !self.policies.contains_key(chain)
                && let Ok(Some(stored)) = self.state.read_policy(&record.id, &record.policy)
                && let Ok(policy) = stored.rebuild()
            {
                let compiled = plan::compile(&policy, record.log_group);
                let policy = Policy {
                    places: enforce::Counting::of(&compiled),
                    verdicts: verdicts(&policy),
                };
                self.policies.insert(chain.to_owned(), policy);
            }
        }
        self.policies
            .retain(|chain, _| namespaces.contains_key(chain.as_str()));
        now.policies = namespaces.len() as u64;
        let mut counted = Vec::new();
        let mut with_series = self.rules.all().filter(|(rule, _)| rule.1 != OTHER).count();
        let mut fresh: BTreeSet<RuleSeries> = BTreeSet::new();
        for (chain, of) in &namespaces {
            let Some(policy) = self.policies.get(*chain) else {
                continue;
            };
            let namespace = match of.len() {
                1 => of.first().cloned().unwrap_or_default(),
                _ => String::new(),
            };
            let mut labels: Vec<_> = policy
                .places
                .count(nft)
                .map_err(|e| e.to_string())?
                .into_iter()
                .collect();
            labels.sort_by(|one, other| one.0.cmp(&other.0));
            for (label, counter) in labels {
                let Some(verdict) = policy.verdicts.get(&label) else {
                    continue;
                };
                let own: RuleSeries = (namespace.clone(), label.clone(), verdict);
                let has_series = self.rules.has(&own) || fresh.contains(&own);
                let series = if has_series {
                    own
                } else if with_series < RULES {
                    with_series += 1;
                    fresh.insert(own.clone());
                    own
                } else {
                    (namespace.clone(), OTHER.to_owned(), *verdict)
                };
                counted.push((((*chain).to_owned(), label), series, counter.packets));
            }
        }
        self.rules.see(counted, Instant::now());
        Ok(())
    }
}

fn names<P>(record: &Record<P>) -> (String, String) {
    let namespace = record.namespace.clone().unwrap_or_default();
    (namespace, record.pod.clone().unwrap_or_default())
}

/// What becomes of a packet that a rule matches, by the rule's label.
fn verdicts(policy: &Effective) -> HashMap<String, &'static str> {
    let word = |verb, audit| Verdict::of(verb, audit).map_or("pass", Verdict::as_str);
    let tiers = policy.tiers.iter();
    let mut verdicts: HashMap<String, &'static str> = tiers
        .flat_map(|tier| {
            let rules = tier.rules.iter();
            rules.map(|rule| (tier.label(rule), word(rule.verb, tier.audit)))
        })
        .collect();
    let default = policy.default_action;
    let verdict = Verdict::by_default(default, policy.default_audit);
    verdicts.insert(default.label().to_owned(), verdict.as_str());
    verdicts
}
