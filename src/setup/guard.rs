//! What this node will do about packets whose checksum would be written behind the rules, before its
//! first pod starts.

use super::config::Config;
use crate::guard::trial::{self, Outcome};
use crate::guard::{self, Mode, Unavailable};

/// What was found out.
#[derive(Debug)]
pub enum ChecksumGuard {
    /// They are dropped: it was tried.
    Drops,
    /// This kernel can't drop them, and why; its pods write all checksums themselves.
    FallsBack(Unavailable),
    /// What was asked for needs nothing of the kernel.
    AsAsked(Mode),
}

/// Finds out. The node's own namespace is not touched.
///
/// # Errors
/// It could not be tried, or the filter does the wrong thing.
pub fn look(config: &Config) -> Result<ChecksumGuard, trial::Failure> {
    match config.keys.forged_checksums.unwrap_or_default() {
        Mode::Drop => Ok(match trial::run()? {
            Outcome::Works(_) => ChecksumGuard::Drops,
            Outcome::Unavailable(why) => ChecksumGuard::FallsBack(why),
        }),
        mode => Ok(ChecksumGuard::AsAsked(mode)),
    }
}

impl ChecksumGuard {
    /// Whether it is what the node should have.
    pub const fn is_good(&self) -> bool {
        matches!(self, ChecksumGuard::Drops)
    }

    /// In words, with what it costs.
    pub fn text(&self) -> String {
        match self {
            ChecksumGuard::Drops => {
                "packets with forged checksums are dropped at each pod's veth (verified by a trial)".to_owned()
            }
            ChecksumGuard::FallsBack(why) => guard::fallback(&why.to_string()),
            ChecksumGuard::AsAsked(Mode::Resolve) => {
                "resolve: the pods' kernel writes all checksums, which costs more than half of a pod's TCP throughput".to_owned()
            }
            ChecksumGuard::AsAsked(_) => {
                "ignore: a pod with NET_RAW, or a guest, can send another port, address or protocol than the rules saw".to_owned()
            }
        }
    }
}
