//! What this node will do about packets whose checksum would be written behind the rules, before its
//! first pod starts.

use super::config::Config;
use crate::guard::trial::{self, Outcome};
use crate::guard::{self, Mode, Unavailable};

/// What was found out.
#[derive(Debug)]
pub enum Found {
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
pub fn look(config: &Config) -> Result<Found, trial::Failure> {
    match config.keys.forged_checksums.unwrap_or_default() {
        Mode::Drop => Ok(match trial::run()? {
            Outcome::Works(_) => Found::Drops,
            Outcome::Unavailable(why) => Found::FallsBack(why),
        }),
        mode => Ok(Found::AsAsked(mode)),
    }
}

impl Found {
    /// Whether it is what the node should have.
    pub const fn is_good(&self) -> bool {
        matches!(self, Found::Drops)
    }

    /// In words, with what it costs.
    pub fn text(&self) -> String {
        match self {
            Found::Drops => {
                "packets with forged checksums are dropped at each pod's veth: it was tried".to_owned()
            }
            Found::FallsBack(why) => guard::fallback(&why.to_string()),
            Found::AsAsked(Mode::Resolve) => {
                "resolve: the pods' kernel writes all checksums, which costs more than half of a pod's TCP throughput".to_owned()
            }
            Found::AsAsked(_) => {
                "ignore: a pod with NET_RAW, or a guest, can send another port, address or protocol than was judged".to_owned()
            }
        }
    }
}
