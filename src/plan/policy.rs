//! A pod's effective policy as chains and sets, named after their own content.
//!
//! ```text
//! pol-HASH              every tier in order, ends with the default action
//! pol-HASH-dns          the same for packets to clusterDNS, if some rule excepts these
//! pol-HASH-default      the default action, if there are these two
//! pol-HASH-tN           a tier that has a `pass`, which returns from it
//! pol-HASH-rN           what rule N does, where that is more than to count and decide
//! pol-HASH-sN           addresses or ports of a rule that has several
//! pol-HASH-bN-...       many rules' addresses, see `block`
//! ```
//! Tiers are called one after the other, none leads to the next: the kernel takes no path through
//! chains that is longer than 16, and older ones walk every path when they check a transaction.
//!
//! Pods with the same policy share it. It is never changed in place and goes with its last user.

mod block;
mod services;
mod together;

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use nft::{Chain, Element, Elements, KeyType, Rule as KernelRule, Set, Transaction, Verdict};
use rules::effective::Effective;
use rules::rule::Verb;

use super::INET;
use super::LAYOUT;
use super::action::Action;
use super::condition::{self, Condition};
use super::lookup::{self, Entry, Part};
use super::names;

/// A policy in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The chain at which the policy starts.
    pub name: String,
    /// Every chain with its rules, the first being where the policy starts.
    pub chains: Vec<(String, Vec<KernelRule>)>,
    /// Every set with its elements.
    pub sets: Vec<(Set, Vec<Element>)>,
}

impl Compiled {
    /// The operations that put it into the kernel. `nft` wants a map's chains before the map.
    pub fn add(&self) -> Transaction {
        let mut ops = Transaction::new();
        for (chain, _) in &self.chains {
            ops.add(&INET, Chain::new(chain));
        }
        for (set, elements) in &self.sets {
            ops.add(&INET, set.clone());
            ops.add(&INET, Elements::new(&set.name, elements.clone()));
        }
        for (chain, rules) in &self.chains {
            for rule in rules {
                ops.add(&INET, rule.clone().in_chain(chain));
            }
        }
        ops
    }
}

/// The name of a policy's first chain, and the beginning of all its others': the same for the same
/// texts and what they stand for, whoever compiles them.
pub fn name(policy: &Effective, log_group: u16) -> String {
    let mut said = format!("{} {LAYOUT} {log_group}", env!("CARGO_PKG_VERSION"));
    // Writing to a String can't fail.
    let _ = write!(
        said,
        " {:?} {} {:?}",
        policy.default_action, policy.default_audit, policy.facts
    );
    let mut digest = Sha256::new_with_prefix(said);
    for tier in &policy.tiers {
        // A text's length before it: no two lists of tiers read the same.
        let head = format!("\n{} {} {}\n", tier.tier, tier.audit, tier.text.len());
        digest.update(head);
        digest.update(&tier.text);
    }
    names::policy(&crate::hex::hex(&digest.finalize()[..8]))
}

/// Who compiles: the same policy may become something else with another one.
pub(crate) fn compiler() -> String {
    format!("{} {LAYOUT}", env!("CARGO_PKG_VERSION"))
}

/// Compiles; all names begin with [`name`].
pub fn compile(policy: &Effective, log_group: u16) -> Compiled {
    compile_as(&name(policy, log_group), policy, log_group, Shape::USUAL)
}

