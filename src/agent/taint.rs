//! The taint that keeps pods away from a node where they may not be enforced, if that is wanted.
//!
//! A node that registers with it gets no pods before the agent is ready; the agent takes it off then, and
//! puts it on again while what it cannot mend lets pods start without rules.

use std::time::Duration;

use super::api::Api;
use super::readiness::Summary;
use super::{Context, Error};
use crate::cluster::taint;

/// The key of the taint.
pub const KEY: &str = "egressway.dev/not-ready";

/// What is mended sooner than this keeps no pod away.
const LASTS: Duration = Duration::from_secs(5);
/// After a failure, the next try waits this long.
const AGAIN: Duration = Duration::from_secs(5);
/// A Node that is deleted and registers anew has the taint again.
const LOOK: Duration = Duration::from_secs(300);
/// How long taking it off may take when everything is being removed.
const LIFT: Duration = Duration::from_secs(5);

/// Keeps it as readiness says, for ever.
pub(super) async fn keep(context: Context, api: Api) -> Error {
    let part = context.readiness.part("taint");
    // Whether pods are enforced does not depend on it.
    part.ready();
    let mut readiness = context.readiness.follow();
    loop {
        let wanted = Summary::from(&*readiness.borrow_and_update()).lets_pods_through();
        // The sender lives in `context`.
        let mut changed = async |wait| {
            tokio::time::timeout(wait, readiness.changed())
                .await
                .is_ok()
        };
        if wanted && changed(LASTS).await {
            continue;
        }
        let node = api.cluster().node();
        let set = api.ask(|client| async move { taint::set(&client, &node, KEY, wanted).await });
        let wait = match set.await {
            Err(e) => {
                part.behind(format!("the taint {KEY} cannot be changed: {e}"));
                AGAIN
            }
            Ok(changed) => {
                part.ready();
                match (changed, wanted) {
                    (true, true) => tracing::warn!("tainted this node with {KEY}:NoSchedule"),
                    (true, false) => tracing::info!("took the taint {KEY} off this node"),
                    (false, _) => {}
                }
                LOOK
            }
        };
        changed(wait).await;
    }
}

/// Takes it off, since nobody will be there any more who does.
pub(super) async fn lift(api: &Api) {
    let node = api.cluster().node();
    let set = api.ask(|client| async move { taint::set(&client, &node, KEY, false).await });
    match tokio::time::timeout(LIFT, set).await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => tracing::error!("the taint {KEY} stays on this node: {e}"),
        Err(_) => tracing::error!("the taint {KEY} stays on this node: the API does not answer"),
    }
}
