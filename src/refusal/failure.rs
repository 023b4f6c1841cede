//! The kernel's errors as CNI errors.

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
pub fn net_failure(doing: &str, error: netlink::Error) -> CniError {
    let message = format!("cannot {doing}: {error}");
    match error {
        netlink::Error::Timeout { .. } | netlink::Error::Unstable { .. } => {
            CniError::try_again(message)
        }
        netlink::Error::NoSuchNetns { .. } | netlink::Error::NotANetns { .. } => {
            CniError::invalid_netns(message)
        }
        _ => CniError::kernel(message),
    }
}
