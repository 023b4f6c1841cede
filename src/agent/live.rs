//! Running pods have the rules that are written now.
//!
//! One task puts together what others have heard, and has the worker do what follows from it. A burst of
//! changes is one look: nobody can make more of them than [`PAUSE`] allows, and whoever tries holds up nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference, Pod};
use kube::Resource;
use tokio::task::JoinSet;

use super::api::Api;
use super::dirs::{Dirs, TICK};
use super::follow::{self, Shared};
use super::metrics::Metrics;
use super::readiness::TaskReadiness;
use super::{Context, Error, sign};
use crate::cluster::events::{Note, Tone};
use crate::lifecycle::ByLeases;
use crate::lifecycle::reconcile::{self, Change};
use crate::live::{Fault, Live, News, Publisher};
use crate::refusal::CniError;
use crate::source::Name;
use crate::source::known::Author;
use crate::store::StateDir;

/// From one look to the next at least.
const PAUSE: Duration = Duration::from_millis(20);

/// How long until what the kernel or the disk has refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How many pods a line of the log names.
const NAMED: usize = 5;

/// Keeps running pods' rules as they are written, for ever.
pub(super) async fn keep(context: Context, api: Option<Api>) -> Error {
    let part = context.readiness.part("rules");
    let shared = Shared::default();
    let state = StateDir::new(&context.config.state_dir);
    let mut keeping = Keeping {
        part,
        context: &context,
        api: api.as_ref(),
        shared: &shared,
        names: Followed::default(),
        publisher: Arc::new(Mutex::new(Publisher::new(state))),
    };
    let Some(api) = &api else {
        return keeping.look_for_ever().await;
    };
    let node = api.cluster().node();
    let publisher = Arc::clone(&keeping.publisher);
    tokio::select! {
        e = keeping.look_for_ever() => e,
        e = sign::give(&context.worker, &publisher) => e,
        () = follow::namespaces(api, &shared, &context.metrics) => Error::Worker,
        () = follow::pods(api, &shared, (&context.pods, &context.metrics), &node) => Error::Worker,
    }
}

struct Keeping<'a> {
    part: TaskReadiness,
    context: &'a Context,
    api: Option<&'a Api>,
    shared: &'a Shared,
    names: Followed,
    publisher: Arc<Mutex<Publisher>>,
}

