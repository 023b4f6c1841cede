//! Our keys of annotations, and on which objects each of them stands.

use super::kind;
use crate::source::annotation::{DEFAULT_RULES, EGRESS_IP, ENFORCED_RULES, MODE, PREFIX, RULES};
use rules::fault::{Complaint, quoted};
use rules::nearest::nearest;

/// All our keys.
pub(super) const KEYS: [&str; 5] = [RULES, ENFORCED_RULES, DEFAULT_RULES, EGRESS_IP, MODE];

/// What carries annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// A pod or a template of pods.
    Pod {
        /// If it is known.
        namespace: Option<&'a str>,
    },
    /// A Namespace.
    Namespace {
        /// Its name.
        name: &'a str,
    },
    /// Any other object.
    Other {
        /// Where the pods' annotations stand, if it makes pods.
        instead: Option<&'a str>,
    },
}

/// What is wrong with one of our keys on this object.
pub(super) fn misplaced(
    key: &str,
    carrier: &Carrier<'_>,
) -> Option<(&'static kind::Kind, Complaint)> {
    if !KEYS.contains(&key) {
        return Some((&kind::UNKNOWN_ANNOTATION, unknown(key)));
    }
    let on_pods = key == RULES;
    let complaint = |message: String, help: &str| Complaint::new(message).help(help);
    match carrier {
        Carrier::Pod { .. } if !on_pods => Some((
            &kind::WRONG_OBJECT,
            complaint(
                format!(
                    "the annotation {} belongs on namespaces, not on pods",
                    quoted(key)
                ),
                "a pod's own rules are `egressway.dev/rules`",
            ),
        )),
        Carrier::Namespace { .. } if on_pods => Some((
            &kind::WRONG_OBJECT,
            complaint(
                format!(
                    "the annotation {} belongs on pods, not on namespaces",
                    quoted(key)
                ),
                "a namespace has `egressway.dev/enforced-rules` and `egressway.dev/default-rules`",
            ),
        )),
        Carrier::Other { instead } => Some((
            &kind::NOT_ON_POD,
            match instead {
                Some(instead) if on_pods => complaint(
                    "this annotation does not reach the pods: it has no effect here".to_owned(),
                    &format!("move it to {instead}.metadata.annotations"),
                ),
                _ => complaint(
                    "this annotation has no effect here".to_owned(),
                    if on_pods {
                        "it belongs on pods"
                    } else {
                        "it belongs on namespaces"
                    },
                ),
            },
        )),
        _ => None,
    }
}

fn unknown(key: &str) -> Complaint {
    let complaint = Complaint::new(format!("there is no annotation {}", quoted(key)));
    // Compared without the prefix, which would make all keys look alike.
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    match nearest(name, &names()) {
        Some(name) => complaint.meant(format!("{PREFIX}{name}")),
        None => complaint.help(format!("there is {}", KEYS.map(quoted).join(", "))),
    }
}

fn names() -> Vec<&'static str> {
    KEYS.iter()
        .filter_map(|key| key.strip_prefix(PREFIX))
        .collect()
}

/// A key that is ours but for a misspelt prefix. The plugin takes it for another's and leaves it alone.
pub(super) fn wrong_prefix(key: &str) -> Option<Complaint> {
    let domain = PREFIX.trim_end_matches('/');
    let (prefix, name) = key.split_once('/')?;
    let misspelt = prefix != domain
        && names().contains(&name)
        && (nearest(prefix, &[domain]).is_some() || prefix.starts_with("egressway"));
    misspelt.then(|| {
        Complaint::new(format!(
            "{} is no annotation of egressway: it has no effect",
            quoted(key)
        ))
        .meant(format!("{PREFIX}{name}"))
    })
}
