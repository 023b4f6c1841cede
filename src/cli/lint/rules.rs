//! What can be wrong with a text of rules, each of which is right by itself.

use std::collections::{HashMap, VecDeque};

use ipnet::IpNet;
use jiff::Timestamp;

use super::coverage::{self, Above, Reason};
use super::finding::Report;
use super::kind;
use super::services::Services;
use super::text::Text;
use rules::effective::{Api, Facts, Tier, TierRules, note_unknown_names};
use rules::fault::{Collector, Complaint, quoted};
use rules::grammar::lexer::{self, Place};
use rules::grammar::targets;
use rules::rule::{Rule, Target, Verb};

/// What is known around a text.
pub(super) struct Surroundings<'a> {
    /// The tiers that are asked before, in order.
    pub above: Vec<&'a TierRules>,
    /// What the policy says of `cluster` and `dns`, if one is given.
    pub facts: Option<&'a Facts>,
    pub service_cidrs: &'a [IpNet],
    pub services: &'a Services,
    pub now: Timestamp,
}

/// Checks a tier's text, and gives its rules if they are valid.
pub(super) fn check(
    report: &mut Report<'_>,
    tier: Tier,
    source: &str,
    text: &Text,
    around: &Surroundings<'_>,
) -> Option<TierRules> {
    let rules = match TierRules::parse(tier, source, &text.content, false) {
        Ok(rules) => rules,
        Err(faults) => {
            report.add_faults(&kind::RULE_SYNTAX, text, &faults);
            return None;
        }
    };
    if let Some(facts) = around.facts {
        let mut faults = Collector::default();
        note_unknown_names(&mut faults, source, &text.content, facts, Api::ToBeAsked);
        if let Err(faults) = faults.finish(()) {
            report.add_faults(&kind::UNKNOWN_KEYWORD, text, &faults);
        }
    }
    let places = places(&text.content, &rules.rules);
    let mut checker = Checker {
        report,
        text,
        rules: &rules,
        places,
        around,
    };
    checker.never_matching();
    checker.unconditional();
    checker.expired();
    checker.service_addresses();
    checker.services();
    Some(rules)
}

struct Checker<'r, 'f, 't> {
    report: &'r mut Report<'f>,
    text: &'t Text,
    rules: &'t TierRules,
    /// Where each of the rules stands.
    places: Vec<Place<'t>>,
    around: &'t Surroundings<'t>,
}

