//! `enforce` or `audit`, for the cluster or a namespace.

use super::annotation::SourcedText;
use rules::fault::{Complaint, Faults, quoted};
use rules::lexer;
use rules::nearest::nearest;

/// What happens where a rule denies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The packet is denied.
    #[default]
    Enforce,
    /// It is logged and counted, and the packet goes.
    Audit,
}

impl Mode {
    /// Reads a mode.
    pub(super) fn parse(text: &str) -> Result<Mode, Complaint> {
        match text {
            "enforce" => Ok(Mode::Enforce),
            "audit" => Ok(Mode::Audit),
            _ => Err(Complaint::new(format!(
                "expected `enforce` or `audit`, found {}",
                quoted(text)
            ))
            .maybe_meant(nearest(text, &["enforce", "audit"]))),
        }
    }

    /// Reads a mode from an annotation.
    pub(super) fn parse_sourced(text: &SourcedText) -> Result<Mode, Faults> {
        let value = text.text.trim();
        Mode::parse(value)
            .map_err(|complaint| Faults::one(&text.source, lexer::whole_line(1, value), complaint))
    }
}
