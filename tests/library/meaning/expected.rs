//! What the evaluator says about a packet, in the kernel's terms.

use rules::effective::Effective;
use rules::evaluate::{Packet, Verdict};
use rules::rule::Verb;

use super::kernel::{End, Outcome};

/// A policy, and each of its tiers alone.
pub struct Expected<'a> {
    whole: &'a Effective,
    /// One tier each, in which a `pass` is an `allow`: so `decide` tells which rule passes.
    tiers: Vec<Effective>,
}

impl<'a> Expected<'a> {
    pub fn of(policy: &'a Effective) -> Self {
        let alone = |n: usize| {
            let mut alone = policy.clone();
            alone.tiers = vec![policy.tiers[n].clone()];
            alone
        };
        Self {
            whole: policy,
            tiers: (0..policy.tiers.len())
                .map(alone)
                .map(without_pass)
                .collect(),
        }
    }

    /// The counters that move, the lines that are logged, and where it ends.
    pub fn outcome(&self, packet: &Packet) -> Outcome {
        let mut outcome = Outcome::default();
        for (tier, original) in self.tiers.iter().zip(&self.whole.tiers) {
            let decision = tier.decide(packet);
            let Some((_, found)) = decision.rule else {
                continue;
            };
            let passes = original.rules.iter().any(|rule| {
                rule.verb == Verb::Pass && (rule.line, &rule.text) == (found.line, &found.text)
            });
            if !passes {
                break;
            }
            outcome.counted.push(decision.label());
        }
        let decision = self.whole.decide(packet);
        if decision.logged {
            // design, section 7
            let (label, verdict) = (decision.label(), decision.verdict.as_str());
            outcome.logged.push(format!("egressway {label} {verdict}"));
        }
        outcome.counted.push(decision.label());
        outcome.end = match decision.verdict {
            Verdict::Deny => End::Deny,
            Verdict::Reject => End::Reject,
            verdict => {
                assert!(verdict.passes());
                End::Accept
            }
        };
        outcome
    }
}

fn without_pass(mut policy: Effective) -> Effective {
    for rule in policy.tiers.iter_mut().flat_map(|tier| &mut tier.rules) {
        if rule.verb == Verb::Pass {
            rule.verb = Verb::Allow;
        }
    }
    policy
}
