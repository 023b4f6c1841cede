//! Verdicts for everybody: the log of this node's rules, on stdout and to all who ask at `agent.sock`.
//!
//! ```text
//!  NFLOG groups ── nflog ──> hub ──┬─ stdout   lines, beside the agent's own log
//!                   │     (a ring) └─ socket   `logs`, `capture`, `show`
//!                   └─ denials                 what was denied last, and first
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub mod denials;
pub mod hub;
mod nflog;
mod socket;
mod stdout;

use crate::logging;
use crate::names::Resolver;
use denials::{Denials, First};
use hub::Hub;
pub use nflog::Reads;
use socket::{AboutNode, Served};

/// How long stdout may take at the end.
const DRAIN: Duration = Duration::from_millis(300);

/// Starts what writes to stdout, with the agent's own log.
///
/// # Errors
/// The system gives no thread.
pub fn begin(level: tracing::Level) -> io::Result<Hub> {
    let hub = Hub::default();
    stdout::start(hub.clone())?;
    let log = hub.clone();
    logging::init_json(level, move |line| log.log(line));
    Ok(hub)
}

/// Waits until all has been written, but not for a stdout that nobody reads.
pub fn end(hub: &Hub) {
    hub.drain(DRAIN);
}

/// What there is to know for it.
pub struct About {
    /// What is read.
    pub reads: Reads,
    /// What `show` asks for, with what was denied.
    pub about_node: Box<dyn Fn(&Denials) -> crate::verdicts::node::Node + Send + Sync>,
    /// What names stand for.
    pub resolver: Arc<Resolver>,
}

/// Starts to read and to hand out, in the network namespace of the caller.
///
/// # Errors
/// The system gives no thread.
pub fn start(hub: &Hub, about: About) -> io::Result<First> {
    let (denials, first) = Denials::new();
    let About {
        reads,
        about_node,
        resolver,
    } = about;
    let for_node = denials.clone();
    let node: AboutNode = Arc::new(move || about_node(&for_node));
    let served = Served {
        hub: hub.clone(),
        group: reads.group,
        node,
        names: Arc::clone(&resolver),
    };
    socket::start(served, reads.state_dir.clone())?;
    nflog::start(hub.clone(), denials, reads, resolver)?;
    Ok(first)
}
