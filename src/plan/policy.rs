//! A pod's effective policy as chains and sets, named after their own content.
//!
//! ```text
//! pol-HASH          every tier in order, ends with the default action
//! pol-HASH-dns      the same for packets to clusterDNS, if some rule excepts these
//! pol-HASH-default  the default action, if there are these two
//! pol-HASH-tN       a tier that has a `pass`, which returns from it
//! pol-HASH-rN       what rule N does, where that takes more than one kernel rule
//! pol-HASH-sN       addresses or ports of a rule that has several
//! ```
//! Tiers are called one after the other, none leads to the next: the kernel takes no path through
//! chains that is longer than 16, and older ones walk every path when they check a transaction.
//!
//! Pods with the same policy share it. It is never changed in place and goes with its last user.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::nft::{
    CtState, Element, KeyType, Op, Rule as KernelRule, Set, Statement, Table, Verdict,
};
use crate::policy::effective::{DefaultAction, Effective, TierRules};
use crate::policy::rule::{Log, Rule, Verb};

use super::base;
use super::condition::{self, Condition};

/// How often a second a deny or reject is logged, if the rule does not say.
const LOG_RATE: u32 = 10;
/// How much of a packet a log message carries, in bytes.
const LOG_SNAPLEN: u32 = 128;

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
    /// The operations that put it into the kernel.
    pub fn add(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for (set, elements) in &self.sets {
            ops.push(Op::AddSet(Table::Inet, set.clone()));
            ops.push(Op::AddElements(
                Table::Inet,
                set.name.clone(),
                elements.clone(),
            ));
        }
        for (chain, _) in &self.chains {
            ops.push(Op::AddChain(Table::Inet, chain.clone(), None));
        }
        for (chain, rules) in &self.chains {
            for rule in rules {
                ops.push(Op::AddRule(Table::Inet, chain.clone(), rule.clone()));
            }
        }
        ops
    }
}

/// Compiles; the name is the same for the same policy, whoever compiles it.
pub fn compile(policy: &Effective, log_group: u16) -> Compiled {
    let draft = Compiler::new("pol", log_group).run(policy);
    let text = crate::nft::text(&draft.add());
    let digest = Sha256::digest(text.as_bytes());
    let name = format!("pol-{}", super::hex(&digest[..8]));
    Compiler::new(&name, log_group).run(policy)
}

struct Compiler {
    name: String,
    log_group: u16,
    chains: Vec<(String, Vec<KernelRule>)>,
    sets: Vec<(Set, Vec<Element>)>,
    set_names: HashMap<Vec<Element>, String>,
}

/// The chain at which a policy starts.
const START: usize = 0;

/// A rule that something can match.
struct Ready {
    conditions: Vec<Condition>,
    act: Act,
    passes: bool,
}

/// How a matching kernel rule hands over to its action.
enum Act {
    Inline(KernelRule),
    Chain(String),
}

impl Compiler {
    fn new(name: &str, log_group: u16) -> Self {
        Self {
            name: name.to_owned(),
            log_group,
            chains: vec![(name.to_owned(), Vec::new())],
            sets: Vec::new(),
            set_names: HashMap::new(),
        }
    }

    fn run(mut self, policy: &Effective) -> Compiled {
        let conditions = |rule| condition::of_rule(rule, &policy.facts);
        let matched: Vec<Vec<(&Rule, Vec<Condition>)>> = policy
            .tiers
            .iter()
            .map(|tier| tier.rules.iter().map(|r| (r, conditions(r))).collect())
            .collect();
        // A rule cannot test that a packet does not go to clusterDNS (that would be the negation
        // of several conjunctions), so that is decided once for all rules, by where they stand.
        let split = matched
            .iter()
            .flatten()
            .flat_map(|(_, conditions)| conditions)
            .any(|condition| condition.dns == Some(false));

        let mut tiers = Vec::new();
        for (tier, rules) in policy.tiers.iter().zip(matched) {
            let mut ready = Vec::new();
            for (rule, conditions) in rules {
                if !conditions.is_empty() {
                    ready.push(self.ready(tier, rule, conditions, split));
                }
            }
            tiers.push(ready);
        }
        let mut default = self.default_action(policy);
        if split {
            let chain = self.add_chain("default".to_owned(), default);
            default = vec![KernelRule::new().then(Verdict::Goto(self.chains[chain].0.clone()))];
            let dns = self.add_chain("dns".to_owned(), Vec::new());
            let to_dns = Act::Chain(self.chains[dns].0.clone());
            for condition in condition::of_dns(&policy.facts) {
                self.push(START, &condition, &to_dns);
            }
            self.tiers(dns, &tiers, Some(true), &default);
        }
        self.tiers(START, &tiers, split.then_some(false), &default);
        Compiled {
            name: self.name,
            chains: self.chains,
            sets: self.sets,
        }
    }

    /// A new chain; its place in the list.
    fn add_chain(&mut self, suffix: String, rules: Vec<KernelRule>) -> usize {
        self.chains.push((format!("{}-{suffix}", self.name), rules));
        self.chains.len() - 1
    }

