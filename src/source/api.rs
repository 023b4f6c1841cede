//! What the Kubernetes API says of one pod, and nothing more than its policy needs. It is not asked while the node's
//! agent lives and has heard all of that ([`seen`](super::seen)).
//!
//! One GET for the namespace, at the same time one for the pod if the runtime hands no annotations
//! over. Of both only the metadata is asked for. Then, all at once, what only the API knows of names in
//! rules: one GET for each Service, two for the API server, a LIST of the nodes; and, for a namespace with
//! egress addresses, one LIST of all namespaces' metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use tokio::task::JoinSet;

use super::annotation::PREFIX;
use super::names::{self, Name};
use super::snapshot::Snapshots;
use super::{NamespaceAnnotations, PolicyFile, SourceError, pod};
use crate::cluster::{self, Client, Request, TimeLimit};
use crate::store::{ApiAnswer, NamespaceAnswer, ServiceAnswer as Behind};
use rules::effective::{Facts, TierRules};

/// kubelet writes here what it gives as UID for a pod of its own manifests: the API's object, which
/// only mirrors that pod, has another UID.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// How to ask, and what helps when there is no answer.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Where the API is and who asks.
    pub kubeconfig: &'a Path,
    /// For everything together.
    pub limit: TimeLimit,
    /// What it said before.
    pub snapshots: Snapshots<'a>,
}

/// A pod, as the runtime names it.
#[derive(Debug, Clone, Copy)]
pub struct PodName<'a> {
    /// Its name in the namespace.
    pub name: &'a str,
    /// Its UID. Old runtimes give none.
    pub uid: Option<&'a str>,
}

/// What the API says.
#[derive(Debug)]
pub struct Fetched {
    /// Of the namespace.
    pub namespace: NamespaceAnnotations,
    /// The pod's own rules, whoever has said them.
    pub of_pod: Result<Option<TierRules>, SourceError>,
    /// The policy file's facts, and what the names in this pod's rules stand for.
    pub facts: Facts,
    /// What other namespaces list as egress addresses, if that was asked: this namespace lists some.
    pub egress_lists: BTreeMap<String, Vec<IpNet>>,
}

