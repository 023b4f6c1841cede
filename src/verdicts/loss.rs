//! What is missing in a log.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use netlink::nflog::Lost;
pub use rules::line::Loss;

/// Losses are told no more often than this.
pub const INTERVAL: Duration = Duration::from_secs(1);

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
}
