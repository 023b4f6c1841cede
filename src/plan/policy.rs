//! A pod's effective policy as chains and sets, named after their own content.
//!
//! ```text
//! pol-HASH              every tier in order, ends with the default action
//! pol-HASH-dns, ...     the same for packets to clusterDNS, metadata or the API server, if some rule excepts
//!                       these
//! pol-HASH-begun        gives flows that begin under this policy its labels, by which their errors are known
//! pol-HASH-default      the default action, if there are these two
//! pol-HASH-asked, ...   questions to clusterDNS that are led to the node's own resolver, if there are domain names
//! pol-HASH-nN           what rule N does where a domain name stands for the destination
//! pol-HASH-jN           the rest of a rule of which many conditions begin alike
//! pol-HASH-tN           a tier that has a `pass`, which returns from it
//! pol-HASH-rN           what rule N does, where that is more than to count and decide
//! pol-HASH-sN           addresses or ports of a rule that has several
//! pol-HASH-bN-...       many rules' addresses, see `block`
//! ```
//! Tiers are called one after the other, none leads to the next: the kernel takes no path through
//! chains that is longer than 16, and older ones walk every path when they check a transaction.
//!
//! Pods with the same policy share it. It is never changed in place and goes with its last user.

mod asked;
mod begun;
mod block;
mod compiled;
mod fields;
mod services;
mod together;

pub use compiled::Compiled;

use begun::Errors;

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use nft::{Element, KeyType, Rule as KernelRule, Set, Verdict};
use rules::effective::{Effective, Facts};
use rules::facts::Word;
use rules::rule::{Target, Verb};

use super::LAYOUT;
use super::action::Action;
use super::condition::{self, Condition};
use super::lookup::{self, Entry, Segment};
use super::multicast;
use super::named::{self, Group};
use super::names;
use super::reach::Words;

