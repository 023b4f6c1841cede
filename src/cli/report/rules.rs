//! Which rules of this node's pods are in the log.

use std::collections::BTreeMap;
use std::path::Path;

use super::summary::Summary;
use crate::attachment::records::{self, Records};
use crate::store::Record;
use rules::effective::TierRules;
use rules::rule::{Rule, Verb};

/// One rule of one or several pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RuleUse {
    /// Where it stands.
    pub source: String,
    /// How many of the node's pods have it.
    pub pods: u64,
    /// Of one of them a line was logged.
    pub matched: bool,
}

/// The rules of the pods that are attached now.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub attachments: u64,
    /// Records that can't be read, such as those of another version.
    pub unreadable: u64,
    /// Rules that log, by their label, such as `pod:3`, and their text.
    pub logging: BTreeMap<(String, String), RuleUse>,
    /// How many rules never log, so that nothing can be said about them. The same rule of several
    /// pods counts once for each.
    pub silent: u64,
}

impl Rules {
    /// Reads the records of the state directory.
    pub(super) fn read(dir: &Path, summary: &Summary) -> Result<Rules, records::Error> {
        let records = Records::read(dir)?;
        let mut rules = Rules {
            unreadable: records.unreadable.len() as u64,
            ..Rules::default()
        };
        for record in &records.list {
            match rules.add(record, summary) {
                Some(()) => rules.attachments += 1,
                None => rules.unreadable += 1,
            }
        }
        Ok(rules)
    }

    /// None: its policy can't be read.
    fn add(&mut self, record: &Record, summary: &Summary) -> Option<()> {
        let policy = record.policy.rebuild().ok()?;
        for tier in &policy.tiers {
            for rule in &tier.rules {
                if !logs(tier, rule) {
                    self.silent += 1;
                    continue;
                }
                let label = format!("{}:{}", tier.tier, rule.label());
                let line = (record.namespace.clone(), record.pod.clone(), label.clone());
                let entry = self.logging.entry((label, rule.text.clone())).or_default();
                entry.source.clone_from(&tier.source);
                entry.pods += 1;
                entry.matched |= summary.matched.contains(&line);
            }
        }
        Some(())
    }
}

/// Whether a match of the rule is logged: if it says so, or if it is only audited.
fn logs(tier: &TierRules, rule: &Rule) -> bool {
    rule.log.is_some() || (tier.audit && matches!(rule.verb, Verb::Deny | Verb::Reject))
}
