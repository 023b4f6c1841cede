//! Prints suggestions: as rule text, as annotations, as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::groups::Whose;
use super::rules::Suggestion;
use crate::cli::output::how_many;
use crate::source::annotation::{DEFAULT_RULES, RULES};

/// The rules of one owner.
pub(super) struct OwnerRules {
    pub owner: Whose,
    pub rules: Vec<Suggestion>,
}

/// Rule text, ready to be put into an annotation or the policy file.
pub(super) fn text(groups: &[OwnerRules]) -> String {
    let blocks: Vec<String> = groups
        .iter()
        .map(|group| format!("# {}\n{}", title(&group.owner), rule_text(group)))
        .collect();
    blocks.join("\n")
}

fn title(owner: &Whose) -> String {
    match owner {
        Whose::Namespace(namespace) => format!("namespace {}", shown(namespace)),
        Whose::Pod { namespace, pod } => format!("pod {}/{}", shown(namespace), shown(pod)),
        Whose::Unknown => "pods that the log does not name".to_owned(),
    }
}

/// The rules, each below a comment with how often it was needed.
fn rule_text(group: &OwnerRules) -> String {
    let mut text = String::new();
    for suggestion in &group.rules {
        let seen = &suggestion.seen;
        let mut comment = format!("logged {}", how_many(seen.count, "time"));
        // Writing to a String can't fail.
        if matches!(group.owner, Whose::Namespace(_)) && !seen.pods.is_empty() {
            let _ = write!(comment, " by {}", how_many(seen.pods.len() as u64, "pod"));
        }
        let _ = write!(comment, ", last {:.0}", seen.last);
        if !seen.enforced_by.is_empty() {
            let by: Vec<String> = seen.enforced_by.iter().map(|rule| shown(rule)).collect();
            let _ = write!(
                comment,
                "; denied by {}: only an enforced rule before it can allow this",
                by.join(", ")
            );
        }
        let live = if seen.metadata {
            comment.push_str(
                "; a metadata service hands out credentials of the node: remove the `#` only if the pods must have them",
            );
            "# "
        } else {
            ""
        };
        let _ = write!(text, "# {comment}\n{live}{}\n", suggestion.rule);
    }
    text
}

/// A name out of a log, of which nothing may end the comment or reach the terminal as a command.
fn shown(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect()
}

/// Manifests with the rules as annotations, to be merged into the real ones. Who is not named can't
/// be annotated.
pub(super) fn yaml(groups: &[OwnerRules]) -> String {
    let documents: Vec<String> = groups.iter().filter_map(document).collect();
    documents.join("---\n")
}

fn document(group: &OwnerRules) -> Option<String> {
    let (kind, metadata, key) = match &group.owner {
        Whose::Namespace(name) => (
            "Namespace",
            format!("name: {}", yaml_string(name)),
            DEFAULT_RULES,
        ),
        Whose::Pod { namespace, pod } => (
            "Pod",
            format!(
                "name: {}\n  namespace: {}",
                yaml_string(pod),
                yaml_string(namespace)
            ),
            RULES,
        ),
        Whose::Unknown => return None,
    };
    let mut text = format!(
        "apiVersion: v1\nkind: {kind}\nmetadata:\n  {metadata}\n  annotations:\n    {key}: |\n"
    );
    for line in rule_text(group).lines() {
        let _ = writeln!(text, "      {line}");
    }
    Some(text)
}

/// A YAML 1.2 double-quoted scalar: a name such as `true` or `1e3` stays text.
fn yaml_string(name: &str) -> String {
    let mut text = String::from('"');
    for c in name.chars() {
        if c.is_ascii_graphic() && c != '"' && c != '\\' {
            text.push(c);
        } else {
            // Writing to a String can't fail.
            let _ = write!(text, "\\U{:08X}", u32::from(c));
        }
    }
    text.push('"');
    text
}

/// A group in JSON.
#[derive(Serialize)]
struct JsonGroup<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    rules: Vec<JsonRule<'a>>,
}

/// A rule in JSON.
#[derive(Serialize)]
struct JsonRule<'a> {
    rule: &'a str,
    count: u64,
    last: String,
    pods: Vec<&'a str>,
    #[serde(rename = "enforcedBy", skip_serializing_if = "Vec::is_empty")]
    enforced_by: Vec<&'a str>,
    /// Of a metadata service, which hands out credentials.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    metadata: bool,
}

/// A list of groups, on one line.
pub(super) fn json(groups: &[OwnerRules]) -> Result<String, serde_json::Error> {
    let groups: Vec<JsonGroup> = groups.iter().map(json_group).collect();
    let mut text = serde_json::to_string(&groups)?;
    text.push('\n');
    Ok(text)
}

fn json_group(group: &OwnerRules) -> JsonGroup<'_> {
    let (namespace, pod) = match &group.owner {
        Whose::Namespace(namespace) => (Some(namespace.as_str()), None),
        Whose::Pod { namespace, pod } => (Some(namespace.as_str()), Some(pod.as_str())),
        Whose::Unknown => (None, None),
    };
    let rules = group.rules.iter().map(|suggestion| JsonRule {
        rule: &suggestion.rule,
        count: suggestion.seen.count,
        last: format!("{:.6}", suggestion.seen.last),
        pods: suggestion.seen.pods.iter().map(String::as_str).collect(),
        enforced_by: suggestion
            .seen
            .enforced_by
            .iter()
            .map(String::as_str)
            .collect(),
        metadata: suggestion.seen.metadata,
    });
    JsonGroup {
        namespace,
        pod,
        rules: rules.collect(),
    }
}
