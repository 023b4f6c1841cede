//! Our keys among an object's annotations and labels, and the values of these.

use std::collections::BTreeMap;

use super::context::Context;
use super::finding::{Finding, Findings, Spot};
use super::keys::{Carrier, KEYS, misplaced, wrong_prefix};
use super::kind;
use super::text::Text;
use super::tier::{self, Surroundings};
use super::yaml::NodeView;
use crate::source::annotation::{
    DEFAULT_RULES, EGRESS_IP, ENFORCED_RULES, MODE, PREFIX, RULES, SourcedText,
};
use crate::source::{NamespaceAnnotations, SourceError, impossible_egress, resolve};
use rules::effective::{Tier, TierRules};
use rules::fault::{Complaint, quoted};

/// Checks an object's annotations as the API has them. A finding's source is the annotation's key, and its lines and
/// columns are those of the value; about a key itself, of the key.
pub fn check_annotations(
    context: &Context,
    annotations: &BTreeMap<String, String>,
    carrier: &Carrier<'_>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut ours = Vec::new();
    for (key, value) in annotations {
        let of_key = Text::file(key.clone());
        let mut findings = Findings::new(key, &of_key);
        if check_key(&mut findings, key, (0, key.len()), carrier) {
            ours.push((key.as_str(), Text::file(value.clone())));
        }
        found.extend(findings.finish());
    }
    let mut enforced = None;
    for (key, text) in in_order(&ours) {
        let mut findings = Findings::new(key, text);
        check_value(&mut findings, context, key, text, carrier, &mut enforced);
        found.extend(findings.finish());
    }
    found
}

/// Checks the annotations and labels in an object's metadata. Whether they hold rules.
pub(super) fn check(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    metadata: Option<NodeView<'_>>,
    carrier: &Carrier<'_>,
) -> bool {
    if let Some(labels) = metadata.and_then(|metadata| metadata.get("labels")) {
        check_labels(findings, outer, labels);
    }
    let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
    annotations.is_some_and(|annotations| check_map(findings, context, outer, annotations, carrier))
}

/// Checks a mapping of annotations. Whether one of them holds rules.
pub(super) fn check_map(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    annotations: NodeView<'_>,
    carrier: &Carrier<'_>,
) -> bool {
    if is_bare_template(findings, outer, annotations) {
        return false;
    }
    let mut ours: Vec<(&str, Text)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut has_rules = false;
    for (key_view, value) in annotations.entries() {
        let Some(key) = key_view.as_str() else {
            continue;
        };
        let at = place(outer, key_view);
        if key.starts_with(PREFIX) {
            if seen.contains(&key) {
                let message = format!("the annotation {} is there twice", quoted(key));
                let complaint =
                    Complaint::new(message).help("only the last one counts; remove the others");
                findings.add(&kind::DUPLICATE_ANNOTATION, at, complaint);
            }
            seen.push(key);
        }
        if !check_key(findings, key, at, carrier) {
            continue;
        }
        has_rules |= key == RULES;
        if is_bare_template(findings, outer, value) {
            continue;
        }
        if value.as_text().is_none() {
            let (at, complaint) = no_text(key, at, place(outer, value));
            findings.add(&kind::ANNOTATION_VALUE, at, complaint);
            continue;
        }
        if let Some(text) = value.text(outer) {
            ours.push((key, text));
        }
    }
    let mut enforced = None;
    for (key, text) in in_order(&ours) {
        check_value(findings, context, key, text, carrier, &mut enforced);
    }
    has_rules
}

/// A value that is a number, a boolean, a list or nothing, and where to point at.
fn no_text(
    key: &str,
    key_place: (usize, usize),
    place: (usize, usize),
) -> ((usize, usize), Complaint) {
    if place.0 == place.1 {
        let complaint = Complaint::new(format!("the annotation {} has no value", quoted(key)));
        return (
            key_place,
            complaint.help("write one, or remove the annotation"),
        );
    }
    let message = format!("the value of {} must be a string", quoted(key));
    let complaint = Complaint::new(message).help("put it in quotation marks, or behind `|`");
    (place, complaint)
}

/// Checks a key that stands at `at`. Whether it is one of ours whose value counts here.
fn check_key(
    findings: &mut Findings<'_>,
    key: &str,
    at: (usize, usize),
    carrier: &Carrier<'_>,
) -> bool {
    if let Some(complaint) = wrong_prefix(key) {
        findings.add(&kind::UNKNOWN_ANNOTATION, at, complaint);
    }
    if !key.starts_with(PREFIX) {
        return false;
    }
    if let Some((kind, complaint)) = misplaced(key, carrier) {
        findings.add(kind, at, complaint);
        return false;
    }
    true
}

