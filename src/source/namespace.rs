//! A namespace's annotations, whoever says what they are.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::annotation::{
    self, Annotated, DEFAULT_RULES, EGRESS_IP, ENFORCED_RULES, MODE, SourcedText,
};
use super::mode::Mode;
use super::{SourceError, egress};
use rules::effective::{Tier, TierRules};
use rules::fault::{Collector, Faults};

/// Our annotations of one namespace. Each text is read once, here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceAnnotations {
    /// Rules that its pods cannot override.
    pub enforced_rules: Option<Result<TierRules, Faults>>,
    /// Rules for what its pods' own rules leave undecided.
    pub default_rules: Option<Result<TierRules, Faults>>,
    /// The addresses that its pods may show outside.
    pub egress_ip: Option<EgressList>,
    /// `enforce` or `audit`.
    pub mode: Option<Result<Mode, Faults>>,
}

/// A list of egress addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressList {
    /// Where it stands, for people.
    pub source: String,
    /// In the order of the list.
    pub entries: Result<Vec<IpNet>, Faults>,
}

impl NamespaceAnnotations {
    /// Picks ours from all annotations of a namespace; others' are left alone. `place` says to people where they stand.
    ///
    /// # Errors
    /// A key of ours that does not exist, or belongs on pods. What is wrong with a text is told by whoever needs
    /// what it says.
    pub fn from_map(
        place: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<NamespaceAnnotations, SourceError> {
        annotation::check_keys(Annotated::Namespace, place, annotations.keys())?;
        Ok(Self::read(|key| {
            annotations.get(key).map(|text| SourcedText {
                source: format!("{place}[{key}]"),
                text: text.clone(),
            })
        }))
    }

    /// Reads the texts behind our keys.
    pub(crate) fn read(text: impl Fn(&str) -> Option<SourcedText>) -> NamespaceAnnotations {
        let rules = |key, tier| {
            let SourcedText { source, text } = text(key)?;
            Some(TierRules::parse(tier, &source, &text, false))
        };
        NamespaceAnnotations {
            enforced_rules: rules(ENFORCED_RULES, Tier::NamespaceEnforced),
            default_rules: rules(DEFAULT_RULES, Tier::NamespaceDefaults),
            egress_ip: text(EGRESS_IP).map(|list| EgressList {
                entries: egress::parse(&list),
                source: list.source,
            }),
            mode: text(MODE).map(|text| Mode::parse_sourced(&text)),
        }
    }

    /// Whether every text says something valid.
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
        self.mode.clone().unwrap_or(Ok(Mode::Enforce))
    }

    /// The egress addresses, in the order of the list; none if it says nothing.
    pub(crate) fn egress(&self) -> Result<Vec<IpNet>, Faults> {
        let list = self.egress_ip.as_ref();
        list.map_or(Ok(Vec::new()), |list| list.entries.clone())
    }

    /// The namespace's two tiers, as far as it has them.
    pub(super) fn tiers(&self) -> Result<Vec<&TierRules>, Faults> {
        let mut faults = Collector::default();
        let mut tiers = Vec::new();
        for read in [&self.enforced_rules, &self.default_rules]
            .into_iter()
            .flatten()
        {
            match read {
                Ok(rules) => tiers.push(rules),
                Err(found) => faults.extend(found.clone()),
            }
        }
        faults.finish(tiers)
    }
}
