//! Following objects of the API, and telling the view what they say.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service};
use kube::core::PartialObjectMeta;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::api::Api;
use super::metrics::Metrics;
use super::seen::Pods;
use crate::cluster::{ApiEvent, ApiWatch, Backoff};
use crate::live::{Object, View};
use crate::source::{Name, behind_api_server, behind_nodes, behind_service};
use crate::store::ServiceAnswer;

/// What is known, for those who find it out and those who use it.
#[derive(Clone, Default)]
pub struct Shared(Arc<(Mutex<View>, Notify, Mutex<Option<Instant>>)>);

impl Shared {
    /// Tells something. Whoever waits is woken if it was new.
    fn tell(&self, tell: impl FnOnce(&mut View)) {
        let mut view = self.view();
        let was_whole = view.is_whole();
        tell(&mut view);
        if view.has_changed() || view.is_whole() != was_whole {
            self.since().get_or_insert_with(Instant::now);
            self.0.1.notify_one();
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.2.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the first news since the last call came.
    pub fn news_since(&self) -> Option<Instant> {
        self.since().take()
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known.
    pub fn known(&self) -> &Mutex<View> {
        &self.0.0
    }

    /// Returns when there is something new. May be dropped at any time.
    pub async fn changed(&self) {
        self.0.1.notified().await;
    }

    /// Whether namespaces and pods have been told.
    pub fn is_whole(&self) -> bool {
        self.view().is_whole()
    }

    /// Nobody follows this name any more.
    pub fn forget(&self, name: &Name) {
        self.view().forget(name);
        // What was written down of it must go before it is out of date.
        self.0.1.notify_one();
    }
}

/// Follows objects for ever. What goes wrong is tried again; the API's own part says that it is away.
async fn follow<K>(
    api: &Api,
    metrics: &Metrics,
    mut watch: ApiWatch<K>,
    objects: impl Fn(kube::Client) -> kube::Api<K>,
    mut heard: impl FnMut(ApiEvent<K>),
) where
    K: Clone + DeserializeOwned + Debug + Resource<DynamicType = ()> + Send + 'static,
{
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        match api.hear(&mut watch, &objects).await {
            Ok(news) => {
                backoff.reset();
                said.clear();
                heard(news);
            }
            Err(e) => {
                metrics.restarted(watch.resource());
                let why = e.to_string();
                if !e.is_outage() && why != said {
                    tracing::warn!("running pods keep their rules: {why}");
                    said = why;
                }
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

/// Follows all namespaces.
pub async fn namespaces(api: &Api, shared: &Shared, metrics: &Metrics) {
    let watch = ApiWatch::<PartialObjectMeta<Namespace>>::all("namespaces", None);
    follow(api, metrics, watch, kube::Api::all, |heard| match heard {
        ApiEvent::All(all) => shared.tell(|view| view.all_namespaces(objects(all))),
        ApiEvent::Now(one) => tell_one(one, |one| shared.tell(|view| view.namespace(one))),
        // Its last pods keep what it said.
        ApiEvent::Gone(_) => {}
    })
    .await;
}

/// Follows the pods of a node.
pub async fn pods(api: &Api, shared: &Shared, (seen, metrics): (&Pods, &Metrics), node: &str) {
    let fields = Some(format!("spec.nodeName={node}"));
    let watch = ApiWatch::<PartialObjectMeta<Pod>>::all("pods", fields);
    follow(api, metrics, watch, kube::Api::all, |heard| match heard {
        ApiEvent::All(all) => {
            seen.all(&all);
            shared.tell(|view| view.all_pods(objects(all)));
        }
        ApiEvent::Now(one) => {
            seen.now(&one);
            tell_one(one, |one| shared.tell(|view| view.pod(one)));
        }
        ApiEvent::Gone(one) => {
            seen.gone(&one);
            tell_one(one, |one| shared.tell(|view| view.no_pod(&one)));
        }
    })
    .await;
}

fn objects<K>(all: Vec<PartialObjectMeta<K>>) -> Vec<Object> {
    let all = all.into_iter();
    all.filter_map(|one| Object::of(one.metadata)).collect()
}

fn tell_one<K>(one: PartialObjectMeta<K>, tell: impl FnOnce(Object)) {
    if let Some(object) = Object::of(one.metadata) {
        tell(object);
    }
}

/// Follows what a name in rules stands for.
pub async fn name(api: Api, shared: Shared, metrics: Metrics, name: Name) {
    let metrics = &metrics;
    let tell = |behind: Option<ServiceAnswer>| {
        let name = name.clone();
        shared.tell(move |view| view.name(name, behind));
    };
    match (&name, name.service()) {
        (Name::ApiServer, Some(of)) => api_server(&api, metrics, of, &tell).await,
        (_, Some(of)) => {
            service(&api, metrics, of, |found| {
                tell(found.as_ref().map(behind_service))
            })
            .await
        }
        (_, None) => nodes(&api, metrics, &tell).await,
    }
}

/// Follows one Service; none: there is no such one.
async fn service(
    api: &Api,
    metrics: &Metrics,
    (namespace, name): (&str, &str),
    mut tell: impl FnMut(Option<Service>),
) {
    let watch = ApiWatch::one("services", Some(namespace), name);
    let objects = |client| kube::Api::namespaced(client, namespace);
    follow(api, metrics, watch, objects, |heard| {
        tell(heard.one().cloned())
    })
    .await;
}

/// What has been heard of the API server's two objects; inside, whether there is one.
#[derive(Default)]
struct ApiServer {
    service: Option<Option<Service>>,
    endpoints: Option<Option<Endpoints>>,
}

async fn api_server(
    api: &Api,
    metrics: &Metrics,
    of: (&str, &str),
    tell: &impl Fn(Option<ServiceAnswer>),
) {
    let both: Mutex<ApiServer> = Mutex::default();
    // Only when both have been heard of: half of it would cut what goes to the other half.
    let say = || {
        let both = both.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(service), Some(endpoints)) = (&both.service, &both.endpoints) {
            let service = service.as_ref();
            tell(service.map(|service| behind_api_server(service, endpoints.as_ref())));
        }
    };
    let (namespace, name) = of;
    let services = service(api, metrics, of, |found| {
        both.lock().unwrap_or_else(PoisonError::into_inner).service = Some(found);
        say();
    });
    let watch = ApiWatch::<Endpoints>::one("endpoints", Some(namespace), name);
    let objects = |client| kube::Api::namespaced(client, namespace);
    let endpoints = follow(api, metrics, watch, objects, |heard| {
        both.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .endpoints = Some(heard.one().cloned());
        say();
    });
    tokio::join!(services, endpoints);
}

async fn nodes(api: &Api, metrics: &Metrics, tell: &impl Fn(Option<ServiceAnswer>)) {
    let mut known: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    let watch = ApiWatch::<Node>::all("nodes", None);
    follow(api, metrics, watch, kube::Api::all, |heard| {
        match heard {
            ApiEvent::All(all) => {
                known = all
                    .iter()
                    .map(|node| (node.name_any(), networks(node)))
                    .collect();
            }
            ApiEvent::Now(node) => {
                known.insert(node.name_any(), networks(&node));
            }
            ApiEvent::Gone(node) => {
                known.remove(&node.name_any());
            }
        }
        let mut all: Vec<IpNet> = known.values().flatten().copied().collect();
        all.sort();
        all.dedup();
        tell(Some(ServiceAnswer::Networks(all)));
    })
    .await;
}

fn networks(node: &Node) -> Vec<IpNet> {
    match behind_nodes([node]) {
        ServiceAnswer::Networks(all) => all,
        _ => Vec::new(),
    }
}
