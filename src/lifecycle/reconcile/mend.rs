//! Puts back what is missing, and nothing else: for the process that stays, beside everything that happens on a
//! node. Nothing is removed, since who lacks its interface may be about to be deleted by its runtime, and nobody
//! is waited for.

use super::{Error, ReconcileOptions, Report, Sync, Which};

/// What was put back.
#[derive(Debug, Default)]
pub struct Mended {
    /// What was found, and what has become of it.
    pub report: Report,
    /// There are attachments without rules of which a DEL or an ADD is at work, or was cut short.
    pub is_unfinished: bool,
}

/// Compares these attachments and, if `egress`, all egress addresses that pods use, and puts back what is missing.
///
/// # Errors
/// As [`run`](super::run).
pub fn mend(options: &ReconcileOptions<'_>, which: &Which, egress: bool) -> Result<Mended, Error> {
    let mut sync = Sync::new(options)?;
    sync.removes = false;
    sync.report.silent = true;
    // Addresses before rules, as ADD does it.
    if egress {
        sync.step("egress IPs", Sync::egress);
    }
    sync.step("attachments", |sync| sync.attachments(which));
    Ok(Mended {
        report: sync.report,
        is_unfinished: !sync.pending.is_empty(),
    })
}