/// Whose annotations the pod's are to be.
#[derive(Debug, Clone, Copy)]
pub enum OwnAnnotations<'a> {
    /// The runtime has handed them over.
    HandedOver(&'a BTreeMap<String, String>),
    /// The API is to be asked.
    Of(PodName<'a>),
}

/// Asks for a namespace and, if its annotations are not known, for a pod in it; then for what the names
/// in all their rules stand for, and for other namespaces' egress addresses if it lists some.
///
/// # Errors
/// No answer, a refusal, or annotations of the namespace that say something invalid.
pub fn read(
    access: &Access<'_>,
    file: &PolicyFile,
    namespace: &str,
    pod: OwnAnnotations<'_>,
) -> Result<Fetched, SourceError> {
    cluster::run(async { Ok(ask(access, file, namespace, pod).await) })?
}

async fn ask(
    access: &Access<'_>,
    file: &PolicyFile,
    name: &str,
    of_pod: OwnAnnotations<'_>,
) -> Result<Fetched, SourceError> {
    let client = Client::from_kubeconfig(access.kubeconfig, access.limit)?;
    let (of_namespace, asked) = tokio::join!(ask_namespace(&client, name), async {
        match of_pod {
            OwnAnnotations::Of(pod) => Some(ask_pod(&client, name, pod).await),
            OwnAnnotations::HandedOver(_) => None,
        }
    });
    let namespace = access.namespace(name, of_namespace)?;
    let asked = asked.transpose()?;
    let of_pod = pod::rules(match of_pod {
        OwnAnnotations::HandedOver(annotations) => Some(annotations),
        OwnAnnotations::Of(_) => asked.as_ref(),
    });
    let needed = names::needed(file, &namespace, &of_pod);
    let mut facts = file.facts.clone();
    let (known, egress_lists) = tokio::join!(access.names(&client, needed, &mut facts), async {
        match namespace.egress_ip {
            Some(_) => access.egress_lists(&client, file, name).await,
            None => Ok(BTreeMap::new()),
        }
    });
    known?;
    Ok(Fetched {
        namespace,
        of_pod,
        facts,
        egress_lists: egress_lists?,
    })
}

impl Access<'_> {
    /// The namespace's annotations as they were answered, or as they were before if nothing was.
    fn namespace(
        &self,
        name: &str,
        answer: Result<BTreeMap<String, String>, cluster::Error>,
    ) -> Result<NamespaceAnnotations, SourceError> {
        let fresh = answer.is_ok();
        let answer = answer.map(NamespaceAnswer);
        let NamespaceAnswer(annotations) = self.answered(name, answer)?;
        let read = NamespaceAnnotations::from_map(&format!("namespace {name}"), &annotations)
            .and_then(|read| read.check().map(|()| read));
        match &read {
            Ok(_) if fresh => self.snapshots.keep(name, NamespaceAnswer(annotations)),
            Ok(_) => {}
            Err(_) => self.snapshots.forget::<NamespaceAnswer>(name),
        }
        read
    }

    /// What names stand for, all asked at once.
    async fn names(
        &self,
        client: &Client,
        names: BTreeSet<Name>,
        facts: &mut Facts,
    ) -> Result<(), SourceError> {
        let mut questions = JoinSet::new();
        for name in names {
            let client = client.clone();
            questions.spawn(async move {
                let answer = names::ask(&client, &name).await;
                (name, answer)
            });
        }
        let stopped = |e| cluster::Error::Runtime {
            cause: io::Error::other(e),
        };
        while let Some(answered) = questions.join_next().await {
            let (name, answer) = answered.map_err(stopped)?;
            let behind = self.behind(&name, answer)?;
            names::learn(facts, name, behind);
        }
        Ok(())
    }

    fn behind(
        &self,
        name: &Name,
        answer: Result<Behind, cluster::Error>,
    ) -> Result<Behind, SourceError> {
        let fresh = answer.is_ok();
        let key = name.to_string();
        let found = match self.answered(&key, answer) {
            Ok(behind) => Some(behind),
            Err(cluster::Error::NotFound { .. })
                if matches!(name, Name::Service(_) | Name::Dns) =>
            {
                None
            }
            Err(e) => return Err(e.into()),
        };
        if found.is_none() && *name == Name::Dns {
            tracing::warn!(
                "the policy file has no `clusterDNS`, and the API no Service kube-system/kube-dns: no pod is allowed to ask for names unless its rules say so"
            );
        }
        let is_there = found.is_some();
        let behind = names::settled(name, found)?;
        if fresh && is_there {
            self.snapshots.keep(&key, behind.clone());
        }
        Ok(behind)
    }

    /// The answer or, after none, what was said before, if that may be used. A refusal makes it void.
    pub(super) fn answered<T: ApiAnswer>(
        &self,
        name: &str,
        answer: Result<T, cluster::Error>,
    ) -> Result<T, cluster::Error> {
        let error = match answer {
            Ok(said) => return Ok(said),
            Err(error) => error,
        };
        if !error.is_outage() {
            self.snapshots.forget::<T>(name);
            return Err(error);
        }
        match self.snapshots.young::<T>(name) {
            Some((said, age)) => {
                tracing::warn!(
                    "{error}; as `whenUnreachable: snapshot` allows, what was read {age:#} ago of {name} in {} is used",
                    T::FOLDER
                );
                Ok(said)
            }
            None => Err(error),
        }
    }
}

/// The namespace's annotations that are ours.
async fn ask_namespace(
    client: &Client,
    name: &str,
) -> Result<BTreeMap<String, String>, cluster::Error> {
    let api = Api::<Namespace>::all(client.kube());
    let request = Request::new("get", "namespaces").named(name);
    let found = client.ask(request.clone(), api.get_metadata(name)).await?;
    client.expect_name(&request, name, &found.metadata)?;
    let mut annotations = found.metadata.annotations.unwrap_or_default();
    // Others' are none of our business, and not to be kept.
    annotations.retain(|key, _| key.starts_with(PREFIX));
    Ok(annotations)
}

async fn ask_pod(
    client: &Client,
    namespace: &str,
    pod: PodName<'_>,
) -> Result<BTreeMap<String, String>, SourceError> {
    let api = Api::<Pod>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "pods")
        .within(namespace)
        .named(pod.name);
    let found = client
        .ask(request.clone(), api.get_metadata(pod.name))
        .await?;
    client.expect_name(&request, pod.name, &found.metadata)?;
    let annotations = found.metadata.annotations.unwrap_or_default();
    let uid = found.metadata.uid.unwrap_or_default();
    let is_same = |started: &str| {
        started == uid || annotations.get(CONFIG_HASH).map(String::as_str) == Some(started)
    };
    match pod.uid {
        Some(started) if !is_same(started) => Err(SourceError::OtherPod {
            pod: format!("{namespace}/{}", pod.name),
            found: uid,
            started: started.to_owned(),
        }),
        _ => Ok(annotations),
    }
}
