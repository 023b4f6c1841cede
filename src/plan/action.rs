//! What a rule does with a packet that it matches.

use std::sync::Arc;

use nft::{CtState, Rule as KernelRule, Statement, Verdict};
use rules::effective::{DefaultAction, Effective, TierRules};
use rules::rule::{Log, Rule, Verb};

use super::base;

/// How often a second a deny or reject is logged, if the rule does not say.
const LOG_RATE: u32 = 10;
/// How much of a packet a log message carries, in bytes.
const LOG_SNAPLEN: u32 = 128;

/// Logs, if so; counts for the label; decides.
#[derive(Debug, Clone)]
pub struct Action {
    /// What it is called in logs and counters: `pod:erp`.
    pub label: Arc<str>,
    /// A kernel rule that only logs.
    pub log: Option<KernelRule>,
    pub outcome: Outcome,
}

/// What happens to a packet at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Allow,
    Deny,
    Reject,
    /// Leaves the tier.
    Pass,
}

impl Outcome {
    pub fn verdict(self) -> Verdict {
        match self {
            Outcome::Allow => Verdict::Accept,
            Outcome::Deny => Verdict::Goto(base::DENY.to_owned()),
            Outcome::Reject => Verdict::Goto(base::REJECT.to_owned()),
            Outcome::Pass => Verdict::Return,
        }
    }
}

impl Action {
    /// Of a rule of this tier.
    pub fn of_rule(tier: &TierRules, rule: &Rule, log_group: u16) -> Self {
        let label = format!("{}:{}", tier.tier.as_str(), rule.label());
        let rate = match rule.log {
            Some(Log::PerSecond(rate)) => Some(rate),
            _ => None,
        };
        let (word, outcome) = match (rule.verb, tier.audit) {
            (Verb::Allow, _) => ("allow", Outcome::Allow),
            (Verb::Pass, _) => ("pass", Outcome::Pass),
            (Verb::Deny, false) => ("deny", Outcome::Deny),
            (Verb::Reject, false) => ("reject", Outcome::Reject),
            (Verb::Deny, true) => ("would-deny", Outcome::Allow),
            (Verb::Reject, true) => ("would-reject", Outcome::Allow),
        };
        let would = tier.audit && matches!(rule.verb, Verb::Deny | Verb::Reject);
        let log = (rule.log.is_some() || would).then(|| {
            let kernel_rule = KernelRule::new();
            let kernel_rule = match rule.verb {
                // only a flow's first packet
                Verb::Allow => kernel_rule.state(&[CtState::New]),
                _ => kernel_rule,
            };
            let limit = match rule.verb {
                Verb::Allow => rate,
                _ => Some(rate.unwrap_or(LOG_RATE)),
            };
            let kernel_rule = match limit {
                Some(rate) => kernel_rule.then(Statement::Limit(rate)),
                None => kernel_rule,
            };
            kernel_rule.then(log(&label, word, log_group))
        });
        Self {
            label: label.into(),
            log,
            outcome,
        }
    }

    /// When no rule decided.
    pub fn by_default(policy: &Effective, log_group: u16) -> Self {
        let (label, word, outcome) = match (policy.default_action, policy.default_audit) {
            (DefaultAction::Allow, _) => ("default:allow", None, Outcome::Allow),
            (DefaultAction::Deny, false) => ("default:deny", Some("deny"), Outcome::Deny),
            (DefaultAction::Deny, true) => ("default:deny", Some("would-deny"), Outcome::Allow),
        };
        let limit = KernelRule::new().then(Statement::Limit(LOG_RATE));
        Self {
            label: label.into(),
            log: word.map(|word| limit.then(log(label, word, log_group))),
            outcome,
        }
    }

    /// The kernel rules, without any condition.
    pub fn rules(&self) -> Vec<KernelRule> {
        self.log.iter().cloned().chain([self.count()]).collect()
    }

    /// All of it but the log.
    pub fn count(&self) -> KernelRule {
        KernelRule::new()
            .counter()
            .then(self.outcome.verdict())
            .comment(&*self.label)
    }
}

fn log(label: &str, word: &str, group: u16) -> Statement {
    Statement::Log {
        prefix: format!("egressway {label} {word}"),
        group,
        snaplen: LOG_SNAPLEN,
    }
}
