//! What the Kubernetes API says of one pod, and nothing more than its policy needs.
//!
//! One GET for the namespace, at the same time one for the pod if the runtime hands no annotations
//! over. Of both only the metadata is asked for.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::core::PartialObjectMeta;

use super::annotation::PREFIX;
use super::snapshot::Snapshots;
use super::{NamespaceAnnotations, SourceError};
use crate::kubernetes::{self, Client, Limit, Request};

/// The folder of the snapshots of namespaces.
const NAMESPACES: &str = "namespaces";

/// kubelet writes here what it gives as UID for a pod of its own manifests: the API's object, which
/// only mirrors that pod, has another UID.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// How to ask, and what helps when there is no answer.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Where the API is and who asks.
    pub kubeconfig: &'a Path,
    /// For everything together.
    pub limit: Limit,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Of the namespace.
    pub namespace: NamespaceAnnotations,
    /// Of the pod, if that was asked.
    pub pod: Option<BTreeMap<String, String>>,
}

/// Asks for a namespace and, if `pod` is given, for a pod in it.
///
/// # Errors
/// No answer, a refusal, or annotations of the namespace that say something invalid.
pub fn read(
    access: &Access<'_>,
    namespace: &str,
    pod: Option<PodName<'_>>,
) -> Result<Said, SourceError> {
    let (of_namespace, of_pod) = kubernetes::run(async {
        let client = Client::from_kubeconfig(access.kubeconfig, access.limit)?;
        Ok(tokio::join!(ask_namespace(&client, namespace), async {
            match pod {
                Some(pod) => Some(ask_pod(&client, namespace, pod).await),
                None => None,
            }
        }))
    })?;
    Ok(Said {
        namespace: access.namespace(namespace, of_namespace)?,
        pod: of_pod.transpose()?,
    })
}

impl Access<'_> {
    /// The namespace's annotations as they were answered, or as they were before if nothing was.
    fn namespace(
        &self,
        name: &str,
        answer: Result<BTreeMap<String, String>, kubernetes::Error>,
    ) -> Result<NamespaceAnnotations, SourceError> {
        let snapshots = self.snapshots;
        let place = format!("namespace {name}");
        match answer {
            Ok(annotations) => {
                let read = NamespaceAnnotations::from_map(&place, &annotations)
                    .and_then(|read| read.check().map(|()| read));
                match &read {
                    Ok(_) => snapshots.keep(NAMESPACES, name, &annotations),
                    Err(_) => snapshots.forget(NAMESPACES, name),
                }
                read
            }
            Err(error) if error.is_outage() => {
                match snapshots.young::<BTreeMap<String, String>>(NAMESPACES, name) {
                    Some((annotations, age)) => {
                        tracing::warn!(
                            "{error}; as `whenUnreachable: snapshot` allows, what was read {age:#} ago of the namespace {name} is used"
                        );
                        NamespaceAnnotations::from_map(&place, &annotations)
                    }
                    None => Err(error.into()),
                }
            }
            Err(error) => {
                snapshots.forget(NAMESPACES, name);
                Err(error.into())
            }
        }
    }
}

/// The namespace's annotations that are ours.
async fn ask_namespace(
    client: &Client,
    name: &str,
) -> Result<BTreeMap<String, String>, kubernetes::Error> {
    let api = Api::<Namespace>::all(client.kube());
    let request = Request::new("get", "namespaces").named(name);
    let found = client.ask(request.clone(), api.get_metadata(name)).await?;
    named(client, request, name, &found)?;
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
    named(client, request, pod.name, &found)?;
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

/// Refuses an answer that is about something else, or about nothing: `{}` would be an object without
/// annotations.
fn named<K>(
    client: &Client,
    request: Request,
    name: &str,
    found: &PartialObjectMeta<K>,
) -> Result<(), kubernetes::Error> {
    if found.metadata.name.as_deref() == Some(name) {
        return Ok(());
    }
    Err(client.bad_answer(&request, "it is not the object that was asked for"))
}