/// The name of a policy's first chain, and the beginning of all its others': the same for the same
/// texts and what they stand for, whoever compiles them.
pub fn name(policy: &Effective, log_group: u16) -> String {
    let mut said = format!("{} {LAYOUT} {log_group}", env!("CARGO_PKG_VERSION"));
    // Writing to a String can't fail.
    let _ = write!(
        said,
        " {:?} {} {:?} {:?} {}",
        policy.default_action,
        policy.default_audit,
        policy.facts,
        policy.pod_log_rate,
        policy.exempt
    );
    let mut digest = Sha256::new_with_prefix(said);
    for tier in &policy.tiers {
        // A text's length before it: no two lists of tiers read the same.
        let head = format!("\n{} {} {}\n", tier.tier, tier.audit, tier.text.len());
        digest.update(head);
        digest.update(&tier.text);
    }
    names::policy(
        &crate::hex::hex(&digest.finalize()[..8]),
        multicast::is_allowed(policy),
        !Group::all(policy).is_empty(),
    )
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
    divide: fn(&[Entry<'_>]) -> Vec<Segment>,
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
        inner: HashMap::new(),
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
    /// The one that goes there by way of the open connections.
    named: Option<Arc<str>>,
    /// Where it stands in the policy: the tier's place, and its own there.
    place: (usize, usize),
}

/// All rules, and which of them each tier has.
fn planned(policy: &Effective, log_group: u16) -> (Vec<Planned>, Vec<Range<usize>>) {
    let mut rules = Vec::with_capacity(policy.tiers.iter().map(|tier| tier.rules.len()).sum());
    let mut tiers = Vec::new();
    for (in_policy, tier) in policy.tiers.iter().enumerate() {
        let first = rules.len();
        for (in_tier, rule) in tier.rules.iter().enumerate() {
            let conditions = condition::of_rule(rule, &policy.facts);
            if !conditions.is_empty() {
                rules.push(Planned {
                    action: Action::of_rule(policy, tier, rule, log_group),
                    conditions,
                    passes: rule.verb == Verb::Pass,
                    chain: None,
                    named: None,
                    place: (in_policy, in_tier),
                });
            }
        }
        tiers.push(first..rules.len());
    }
    (rules, tiers)
}

/// How long errors about what has begun pass: until the first of the rules ends that let packets go. What a name stands
/// for may end at any time.
fn errors(policy: &Effective) -> Errors {
    if !Group::all(policy).is_empty() {
        return Errors::Judged;
    }
    let rules = policy.tiers.iter().flat_map(|tier| &tier.rules);
    let opens = rules.filter(|rule| matches!(rule.verb, Verb::Allow | Verb::Pass));
    match opens.filter_map(condition::until).min() {
        Some(until) => Errors::PassUntil(until),
        None => Errors::Pass,
    }
}

struct Compiler {
    name: String,
    chains: Vec<(String, Vec<KernelRule>)>,
    sets: Vec<(Set, Vec<Element>)>,
    set_names: HashMap<Vec<Element>, String>,
    /// The chains to which ports lead, by their rules.
    services: HashMap<Vec<KernelRule>, Arc<str>>,
    /// The chains of what is left of rules, by their rules.
    inner: HashMap<Vec<KernelRule>, Arc<str>>,
    blocks: usize,
    shape: Shape,
}

/// What stands in every chain that packets are divided to.
struct All<'a> {
    tiers: &'a [Range<usize>],
    facts: &'a Facts,
    default: &'a [KernelRule],
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
        let is_excepted = |word: &Word| {
            let mut conditions = rules.iter().flat_map(|rule| &rule.conditions);
            conditions.any(|condition| condition.words[*word as usize] == Some(false))
        };
        let split: Vec<Word> = Word::ALL.into_iter().filter(is_excepted).collect();
        let mut default = Action::by_default(policy, log_group).rules();
        if !split.is_empty() {
            let chain = self.add_chain("default".to_owned(), default);
            default = vec![self.goto(chain)];
        }
        let known = Words::default();
        let all = All {
            tiers,
            facts: &policy.facts,
            default: &default,
        };
        let begun = self.add_chain("begun".to_owned(), begun::rules(&self.name, errors(policy)));
        let beginning = self.chains[begun].0.clone();
        self.chains[START].1.push(begun::first(&beginning));
        let groups = Group::all(policy);
        if !groups.is_empty() {
            self.questions(rules, policy, &default);
        }
        self.split((START, ""), &split, known, rules, &all);
        Compiled {
            multicast: multicast::compile(&self.name, policy),
            resolvers: match groups.is_empty() {
                true => Vec::new(),
                false => policy.facts.resolvers.clone(),
            },
            groups,
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
        KernelRule::new().then(Verdict::goto(&*self.chains[chain].0))
    }

    /// All tiers and the default action, for packets that are for a service of these words, in chains of
    /// their own, and for all others in this one. `known`: what is known of packets that come here.
    fn split(
        &mut self,
        (chain, called): (usize, &str),
        words: &[Word],
        mut known: Words,
        rules: &mut [Planned],
        all: &All<'_>,
    ) {
        let Some((word, others)) = words.split_first() else {
            self.tiers(chain, rules, known, all);
            return;
        };
        let conditions = condition::of_word(*word, all.facts);
        if !conditions.is_empty() {
            let suffix = format!("{called}{}", Target::from(*word));
            let own = self.add_chain(suffix.clone(), Vec::new());
            let there = self.goto(own);
            for condition in conditions {
                self.push(chain, &condition, &there);
            }
            known[*word as usize] = Some(true);
            self.split((own, &format!("{suffix}-")), others, known, rules, all);
        }
        known[*word as usize] = Some(false);
        self.split((chain, called), others, known, rules, all);
    }

    /// All tiers and the default action.
    fn tiers(&mut self, chain: usize, rules: &mut [Planned], known: Words, all: &All<'_>) {
        let agrees = |(mine, known): (&Option<bool>, &Option<bool>)| {
            mine.is_none() || known.is_none() || mine == known
        };
        let can_hold = |c: &Condition| c.words.iter().zip(&known).all(agrees);
        // What stands in one chain: (rule, condition) in order.
        let mut list: Vec<(usize, usize)> = Vec::new();
        for tier in all.tiers {
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
                let jump = Verdict::jump(&*self.chains[target].0);
                self.chains[chain].1.push(KernelRule::new().then(jump));
                self.place(target, rules, &kept);
            } else {
                list.extend(kept);
            }
        }
        self.place(chain, rules, &list);
        self.chains[chain].1.extend_from_slice(all.default);
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
                Segment::Plain(place) => {
                    let (rule, condition) = list[place];
                    let action = match rules[rule].conditions[condition].named.clone() {
                        Some(group) => self.keep_open(&mut rules[rule], &group),
                        None => self.act(&mut rules[rule]),
                    };
                    self.push(chain, &rules[rule].conditions[condition], &action);
                }
                Segment::Block(areas) => self.block(chain, rules, &areas),
            }
        }
    }

    /// What a rule does, for a place where it matched. What is logged has a chain of its own, and so
    /// one limit, wherever it matches.
    fn act(&mut self, rule: &mut Planned) -> KernelRule {
        match self.own_chain(rule) {
            Some(chain) => KernelRule::new().then(Verdict::goto(chain)),
            None => rule.action.count(),
        }
    }

    /// The same for a connection that a name has let through, which is known as such from then on.
    fn keep_open(&mut self, rule: &mut Planned, group: &str) -> KernelRule {
        let chain = match &rule.named {
            Some(chain) => chain.clone(),
            None => {
                let mut rules = named::keep_open(group);
                rules.push(self.act(rule));
                let chain = self.add_chain(format!("n{}", self.chains.len()), rules);
                let chain: Arc<str> = self.chains[chain].0.as_str().into();
                rule.named = Some(chain.clone());
                chain
            }
        };
        KernelRule::new().then(Verdict::goto(chain))
    }

    /// The chain of a rule that does more than count and decide.
    fn own_chain(&mut self, rule: &mut Planned) -> Option<Arc<str>> {
        if !rule.action.log.is_empty() && rule.chain.is_none() {
            let chain = self.add_chain(format!("r{}", self.chains.len()), rule.action.rules());
            rule.chain = Some(self.chains[chain].0.as_str().into());
        }
        rule.chain.clone()
    }

    /// One rule behind what a chain has already.
    fn push(&mut self, chain: usize, condition: &Condition, action: &KernelRule) {
        let rule = self.rule(condition, action);
        self.chains[chain].1.push(rule);
    }

    fn rule(&mut self, condition: &Condition, action: &KernelRule) -> KernelRule {
        let mut rule = KernelRule::new();
        for test in condition.tests().iter() {
            rule = rule.then(test.to_match(|key, elements| self.set(key, elements)));
        }
        if !condition.inner.is_empty() {
            let inner = condition.inner.iter();
            let inner: Vec<KernelRule> = inner.map(|one| self.rule(one, action)).collect();
            let chain = self.chain_of(inner);
            return rule.then(Verdict::jump(&*chain));
        }
        rule.statements.extend(action.statements.iter().cloned());
        rule.comment.clone_from(&action.comment);
        rule
    }

    /// The chain with these rules; the same rules are stored once.
    fn chain_of(&mut self, rules: Vec<KernelRule>) -> Arc<str> {
        if let Some(known) = self.inner.get(&rules) {
            return known.clone();
        }
        let chain = self.add_chain(format!("j{}", self.chains.len()), rules.clone());
        let name: Arc<str> = self.chains[chain].0.as_str().into();
        self.inner.insert(rules, name.clone());
        name
    }

    /// The name of the set with these elements; the same elements are stored once.
    fn set(&mut self, key: KeyType, elements: Vec<Element>) -> String {
        if let Some(name) = self.set_names.get(&elements) {
            return name.clone();
        }
        let name = names::policy_part(&self.name, &format!("s{}", self.sets.len() + 1));
        let set = Set {
            interval: elements.iter().all(Element::is_interval),
            ..Set::new(&name, key)
        };
        self.sets.push((set, elements.clone()));
        self.set_names.insert(elements, name.clone());
        name
    }
}

#[cfg(test)]
mod tests;