impl Checker<'_, '_, '_> {
    fn add(&mut self, kind: &'static kind::Kind, index: usize, complaint: Complaint) {
        let place = self.places[index];
        self.report.add_in(kind, self.text, place.into(), complaint);
    }

    fn never_matching(&mut self) {
        let above = Above {
            tiers: self.around.above.clone(),
            facts: self.around.facts,
            now: self.around.now,
        };
        let rules = self.rules;
        let reasons = coverage::judge(&rules.rules, &above);
        for (index, reason) in reasons.into_iter().enumerate() {
            let rule = &rules.rules[index];
            match reason {
                // Told once, at the rule that takes everything.
                None | Some(Reason::AfterUnconditional) => {}
                Some(Reason::Repeats(other)) => {
                    let message = format!("this rule repeats {}", self.called(other));
                    let complaint = Complaint::new(message).help("remove one of them");
                    self.add(&kind::DUPLICATE_RULE, index, complaint);
                }
                Some(Reason::Covered(others)) => self.covered(index, rule, &others),
                Some(Reason::Overridden(others)) => {
                    let names: Vec<String> =
                        others.iter().map(|(t, r)| above_called(t, r)).collect();
                    let message = format!(
                        "this rule can never match: {} decide{} before",
                        listed(&names),
                        if names.len() == 1 { "s" } else { "" }
                    );
                    let complaint = Complaint::new(message).help(if others[0].0.tier == Tier::Dns {
                        "only an enforced rule can say something else of clusterDNS; remove this one"
                    } else {
                        "remove it, or ask those who enforce the other for an exception"
                    });
                    self.add(&kind::OVERRIDDEN_RULE, index, complaint);
                }
            }
        }
    }

    fn covered(&mut self, index: usize, rule: &Rule, others: &[&Rule]) {
        let names: Vec<String> = others.iter().map(|other| self.called(other)).collect();
        let take = if names.len() == 1 { "takes" } else { "take" };
        let message = format!(
            "this rule can never match: {} {take} all of its packets",
            listed(&names)
        );
        if others.iter().all(|other| other.verb == rule.verb) {
            let complaint = Complaint::new(message).help("remove it: it changes nothing");
            self.add(&kind::REDUNDANT_RULE, index, complaint);
        } else {
            let help = match names.first() {
                Some(first) => {
                    format!("the first rule that matches decides: move it before {first}")
                }
                None => "the first rule that matches decides".to_owned(),
            };
            self.add(
                &kind::UNREACHABLE_RULE,
                index,
                Complaint::new(message).help(help),
            );
        }
    }

    fn unconditional(&mut self) {
        let rules = &self.rules.rules;
        let live = |rule: &&Rule| !coverage::is_over(rule, self.around.now);
        let Some(index) = rules
            .iter()
            .position(|rule| coverage::is_unconditional(rule, self.around.facts))
        else {
            return;
        };
        let rule = &rules[index];
        let after: Vec<&Rule> = rules[index + 1..].iter().filter(live).collect();
        if let Some(next) = after.first() {
            let behind = match after.len() {
                1 => format!("{} comes after it and never matches", self.called(next)),
                n => format!(
                    "{n} rules come after it and never match, first {}",
                    self.called(next)
                ),
            };
            let message = format!("this `{}` takes every packet: {behind}", rule.verb);
            let complaint = Complaint::new(message)
                .help("the first rule that matches decides: move this one to the end");
            self.add(&kind::AFTER_UNCONDITIONAL, index, complaint);
            return;
        }
        let lets_out = |rule: &Rule| matches!(rule.verb, Verb::Allow | Verb::Pass);
        let only_denies = matches!(rule.verb, Verb::Deny | Verb::Reject)
            && !rules[..index].iter().filter(live).any(lets_out);
        let who = match self.rules.tier {
            Tier::Pod => "the pod is cut off",
            Tier::NamespaceEnforced => "every pod of the namespace is cut off",
            Tier::ClusterEnforced => "every pod is cut off",
            // What no other rule decided may well be denied.
            Tier::Dns | Tier::NamespaceDefaults | Tier::ClusterDefaults => return,
        };
        if only_denies {
            let message = format!("{who}: nothing is allowed before this `{}`", rule.verb);
            let except = match self.rules.tier {
                Tier::ClusterEnforced => "not even DNS is left",
                Tier::NamespaceEnforced => "only what the cluster's enforced rules allow is left",
                _ => "only DNS and what enforced rules allow is left",
            };
            let help = format!("{except}; if more is needed, write `allow` rules before it");
            self.add(&kind::CUT_OFF, index, Complaint::new(message).help(help));
        }
    }

    fn expired(&mut self) {
        for (index, rule) in self.rules.rules.iter().enumerate() {
            if let Some(until) = rule
                .until
                .filter(|_| coverage::is_over(rule, self.around.now))
            {
                let message = format!("this rule ended at {until}: it is as if it were not there");
                let complaint = Complaint::new(message).help("remove it, or set a later `until`");
                self.add(&kind::EXPIRED_RULE, index, complaint);
            }
        }
    }

    /// Addresses are compared after translation, when a Service's own are gone.
    fn service_addresses(&mut self) {
        if self.around.service_cidrs.is_empty() {
            return;
        }
        let content = &self.text.content;
        let words = lexer::statements(content).flat_map(|statement| statement.words);
        for word in words {
            let Ok(target) = targets::parse(word.text()) else {
                continue;
            };
            let cidrs = self.around.service_cidrs.iter();
            let Some(cidr) = cidrs.copied().find(|cidr| inside(&target, cidr)) else {
                continue;
            };
            let message = format!(
                "{} is in the Service range {cidr}: addresses match after a Service's translation, so no packet \
                 has this one",
                quoted(word.text())
            );
            let dns = self.around.facts.is_some_and(|facts| {
                facts
                    .dns
                    .iter()
                    .any(|dns| target == Target::Net(IpNet::from(*dns)))
            });
            let service = match target {
                Target::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                    self.around.services.at(net.addr())
                }
                _ => None,
            };
            let complaint = Complaint::new(message).help(match (dns, service) {
                (true, _) => "for clusterDNS, write `dns`".to_owned(),
                (false, Some(name)) => format!("write `svc/{name}`"),
                (false, None) => "write the Service's name: `svc/NAMESPACE/NAME`".to_owned(),
            });
            self.report
                .add_in(&kind::SERVICE_ADDRESS, self.text, word.into(), complaint);
        }
    }

    fn services(&mut self) {
        for (rule, place) in self.rules.rules.iter().zip(self.places.clone()) {
            let words = lexer::words(place.line, place.source_line).into_iter();
            for word in words.filter(|w| place.start <= w.start && w.end <= place.end) {
                let Ok(Target::Service(name)) = targets::parse(word.text()) else {
                    continue;
                };
                let judged = self.around.services.judge(&name, &rule.ports);
                if let Some((kind, complaint)) = judged {
                    self.report.add_in(kind, self.text, word.into(), complaint);
                }
            }
        }
    }

    /// A rule of this text as messages call it.
    fn called(&self, rule: &Rule) -> String {
        let position = self.rules.rules.iter().position(|r| std::ptr::eq(r, rule));
        let file_line = position.map(|index| {
            let place = self.places[index];
            self.report.line_of(self.text, place.into())
        });
        match file_line {
            Some(line) => format!("{} in line {line}", quoted(&rule.text)),
            None => quoted(&rule.text),
        }
    }
}

/// A rule of another tier as messages call it.
fn above_called(tier: &TierRules, rule: &Rule) -> String {
    match tier.tier {
        Tier::Dns => "the built-in allowance of DNS".to_owned(),
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

fn inside(target: &Target, cidr: &IpNet) -> bool {
    match target {
        Target::Net(net) => cidr.contains(net),
        Target::Range(first, last) => cidr.contains(first) && cidr.contains(last),
        _ => false,
    }
}

/// Where each rule of a valid text stands. The rules are sorted; those of one priority are as written.
fn places<'t>(text: &'t str, rules: &[Rule]) -> Vec<Place<'t>> {
    let mut written: HashMap<(usize, String), VecDeque<Place<'t>>> = HashMap::new();
    for statement in lexer::statements(text) {
        let first = statement.first();
        let whole = Place {
            width: statement.text().chars().count(),
            end: statement.last().end,
            ..first
        };
        let key = (first.line, statement.text().to_owned());
        written.entry(key).or_default().push_back(whole);
    }
    let mut place = |rule: &Rule| {
        let places = written.get_mut(&(rule.line, rule.text.clone()))?;
        places.pop_front()
    };
    let line = |rule: &Rule| {
        let (number, line) = lexer::lines(text).nth(rule.line - 1).unwrap_or((1, ""));
        lexer::whole_line(number, line)
    };
    rules
        .iter()
        .map(|rule| place(rule).unwrap_or_else(|| line(rule)))
        .collect()
}
