//! What can be wrong with rules each of which is valid by itself: some never match, some cut everything off.
//!
//! Nothing is said that is not certain: where it would depend on what is not known here, or would take too long to find
//! out, a rule counts as one that may match.

mod coverage;

use jiff::Timestamp;
use serde::Serialize;

use super::effective::{Facts, Tier, TierRules};
use super::fault::{Complaint, Fault, quoted};
use super::grammar;
use super::lexer::Place;
use super::rule::{Rule, Verb};

use coverage::Reason;
pub use coverage::is_over;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Refused, or surely not what was meant.
    Error,
    /// Probably not what was meant.
    Warning,
}

impl Severity {
    /// `error`, `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is looked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, which stays: scripts use it.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, without its full stop.
    pub meaning: &'static str,
}

macro_rules! checks {
    ($($name:ident $severity:ident $id:literal $meaning:literal)*) => {
        $(
            #[doc = concat!($meaning, ".")]
            pub const $name: Check = Check {
                id: $id,
                severity: Severity::$severity,
                meaning: $meaning,
            };
        )*
        /// All checks of rules.
        pub const CHECKS: &[&Check] = &[$(&$name),*];
    };
}

checks! {
    AFTER_UNCONDITIONAL Error "after-unconditional" "Rules after one that matches everything"
    UNREACHABLE_RULE Error "unreachable-rule" "A rule that never matches, since earlier ones that decide otherwise cover it"
    DUPLICATE_RULE Warning "duplicate-rule" "A rule that repeats another"
    REDUNDANT_RULE Warning "redundant-rule" "A rule that never matches, since earlier ones that decide the same cover it"
    OVERRIDDEN_RULE Warning "overridden-rule" "A rule that never matches, since a tier above decides all of it"
    CUT_OFF Warning "cut-off" "A deny of everything with no allow before it"
    EXPIRED_RULE Warning "expired-rule" "A rule whose `until` is over"
}

