//! STATUS: could an ADD be served now? Runtimes ask every few seconds, and a failure makes the
//! whole node NotReady: nothing is changed, and nothing outside the node is asked. An API that does not
//! answer is no reason: the node must start the pods that make it answer.

use std::time::Instant;

use crate::kubernetes;
use crate::nft::{Nft, Table};
use crate::source::PolicyFile;

use super::{CniError, Conf, Invocation};

/// # Errors
/// Code 50: the policy file or the kubeconfig can't be used, or the kernel does not let us at nf_tables.
pub fn status(_: &Invocation, conf: &Conf, _: Instant) -> Result<(), CniError> {
    PolicyFile::load(&conf.policy_file).map_err(|e| CniError::not_available(e.to_string()))?;
    if let Some(api) = &conf.kubernetes {
        kubernetes::check(&api.kubeconfig).map_err(|e| CniError::not_available(e.to_string()))?;
    }
    let refused = |e: crate::nft::Error| CniError::not_available(e.to_string());
    let mut nft = Nft::open().map_err(refused)?;
    // The answer does not matter, only that there is one.
    nft.has_set(Table::Inet, "").map_err(refused)?;
    Ok(())
}
