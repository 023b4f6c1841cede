//! The Kubernetes API, as a client sees it: who to ask, in how much time, and what a failure means.
//!
//! The plugin lives for milliseconds: it reads kubeconfig and token anew each time, asks in one
//! thread, and keeps no connection. A process that stays uses the same [`Client`] for longer.

mod answer;
mod client;
mod connect;
pub mod endpoints;
mod error;
pub mod events;
mod kubeconfig;
pub mod leases;
mod object;
mod request;
pub mod taint;
pub mod token;
mod watch;

use std::future::Future;

pub use client::{Client, TimeLimit, check, last_contact};
pub use error::Error;
pub use kubeconfig::ADDRESSES;
pub use object::ObjectName;
pub use request::Request;
pub use watch::{ApiEvent, ApiWatch, Backoff};

/// Does `work` to its end in this thread. The runtime exists only for that long, so that a call
/// that asks nothing starts none.
///
/// Waiting ends by the [`TimeLimit`] of the client that `work` uses.
///
/// # Errors
/// What `work` returns, or [`Error::Runtime`].
pub fn run<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    // Not by dropping it: that would wait for a name to be resolved, which has a time limit of its own.
    runtime.shutdown_background();
    done
}

/// A runtime for one thread, which is to be shut down in the background.
///
/// # Errors
/// [`Error::Runtime`]
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::Runtime { cause })
}

/// The name under which this node is known to Kubernetes, unless it is given: the kernel's hostname
/// in lower case, as kubelet does it.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_lowercase()
}
