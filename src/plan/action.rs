//! What a rule does with a packet that it matches.

use std::sync::Arc;

use crate::nft::{CtState, Rule as KernelRule, Statement, Verdict};
use crate::policy::effective::{DefaultAction, Effective, TierRules};
use crate::policy::rule::{Log, Rule, Verb};

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
    pub verdict: Verdict,
}

impl Action {
    /// Of a rule of this tier.
    pub fn of_rule(tier: &TierRules, rule: &Rule, log_group: u16) -> Self {
        let label = format!("{}:{}", tier.tier, rule.label());
        let rate = match rule.log {
            Some(Log::PerSecond(rate)) => Some(rate),
            _ => None,
        };
        let (word, verdict) = match (rule.verb, tier.audit) {
            (Verb::Allow, _) => ("allow", Verdict::Accept),
            (Verb::Pass, _) => ("pass", Verdict::Return),
            (Verb::Deny, false) => ("deny", deny()),
            (Verb::Reject, false) => ("reject", Verdict::Goto(base::REJECT.to_owned())),
            (Verb::Deny, true) => ("would-deny", Verdict::Accept),
            (Verb::Reject, true) => ("would-reject", Verdict::Accept),
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
            verdict,
        }
    }

    /// When no rule decided.
    pub fn by_default(policy: &Effective, log_group: u16) -> Self {
        let (label, word, verdict) = match (policy.default_action, policy.default_audit) {
            (DefaultAction::Allow, _) => ("default:allow", None, Verdict::Accept),
            (DefaultAction::Deny, false) => ("default:deny", Some("deny"), deny()),
            (DefaultAction::Deny, true) => ("default:deny", Some("would-deny"), Verdict::Accept),
        };
        let limit = KernelRule::new().then(Statement::Limit(LOG_RATE));
        Self {
            label: label.into(),
            log: word.map(|word| limit.then(log(label, word, log_group))),
            verdict,
        }
    }

    /// The kernel rules, without any condition.
    pub fn rules(&self) -> Vec<KernelRule> {
        self.log.iter().cloned().chain([self.count()]).collect()
    }

    /// All of it but the log.
    pub fn count(&self) -> KernelRule {
        let verdict = self.verdict.clone();
        KernelRule::new()
            .counter()
            .then(verdict)
            .comment(&*self.label)
    }
}

fn deny() -> Verdict {
    Verdict::Goto(base::DENY.to_owned())
}

fn log(label: &str, word: &str, group: u16) -> Statement {
    Statement::Log {
        prefix: format!("egress-cni {label} {word}"),
        group,
        snaplen: LOG_SNAPLEN,
    }
}
