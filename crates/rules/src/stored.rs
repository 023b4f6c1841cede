//! A policy as it is kept in a file: texts, from which the rules are read again.

use serde::{Deserialize, Serialize};

use super::effective::{DefaultAction, Effective, Facts, Tier, TierRules};
use super::fault::{Collector, Faults};

/// What an [`Effective`] policy is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPolicy {
    /// The tiers that have rules, in their order.
    pub tiers: Vec<StoredTier>,
    /// What is left when no rule decided.
    pub default_action: DefaultAction,
    /// The default action, too, is only logged and counted.
    pub default_audit: bool,
    /// What the keywords `cluster` and `dns` stand for.
    pub facts: Facts,
    /// How many lines a second a rule of the pod's own may log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_log_rate: Option<u32>,
    /// The pod's namespace is exempt.
    #[serde(default)]
    pub exempt: bool,
}

/// What one tier's rules are read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTier {
    /// Which tier.
    pub tier: Tier,
    /// Where the text stood, for people.
    pub source: String,
    /// The text as it was read.
    pub text: String,
    /// Denies and rejects are only logged and counted.
    pub audit: bool,
}

impl From<&Effective> for StoredPolicy {
    fn from(effective: &Effective) -> StoredPolicy {
        let tiers = effective.tiers.iter().map(|tier| StoredTier {
            tier: tier.tier,
            source: tier.source.clone(),
            text: tier.text.clone(),
            audit: tier.audit,
        });
        StoredPolicy {
            tiers: tiers.collect(),
            default_action: effective.default_action,
            default_audit: effective.default_audit,
            facts: effective.facts.clone(),
            pod_log_rate: effective.pod_log_rate,
            exempt: effective.exempt,
        }
    }
}

impl StoredPolicy {
    /// Whether anything is only logged and counted.
    pub fn is_audited(&self) -> bool {
        self.default_audit || self.tiers.iter().any(|tier| tier.audit)
    }

    /// Reads the rules again.
    ///
    /// # Errors
    /// The faults of the texts, if a program with another grammar wrote them.
    pub fn rebuild(&self) -> Result<Effective, Faults> {
        let mut faults = Collector::default();
        let mut tiers = Vec::new();
        for stored in &self.tiers {
            match TierRules::parse(stored.tier, &stored.source, &stored.text, stored.audit) {
                Ok(tier) => tiers.push(tier),
                Err(found) => faults.extend(found),
            }
        }
        faults.finish(())?;
        let read = Effective::new(
            tiers,
            self.default_action,
            self.default_audit,
            self.facts.clone(),
        )?;
        Ok(Effective {
            pod_log_rate: self.pod_log_rate,
            exempt: self.exempt,
            ..read
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_stored() {
        let tier = |tier, text, audit| {
            TierRules::parse(tier, "somewhere", text, audit).expect("the text is valid")
        };
        let mut effective = Effective::new(
            vec![
                tier(Tier::Pod, "deny to dns priority=5; allow # all\n", true),
                tier(Tier::ClusterEnforced, "deny to metadata log name=m", false),
            ],
            DefaultAction::Deny,
            true,
            Facts {
                cluster: vec!["10.244.0.0/16".parse().expect("a network")],
                dns: vec!["10.96.0.10".parse().expect("an address")],
                ..Facts::default()
            },
        )
        .expect("everything is known");

        effective.pod_log_rate = Some(7);
        let json = serde_json::to_string(&StoredPolicy::from(&effective)).expect("is JSON");
        let stored: StoredPolicy = serde_json::from_str(&json).expect("was JSON");
        assert_eq!(stored.rebuild(), Ok(effective));
    }

    #[test]
    fn says_what_it_cannot_read_again() {
        let stored = StoredPolicy {
            tiers: vec![StoredTier {
                tier: Tier::Pod,
                source: "pod annotation".to_owned(),
                text: "permit".to_owned(),
                audit: false,
            }],
            default_action: DefaultAction::Allow,
            default_audit: false,
            facts: Facts::default(),
            pod_log_rate: None,
            exempt: false,
        };
        let faults = stored.rebuild().expect_err("is no rule");
        assert_eq!(faults.described()[0].source, "pod annotation");
    }
}