/// Values in the order in which their tiers are asked, so that the earlier is known when the later is checked.
fn in_order<'o>(ours: &'o [(&'o str, Text)]) -> impl Iterator<Item = (&'o str, &'o Text)> {
    let of_key = |wanted| ours.iter().filter(move |(key, _)| *key == wanted);
    let all = [MODE, EGRESS_IP, ENFORCED_RULES, RULES, DEFAULT_RULES].into_iter();
    all.flat_map(of_key).map(|(key, text)| (*key, text))
}

/// Checks the value of one of our keys. `enforced`: what the same object enforces, as far as it was checked.
fn check_value(
    findings: &mut Findings<'_>,
    context: &Context,
    key: &str,
    text: &Text,
    carrier: &Carrier<'_>,
    enforced: &mut Option<TierRules>,
) {
    let tier = match key {
        MODE => {
            if let Err(faults) = alone(MODE, text).mode() {
                findings.add_faults(&kind::ANNOTATION_VALUE, text, &faults);
            }
            return;
        }
        EGRESS_IP => return check_egress(findings, context, text, carrier),
        ENFORCED_RULES => Tier::NamespaceEnforced,
        RULES => Tier::Pod,
        _ => Tier::NamespaceDefaults,
    };
    if is_template(findings, text) {
        return;
    }
    let cluster = context.enforced.iter();
    let namespace = match carrier {
        Carrier::Pod { namespace } => namespace.and_then(|name| context.namespaces.get(name)),
        _ => None,
    };
    let above = match tier {
        Tier::NamespaceEnforced => cluster.collect(),
        _ => cluster
            .chain(namespace)
            .chain(enforced.as_ref())
            .chain(&context.built_in)
            .collect(),
    };
    let around = Surroundings {
        above,
        ..context.surroundings()
    };
    let rules = tier::check(findings, tier, key, text, &around);
    if tier == Tier::NamespaceEnforced {
        *enforced = rules;
    }
}

fn is_template(findings: &mut Findings<'_>, text: &Text) -> bool {
    let Some(at) = text.content.find("{{") else {
        return false;
    };
    add_template(findings, text.place(at));
    true
}

/// A template's braces that are YAML by chance: a mapping in a mapping.
fn is_bare_template(findings: &mut Findings<'_>, outer: &Text, value: NodeView<'_>) -> bool {
    let (start, _) = value.span();
    let bare = outer
        .content
        .get(start..)
        .is_some_and(|rest| rest.starts_with("{{"));
    if bare {
        add_template(findings, outer.place(start));
    }
    bare
}

fn add_template(findings: &mut Findings<'_>, place: usize) {
    let complaint = Complaint::new("this is a template: its text is known only after rendering")
        .help("check what comes out: `helm template . | egressway lint -`");
    findings.add(&kind::TEMPLATE, (place, place + 2), complaint);
}

fn check_egress(
    findings: &mut Findings<'_>,
    context: &Context,
    text: &Text,
    carrier: &Carrier<'_>,
) {
    let annotations = alone(EGRESS_IP, text);
    let refused = match (annotations.egress(), &context.policy, carrier) {
        (Err(faults), ..) => {
            findings.add_faults(&kind::ANNOTATION_VALUE, text, &faults);
            return;
        }
        (Ok(_), Some(policy), Carrier::Namespace { name }) => {
            resolve(policy, name, &annotations, Ok(None)).err()
        }
        (Ok(list), ..) => {
            let facts = context.facts.clone().unwrap_or_default();
            let mut reasons = list
                .iter()
                .filter_map(|entry| impossible_egress(entry, &facts));
            let place = EGRESS_IP.to_owned();
            let impossible = |reason| SourceError::EgressImpossible { place, reason };
            reasons.next().map(impossible)
        }
    };
    let whole = Spot {
        line: 1,
        column: 1,
        width: text
            .content
            .lines()
            .next()
            .map_or(1, |line| line.chars().count()),
    };
    match refused {
        Some(SourceError::EgressImpossible { reason, .. }) => {
            findings.add_in(&kind::EGRESS_IP_REFUSED, text, whole, impossible(&reason));
        }
        Some(SourceError::EgressNotOffered { entry, offered, .. }) => {
            let message =
                format!("{entry} is not inside `egressIPs` of the policy file ({offered})");
            let complaint = Complaint::new(message).help("take one of those");
            findings.add_in(&kind::EGRESS_IP_REFUSED, text, whole, complaint);
        }
        Some(SourceError::EgressTaken {
            entry,
            owner,
            owned,
            ..
        }) => {
            let message = format!("{entry} belongs to the namespace {owner}, which lists {owned}");
            let complaint = Complaint::new(message).help("take another address");
            findings.add_in(&kind::EGRESS_IP_REFUSED, text, whole, complaint);
        }
        _ => {}
    }
}

pub(super) fn impossible(reason: &str) -> Complaint {
    Complaint::new(format!("{reason}, and can't be an egress address"))
        .help("take one that is routed to the nodes and not in use")
}

/// A namespace's annotations, if this were its only one.
fn alone(key: &str, text: &Text) -> NamespaceAnnotations {
    NamespaceAnnotations::read(|asked| {
        (asked == key).then(|| SourcedText {
            source: key.to_owned(),
            text: text.content.clone(),
        })
    })
}

fn check_labels(findings: &mut Findings<'_>, outer: &Text, labels: NodeView<'_>) {
    for (key, _) in labels.entries() {
        let Some(name) = key.as_str().filter(|key| KEYS.contains(key)) else {
            continue;
        };
        let message = format!(
            "{} is a label here: only annotations are read",
            quoted(name)
        );
        let complaint = Complaint::new(message).help("move it to metadata.annotations");
        findings.add(&kind::LABEL, place(outer, key), complaint);
    }
}

/// A node's bytes of the file.
pub(super) fn place(outer: &Text, view: NodeView<'_>) -> (usize, usize) {
    let (start, end) = view.span();
    (outer.place(start), outer.place(end))
}
