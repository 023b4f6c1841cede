//! The kernel's errors as CNI errors.

use crate::{net, nft};

use super::CniError;

/// Code 103, or 11 where trying again can help.
pub fn nft_failure(error: nft::Error) -> CniError {
    if error.is_conflict() {
        CniError::try_again(error.to_string())
    } else {
        CniError::kernel(error.to_string())
    }
}

/// Code 103, or 11 where trying again can help. `doing` says what it was about.
pub fn net_failure(doing: &str, error: net::Error) -> CniError {
    let message = format!("cannot {doing}: {error}");
    match error {
        net::Error::Timeout { .. } | net::Error::Unstable { .. } => CniError::try_again(message),
        net::Error::NoSuchNetns { .. } | net::Error::NotANetns { .. } => {
            CniError::invalid_netns(message)
        }
        _ => CniError::kernel(message),
    }
}
