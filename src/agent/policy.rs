//! The policy file: written when the ConfigMap changes, or only looked at where there is no cluster.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;

use super::api::Api;
use super::dirs::{Dirs, TICK};
use super::readiness::TaskReadiness;
use super::{Context, Error, networks, tell};
use crate::cluster::events::{Note, Tone};
use crate::cluster::{ApiWatch, Backoff, ObjectName};
use crate::setup::policy::{self, InCluster};
use crate::source::PolicyFile;
use rules::fault::shown;

/// Without a cluster: looks for ever whether there is a policy that the plugin can use.
pub(super) async fn look(context: Context) -> Error {
    let part = context.readiness.part("policy");
    let path = context.config.policy_file.clone();
    let mut dirs = Dirs::new(path.parent().map(ToOwned::to_owned));
    loop {
        let file = path.clone();
        match context.worker.run(move || PolicyFile::load(&file)).await {
            Err(e) => return e,
            Ok(Ok(_)) => {
                part.ready();
                context.has_policy();
                let mut status = context.status.lock();
                status.file_is_invalid = false;
                status.policy_time = written(&path);
            }
            Ok(Err(e)) => {
                part.failed(e);
                context.status.lock().file_is_invalid = true;
            }
        }
        dirs.changed(TICK).await;
    }
}

/// Follows the ConfigMap for ever.
pub(super) async fn follow(context: Context, api: Api) -> Error {
    let part = context.readiness.part("policy");
    let mut following = Following {
        part,
        in_force: false,
        faulty: false,
        compared: false,
        context: &context,
        api: &api,
    };
    // One of an earlier life does while the API does not answer.
    let file = context.config.policy_file.clone();
    match context.worker.run(move || PolicyFile::load(&file)).await {
        Err(e) => return e,
        Ok(Ok(_)) => following.is_in_force(),
        Ok(Err(_)) => {}
    }
    following.unsure("the ConfigMap has not been read yet");
    let ObjectName { namespace, name } = &api.cluster().configmap;
    let mut watch = ApiWatch::<ConfigMap>::one("configmaps", Some(namespace), name);
    let mut backoff = Backoff::default();
    loop {
        let objects = |client| kube::Api::namespaced(client, namespace);
        match api.hear(&mut watch, objects).await {
            Ok(heard) => {
                backoff.reset();
                if let Err(e) = following.apply(heard.one()).await {
                    return e;
                }
            }
            Err(e) => {
                if !(e.is_outage() && following.in_force) {
                    following.unsure(&e.to_string());
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

struct Following<'a> {
    part: TaskReadiness,
    /// There is a policy that the plugin can use.
    in_force: bool,
    /// What was last heard can't be used.
    faulty: bool,
    /// The policy that was last heard was held against the node's networks.
    compared: bool,
    context: &'a Context,
    api: &'a Api,
}

impl Following<'_> {
    fn is_in_force(&mut self) {
        self.in_force = true;
        self.context.has_policy();
    }

    /// Whether there is something newer is not known.
    fn unsure(&self, why: &str) {
        match self.in_force {
            true => self
                .part
                .behind(format!("the last valid policy stays in force: {why}")),
            false => self.part.failed(format!("there is none yet: {why}")),
        }
    }

    async fn apply(&mut self, found: Option<&ConfigMap>) -> Result<(), Error> {
        let configmap = self.api.cluster().configmap.clone();
        let regarding = match found {
            Some(found) => configmap.reference::<ConfigMap>(found.uid()),
            // What is not there has no Events: whoever looks for it finds the DaemonSet's.
            None => tell::own_daemonset(self.api).await,
        };
        let policy = InCluster::of(found);
        let (config, name) = (Arc::clone(&self.context.config), configmap.clone());
        let written = move || policy::apply(&config, &name, &policy);
        match self.context.worker.run(written).await? {
            Ok(changed) => {
                if changed {
                    let file = shown(&self.context.config.policy_file);
                    tracing::info!("wrote {file} from ConfigMap {configmap}");
                }
                self.part.ready();
                self.is_in_force();
                {
                    let mut status = self.context.status.lock();
                    status.file_is_invalid = false;
                    status.policy_time = found.and_then(edited).or(status.policy_time);
                }
                if self.faulty {
                    self.mended(regarding.clone());
                }
                self.faulty = false;
                if changed || !self.compared {
                    self.compared = true;
                    networks::compare(self.context, self.api, regarding).await;
                }
            }
            Err(why) => {
                self.faulty = true;
                self.context.status.lock().file_is_invalid = true;
                let stays = match self.in_force {
                    true => "the last valid policy stays in force",
                    false => "no policy is in force yet, and pods that start are not enforced",
                };
                let why = format!("ConfigMap {configmap} cannot be used, {stays}: {why}");
                tracing::error!("{why}");
                match self.in_force {
                    true => self.part.behind(&why),
                    false => self.part.failed(&why),
                }
                self.context
                    .teller
                    .warn(regarding, "PolicyInvalid", "WritePolicy", why);
            }
        }
        Ok(())
    }

    fn mended(&self, regarding: ObjectReference) {
        self.context.teller.tell(Note {
            regarding,
            tone: Tone::Normal,
            reason: "PolicyValid",
            action: "WritePolicy",
            note: "the policy is valid again, and pods have it".to_owned(),
        });
    }
}

/// When a file was written, in seconds since 1970.
fn written(path: &Path) -> Option<f64> {
    let changed = fs::metadata(path).and_then(|file| file.modified()).ok()?;
    let since = changed.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs_f64())
}

/// When an object was edited last, in seconds since 1970.
#[allow(clippy::cast_precision_loss)] // exact for longer than there will be clusters
fn edited(object: &ConfigMap) -> Option<f64> {
    let edits = object.managed_fields().iter();
    let edits = edits.filter_map(|edit| edit.time.as_ref());
    let last = edits.map(|time| time.0).max();
    let made = object.creation_timestamp().map(|time| time.0);
    last.max(made).map(|time| time.as_second() as f64)
}
