//! What is known around whatever is checked.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;

use super::services::Services;
use super::tier::Surroundings;
use crate::source::PolicyFile;
use rules::builtin;
use rules::effective::{Facts, TierRules};
use rules::limits::Limits;

/// What all files are checked against.
#[derive(Debug)]
pub struct Context {
    /// The nodes' policy file, if it is known.
    pub(super) policy: Option<PolicyFile>,
    /// The cluster's enforced rules.
    pub(super) enforced: Option<TierRules>,
    /// What the policy says of the cluster, if one is given.
    pub(super) facts: Option<Facts>,
    /// What namespaces enforce, by their names.
    pub namespaces: BTreeMap<String, TierRules>,
    /// What applies to every pod although nobody has written it.
    pub(super) built_in: Vec<TierRules>,
    pub(super) service_cidrs: Vec<IpNet>,
    /// Those among the files.
    pub(super) services: Services,
    /// What the policy file says, or would without saying anything.
    pub(super) limits: Limits,
    /// The nodes ask no API.
    pub no_api: bool,
    /// The file with a conflist that ignores forged checksums.
    pub(super) ignoring: Option<String>,
    pub(super) now: Timestamp,
}

/// Without a policy file, as if all were known.
pub(super) fn built_in(facts: Option<&Facts>) -> Vec<TierRules> {
    let tiers = [builtin::dns(), builtin::no_tunnels(facts)];
    tiers.into_iter().flatten().collect()
}

impl Context {
    /// Of nodes with this policy file, if that is known, and of a cluster whose Services have addresses of
    /// `service_cidrs`. Rules that ended before `now` are found.
    pub fn new(policy: Option<PolicyFile>, service_cidrs: Vec<IpNet>, now: Timestamp) -> Self {
        let mut namespaces = BTreeMap::new();
        for (name, annotations) in policy.iter().flat_map(|policy| &policy.namespaces) {
            let rules = annotations.enforced_rules.iter().flatten();
            namespaces.extend(rules.map(|rules| (name.clone(), rules.clone())));
        }
        Self {
            enforced: policy.as_ref().map(|policy| policy.enforced.clone()),
            facts: policy.as_ref().map(|policy| policy.facts.clone()),
            limits: policy
                .as_ref()
                .map(|policy| policy.limits)
                .unwrap_or_default(),
            built_in: built_in(policy.as_ref().map(|policy| &policy.facts)),
            policy,
            namespaces,
            service_cidrs,
            services: Services::default(),
            no_api: false,
            ignoring: None,
            now,
        }
    }

    /// Of a text that no tier is asked before.
    pub(super) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            above: Vec::new(),
            facts: self.facts.as_ref(),
            service_cidrs: &self.service_cidrs,
            services: &self.services,
            limits: self.limits,
            no_api: self.no_api,
            now: self.now,
        }
    }
}