/// What is known around a tier's text.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// The tiers that are asked before, in order.
    pub above: Vec<&'a TierRules>,
    /// What the keywords stand for; `None`: that is not known.
    pub facts: Option<&'a Facts>,
    /// When.
    pub now: Timestamp,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem<'a> {
    /// Another rule says the same.
    Repeats(&'a Rule),
    /// These rules of the same text take all of its packets. Never empty.
    Covered(Vec<&'a Rule>),
    /// Tiers above decide all of its packets, perhaps together with earlier rules of the text. Never empty.
    Overridden(Vec<(&'a TierRules, &'a Rule)>),
    /// It takes every packet, and these come after it. Never empty.
    TakesEverything(Vec<&'a Rule>),
    /// It takes every packet, and nothing is let out before.
    CutOff,
    /// It ended then.
    Expired(Timestamp),
}

/// One rule with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFinding<'a> {
    /// The rule's tier.
    pub tier: Tier,
    /// The rule.
    pub rule: &'a Rule,
    /// Where it stands in its text.
    pub place: Place<'a>,
    /// What is wrong with it.
    pub problem: Problem<'a>,
}

/// Looks at a tier's rules in the light of what is around them.
///
/// ```
/// use egressway_rules::effective::{Tier, TierRules};
/// use egressway_rules::lint;
///
/// let rules = TierRules::parse(Tier::Pod, "web", "deny to 10.0.0.0/8\nallow 443/tcp to 10.1.2.3", false)?;
/// let around = lint::Around { above: Vec::new(), facts: None, now: jiff::Timestamp::UNIX_EPOCH };
/// let found = lint::check(&rules, &around);
/// assert_eq!(found[0].check().id, "unreachable-rule");
/// assert_eq!(found[0].place.line, 2);
/// # Ok::<(), egressway_rules::fault::Faults>(())
/// ```
pub fn check<'a>(rules: &'a TierRules, around: &Around<'a>) -> Vec<RuleFinding<'a>> {
    let places = grammar::places(&rules.text, &rules.rules);
    let finding = |index: usize, problem| RuleFinding {
        tier: rules.tier,
        rule: &rules.rules[index],
        place: places[index],
        problem,
    };
    let reasons = coverage::judge(&rules.rules, around)
        .into_iter()
        .enumerate();
    let mut found: Vec<RuleFinding<'_>> = reasons
        .filter_map(|(index, reason)| {
            let problem = match reason? {
                // Told once, at the rule that takes everything.
                Reason::AfterUnconditional => return None,
                Reason::Repeats(other) => Problem::Repeats(other),
                Reason::Covered(others) => Problem::Covered(others),
                Reason::Overridden(others) => Problem::Overridden(others),
            };
            Some(finding(index, problem))
        })
        .collect();
    found.extend(everything(rules, around).map(|(index, problem)| finding(index, problem)));
    let over = rules.rules.iter().enumerate();
    found.extend(over.filter_map(|(index, rule)| {
        let until = rule.until.filter(|_| is_over(rule, around.now))?;
        Some(finding(index, Problem::Expired(until)))
    }));
    found
}

/// The first rule that takes every packet, if something is wrong with that.
fn everything<'a>(rules: &'a TierRules, around: &Around<'a>) -> Option<(usize, Problem<'a>)> {
    let list = &rules.rules;
    let live = |rule: &&Rule| !is_over(rule, around.now);
    let index = list
        .iter()
        .position(|rule| coverage::is_unconditional(rule, around.facts))?;
    let after: Vec<&Rule> = list[index + 1..].iter().filter(live).collect();
    if !after.is_empty() {
        return Some((index, Problem::TakesEverything(after)));
    }
    let lets_out = |rule: &Rule| matches!(rule.verb, Verb::Allow | Verb::Pass);
    let only_denies = matches!(list[index].verb, Verb::Deny | Verb::Reject)
        && !list[..index].iter().filter(live).any(lets_out);
    // Below the pod's own rules, what no other rule decided may well be denied.
    let is_early = matches!(
        rules.tier,
        Tier::ClusterEnforced | Tier::NamespaceEnforced | Tier::Pod
    );
    (only_denies && is_early).then_some((index, Problem::CutOff))
}

