//! Whether a SIGTERM means that everything has to be taken out: the DaemonSet is deleted, or its
//! namespace is.
//!
//! Who deletes all of `install/` deletes the rights to ask first. So both are watched from the start: a
//! watch that is open goes on telling, whatever becomes of the rights by which it was opened. That rights
//! are gone means nothing by itself, since somebody may have removed them by mistake; nor does a DaemonSet
//! that was never there: it may have another name. Then everything stays.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Context;
use super::api::Api;
use super::readiness::TaskReadiness;
use super::worker::Worker;
use crate::cluster::{self, ApiEvent, ApiWatch, Backoff, ObjectName, Request};
use crate::setup::files;

/// How long the API may take to answer at the end.
const ASK: Duration = Duration::from_millis(800);

/// What is known of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Not heard yet, or nobody answers.
    Unknown,
    /// It is there.
    Stays,
    /// It is gone, or about to go.
    Goes,
}

/// The DaemonSet and its namespace.
pub(super) struct Removal {
    api: Api,
    fates: [watch::Receiver<Presence>; 2],
    /// The DaemonSet was there once.
    seen: SeenOnce,
    watching: JoinSet<()>,
}

impl Removal {
    /// The way to the API.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Begins to watch both.
    pub fn follow(context: &Context, api: &Api) -> Removal {
        let ObjectName { namespace, name } = api.cluster().daemonset.clone();
        let own = context.config.own_dir();
        let mut watching = JoinSet::new();
        let start = |part, note| {
            let (tell, fate) = watch::channel(Presence::Unknown);
            let seen = SeenOnce {
                note: own.join(note),
                worker: context.worker.clone(),
            };
            let observer = Observer {
                api: api.clone(),
                part: context.readiness.part(part),
                seen,
                tell,
            };
            (observer, fate)
        };
        let (observer, of_daemonset) = start("daemonset", "daemonset.uid");
        let seen = observer.seen.clone();
        let objects = {
            let namespace = namespace.clone();
            move |client| kube::Api::<DaemonSet>::namespaced(client, &namespace)
        };
        let watch = ApiWatch::one("daemonsets.apps", Some(&namespace), &name);
        watching.spawn(observer.observe(watch, objects));
        let (observer, of_namespace) = start("namespace", "namespace.uid");
        let watch = ApiWatch::one("namespaces", None, &namespace);
        watching.spawn(observer.observe(watch, kube::Api::<Namespace>::all));
        Removal {
            api: api.clone(),
            fates: [of_daemonset, of_namespace],
            seen,
            watching,
        }
    }

    /// True: everything has to be taken out.
    pub async fn decide(mut self) -> bool {
        // While this waits, what the watches have heard is heard here, too.
        let asked = tokio::time::timeout(ASK, self.ask()).await;
        let goes = |fate: &watch::Receiver<Presence>| *fate.borrow() == Presence::Goes;
        let removed = matches!(asked, Ok(Ok(true))) || self.fates.iter().any(goes);
        if !removed && !matches!(asked, Ok(Ok(false))) {
            let why = match asked {
                Ok(Err(e)) => e.to_string(),
                _ => "the API does not answer".to_owned(),
            };
            tracing::warn!(
                "everything stays in place, since it is not known whether the DaemonSet is being deleted ({why}); if it is, run `egressway uninstall` on this node"
            );
        }
        self.watching.shutdown().await;
        removed
    }

    /// Whether one of both is about to go.
    async fn ask(&self) -> Result<bool, cluster::Error> {
        let ObjectName { namespace, name } = &self.api.cluster().daemonset;
        self.api
            .ask(|client| async move {
                let daemonsets = kube::Api::<DaemonSet>::namespaced(client.kube(), namespace);
                let namespaces = kube::Api::<Namespace>::all(client.kube());
                let asked = Request::new("get", "daemonsets.apps")
                    .within(namespace)
                    .named(name);
                let (daemonset, namespace) = tokio::join!(
                    client.ask(asked, daemonsets.get_metadata_opt(name)),
                    client.ask(
                        Request::new("get", "namespaces").named(namespace),
                        namespaces.get_metadata_opt(namespace)
                    ),
                );
                let goes = |meta: ObjectMeta| meta.deletion_timestamp.is_some();
                let (daemonset, namespace) = (daemonset?, namespace?);
                if namespace.is_some_and(|namespace| goes(namespace.metadata)) {
                    return Ok(true);
                }
                match daemonset {
                    Some(daemonset) => Ok(goes(daemonset.metadata)),
                    None => Ok(self.seen.is_written().await),
                }
            })
            .await
    }
}

/// That an object was there once, also in an earlier life of this process.
#[derive(Clone)]
struct SeenOnce {
    note: PathBuf,
    worker: Worker,
}

impl SeenOnce {
    async fn write(&self, uid: Option<String>) {
        let (note, uid) = (self.note.clone(), uid.unwrap_or_default());
        let written = self.worker.run(move || match files::read(&note) {
            Ok(Some(before)) if before == uid.as_bytes() => Ok(()),
            _ => files::replace(&note, uid.as_bytes(), 0o600),
        });
        if let Ok(Err(e)) = written.await {
            tracing::warn!("{e}");
        }
    }

    async fn is_written(&self) -> bool {
        let note = self.note.clone();
        let read = self.worker.run(move || files::read(&note)).await;
        matches!(read, Ok(Ok(Some(_))))
    }
}

/// Follows one object.
struct Observer {
    api: Api,
    part: TaskReadiness,
    seen: SeenOnce,
    tell: watch::Sender<Presence>,
}

impl Observer {
    async fn observe<K>(
        self,
        mut watch: ApiWatch<K>,
        objects: impl Fn(kube::Client) -> kube::Api<K> + Send,
    ) where
        K: Clone + DeserializeOwned + Debug + Resource<DynamicType = ()> + Send + Sync + 'static,
    {
        let mut backoff = Backoff::default();
        loop {
            match self.api.hear(&mut watch, &objects).await {
                Ok(heard) => {
                    backoff.reset();
                    self.heard(heard).await;
                }
                Err(e) => {
                    // What goes does not come back.
                    if *self.tell.borrow() != Presence::Goes {
                        self.tell.send_replace(Presence::Unknown);
                    }
                    if !e.is_outage() {
                        self.part.behind(&e);
                    }
                    tokio::time::sleep(backoff.wait()).await;
                }
            }
        }
    }

    async fn heard<K: Resource<DynamicType = ()>>(&self, heard: ApiEvent<K>) {
        let fate = match heard.one() {
            Some(object) if object.meta().deletion_timestamp.is_some() => Presence::Goes,
            Some(object) => {
                self.seen.write(object.uid()).await;
                Presence::Stays
            }
            None if matches!(heard, ApiEvent::Gone(_)) || self.seen.is_written().await => {
                Presence::Goes
            }
            None => {
                self.part.behind(format!(
                    "no {} has the name given by --daemonset: nothing is removed from this node when it is deleted",
                    K::kind(&())
                ));
                self.tell.send_replace(Presence::Stays);
                return;
            }
        };
        self.part.ready();
        self.tell.send_replace(fate);
    }
}
