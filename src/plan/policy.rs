//! A pod's effective policy as chains and sets, named after their own content.
//!
//! ```text
//! pol-HASH       every tier in order, ends with the default action
//! pol-HASH-fN    the tiers after the Nth one that has a `pass`
//! pol-HASH-rN    what rule N does, where that takes more than one kernel rule
//! pol-HASH-xN    the same behind "unless it is DNS"
//! pol-HASH-sN    addresses or ports of a rule that has several
//! ```
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

    /// How many references the first chain has before any pod uses it: its own rules.
    pub fn own_uses(&self) -> u32 {
        self.chains
            .first()
            .map_or(0, |(_, rules)| rules.len() as u32)
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
    /// Where rules are appended now.
    current: usize,
    sets: Vec<(Set, Vec<Element>)>,
    set_names: HashMap<Vec<Element>, String>,
    rules: usize,
}

impl Compiler {
    fn new(name: &str, log_group: u16) -> Self {
        Self {
            name: name.to_owned(),
            log_group,
            chains: vec![(name.to_owned(), Vec::new())],
            current: 0,
            sets: Vec::new(),
            set_names: HashMap::new(),
            rules: 0,
        }
    }

    fn run(mut self, policy: &Effective) -> Compiled {
        for tier in &policy.tiers {
            let next = format!("{}-f{}", self.name, self.chains.len());
            let passes = tier.rules.iter().any(|rule| rule.verb == Verb::Pass);
            if passes {
                self.chains.push((next.clone(), Vec::new()));
            }
            let next_index = self.chains.len() - 1;
            for rule in &tier.rules {
                self.rule(policy, tier, rule, &next);
            }
            if passes {
                self.push(KernelRule::new().then(Verdict::Goto(next)));
                self.current = next_index;
            }
        }
        self.default_action(policy);
        Compiled {
            name: self.name,
            chains: self.chains,
            sets: self.sets,
        }
    }

    fn push(&mut self, rule: KernelRule) {
        self.chains[self.current].1.push(rule);
    }

    fn rule(&mut self, policy: &Effective, tier: &TierRules, rule: &Rule, next: &str) {
        let conditions = condition::of_rule(rule, &policy.facts);
        if conditions.is_empty() {
            return; // nothing can match it
        }
        self.rules += 1;
        let label = format!("{}:{}", tier.tier, rule.label());
        let action = self.action(&label, rule, tier.audit, next);
        let simple = conditions.len() == 1 && !conditions[0].unless_dns && action.len() == 1;
        let act = if simple {
            Act::Inline(action.into_iter().next().unwrap_or_default())
        } else {
            let chain = format!("{}-r{}", self.name, self.rules);
            self.chains.push((chain.clone(), action));
            Act::Chain(chain)
        };
        for condition in conditions {
            let kernel_rule = self.kernel_rule(condition, &act, policy);
            self.push(kernel_rule);
        }
    }

    fn kernel_rule(&mut self, condition: Condition, act: &Act, policy: &Effective) -> KernelRule {
        let unless_dns = condition.unless_dns;
        let mut rule = KernelRule::new();
        for test in condition.tests {
            let m = test.into_match(|key, elements| self.set(key, elements));
            rule = rule.then(m);
        }
        match act {
            Act::Inline(action) => {
                rule.statements.extend(action.statements.iter().cloned());
                rule.comment = action.comment.clone();
                rule
            }
            Act::Chain(chain) if unless_dns => {
                let guard = self.unless_dns(chain, policy);
                rule.then(Verdict::Jump(guard))
            }
            Act::Chain(chain) => rule.then(Verdict::Goto(chain.clone())),
        }
    }

    /// A chain that comes back for DNS and goes on to `chain` for all else.
    fn unless_dns(&mut self, chain: &str, policy: &Effective) -> String {
        let name = format!("{}-x{}", self.name, self.chains.len());
        let mut rules = Vec::new();
        for condition in condition::of_dns(&policy.facts) {
            let mut rule = KernelRule::new();
            for test in condition.tests {
                rule = rule.then(test.into_match(|key, elements| self.set(key, elements)));
            }
            rules.push(rule.then(Verdict::Return));
        }
        rules.push(KernelRule::new().then(Verdict::Goto(chain.to_owned())));
        self.chains.push((name.clone(), rules));
        name
    }

    /// What a rule does, once it matched: one kernel rule, or two if it logs.
    fn action(&self, label: &str, rule: &Rule, audit: bool, next: &str) -> Vec<KernelRule> {
        let rate = match rule.log {
            Some(Log::PerSecond(rate)) => Some(rate),
            _ => None,
        };
        let (word, verdict) = match (rule.verb, audit) {
            (Verb::Allow, _) => ("allow", Verdict::Accept),
            (Verb::Pass, _) => ("pass", Verdict::Goto(next.to_owned())),
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

    fn default_action(&mut self, policy: &Effective) {
        let (label, word, verdict) = match (policy.default_action, policy.default_audit) {
            (DefaultAction::Allow, _) => ("default:allow", None, Verdict::Accept),
            (DefaultAction::Deny, false) => (
                "default:deny",
                Some("deny"),
                Verdict::Goto(base::DENY.to_owned()),
            ),
            (DefaultAction::Deny, true) => ("default:deny", Some("would-deny"), Verdict::Accept),
        };
        if let Some(word) = word {
            let log = self.log(label, word);
            self.push(KernelRule::new().then(Statement::Limit(LOG_RATE)).then(log));
        }
        self.push(KernelRule::new().counter().then(verdict).comment(label));
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
        };
        self.sets.push((set, elements.clone()));
        self.set_names.insert(elements, name.clone());
        name
    }
}

/// How a matching kernel rule hands over to its action.
enum Act {
    Inline(KernelRule),
    Chain(String),
}
