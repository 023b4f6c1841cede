//! The agent's sign of life: while it is young, pods that start rely on what the agent has written down for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Error;
use super::worker::Worker;
use crate::live::Publisher;

/// How often it is given: three are missed before anybody asks the API himself.
const EVERY: Duration = Duration::from_millis(800);

/// Gives it for ever; by the worker, so that one that hangs gives none.
pub(super) async fn give(worker: &Worker, publisher: &Arc<Mutex<Publisher>>) -> Error {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let publisher = Arc::clone(publisher);
        let given = worker.run(move || {
            let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
            publisher.sign()
        });
        match given.await {
            Err(e) => return e,
            Ok(Err(e)) => tracing::warn!("{e}: pods that start ask the API themselves"),
            Ok(Ok(())) => {}
        }
    }
}