impl RuleFinding<'_> {
    /// Which check found it.
    pub fn check(&self) -> &'static Check {
        match &self.problem {
            Problem::Repeats(_) => &DUPLICATE_RULE,
            Problem::Covered(others) if others.iter().all(|o| o.verb == self.rule.verb) => {
                &REDUNDANT_RULE
            }
            Problem::Covered(_) => &UNREACHABLE_RULE,
            Problem::Overridden(_) => &OVERRIDDEN_RULE,
            Problem::TakesEverything(_) => &AFTER_UNCONDITIONAL,
            Problem::CutOff => &CUT_OFF,
            Problem::Expired(_) => &EXPIRED_RULE,
        }
    }

    /// As a fault of the text called `source`: with place, caret and help, to be printed as those of a text that is
    /// wrong.
    ///
    /// ```
    /// use egressway_rules::effective::{Tier, TierRules};
    /// use egressway_rules::lint;
    ///
    /// let rules = TierRules::parse(Tier::Pod, "web", "deny\nallow 443/tcp", false)?;
    /// let around = lint::Around { above: Vec::new(), facts: None, now: jiff::Timestamp::UNIX_EPOCH };
    /// let found = lint::check(&rules, &around);
    /// assert!(found[0].fault("web").to_string().starts_with("web:1:1: "));
    /// # Ok::<(), egressway_rules::fault::Faults>(())
    /// ```
    pub fn fault(&self, source: &str) -> Fault {
        let complaint = self.complaint(|rule| rule.line);
        Fault::new(source, self.place, complaint)
    }

    /// What is wrong, in words. `line` says in which line people find a rule of the same text.
    pub fn complaint(&self, line: impl Fn(&Rule) -> usize) -> Complaint {
        let called = |rule: &Rule| format!("{} in line {}", quoted(&rule.text), line(rule));
        match &self.problem {
            Problem::Repeats(other) => {
                let message = format!("this rule repeats {}", called(other));
                Complaint::new(message).help("remove one of them")
            }
            Problem::Covered(others) => {
                let names: Vec<String> = others.iter().map(|other| called(other)).collect();
                let take = if names.len() == 1 { "takes" } else { "take" };
                let complaint = Complaint::new(format!(
                    "this rule can never match: {} {take} all of its packets",
                    listed(&names)
                ));
                if *self.check() == REDUNDANT_RULE {
                    return complaint.help("remove it: it changes nothing");
                }
                complaint.help(match names.first() {
                    Some(first) => {
                        format!("the first rule that matches decides: move it before {first}")
                    }
                    None => "the first rule that matches decides".to_owned(),
                })
            }
            Problem::Overridden(others) => {
                let names: Vec<String> = others.iter().map(|(t, r)| called_above(t, r)).collect();
                let decide = if names.len() == 1 {
                    "decides"
                } else {
                    "decide"
                };
                let complaint = Complaint::new(format!(
                    "this rule can never match: {} {decide} before",
                    listed(&names)
                ));
                complaint.help(match others.first().map(|(tier, _)| tier.tier) {
                    Some(Tier::Dns) => "only an enforced rule can say something else of clusterDNS; remove this one",
                    Some(Tier::BuiltIn) => {
                        "only an enforced `allow` lets tunnels through to nodes and pods: remove this one, or ask \
                         those who enforce rules for one"
                    }
                    _ => "remove it, or ask those who enforce the other for an exception",
                })
            }
            Problem::TakesEverything(after) => {
                let first = after.first().map(|rule| called(rule)).unwrap_or_default();
                let behind = match after.len() {
                    1 => format!("{first} comes after it and never matches"),
                    n => format!("{n} rules come after it and never match, first {first}"),
                };
                let message = format!("this `{}` takes every packet: {behind}", self.rule.verb);
                Complaint::new(message)
                    .help("the first rule that matches decides: move this one to the end")
            }
            Problem::CutOff => cut_off(self.tier, self.rule),
            Problem::Expired(until) => {
                let message = format!("this rule ended at {until}: it is as if it were not there");
                Complaint::new(message).help("remove it, or set a later `until`")
            }
        }
    }
}

fn cut_off(tier: Tier, rule: &Rule) -> Complaint {
    let (who, left) = match tier {
        Tier::ClusterEnforced => ("every pod is cut off", "not even DNS is left"),
        Tier::NamespaceEnforced => (
            "every pod of the namespace is cut off",
            "only what the cluster's enforced rules allow is left",
        ),
        _ => (
            "the pod is cut off",
            "only DNS and what enforced rules allow is left",
        ),
    };
    let message = format!("{who}: nothing is allowed before this `{}`", rule.verb);
    Complaint::new(message).help(format!(
        "{left}; if more is needed, write `allow` rules before it"
    ))
}

/// A rule of another tier as messages call it.
fn called_above(tier: &TierRules, rule: &Rule) -> String {
    match tier.tier {
        Tier::Dns => "the built-in allowance of DNS".to_owned(),
        Tier::BuiltIn => format!("the built-in rule {}", quoted(&rule.label())),
        _ => format!("{} ({}:{})", quoted(&rule.text), tier.source, rule.line),
    }
}

