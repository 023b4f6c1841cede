//! What a rule does with a packet that it matches.

use std::sync::Arc;

use nft::{CtState, Limit, Rule as KernelRule, Statement};
use rules::effective::{Effective, Tier, TierRules};
use rules::rule::{Log, Rule, Verb};
use rules::verdict::{self, Verdict};

use super::base;
use super::log_group_of_others;

/// How often a second a deny or reject is logged, if the rule does not say.
const LOG_RATE: u32 = 10;
/// A flow's packets before it is answered; also of one that conntrack expects because of another.
const FIRST: &[CtState] = &[CtState::New, CtState::Related];
/// What conntrack can't tell the flow of, or was told not to: each packet may be a first one.
const OF_NO_FLOW: &[CtState] = &[CtState::Invalid, CtState::Untracked];
/// Where both have one limit.
const FIRST_OR_OF_NO_FLOW: &[CtState] = &[
    CtState::New,
    CtState::Related,
    CtState::Invalid,
    CtState::Untracked,
];
/// How much of a packet a log message carries, in bytes.
const LOG_SNAPLEN: u32 = 128;

/// Logs, if so; counts for the label; decides.
#[derive(Debug, Clone)]
pub struct Action {
    /// What it is called in logs and counters: `pod:erp`.
    pub label: Arc<str>,
    /// Kernel rules that only log; none if it does not.
    pub log: Vec<KernelRule>,
    pub outcome: Outcome,
}

/// What happens to a packet at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Allow,
    Deny,
    Reject,
    /// Counts as denied, and goes.
    Audit,
    /// Leaves the tier.
    Pass,
}

impl Outcome {
    /// What a rule's verdict comes to in the kernel: in audit mode the packet goes.
    const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Outcome::Allow,
            Verdict::WouldDeny | Verdict::WouldReject => Outcome::Audit,
            Verdict::Deny => Outcome::Deny,
            Verdict::Reject => Outcome::Reject,
        }
    }

    pub fn verdict(self) -> nft::Verdict {
        match self {
            Outcome::Allow => nft::Verdict::Accept,
            Outcome::Deny => nft::Verdict::goto(base::DENY),
            Outcome::Reject => nft::Verdict::goto(base::REJECT),
            Outcome::Audit => nft::Verdict::goto(base::AUDIT),
            Outcome::Pass => nft::Verdict::Return,
        }
    }
}

impl Action {
    /// Of a rule of this tier.
    pub fn of_rule(policy: &Effective, tier: &TierRules, rule: &Rule, log_group: u16) -> Self {
        let label = tier.label(rule);
        let rate = match rule.log {
            Some(Log::PerSecond(rate)) => Some(rate),
            _ => None,
        };
        let most = policy.pod_log_rate.filter(|_| tier.tier == Tier::Pod);
        let verdict = Verdict::of(rule.verb, tier.audit);
        let logged = |verdict: &Verdict| rule.log.is_some() || verdict.is_audited();
        let group = match tier.tier {
            Tier::ClusterEnforced | Tier::NamespaceEnforced | Tier::BuiltIn => log_group,
            Tier::Dns | Tier::Pod | Tier::NamespaceDefaults | Tier::ClusterDefaults => {
                log_group_of_others(log_group)
            }
        };
        let limit = match (rate, most) {
            (Some(rate), Some(most)) => Some(rate.min(most)),
            (rate, most) => rate.or(most),
        };
        let log = verdict.filter(logged).map(|verdict| {
            let log = |kernel_rule: KernelRule| kernel_rule.then(log(&label, verdict, group));
            let limited = |kernel_rule: KernelRule, rate| {
                log(kernel_rule.then(Statement::Limit(Limit::per_second(rate))))
            };
            let of = |states| KernelRule::new().state(states);
            match (rule.verb, limit) {
                (Verb::Allow, Some(limit)) => vec![limited(of(FIRST_OR_OF_NO_FLOW), limit)],
                (Verb::Allow, None) => {
                    vec![log(of(FIRST)), limited(of(OF_NO_FLOW), LOG_RATE)]
                }
                _ => {
                    let own = rate.unwrap_or(LOG_RATE);
                    let limit = most.map_or(own, |most| own.min(most));
                    vec![limited(KernelRule::new(), limit)]
                }
            }
        });
        let log = log.unwrap_or_default();
        Self {
            label: label.into(),
            log,
            outcome: verdict.map_or(Outcome::Pass, Outcome::of),
        }
    }

    /// When no rule decided.
    pub fn by_default(policy: &Effective, log_group: u16) -> Self {
        let verdict = Verdict::by_default(policy.default_action, policy.default_audit);
        let label = policy.default_action.label();
        let limit = KernelRule::new().then(Statement::Limit(Limit::per_second(LOG_RATE)));
        Self {
            label: label.into(),
            log: match verdict {
                Verdict::Allow => Vec::new(),
                _ => vec![limit.then(log(label, verdict, log_group_of_others(log_group)))],
            },
            outcome: Outcome::of(verdict),
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

fn log(label: &str, verdict: Verdict, group: u16) -> Statement {
    Statement::Log {
        prefix: verdict::prefix(label, verdict),
        group,
        snaplen: LOG_SNAPLEN,
    }
}
