//! Where a rule stands, from the policy that is recorded for a pod.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use rules::rule::Rule;
use rules::stored::StoredPolicy;

/// A rule as its author finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `pod annotation egressway.dev/rules`, `/etc/egressway/policy.yaml: enforced`.
    pub source: String,
    /// From 1.
    pub line: usize,
    /// The rule itself.
    pub text: String,
}

/// The rules of one policy. They are read when one of them is first asked for: most pods are denied nothing.
#[derive(Debug)]
pub struct Places {
    stored: StoredPolicy,
    places: OnceLock<HashMap<String, Place>>,
}

impl Places {
    /// Where the rule with this name in log lines stands. `None`: a default action, or another version's.
    pub fn of(&self, rule: &str) -> Option<&Place> {
        self.places.get_or_init(|| places(&self.stored)).get(rule)
    }
}

fn places(stored: &StoredPolicy) -> HashMap<String, Place> {
    let tiers = stored.rebuild().map(|policy| policy.tiers);
    let tiers = tiers.unwrap_or_default().into_iter();
    tiers
        .flat_map(|tier| {
            let place = |rule: &Rule| Place {
                source: tier.source.clone(),
                line: rule.line,
                text: rule.text.clone(),
            };
            let places = tier
                .rules
                .iter()
                .map(|rule| (tier.label(rule), place(rule)));
            places.collect::<Vec<_>>()
        })
        .collect()
}

/// The policies of all pods, each once, by their names in the kernel. Two with one name have the same rules, but
/// perhaps not from the same places.
#[derive(Debug, Default)]
pub struct Policies(HashMap<String, Vec<Arc<Places>>>);

impl Policies {
    /// The rules of a policy, as they are known already if they are.
    pub fn learn(&mut self, name: String, stored: StoredPolicy) -> Arc<Places> {
        let known = self.0.entry(name).or_default();
        if let Some(rules) = known.iter().find(|rules| rules.stored == stored) {
            return rules.clone();
        }
        let rules = Arc::new(Places {
            stored,
            places: OnceLock::new(),
        });
        known.push(rules.clone());
        rules
    }

    /// Forgets those that no pod has any more.
    pub fn tidy(&mut self) {
        self.0.retain(|_, known| {
            known.retain(|rules| Arc::strong_count(rules) > 1);
            !known.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::effective::{DefaultAction, Facts, Tier};
    use rules::stored::StoredTier;

    fn stored(source: &str, text: &str) -> StoredPolicy {
        StoredPolicy {
            tiers: vec![StoredTier {
                tier: Tier::NamespaceDefaults,
                source: source.to_owned(),
                text: text.to_owned(),
                audit: false,
            }],
            default_action: DefaultAction::Deny,
            default_audit: false,
            facts: Facts::default(),
            pod_log_rate: None,
            exempt: false,
        }
    }

    #[test]
    fn rules_are_known_by_their_names_in_log_lines() {
        let mut policies = Policies::default();
        let text = "# ours\nallow tcp log name=web; deny udp log\ndeny log priority=1";
        let rules = policies.learn("pol".to_owned(), stored("namespace shop", text));
        let place = |rule| {
            let Place { source, line, text } = rules.of(rule)?;
            Some(format!("{source}:{line}: {text}"))
        };
        for (rule, expected) in [
            (
                "namespace-defaults:web",
                Some("namespace shop:2: allow tcp log name=web"),
            ),
            (
                "namespace-defaults:2",
                Some("namespace shop:2: deny udp log"),
            ),
            (
                "namespace-defaults:3",
                Some("namespace shop:3: deny log priority=1"),
            ),
            ("namespace-defaults:1", None),
            ("pod:web", None),
            ("default:deny", None),
        ] {
            assert_eq!(place(rule).as_deref(), expected, "{rule}");
        }
        // Another version's grammar.
        let unknown = policies.learn("pol".to_owned(), stored("namespace shop", "permit"));
        assert_eq!(unknown.of("namespace-defaults:1"), None);
    }

    #[test]
    fn a_policy_is_kept_once_and_as_long_as_a_pod_has_it() {
        let mut policies = Policies::default();
        let mut learn = |source| policies.learn("pol".to_owned(), stored(source, "deny"));
        let (one, same, other) = (
            learn("namespace a"),
            learn("namespace a"),
            learn("namespace b"),
        );
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop(other);
        policies.tidy();
        assert_eq!(policies.0["pol"].len(), 1);
        drop((one, same));
        policies.tidy();
        assert!(policies.0.is_empty());
    }
}
