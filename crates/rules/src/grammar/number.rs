//! Numbers, written in one way only: decimal, no sign, no leading zeros.

use std::str::FromStr;

use crate::fault::{Complaint, quoted};

/// Why a word is not the number that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Empty, or something else than digits in it.
    NotANumber,
    /// `0443`: others read that as octal.
    LeadingZero,
    /// Does not fit.
    TooBig,
}

impl NumberError {
    /// The fault's words; `what` names what was expected.
    pub fn complaint(self, what: &str, text: &str) -> Complaint {
        match self {
            NumberError::NotANumber if text.is_empty() => {
                Complaint::new(format!("expected {what} as a number, found nothing"))
            }
            NumberError::NotANumber => Complaint::new(format!(
                "expected {what} as a number, found {}",
                quoted(text)
            )),
            NumberError::LeadingZero => Complaint::new(format!(
                "{} has a leading zero, which others read as octal",
                quoted(text)
            )),
            NumberError::TooBig => Complaint::new(format!("{} is too big", quoted(text))),
        }
    }
}

/// Reads an unsigned number. (`FromStr` alone also takes `+443` and `0443`.)
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, NumberError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(NumberError::LeadingZero);
    }
    text.parse().map_err(|_| NumberError::TooBig)
}
