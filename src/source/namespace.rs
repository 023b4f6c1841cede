//! A namespace's annotations, whoever says what they are.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::annotation::{
    self, DEFAULT_RULES, EGRESS_IP, ENFORCED_RULES, MODE, Object, SourcedText,
};
use super::mode::Mode;
use super::{SourceError, egress};
use rules::effective::{Tier, TierRules};
use rules::fault::{Collector, Faults};

/// Our annotations of one namespace, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceAnnotations {
    /// Rules that its pods cannot override.
    pub enforced_rules: Option<SourcedText>,
    /// Rules for what its pods' own rules leave undecided.
    pub default_rules: Option<SourcedText>,
    /// The addresses that its pods may show outside.
    pub egress_ip: Option<SourcedText>,
    /// `enforce` or `audit`.
    pub mode: Option<SourcedText>,
}

impl NamespaceAnnotations {
    /// Picks ours from all annotations of a namespace; others' are left alone. `place` says to people where they stand.
    ///
    /// # Errors
    /// A key of ours that does not exist, or belongs on pods.
    pub fn from_map(
        place: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<NamespaceAnnotations, SourceError> {
        annotation::check_keys(Object::Namespace, place, annotations.keys())?;
        let text = |key: &str| {
            annotations.get(key).map(|text| SourcedText {
                source: format!("{place}[{key}]"),
                text: text.clone(),
            })
        };
        Ok(NamespaceAnnotations {
            enforced_rules: text(ENFORCED_RULES),
            default_rules: text(DEFAULT_RULES),
            egress_ip: text(EGRESS_IP),
            mode: text(MODE),
        })
    }

    /// Checks every text.
    ///
    /// # Errors
    /// All their faults.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let mut faults = Collector::default();
        let checked = [
            self.tiers().map(drop),
            self.mode().map(drop),
            self.egress().map(drop),
        ];
        for found in checked.into_iter().filter_map(Result::err) {
            faults.extend(found);
        }
        Ok(faults.finish(())?)
    }

    /// The namespace's mode; `enforce` if it says nothing.
    pub(crate) fn mode(&self) -> Result<Mode, Faults> {
        self.mode
            .as_ref()
            .map_or(Ok(Mode::Enforce), Mode::parse_sourced)
    }

    /// The egress addresses, in the order of the list; none if it says nothing.
    pub(crate) fn egress(&self) -> Result<Vec<IpNet>, Faults> {
        self.egress_ip
            .as_ref()
            .map_or(Ok(Vec::new()), egress::parse)
    }

    /// The namespace's two tiers, as far as it has them.
    pub(super) fn tiers(&self) -> Result<Vec<TierRules>, Faults> {
        let mut faults = Collector::default();
        let mut tiers = Vec::new();
        for (tier, text) in [
            (Tier::NamespaceEnforced, &self.enforced_rules),
            (Tier::NamespaceDefaults, &self.default_rules),
        ] {
            let Some(SourcedText { source, text }) = text else {
                continue;
            };
            match TierRules::parse(tier, source, text, false) {
                Ok(rules) => tiers.push(rules),
                Err(found) => faults.extend(found),
            }
        }
        faults.finish(tiers)
    }
}
