//! What of a policy is about multicast, for the veth's own chain: frames to many pass from one port of a bridge to
//! the others without any hook of [`INET`](super::INET).
//!
//! It only decides. What the node itself gets of such a packet comes by the policy's other chains, which
//! count and log.
//!
//! ```text
//! pol-mHASH       all tiers in order: accepts, or returns to the pod's chain, which drops
//! pol-mHASH-tN    the tiers behind one that has a `pass`
//! pol-mHASH-mN    addresses or ports of a rule that has several
//! ```

use std::sync::Arc;

use nft::{Chain, Element, Elements, Rule as KernelRule, Set, Table, Transaction, Verdict};
use rules::class::MULTICAST;
use rules::effective::{Effective, Facts, TierRules};
use rules::places::Places;
use rules::rule::{Ports, Rule, Verb};

use super::condition::{self, Condition};
use super::names;
use super::reach::{self, Reach};
use super::{NETDEV, reach::Words};

/// The part of a policy in [`NETDEV`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multicast {
    /// Every chain with its rules, the first being where it starts.
    pub chains: Vec<(String, Vec<KernelRule>)>,
    /// Every set with its elements.
    pub sets: Vec<(Set, Vec<Element>)>,
}

impl Multicast {
    /// The operations that put it into the kernel.
    pub fn add(&self) -> Transaction {
        add_parts(&NETDEV, &self.chains, &self.sets)
    }
}

/// The operations that put chains and sets into a table. `nft` wants a map's chains before the map.
pub(super) fn add_parts(
    table: &'static Table,
    chains: &[(String, Vec<KernelRule>)],
    sets: &[(Set, Vec<Element>)],
) -> Transaction {
    let mut ops = Transaction::new();
    for (chain, _) in chains {
        ops.add(table, Chain::new(chain));
    }
    for (set, elements) in sets {
        ops.add(table, set.clone());
        ops.add(table, Elements::new(&set.name, elements.clone()));
    }
    for (chain, rules) in chains {
        for rule in rules {
            ops.add(table, rule.clone().in_chain(chain));
        }
    }
    ops
}

/// Whether a policy lets any multicast out.
pub fn is_allowed(policy: &Effective) -> bool {
    let allows = |rule: &Rule| rule.verb == Verb::Allow && !pieces(rule, &policy.facts).is_empty();
    policy.exempt || policy.tiers.iter().flat_map(|tier| &tier.rules).any(allows)
}

/// Compiles; all names begin with that of the policy.
pub fn compile(name: &str, policy: &Effective) -> Option<Multicast> {
    if !is_allowed(policy) {
        return None;
    }
    let mut compiler = Compiler {
        name,
        chains: vec![(name.to_owned(), Vec::new())],
        sets: Vec::new(),
    };
    if policy.exempt {
        compiler.push(KernelRule::new().then(Verdict::Accept));
    }
    for tier in &policy.tiers {
        compiler.tier(tier, &policy.facts);
    }
    Some(Multicast {
        chains: compiler.chains,
        sets: compiler.sets,
    })
}

struct Compiler<'a> {
    name: &'a str,
    /// The last one is being written.
    chains: Vec<(String, Vec<KernelRule>)>,
    sets: Vec<(Set, Vec<Element>)>,
}

impl Compiler<'_> {
    fn tier(&mut self, tier: &TierRules, facts: &Facts) {
        let about = tier
            .rules
            .iter()
            .map(|rule| (rule, conditions(rule, facts)));
        let about: Vec<(&Rule, Vec<Condition>)> =
            about.filter(|(_, all)| !all.is_empty()).collect();
        let passes = about.iter().any(|(rule, _)| rule.verb == Verb::Pass);
        let next = names::policy_part(self.name, &format!("t{}", self.chains.len()));
        let next: Arc<str> = next.into();
        for (rule, conditions) in about {
            let verdict = match rule.verb {
                Verb::Allow => Verdict::Accept,
                Verb::Deny | Verb::Reject => Verdict::Return,
                Verb::Pass => Verdict::Goto(next.clone()),
            };
            for condition in conditions {
                let rule = self.rule(&condition).then(verdict.clone());
                self.push(rule);
            }
        }
        if passes {
            self.push(KernelRule::new().then(Verdict::Goto(next.clone())));
            self.chains.push((next.to_string(), Vec::new()));
        }
    }

    fn push(&mut self, rule: KernelRule) {
        if let Some((_, rules)) = self.chains.last_mut() {
            rules.push(rule);
        }
    }

    fn rule(&mut self, condition: &Condition) -> KernelRule {
        let mut rule = KernelRule::new();
        for test in condition.tests().iter() {
            rule = rule.then(test.to_match(|key, elements| {
                let name = names::policy_part(self.name, &format!("m{}", self.sets.len()));
                let set = Set {
                    interval: elements.iter().all(Element::is_interval),
                    ..Set::new(&name, key)
                };
                self.sets.push((set, elements));
                name
            }));
        }
        rule
    }
}

/// The conditions under which a rule matches multicast.
fn conditions(rule: &Rule, facts: &Facts) -> Vec<Condition> {
    let mut pieces = pieces(rule, facts);
    let of_one_family = |ports: &Ports| matches!(ports, Ports::Icmp { .. } | Ports::Icmpv6 { .. });
    if !rule.ports.iter().any(of_one_family) {
        // The chain sees nothing else, so that nobody has to ask.
        let all = Places::of(&[], &MULTICAST);
        for piece in &mut pieces {
            if piece.v4 == all.v4 && piece.v6 == all.v6 {
                (piece.v4, piece.v6) = (Reach::everywhere().v4, Reach::everywhere().v6);
            }
        }
    }
    condition::of_places(rule, pieces)
}

/// Where a rule reaches of multicast. No service that a word stands for is there, and of the node's own
/// addresses the one that is everybody's.
fn pieces(rule: &Rule, facts: &Facts) -> Vec<Reach> {
    let all = Places::of(&[], &MULTICAST);
    let [_, broadcast, _] = &MULTICAST;
    let everybody = Places::of(&[], [broadcast]);
    let of_multicast = |mut piece: Reach| {
        if piece.word().is_some() || piece.asked.is_some() || piece.named.is_some() {
            return None;
        }
        let (v4, v6) = match piece.local {
            Some(true) => (everybody.v4.clone(), everybody.v6.clone()),
            Some(false) => (all.v4.minus(&everybody.v4), all.v6.clone()),
            None => (all.v4.clone(), all.v6.clone()),
        };
        piece.v4 = piece.v4.intersect(&v4);
        piece.v6 = piece.v6.intersect(&v6);
        piece.local = None;
        piece.words = Words::default();
        (!piece.v4.is_none() || !piece.v6.is_none()).then_some(piece)
    };
    let reached = reach::of_rule(rule, facts).into_iter();
    reach::join(reached.filter_map(of_multicast))
}
