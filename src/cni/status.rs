//! STATUS: could an ADD be served now? Runtimes ask every few seconds, and a failure makes the
//! whole node NotReady: nothing is changed, and nothing outside the node is asked. An API that does not
//! answer is no reason: the node must start the pods that make it answer.

use std::time::Instant;

use crate::cluster;
use crate::plan::INET;
use crate::source::{PolicyFile, SourceError};
use nft::Nft;

use super::Invocation;
use crate::conf::Conf;
use crate::refusal::CniError;

/// # Errors
/// Code 50: the policy file or the kubeconfig can't be used, or the kernel does not let us at nf_tables.
pub fn status(_: &Invocation, conf: &Conf, _: Instant) -> Result<(), CniError> {
    let unusable = |e: SourceError| CniError::not_available(e.to_string());
    let file = PolicyFile::load(&conf.policy_file).map_err(unusable)?;
    match &conf.kubernetes {
        Some(api) => {
            cluster::check(&api.kubeconfig).map_err(|e| CniError::not_available(e.to_string()))?
        }
        None => file.check_names().map_err(unusable)?,
    }
    let refused = |e: nft::Error| CniError::not_available(e.to_string());
    let mut nft = Nft::open().map_err(refused)?;
    // The answer does not matter, only that there is one.
    nft.has_set(&INET, "").map_err(refused)?;
    Ok(())
}
