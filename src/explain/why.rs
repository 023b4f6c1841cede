//! What decided, as a sentence: for the tool's answer, and for whoever else tells people of a packet.

use super::explanation::{Answer, DECIDES, EGRESS_GUARD, Explanation};
use crate::plan::veth::table;

/// What decided about some traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// `pod:erp, line 3 of pod annotation egressway.dev/rules`
    pub by: String,
    /// The rule as it is written, if it was one of the policy's.
    pub rule: Option<String>,
}

impl Explanation {
    /// Why one of its answers is what it is.
    pub fn why(&self, answer: &Answer) -> Why {
        let rule = &answer.rule;
        let without_text = |by| Why { by, rule: None };
        if rule == EGRESS_GUARD {
            return without_text(format!(
                "{rule}: it is an egress IP of this node, on which only ping is answered"
            ));
        }
        if let Some(row) = table::of_label(rule) {
            let (what, fate) = (row.what, row.fate.as_str());
            return without_text(format!(
                "{rule}, at the pod's own interface: {what}: {fate}"
            ));
        }
        match answer.steps.iter().find(|step| step.result == DECIDES) {
            Some(step) => Why {
                by: format!("{rule}, line {} of {}", step.line, step.source),
                rule: Some(step.text.clone()),
            },
            None if self.source.exempt => {
                without_text("its namespace, which is exempt: no rule applies to it".to_owned())
            }
            None => without_text(format!(
                "{rule}: no rule decides, the policy file's defaultAction does"
            )),
        }
    }
}