/// What may differ between forms of the same meaning.
#[derive(Clone, Copy)]
struct Shape {
    /// How a list of conditions becomes parts.
    divide: fn(&[Entry<'_>]) -> Vec<Part>,
    /// How many services a protocol may have.
    services: usize,
    /// From how many elements on address and port are looked up behind a gate, and how many of them
    /// make a part.
    many: usize,
    part: usize,
}

impl Shape {
    const USUAL: Self = Self {
        divide: lookup::divide,
        services: services::MOST,
        many: together::MANY,
        part: together::PART,
    };
}

fn compile_as(name: &str, policy: &Effective, log_group: u16, shape: Shape) -> Compiled {
    let (mut rules, tiers) = planned(policy, log_group);
    Compiler {
        name: name.to_owned(),
        chains: vec![(name.to_owned(), Vec::new())],
        sets: Vec::new(),
        set_names: HashMap::new(),
        services: HashMap::new(),
        blocks: 0,
        shape,
    }
    .run(&mut rules, &tiers, policy, log_group)
}

/// A rule that something can match.
struct Planned {
    action: Action,
    conditions: Vec<Condition>,
    passes: bool,
    /// The chain that logs, counts and decides, once something leads there.
    chain: Option<Arc<str>>,
}

/// All rules, and which of them each tier has.
fn planned(policy: &Effective, log_group: u16) -> (Vec<Planned>, Vec<Range<usize>>) {
    let mut rules = Vec::with_capacity(policy.tiers.iter().map(|tier| tier.rules.len()).sum());
    let mut tiers = Vec::new();
    for tier in &policy.tiers {
        let first = rules.len();
        for rule in &tier.rules {
            let conditions = condition::of_rule(rule, &policy.facts);
            if !conditions.is_empty() {
                rules.push(Planned {
                    action: Action::of_rule(tier, rule, log_group),
                    conditions,
                    passes: rule.verb == Verb::Pass,
                    chain: None,
                });
            }
        }
        tiers.push(first..rules.len());
    }
    (rules, tiers)
}

struct Compiler {
    name: String,
    chains: Vec<(String, Vec<KernelRule>)>,
    sets: Vec<(Set, Vec<Element>)>,
    set_names: HashMap<Vec<Element>, String>,
    /// The chains to which ports lead, by their rules.
    services: HashMap<Vec<KernelRule>, Arc<str>>,
    blocks: usize,
    shape: Shape,
}

/// The chain at which a policy starts.
const START: usize = 0;

impl Compiler {
    fn run(
        mut self,
        rules: &mut [Planned],
        tiers: &[Range<usize>],
        policy: &Effective,
        log_group: u16,
    ) -> Compiled {
        // A rule cannot test that a packet does not go to clusterDNS (that would be the negation
        // of several conjunctions), so that is decided once for all rules, by where they stand.
        let split = rules
            .iter()
            .flat_map(|rule| &rule.conditions)
            .any(|condition| condition.dns == Some(false));
        let mut default = Action::by_default(policy, log_group).rules();
        if split {
            let chain = self.add_chain("default".to_owned(), default);
            default = vec![self.goto(chain)];
            let dns = self.add_chain("dns".to_owned(), Vec::new());
            let to_dns = self.goto(dns);
            for condition in condition::of_dns(&policy.facts) {
                self.push(START, &condition, to_dns.clone());
            }
            self.tiers(dns, rules, tiers, Some(true), &default);
        }
        self.tiers(START, rules, tiers, split.then_some(false), &default);
        Compiled {
            name: self.name,
            chains: self.chains,
            sets: self.sets,
        }
    }

    /// A new chain; its place in the list.
    fn add_chain(&mut self, suffix: String, rules: Vec<KernelRule>) -> usize {
        self.chains
            .push((names::policy_part(&self.name, &suffix), rules));
        self.chains.len() - 1
    }

    fn goto(&self, chain: usize) -> KernelRule {
        KernelRule::new().then(Verdict::Goto(self.chains[chain].0.clone()))
    }

    /// All tiers and the default action. `dns`: what is known of packets that come to `chain`.
    fn tiers(
        &mut self,
        chain: usize,
        rules: &mut [Planned],
        tiers: &[Range<usize>],
        dns: Option<bool>,
        default: &[KernelRule],
    ) {
        let can_hold = |c: &Condition| dns.is_none() || c.dns.is_none() || c.dns == dns;
        // What stands in one chain: (rule, condition) in order.
        let mut list: Vec<(usize, usize)> = Vec::new();
        for tier in tiers {
            let kept = tier.clone().flat_map(|rule| {
                let conditions = rules[rule].conditions.iter().enumerate();
                let kept = conditions.filter(|(_, condition)| can_hold(condition));
                kept.map(move |(n, _)| (rule, n))
            });
            let kept: Vec<(usize, usize)> = kept.collect();
            if kept.iter().any(|(rule, _)| rules[*rule].passes) {
                self.place(chain, rules, &list);
                list.clear();
                let target = self.add_chain(format!("t{}", self.chains.len()), Vec::new());
                let jump = Verdict::Jump(self.chains[target].0.clone());
                self.chains[chain].1.push(KernelRule::new().then(jump));
                self.place(target, rules, &kept);
            } else {
                list.extend(kept);
            }
        }
        self.place(chain, rules, &list);
        self.chains[chain].1.extend_from_slice(default);
    }

    /// Puts conditions behind what a chain has already.
    fn place(&mut self, chain: usize, rules: &mut [Planned], list: &[(usize, usize)]) {
        let entry = |(rule, condition): &(usize, usize)| Entry {
            rule: *rule,
            effect: block::effect(&rules[*rule].action),
            lookup: rules[*rule].conditions[*condition].lookup.as_ref(),
        };
        let entries: Vec<Entry<'_>> = list.iter().map(entry).collect();
        for part in (self.shape.divide)(&entries) {
            match part {
                Part::Plain(place) => {
                    let (rule, condition) = list[place];
                    let action = self.act(&mut rules[rule]);
                    self.push(chain, &rules[rule].conditions[condition], action);
                }
                Part::Block(areas) => self.block(chain, rules, &areas),
            }
        }
    }

    /// What a rule does, for a place where it matched. What is logged has a chain of its own, and so
    /// one limit, wherever it matches.
    fn act(&mut self, rule: &mut Planned) -> KernelRule {
        match self.own_chain(rule) {
            Some(chain) => KernelRule::new().then(Verdict::Goto(chain.to_string())),
            None => rule.action.count(),
        }
    }

    /// The chain of a rule that does more than count and decide.
    fn own_chain(&mut self, rule: &mut Planned) -> Option<Arc<str>> {
        if rule.action.log.is_some() && rule.chain.is_none() {
            let chain = self.add_chain(format!("r{}", self.chains.len()), rule.action.rules());
            rule.chain = Some(self.chains[chain].0.as_str().into());
        }
        rule.chain.clone()
    }

    fn push(&mut self, chain: usize, condition: &Condition, action: KernelRule) {
        let mut rule = KernelRule::new();
        for test in condition.tests().iter() {
            rule = rule.then(test.to_match(|key, elements| self.set(key, elements)));
        }
        rule.statements.extend(action.statements);
        rule.comment = action.comment;
        self.chains[chain].1.push(rule);
    }

    /// The name of the set with these elements; the same elements are stored once.
    fn set(&mut self, key: KeyType, elements: Vec<Element>) -> String {
        if let Some(name) = self.set_names.get(&elements) {
            return name.clone();
        }
        let name = names::policy_part(&self.name, &format!("s{}", self.sets.len() + 1));
        let set = Set {
            interval: true,
            ..Set::new(&name, key)
        };
        self.sets.push((set, elements.clone()));
        self.set_names.insert(elements, name.clone());
        name
    }
}

#[cfg(test)]
mod tests;
