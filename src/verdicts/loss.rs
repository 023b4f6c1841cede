//! What is missing in a log.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line::{Kind, in_microseconds, json};
use netlink::nflog::Lost;

/// Losses are told no more often than this.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Log messages that were thrown away, by the kernel or by the agent, for a reader that was too slow. The fields' JSON names are a promise to scripts:
/// only such a record has `lost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was noticed.
    #[serde(serialize_with = "in_microseconds")]
    pub time: Timestamp,
    /// How many, since the record before.
    pub lost: u64,
    /// More than these: how many is not known yet.
    pub lost_more: bool,
}

impl Loss {
    /// Of now, and nobody knows how many.
    pub fn unknown() -> Loss {
        Loss {
            time: Timestamp::now(),
            lost: 0,
            lost_more: true,
        }
    }

    /// For programs: one object and a line feed.
    pub fn json(&self) -> String {
        json(Kind::Lost, self)
    }
}

/// How much was lost, as far as it is told already.
#[derive(Debug, Default)]
pub struct Told {
    lost: Lost,
    at: Option<Instant>,
}

impl Told {
    /// What [`Told::next`] says, but not too often.
    pub fn due(&mut self, lost: Lost) -> Option<Loss> {
        let due = self.at.is_none_or(|at| at.elapsed() >= INTERVAL);
        due.then(|| self.next(lost)).flatten()
    }

    /// The record of what has been lost since the last one; None: nothing new.
    pub fn next(&mut self, lost: Lost) -> Option<Loss> {
        let since = lost.messages.saturating_sub(self.lost.messages);
        let is_new = since > 0 || (lost.more && !self.lost.more);
        self.lost = lost;
        if is_new {
            self.at = Some(Instant::now());
        }
        is_new.then(|| Loss {
            time: Timestamp::now(),
            lost: since,
            lost_more: lost.more,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_adds_up() {
        let mut told = Told::default();
        let lost = |messages, more| Lost { messages, more };
        let mut next = |messages, more| {
            let loss = told.next(lost(messages, more))?;
            Some((loss.lost, loss.lost_more))
        };
        assert_eq!(next(0, false), None);
        assert_eq!(next(0, true), Some((0, true)));
        assert_eq!(next(0, true), None);
        assert_eq!(next(7, false), Some((7, false)));
        assert_eq!(next(7, false), None);
        assert_eq!(next(9, true), Some((2, true)));
    }

    #[test]
    fn a_record_is_no_line_and_no_line_is_a_record() {
        let loss = Loss {
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            lost: 3,
            lost_more: false,
        };
        let text = loss.json();
        assert_eq!(
            text,
            "{\"kind\":\"lost\",\"v\":1,\"time\":\"2026-01-02T03:04:05.000000Z\",\"lost\":3,\"lostMore\":false}\n"
        );
        assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), loss);
        assert!(serde_json::from_str::<super::super::Line>(&text).is_err());
    }
}
