//! Why pods of this node have no record: the node's own network, or a start at which the plugin was not called.
//!
//! Metadata do not say that, and all of every pod would be twice as much to watch. So the few pods without a record
//! are asked for, each once, or once in a while as long as it has none and should.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

use super::api::Api;
use super::seen::{Attached, Cover};
use super::{Context, Error};
use crate::cluster::Request;
use crate::store::StateDir;

/// How often pods without a record are looked for: one that starts has one by then.
const LOOK: Duration = Duration::from_secs(10);

/// How often one is asked for that should have a record.
const AGAIN: Duration = Duration::from_secs(60);

/// At most so many questions at a time.
const MOST: usize = 20;

/// Finds it out for ever.
pub(super) async fn find(context: Context, api: Api) -> Error {
    let mut asked: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(pods) = context.pods.known() else {
            continue;
        };
        asked.retain(|uid, _| pods.contains_key(uid));
        let state = StateDir::new(&context.config.state_dir);
        let attached = match context.worker.run(move || attached(&state)).await {
            Ok(attached) => attached,
            Err(e) => return e,
        };
        let due = pods.iter().filter(|(uid, pod)| {
            let is_open = match pod.cover {
                Cover::Unknown => true,
                Cover::Missing => asked.get(*uid).is_none_or(|at| at.elapsed() >= AGAIN),
                Cover::HostNetwork | Cover::Over => false,
            };
            is_open && !attached.has(uid, pod)
        });
        let due: Vec<_> = due.take(MOST).collect();
        for (uid, pod) in due {
            asked.insert(uid.clone(), Instant::now());
            let (namespace, name) = (&pod.namespace, &pod.name);
            let found = api.ask(|client| async move {
                let objects: kube::Api<Pod> = kube::Api::namespaced(client.kube(), namespace);
                let request = Request::new("get", "pods").within(namespace).named(name);
                client.ask(request, objects.get(name)).await
            });
            // What can't be asked is asked with the next look.
            if let Ok(found) = found.await {
                context.pods.set_cover(uid, cover(&found));
            }
        }
    }
}

fn cover(pod: &Pod) -> Cover {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network);
    match (host_network, phase) {
        (Some(true), _) => Cover::HostNetwork,
        (_, Some("Succeeded" | "Failed")) => Cover::Over,
        (_, Some("Running")) => Cover::Missing,
        // Its network is not there yet.
        _ => Cover::Unknown,
    }
}

fn attached(state: &StateDir) -> Attached {
    let mut attached = Attached::default();
    for (_, record) in state.records().unwrap_or_default() {
        attached.add(&record);
    }
    attached
}
