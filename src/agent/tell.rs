//! What people are told: changes of readiness in the log and as Events, and whatever else a task has to
//! say about an object.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api::Api;
use super::readiness::Summary;
use super::{Context, Error};
use crate::cluster::events::{self, Note, Tone};
use crate::cluster::{ObjectName, Request};

/// A reason that is gone sooner than this is part of the start, and told to nobody.
const LASTS: Duration = Duration::from_secs(3);

/// The way to say something; it never waits.
#[derive(Debug, Clone)]
pub struct Teller(mpsc::UnboundedSender<Said>);

/// What was said.
pub type Notes = mpsc::UnboundedReceiver<Said>;

/// Something to be told.
#[derive(Debug)]
pub enum Said {
    /// About an object.
    Of(Note),
    /// Something about this node that somebody should look at.
    OfNode {
        /// One word, in UpperCamelCase.
        reason: &'static str,
        /// What was done or tried, in UpperCamelCase.
        action: &'static str,
        /// One sentence.
        note: String,
    },
}

impl Teller {
    /// Both ends.
    pub fn new() -> (Teller, Notes) {
        let (tell, notes) = mpsc::unbounded_channel();
        (Teller(tell), notes)
    }

    /// Says something about an object.
    pub fn tell(&self, note: Note) {
        let _ = self.0.send(Said::Of(note)); // the process is ending
    }

    /// Warns of something on this node, about the agent's own pod.
    pub fn warn_of_node(&self, reason: &'static str, action: &'static str, note: String) {
        let said = Said::OfNode {
            reason,
            action,
            note,
        };
        let _ = self.0.send(said); // the process is ending
    }

    /// Warns about an object.
    pub fn warn(
        &self,
        regarding: ObjectReference,
        reason: &'static str,
        action: &'static str,
        note: impl Into<String>,
    ) {
        self.tell(Note {
            regarding,
            tone: Tone::Warning,
            reason,
            action,
            note: note.into(),
        });
    }
}

/// Tells for ever.
pub(super) async fn tell(context: Context, api: Option<Api>, mut notes: Notes) -> Error {
    let mut readiness = context.readiness.follow();
    let mut told = Summary::default();
    // When what has changed is to be told, if it still is so: whatever comes in between does not put that off.
    let mut due = None;
    loop {
        tokio::select! {
            Some(said) = notes.recv() => pass_on(api.as_ref(), &context, said).await,
            // The sender lives in `context`.
            Ok(()) = readiness.changed() => {
                due.get_or_insert_with(|| Instant::now() + LASTS);
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                let now = Summary::from(&*readiness.borrow_and_update());
                say(&context, api.as_ref(), &told, &now).await;
                told = now;
            }
        }
    }
}

async fn pass_on(api: Option<&Api>, context: &Context, said: Said) {
    let Some(api) = api else { return };
    let note = match said {
        Said::Of(note) => note,
        Said::OfNode {
            reason,
            action,
            note,
        } => Note {
            regarding: own_pod(api).await,
            tone: Tone::Warning,
            reason,
            action,
            note,
        },
    };
    post(Some(api), context, note).await;
}

async fn say(context: &Context, api: Option<&Api>, before: &Summary, now: &Summary) {
    if now == before {
        return;
    }
    let known = before.reasons();
    let new: Vec<String> = now
        .reasons()
        .into_iter()
        .filter(|why| !known.contains(why))
        .collect();
    for why in &new {
        tracing::warn!("not ready: {why}");
    }
    if now.is_ready() {
        tracing::info!("ready");
    }
    let Some(api) = api else { return };
    for why in new {
        let regarding = own_pod(api).await;
        let note = Note {
            regarding,
            tone: Tone::Warning,
            reason: "NotReady",
            action: "CheckReadiness",
            note: why,
        };
        post(Some(api), context, note).await;
    }
}

/// The pod in which this runs or, if that was not said, the DaemonSet.
async fn own_pod(api: &Api) -> ObjectReference {
    match &api.cluster().pod {
        Some((pod, uid)) => pod.reference::<Pod>(Some(uid.clone())),
        None => own_daemonset(api).await,
    }
}

/// The DaemonSet, with its UID as far as the API tells it.
pub(super) async fn own_daemonset(api: &Api) -> ObjectReference {
    let daemonset = &api.cluster().daemonset;
    let ObjectName { namespace, name } = daemonset;
    let found = api.ask(|client| async move {
        let objects: kube::Api<DaemonSet> = kube::Api::namespaced(client.kube(), namespace);
        let request = Request::new("get", "daemonsets.apps")
            .within(namespace)
            .named(name);
        client.ask(request, objects.get_metadata(name)).await
    });
    let uid = found.await.ok().and_then(|found| found.metadata.uid);
    daemonset.reference::<DaemonSet>(uid)
}

async fn post(api: Option<&Api>, context: &Context, note: Note) {
    let Some(api) = api else { return };
    let node = api.cluster().node();
    let posted = api.ask(|client| async move { events::post(&client, &node, &note).await });
    tokio::select! {
        posted = posted => if let Err(e) = posted {
            tracing::warn!("cannot create an Event: {e}");
        },
        () = context.cancel.cancelled() => {}
    }
}
