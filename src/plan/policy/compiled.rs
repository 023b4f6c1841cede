//! What a policy becomes, and the same under another name.

use std::net::IpAddr;

use nft::{Data, Element, Match, Rule as KernelRule, Set, Statement, Test, Transaction, Verdict};
use sha2::{Digest, Sha256};

use crate::plan::multicast::{Multicast, add_parts};
use crate::plan::named::Group;
use crate::plan::{INET, names};

/// A policy in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The chain at which the policy starts.
    pub name: String,
    /// Every chain with its rules, the first being where the policy starts.
    pub chains: Vec<(String, Vec<KernelRule>)>,
    /// Every set with its elements.
    pub sets: Vec<(Set, Vec<Element>)>,
    /// What it says of multicast, if it allows any.
    pub multicast: Option<Multicast>,
    /// The groups of domain names whose sets it asks, which are not its own.
    pub groups: Vec<Group>,
    /// Whose questions are led to the node's own resolver, if there are any: the policy file's `clusterDNS`.
    pub resolvers: Vec<IpAddr>,
}

impl Compiled {
    /// The operations that put it into the kernel.
    pub fn add(&self) -> Transaction {
        let mut ops = add_parts(&INET, &self.chains, &self.sets);
        if let Some(multicast) = &self.multicast {
            ops.append(multicast.add());
        }
        ops
    }

    /// The same under another name: what pods are led by while this one is made anew.
    pub fn aside(&self) -> Self {
        let digest = Sha256::new_with_prefix("aside ").chain_update(&self.name);
        let name = names::policy(
            &crate::hex::hex(&digest.finalize()[..8]),
            self.multicast.is_some(),
            names::has_names(&self.name),
        );
        let renamed = |old: &str| match old.strip_prefix(&self.name) {
            Some(part) => format!("{name}{part}"),
            None => old.to_owned(),
        };
        let verdict = |verdict: &Verdict| match verdict {
            Verdict::Jump(chain) => Verdict::jump(renamed(chain)),
            Verdict::Goto(chain) => Verdict::goto(renamed(chain)),
            other => other.clone(),
        };
        let statement = |statement: &mut Statement| match statement {
            Statement::Match(Match {
                test: Test::In(set) | Test::NotIn(set),
                ..
            })
            | Statement::Among(_, set)
            | Statement::Vmap(_, set)
            | Statement::Update(_, set, _) => *set = renamed(set),
            Statement::Verdict(own) => *own = verdict(own),
            _ => {}
        };
        let rule = |rule: &KernelRule| {
            let mut rule = rule.clone();
            rule.statements.iter_mut().for_each(statement);
            rule
        };
        let element = |element: &Element| match element.data() {
            Some(Data::Verdict(own)) => element.clone().verdict(verdict(own)),
            _ => element.clone(),
        };
        let chains = |chains: &[(String, Vec<KernelRule>)]| {
            let chains = chains.iter();
            let renamed =
                chains.map(|(chain, rules)| (renamed(chain), rules.iter().map(rule).collect()));
            renamed.collect()
        };
        let sets = |sets: &[(Set, Vec<Element>)]| {
            let sets = sets.iter().map(|(set, elements)| {
                let name = renamed(&set.name);
                let set = Set {
                    name,
                    ..set.clone()
                };
                (set, elements.iter().map(element).collect())
            });
            sets.collect()
        };
        Self {
            chains: chains(&self.chains),
            sets: sets(&self.sets),
            multicast: self.multicast.as_ref().map(|part| Multicast {
                chains: chains(&part.chains),
                sets: sets(&part.sets),
            }),
            groups: self.groups.clone(),
            resolvers: self.resolvers.clone(),
            name: name.clone(),
        }
    }
}
