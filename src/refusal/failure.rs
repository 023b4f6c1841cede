//! The kernel's and the state directory's errors as CNI errors.

use super::CniError;
use crate::store::StateError;

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

/// Code 5, or 11 where trying again can help.
impl From<StateError> for CniError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(_) | StateError::Damaged { .. } | StateError::OtherVersion { .. } => {
                CniError::io(error.to_string())
            }
            StateError::Locked { .. } => CniError::try_again(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;
    use crate::store::{Record, StateDir, attachment_id};

    /// Trying again helps if somebody else is at work, and with nothing that is wrong with a file.
    #[test]
    fn what_is_wrong_with_the_state_directory_has_a_code() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path().join("state"));
        let id = attachment_id("net", "c1", "eth0");
        let _held = state.lock(Instant::now()).expect("nobody has it");
        let locked = state.lock(Instant::now()).expect_err("held");
        assert_eq!(CniError::from(locked).code, 11);
        let path = state.attachment_path(&id);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        for text in ["", "{", "{}", r#"{"layout":3}"#, r#"{"version":99}"#] {
            fs::write(&path, text).expect("writable");
            let error = Record::read_alone(&state, &id).expect_err("no record");
            let error = CniError::from(error);
            assert_eq!(error.code, 5, "{text}");
            assert!(error.msg.contains(id.as_str()), "{}", error.msg);
        }
        fs::remove_file(&path).expect("removable");
        fs::create_dir(&path).expect("a directory");
        let error = Record::read_alone(&state, &id).expect_err("no file");
        assert_eq!(CniError::from(error).code, 5);
    }
}