    /// All tiers and the default action. `dns`: what is known of packets that come to `chain`.
    fn tiers(
        &mut self,
        chain: usize,
        tiers: &[Vec<Ready>],
        dns: Option<bool>,
        default: &[KernelRule],
    ) {
        for tier in tiers {
            let can_hold = |c: &&Condition| dns.is_none() || c.dns.is_none() || c.dns == dns;
            let kept: Vec<(&Ready, &Condition)> = tier
                .iter()
                .flat_map(|rule| rule.conditions.iter().map(move |c| (rule, c)))
                .filter(|(_, condition)| can_hold(condition))
                .collect();
            let mut target = chain;
            if kept.iter().any(|(rule, _)| rule.passes) {
                target = self.add_chain(format!("t{}", self.chains.len()), Vec::new());
                let jump = Verdict::Jump(self.chains[target].0.clone());
                self.chains[chain].1.push(KernelRule::new().then(jump));
            }
            for (rule, condition) in kept {
                self.push(target, condition, &rule.act);
            }
        }
        self.chains[chain].1.extend_from_slice(default);
    }

    /// What a rule does gets a chain of its own if more than one kernel rule leads there: then it
    /// has one counter and one limit.
    fn ready(
        &mut self,
        tier: &TierRules,
        rule: &Rule,
        conditions: Vec<Condition>,
        split: bool,
    ) -> Ready {
        let label = format!("{}:{}", tier.tier, rule.label());
        let mut action = self.action(&label, rule, tier.audit);
        let act = match action.pop() {
            Some(only) if action.is_empty() && conditions.len() == 1 && !split => Act::Inline(only),
            last => {
                action.extend(last);
                let chain = self.add_chain(format!("r{}", self.chains.len()), action);
                Act::Chain(self.chains[chain].0.clone())
            }
        };
        Ready {
            conditions,
            act,
            passes: rule.verb == Verb::Pass,
        }
    }

    fn push(&mut self, chain: usize, condition: &Condition, act: &Act) {
        let mut rule = KernelRule::new();
        for test in &condition.tests {
            rule = rule.then(test.to_match(|key, elements| self.set(key, elements)));
        }
        match act {
            Act::Inline(action) => {
                rule.statements.extend(action.statements.iter().cloned());
                rule.comment.clone_from(&action.comment);
            }
            Act::Chain(chain) => rule = rule.then(Verdict::Goto(chain.clone())),
        }
        self.chains[chain].1.push(rule);
    }

    /// What a rule does, once it matched: one kernel rule, or two if it logs.
    fn action(&self, label: &str, rule: &Rule, audit: bool) -> Vec<KernelRule> {
        let rate = match rule.log {
            Some(Log::PerSecond(rate)) => Some(rate),
            _ => None,
        };
        let (word, verdict) = match (rule.verb, audit) {
            (Verb::Allow, _) => ("allow", Verdict::Accept),
            (Verb::Pass, _) => ("pass", Verdict::Return),
            (Verb::Deny, false) => ("deny", Verdict::Goto(base::DENY.to_owned())),
            (Verb::Reject, false) => ("reject", Verdict::Goto(base::REJECT.to_owned())),
            (Verb::Deny, true) => ("would-deny", Verdict::Accept),
            (Verb::Reject, true) => ("would-reject", Verdict::Accept),
        };
        let would = audit && matches!(rule.verb, Verb::Deny | Verb::Reject);
        let mut rules = Vec::new();
        if rule.log.is_some() || would {
            let log = KernelRule::new();
            let log = match rule.verb {
                // only a flow's first packet
                Verb::Allow => log.state(&[CtState::New]),
                _ => log,
            };
            let limit = match rule.verb {
                Verb::Allow => rate,
                _ => Some(rate.unwrap_or(LOG_RATE)),
            };
            let log = match limit {
                Some(rate) => log.then(Statement::Limit(rate)),
                None => log,
            };
            rules.push(log.then(self.log(label, word)));
        }
        rules.push(KernelRule::new().counter().then(verdict).comment(label));
        rules
    }

    fn log(&self, label: &str, word: &str) -> Statement {
        Statement::Log {
            prefix: format!("egress-cni {label} {word}"),
            group: self.log_group,
            snaplen: LOG_SNAPLEN,
        }
    }

    fn default_action(&self, policy: &Effective) -> Vec<KernelRule> {
        let (label, word, verdict) = match (policy.default_action, policy.default_audit) {
            (DefaultAction::Allow, _) => ("default:allow", None, Verdict::Accept),
            (DefaultAction::Deny, false) => (
                "default:deny",
                Some("deny"),
                Verdict::Goto(base::DENY.to_owned()),
            ),
            (DefaultAction::Deny, true) => ("default:deny", Some("would-deny"), Verdict::Accept),
        };
        let mut rules = Vec::new();
        if let Some(word) = word {
            let log = self.log(label, word);
            rules.push(KernelRule::new().then(Statement::Limit(LOG_RATE)).then(log));
        }
        rules.push(KernelRule::new().counter().then(verdict).comment(label));
        rules
    }

    /// The name of the set with these elements; the same elements are stored once.
    fn set(&mut self, key: KeyType, elements: Vec<Element>) -> String {
        if let Some(name) = self.set_names.get(&elements) {
            return name.clone();
        }
        let name = format!("{}-s{}", self.name, self.sets.len() + 1);
        let set = Set {
            name: name.clone(),
            key,
            data: None,
            interval: true,
            counter: false,
            days: None,
        };
        self.sets.push((set, elements.clone()));
        self.set_names.insert(elements, name.clone());
        name
    }
}
