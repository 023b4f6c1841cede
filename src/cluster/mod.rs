//! The Kubernetes API, as a client sees it: who to ask, in how much time, and what a failure means.
//!
//! The plugin lives for milliseconds: it reads kubeconfig and token anew each time, asks in one
//! thread, and keeps no connection. A process that stays uses the same [`Client`] for longer.

mod answer;
mod client;
mod error;
mod kubeconfig;
mod request;

use std::future::Future;

pub use client::{Client, Limit};
pub use error::Error;
pub use kubeconfig::check;
pub use request::Request;

/// Does `work` to its end in this thread. The runtime exists only for that long, so that a call
/// that asks nothing starts none.
///
/// Waiting ends by the [`Limit`] of the client that `work` uses.
///
/// # Errors
/// What `work` returns, or [`Error::Runtime`].
pub fn run<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::Runtime { cause })?;
    let done = runtime.block_on(work);
    // Not by dropping it: that would wait for a name to be resolved, which has a time limit of its own.
    runtime.shutdown_background();
    done
}

/// The name under which this node is known to Kubernetes, unless it is given: the kernel's hostname
/// in lower case, as kubelet does it.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_lowercase()
}
