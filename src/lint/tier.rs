//! What can be wrong with a text of rules, each of which is right by itself.

use ipnet::IpNet;
use jiff::Timestamp;

use super::finding::Findings;
use super::kind;
use super::services::Services;
use super::text::Text;
use rules::effective::{ApiAnswers, Facts, Tier, TierRules};
use rules::fault::{Collector, Complaint, quoted};
use rules::grammar::{self, targets};
use rules::lexer::{self, Place};
use rules::limits::Limits;
use rules::lint;
use rules::rule::{Rule, Target};

/// What is known around a text.
pub(super) struct Surroundings<'a> {
    /// The tiers that are asked before, in order.
    pub above: Vec<&'a TierRules>,
    /// What the policy says of `cluster` and `dns`, if one is given.
    pub facts: Option<&'a Facts>,
    pub service_cidrs: &'a [IpNet],
    pub services: &'a Services,
    /// How much the text of a pod or a namespace may ask for.
    pub limits: Limits,
    /// Nodes ask no API.
    pub no_api: bool,
    pub now: Timestamp,
}

/// Checks a tier's text, and gives its rules if they are valid.
pub(super) fn check(
    findings: &mut Findings<'_>,
    tier: Tier,
    source: &str,
    text: &Text,
    around: &Surroundings<'_>,
) -> Option<TierRules> {
    let rules = match TierRules::parse(tier, source, &text.content, false) {
        Ok(rules) => rules,
        Err(faults) => {
            findings.add_faults(&kind::RULE_SYNTAX, text, &faults);
            return None;
        }
    };
    if let Some(facts) = around.facts {
        let mut faults = Collector::default();
        rules.note_unknown_names(&mut faults, facts, ApiAnswers::ToBeAsked);
        if let Err(faults) = faults.finish(()) {
            findings.add_faults(&kind::UNKNOWN_KEYWORD, text, &faults);
        }
    }
    let is_clusters = matches!(tier, Tier::ClusterEnforced | Tier::ClusterDefaults);
    if !is_clusters && let Err(faults) = around.limits.check(&rules) {
        findings.add_faults(&kind::LIMITS, text, &faults);
        return Some(rules);
    }
    let places = grammar::places(&text.content, &rules.rules);
    let mut checker = Checker {
        findings,
        text,
        rules: &rules,
        places,
        around,
    };
    checker.rules();
    checker.service_addresses();
    checker.services();
    checker.wide_names();
    if around.no_api {
        checker.without_api();
    }
    Some(rules)
}

struct Checker<'r, 'f, 't> {
    findings: &'r mut Findings<'f>,
    text: &'t Text,
    rules: &'t TierRules,
    /// Where each of the rules stands.
    places: Vec<Place<'t>>,
    around: &'t Surroundings<'t>,
}

impl Checker<'_, '_, '_> {
    /// What is wrong with rules that are right by themselves.
    fn rules(&mut self) {
        let around = lint::Around {
            above: self.around.above.clone(),
            facts: self.around.facts,
            now: self.around.now,
        };
        for finding in lint::check(self.rules, &around) {
            let complaint = finding.complaint(|rule| self.line_of(rule));
            self.findings
                .add_in(finding.check(), self.text, finding.place.into(), complaint);
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
            self.findings
                .add_in(&kind::SERVICE_ADDRESS, self.text, word.into(), complaint);
        }
    }

    /// What such a node would refuse.
    fn without_api(&mut self) {
        let knows_nodes = self
            .around
            .facts
            .is_some_and(|facts| !facts.nodes.is_empty());
        for place in self.places.clone() {
            let words = lexer::words(place.line, place.source_line).into_iter();
            for word in words.filter(|w| place.start <= w.start && w.end <= place.end) {
                let help = match targets::parse(word.text()) {
                    Ok(Target::Service(_) | Target::ApiServer) => {
                        "write the addresses, or give the nodes' conflist `kubernetes`"
                    }
                    Ok(Target::Nodes) if !knows_nodes => {
                        "list their networks as `nodeCIDRs` of the policy file, or give the conflist `kubernetes`"
                    }
                    _ => continue,
                };
                let message = format!(
                    "only the Kubernetes API says what {} is, and these nodes do not ask it: the pod does not start",
                    quoted(word.text())
                );
                let complaint = Complaint::new(message).help(help);
                self.findings
                    .add_in(&kind::NEEDS_API, self.text, word.into(), complaint);
            }
        }
    }

    /// `*.com`
    fn wide_names(&mut self) {
        for place in self.places.clone() {
            let words = lexer::words(place.line, place.source_line).into_iter();
            for word in words.filter(|w| place.start <= w.start && w.end <= place.end) {
                let Ok(Target::Name(pattern)) = targets::parse(word.text()) else {
                    continue;
                };
                if !pattern.is_very_wide() {
                    continue;
                }
                let message = format!(
                    "{} means all names of a top-level domain: whoever registers one opens any address",
                    quoted(word.text())
                );
                let complaint = Complaint::new(message).help("name the domains that are needed");
                self.findings
                    .add_in(&kind::WIDE_NAME, self.text, word.into(), complaint);
            }
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
                    self.findings
                        .add_in(kind, self.text, word.into(), complaint);
                }
            }
        }
    }

    /// The file's line in which a rule of this text stands.
    fn line_of(&self, rule: &Rule) -> usize {
        let position = self.rules.rules.iter().position(|r| std::ptr::eq(r, rule));
        position.map_or(rule.line, |index| {
            self.findings.line_of(self.text, self.places[index].into())
        })
    }
}

fn inside(target: &Target, cidr: &IpNet) -> bool {
    match target {
        Target::Net(net) => cidr.contains(net),
        Target::Range(first, last) => cidr.contains(first) && cidr.contains(last),
        _ => false,
    }
}
