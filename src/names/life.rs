//! How long the kernel keeps an address: a rule that puts it into a set has one time for all.

use std::time::Duration;

use crate::plan::named::CLASSES;

/// What an answer's time to live is prolonged by: an application asks again when it is over, not before.
const GRACE: u64 = 30;

/// The times that there are rules for, [`CLASSES`] in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// 90 seconds.
    Seconds90,
    /// Ten minutes.
    Minutes10,
    /// An hour.
    Hour,
    /// A day, which is the most.
    Day,
}

impl Life {
    /// All of them, the shortest first.
    pub const ALL: [Life; CLASSES.len()] =
        [Life::Seconds90, Life::Minutes10, Life::Hour, Life::Day];

    /// As documents and chains call it.
    pub const fn as_str(self) -> &'static str {
        CLASSES[self as usize].0
    }

    /// How long it is.
    pub const fn duration(self) -> Duration {
        CLASSES[self as usize].1
    }

    /// The shortest that is at least so long.
    pub fn at_least(needed: Duration) -> Life {
        let mut all = Life::ALL.into_iter();
        all.find(|life| life.duration() >= needed)
            .unwrap_or(Life::Day)
    }
}

/// How long an address is needed: as long as its answer lives, at least `least`, and some more.
pub fn needed(ttl: u32, least: Duration) -> Duration {
    let lives = Duration::from_secs(ttl.into()).max(least);
    (lives + Duration::from_secs(GRACE)).min(Life::Day.duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lives_longer_than_its_answer() {
        let minute = Duration::from_secs(60);
        for (ttl, life) in [
            (0, "90s"),
            (60, "90s"),
            (61, "10m"),
            (570, "10m"),
            (571, "1h"),
            (3570, "1h"),
            (3571, "1d"),
            (86400, "1d"),
            (u32::MAX, "1d"),
        ] {
            assert_eq!(Life::at_least(needed(ttl, minute)).as_str(), life, "{ttl}");
        }
        let hour = Life::Hour.duration();
        assert_eq!(hour, Duration::from_secs(3600));
        assert_eq!(Life::at_least(needed(1, hour)), Life::Day);
        assert_eq!(needed(u32::MAX, minute), Life::Day.duration());
    }
}