/// `a`, `a and b`, `a, b and 3 more`.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tier: Tier, text: &str, above: &[&TierRules]) -> Vec<String> {
        let rules = TierRules::parse(tier, "test", text, false).expect("is valid");
        let around = Around {
            above: above.to_vec(),
            facts: None,
            now: "2026-06-01T00:00:00Z".parse().expect("a time"),
        };
        let found = check(&rules, &around).into_iter();
        found
            .map(|finding| {
                let complaint = finding.complaint(|rule| rule.line);
                format!(
                    "{}:{} {}: {}; {}",
                    finding.place.line,
                    finding.place.column,
                    finding.check().id,
                    complaint.message,
                    complaint.help.unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn each_problem_has_its_words() {
        assert_eq!(
            found(
                Tier::Pod,
                "deny to 10.0.0.0/8; allow 1/tcp to 10.1.2.3\ndeny udp to 10.0.0.0/9",
                &[]
            ),
            [
                "1:21 unreachable-rule: this rule can never match: `deny to 10.0.0.0/8` in line 1 takes all of its \
                 packets; the first rule that matches decides: move it before `deny to 10.0.0.0/8` in line 1",
                "2:1 redundant-rule: this rule can never match: `deny to 10.0.0.0/8` in line 1 takes all of its \
                 packets; remove it: it changes nothing",
            ]
        );
        assert_eq!(
            found(
                Tier::Pod,
                "allow tcp; allow TCP\nallow udp until=2026-01-01T00:00:00Z",
                &[]
            ),
            [
                "1:12 duplicate-rule: this rule repeats `allow tcp` in line 1; remove one of them",
                "2:1 expired-rule: this rule ended at 2026-01-01T00:00:00Z: it is as if it were not there; remove it, \
                 or set a later `until`",
            ]
        );
        let enforced = TierRules::parse(Tier::ClusterEnforced, "policy", "deny 25/tcp", false);
        let enforced = enforced.expect("is valid");
        let dns = crate::builtin::dns().expect("is valid");
        assert_eq!(
            found(Tier::Pod, "allow 25/tcp to 8.8.8.8", &[&enforced, &dns]),
            [
                "1:1 overridden-rule: this rule can never match: `deny 25/tcp` (policy:1) decides before; remove it, \
                 or ask those who enforce the other for an exception"
            ]
        );
        assert_eq!(
            found(Tier::Pod, "allow to dns", &[&dns]),
            [
                "1:1 overridden-rule: this rule can never match: the built-in allowance of DNS decides before; only \
                 an enforced rule can say something else of clusterDNS; remove this one",
            ]
        );
        let tunnels = crate::builtin::no_tunnels(None).expect("is valid");
        assert_eq!(
            found(Tier::Pod, "allow 8472/udp to cluster", &[&tunnels]),
            [
                "1:1 overridden-rule: this rule can never match: the built-in rule `no-tunnels` decides before; only an \
                 enforced `allow` lets tunnels through to nodes and pods: remove this one, or ask those who enforce \
                 rules for one",
            ]
        );
    }

    #[test]
    fn who_is_cut_off_depends_on_the_tier() {
        for (tier, wanted) in [
            (Tier::ClusterEnforced, "every pod is cut off"),
            (
                Tier::NamespaceEnforced,
                "every pod of the namespace is cut off",
            ),
            (Tier::Pod, "the pod is cut off"),
        ] {
            let found = found(tier, "deny 25/tcp\nreject", &[]);
            assert!(
                matches!(&found[..], [one] if one.starts_with(&format!("2:1 cut-off: {wanted}: "))),
                "{found:?}"
            );
        }
        for tier in [Tier::NamespaceDefaults, Tier::ClusterDefaults] {
            assert_eq!(found(tier, "deny", &[]), [""; 0]);
        }
        assert_eq!(found(Tier::Pod, "pass tcp\ndeny", &[]), [""; 0]);
        let after = found(Tier::Pod, "deny\nallow tcp\nallow udp", &[]);
        assert_eq!(
            after,
            [
                "1:1 after-unconditional: this `deny` takes every packet: 2 rules come after it and never match, first \
                 `allow tcp` in line 2; the first rule that matches decides: move this one to the end"
            ]
        );
    }
}
