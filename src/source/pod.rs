//! A pod's own rules, from the annotations that the runtime hands over.

use std::collections::BTreeMap;

use super::SourceError;
use super::annotation::{self, Annotated, RULES};
use rules::effective::{Tier, TierRules};

/// The pod's tier, if it has one: its text is read once, here. Others' annotations are left alone.
///
/// `annotations` is `None` if the runtime hands none over: then nothing is known of the pod's own rules, and
/// it is for the caller to ask elsewhere first.
///
/// # Errors
/// Faults of the rules, a key of ours that does not exist, or one that belongs on the namespace.
pub fn rules(
    annotations: Option<&BTreeMap<String, String>>,
) -> Result<Option<TierRules>, SourceError> {
    let Some(annotations) = annotations else {
        return Ok(None);
    };
    annotation::check_keys(Annotated::Pod, "pod annotations", annotations.keys())?;
    let Some(text) = annotations.get(RULES) else {
        return Ok(None);
    };
    let source = format!("pod annotation {RULES}");
    Ok(Some(TierRules::parse(Tier::Pod, &source, text, false)?))
}
