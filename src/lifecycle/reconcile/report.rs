//! What a clean-up found, and what it did about it.

use serde::Serialize;

use crate::store::Record;

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Did {
    /// It is as it should be again.
    Repaired,
    /// It was nobody's, and is gone.
    Removed,
    /// It would have been repaired, had it not been a dry run.
    WouldRepair,
    /// It would have been removed, had it not been a dry run.
    WouldRemove,
    /// Nothing: what is right can't be told. Somebody has to look at it.
    Left,
    /// It could not be done.
    Failed,
}

impl Did {
    /// The word in tables and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Did::Repaired => "repaired",
            Did::Removed => "removed",
            Did::WouldRepair => "would-repair",
            Did::WouldRemove => "would-remove",
            Did::Left => "left",
            Did::Failed => "failed",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Rules, sets and hooks of attachments.
    #[default]
    Rules,
    /// Egress addresses.
    EgressIps,
    /// What drops packets with forged checksums.
    Guard,
    /// The state directory's own documents.
    Records,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is about, for those who count.
    #[serde(skip)]
    pub part: Area,
    /// What became of it.
    pub did: Did,
    /// What it is about: `attachment shop/web-0 (0123456789abcdef)`, `chain pol-...`.
    pub what: String,
    /// What was wrong; for [`Did::Failed`] also why it could not be helped.
    pub why: String,
}

/// All findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many attachments were compared with the kernel.
    pub compared: usize,
    /// What was found, in the order in which it was met.
    pub changes: Vec<Change>,
    /// What is being looked at.
    #[serde(skip)]
    pub(crate) part: Area,
    /// Whoever has the report says what is in it.
    #[serde(skip)]
    pub(crate) silent: bool,
}

impl Report {
    /// Whether everything is now as it should be.
    pub fn is_good(&self) -> bool {
        let good = |change: &Change| matches!(change.did, Did::Repaired | Did::Removed);
        self.changes.iter().all(good)
    }

    /// Notes a finding, in the plugin's log, too.
    pub(crate) fn note(&mut self, did: Did, what: impl Into<String>, why: impl Into<String>) {
        let change = Change {
            part: self.part,
            did,
            what: what.into(),
            why: why.into(),
        };
        match did {
            _ if self.silent => {}
            Did::Left | Did::Failed => {
                tracing::warn!(what = change.what, why = change.why, "{}", did.as_str());
            }
            _ => tracing::info!(what = change.what, why = change.why, "{}", did.as_str()),
        }
        self.changes.push(change);
    }

    /// Notes what was done, or why it could not be.
    pub(crate) fn outcome<E: std::fmt::Display>(
        &mut self,
        did: Did,
        what: impl Into<String>,
        why: &str,
        outcome: Result<(), E>,
    ) {
        match outcome {
            Ok(()) => self.note(did, what, why),
            Err(e) => self.note(Did::Failed, what, format!("{why}; {e}")),
        }
    }
}

/// How an attachment is called: `attachment shop/web-0 (0123456789abcdef)`.
pub(crate) fn title<P>(record: &Record<P>) -> String {
    format!("attachment {} ({})", record.title(), record.id)
}
