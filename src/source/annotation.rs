//! The keys of our annotations, and the texts behind them.

use super::SourceError;
use rules::nearest::nearest;

/// All our annotations start so.
pub const PREFIX: &str = "egressway.dev/";
/// On pods: the pod's rules.
pub const RULES: &str = "egressway.dev/rules";
/// On namespaces: rules that its pods cannot override.
pub const ENFORCED_RULES: &str = "egressway.dev/enforced-rules";
/// On namespaces: rules for what its pods' own rules leave undecided.
pub const DEFAULT_RULES: &str = "egressway.dev/default-rules";
/// On namespaces: the addresses that its pods may show outside.
pub const EGRESS_IP: &str = "egressway.dev/egress-ip";
/// On namespaces: `enforce` or `audit`.
pub const MODE: &str = "egressway.dev/mode";

/// The keys that belong on pods.
pub(super) const OF_PODS: [&str; 1] = [RULES];
/// The keys that belong on namespaces.
pub(super) const OF_NAMESPACES: [&str; 4] = [ENFORCED_RULES, DEFAULT_RULES, EGRESS_IP, MODE];

/// A text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedText {
    /// For people: `pod annotation egressway.dev/rules`.
    pub source: String,
    /// As it was read.
    pub text: String,
}

/// What carries annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Annotated {
    Pod,
    Namespace,
}

/// Refuses keys of ours that `object` cannot have: a misspelt key must not be an open door. `place` says what it is on.
pub(super) fn check_keys<'a>(
    object: Annotated,
    place: &str,
    keys: impl Iterator<Item = &'a String>,
) -> Result<(), SourceError> {
    let (own, others, elsewhere) = match object {
        Annotated::Pod => (&OF_PODS[..], &OF_NAMESPACES[..], "the namespace"),
        Annotated::Namespace => (&OF_NAMESPACES[..], &OF_PODS[..], "pods"),
    };
    for key in keys.filter(|key| key.starts_with(PREFIX)) {
        if own.contains(&key.as_str()) {
            continue;
        }
        let problem = if others.contains(&key.as_str()) {
            format!("the annotation `{key}` belongs on {elsewhere}")
        } else {
            unknown(key, own, others)
        };
        return Err(SourceError::Annotation {
            place: place.to_owned(),
            problem,
        });
    }
    Ok(())
}

fn unknown(key: &str, own: &[&str], others: &[&str]) -> String {
    // Compared without the prefix, which would make all keys look alike.
    let names: Vec<&str> = own
        .iter()
        .chain(others)
        .filter_map(|key| key.strip_prefix(PREFIX))
        .collect();
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    let advice = match nearest(name, &names) {
        Some(name) => format!("did you mean `{PREFIX}{name}`?"),
        None => format!("there is {}", list(own)),
    };
    format!(
        "unknown annotation {}\n  help: {advice}",
        rules::fault::quoted(key)
    )
}

fn list(keys: &[&str]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}