impl Keeping<'_> {
    async fn look_for_ever(&mut self) -> Error {
        let config = &self.context.config;
        let state = StateDir::new(&config.state_dir);
        let attachments = {
            let state = state.clone();
            self.context.worker.run(move || state.attachments_dir())
        };
        let attachments = match attachments.await {
            Err(e) => return e,
            Ok(found) => found.unwrap_or_else(|e| {
                tracing::warn!("{e}");
                config.state_dir.clone()
            }),
        };
        let policy = config.policy_file.parent().map(ToOwned::to_owned);
        let mut dirs = Dirs::new(policy.into_iter().chain([attachments]));
        let mut live = Live::new(state, config.policy_file.clone(), self.api.is_some());
        let mut is_tidy = false;
        loop {
            let began = Instant::now();
            // What waited for the look before, too.
            let heard = self.shared.news_since().unwrap_or(began);
            let shared = self.shared.clone();
            let publisher = Arc::clone(&self.publisher);
            let looked = self.context.worker.run(move || {
                // First: a pod that starts meanwhile has it, or is looked at next.
                let published = {
                    let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
                    publisher.publish(shared.known())
                };
                if let Err(e) = published {
                    tracing::warn!("{e}: pods that start ask the API themselves");
                }
                let news = live.look(shared.known());
                (live, news)
            });
            let news = match looked.await {
                Err(e) => return e,
                Ok((back, news)) => {
                    live = back;
                    news
                }
            };
            self.tell(news, heard);
            if !std::mem::replace(&mut is_tidy, true)
                && let Err(e) = self.tidy().await
            {
                return e;
            }
            let wait = match live.is_unfinished() {
                true => AGAIN,
                false => TICK,
            };
            tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
            tokio::select! {
                () = self.shared.changed() => {}
                () = dirs.changed(wait) => {}
            }
        }
    }

    /// Removes what an agent has left that was killed while it gave running pods other rules.
    async fn tidy(&self) -> Result<(), Error> {
        let state = StateDir::new(&self.context.config.state_dir);
        let work = move || reconcile::remove_unused_policies(&state, &ByLeases);
        match self.context.worker.run(work).await? {
            Ok(report) => {
                let all = report.changes.iter();
                all.for_each(|Change { what, why, .. }| tracing::info!("removed {what}: {why}"));
            }
            Err(e) => tracing::warn!("policies that no pod has may be left: {e}"),
        }
        Ok(())
    }

    fn tell(&mut self, news: News, heard: Instant) {
        if let Some(api) = self.api {
            self.names
                .follow(api, self.shared, &self.context.metrics, news.needed);
        }
        if !news.switched.is_empty() {
            let took = heard.elapsed();
            self.context.metrics.updated(took);
            tracing::info!(
                "other rules are in force after {} ms: {}",
                took.as_millis(),
                listed(&news.switched)
            );
        }
        for (pod, error) in &news.failed {
            tracing::error!("{pod} keeps its rules: {error}");
        }
        for fault in &news.faults {
            self.tell_fault(fault);
        }
        for fault in &news.mended {
            if !news.faults.iter().any(|new| is_same_text(new, fault)) {
                self.tell_mended(fault);
            }
        }
        let pending = match (&news.stopped, self.api.is_some() && !self.shared.is_whole()) {
            (Some(why), _) => Some(format!("running pods keep their rules: {why}")),
            (None, true) => Some(
                "running pods keep their rules: pods and namespaces have not been read yet"
                    .to_owned(),
            ),
            (None, false) => None,
        };
        match &pending {
            Some(why) => self.part.behind(why),
            None => self.part.ready(),
        }
        // Of some pods: no reason to take the node for one that is not ready.
        let pending = pending.or_else(|| of_some(&news.failed, &news.waiting));
        let mut status = self.context.status.lock();
        status.at_fault = news.at_fault;
        status.pending = pending;
    }

    fn tell_fault(&self, fault: &Fault) {
        let what = object(fault);
        tracing::warn!(
            "{what}: running pods keep their last valid rules: {}",
            fault.why
        );
        let note = format!("running pods keep their last valid rules: {}", fault.why);
        let regarding = self.regarding(fault);
        if let Some(regarding) = regarding {
            self.context
                .teller
                .warn(regarding, "PolicyInvalid", "UpdatePolicy", note);
        }
    }

    fn tell_mended(&self, fault: &Fault) {
        tracing::info!("{}: the rules are valid again", object(fault));
        if let Some(regarding) = self.regarding(fault) {
            self.context.teller.tell(Note {
                regarding,
                tone: Tone::Normal,
                reason: "PolicyValid",
                action: "UpdatePolicy",
                note: "the rules are valid again, and running pods have them".to_owned(),
            });
        }
    }

    /// The object that has the text.
    fn regarding(&self, fault: &Fault) -> Option<ObjectReference> {
        let api = self.api?;
        // A namespace's Events are in it, where its owners look.
        let within = |reference: ObjectReference| ObjectReference {
            namespace: Some(fault.namespace.clone()),
            ..reference
        };
        Some(match (&fault.pod, fault.author) {
            (Some((pod, uid)), _) => within(reference::<Pod>(pod, uid)),
            (None, Author::Namespace) => {
                let view = self.shared.known().lock();
                let view = view.unwrap_or_else(PoisonError::into_inner);
                let found = view.namespace_of(&fault.namespace);
                let uid = found.map_or("", |found| &found.uid);
                within(reference::<Namespace>(&fault.namespace, uid))
            }
            (None, _) => api.cluster().configmap.reference::<ConfigMap>(None),
        })
    }
}

/// Why some pods have older rules than what is written.
fn of_some(failed: &[(String, CniError)], waiting: &BTreeSet<String>) -> Option<String> {
    if let Some((_, error)) = failed.first() {
        let pods: Vec<String> = failed.iter().map(|(pod, _)| pod.clone()).collect();
        return Some(format!("{} keep their rules: {error}", listed(&pods)));
    }
    let pods: Vec<String> = waiting.iter().cloned().collect();
    (!pods.is_empty()).then(|| {
        format!(
            "{} keep their rules until the API says what is behind the names in the new ones",
            listed(&pods)
        )
    })
}

fn reference<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    }
}

fn is_same_text(one: &Fault, other: &Fault) -> bool {
    (one.author, &one.namespace, &one.pod) == (other.author, &other.namespace, &other.pod)
}

fn object(fault: &Fault) -> String {
    let Fault { namespace, .. } = fault;
    match (&fault.pod, fault.author) {
        (Some((pod, _)), _) => format!("pod {namespace}/{pod}"),
        (None, Author::Cluster) => "the policy file".to_owned(),
        (None, _) => format!("namespace {namespace}"),
    }
}

fn listed(pods: &[String]) -> String {
    let named = pods[..pods.len().min(NAMED)].join(", ");
    match pods.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The names in rules that are followed. All end with this.
#[derive(Default)]
struct Followed {
    tasks: JoinSet<()>,
    names: BTreeMap<Name, tokio::task::AbortHandle>,
}

impl Followed {
    /// These, and no others.
    fn follow(&mut self, api: &Api, shared: &Shared, metrics: &Metrics, needed: BTreeSet<Name>) {
        self.names.retain(|name, task| {
            let stays = needed.contains(name);
            if !stays {
                task.abort();
                shared.forget(name);
            }
            stays
        });
        for name in needed {
            let (tasks, api, metrics) = (&mut self.tasks, api.clone(), metrics.clone());
            self.names
                .entry(name.clone())
                .or_insert_with(|| tasks.spawn(follow::name(api, shared.clone(), metrics, name)));
        }
        // Those that were ended.
        while self.tasks.try_join_next().is_some() {}
    }
}
