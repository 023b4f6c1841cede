//! What an installation asks the cluster, and tells it: the policy's ConfigMap, the DaemonSet that it
//! belongs to, a token of its own, Events.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Event, EventSource, ObjectReference, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use sha2::{Digest, Sha256};

use crate::cluster::{self, Client, Limit, Request};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long one watch lasts, in seconds, before the ConfigMap is read anew.
const WATCH: u32 = 240;
/// For how long a token is asked for, in seconds.
const TOKEN: i64 = 24 * 3600;
/// Bytes of an Event's message (`pkg/apis/core/validation/events.go`).
const MESSAGE: usize = 1024;

/// The key of the ConfigMap that has the policy.
pub const POLICY_KEY: &str = "policy.yaml";

/// An object's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::str::FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(ObjectName {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The cluster, as one node's installation sees it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The way to the API.
    pub kubeconfig: PathBuf,
    /// This node.
    pub node: String,
    /// Where the policy is.
    pub configmap: ObjectName,
    /// Whose pod this process runs in.
    pub daemonset: ObjectName,
    /// Whose token the plugin has.
    pub account: ObjectName,
    /// How long a Lease of this node holds without being renewed.
    pub lease_duration: Duration,
}

/// Where the policy stands, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// There is no ConfigMap.
    Missing,
    /// There is one, without [`POLICY_KEY`].
    NoKey,
    /// Its text.
    Text(String),
}

impl Cluster {
    fn client(&self) -> Result<Client, cluster::Error> {
        let limit = Limit::Each(ANSWER);
        if self.kubeconfig.exists() {
            Client::from_kubeconfig(&self.kubeconfig, limit)
        } else {
            Client::in_cluster(limit) // whoever only looks writes no kubeconfig
        }
    }

    /// Tells `changed` what the ConfigMap says, now and whenever it changes, for some minutes.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub fn follow_policy(&self, mut changed: impl FnMut(Policy)) -> Result<(), cluster::Error> {
        cluster::run(async {
            let client = self.client()?;
            let ObjectName { namespace, name } = &self.configmap;
            let api: Api<ConfigMap> = Api::namespaced(client.kube(), namespace);
            let request = |verb| {
                Request::new(verb, "configmaps")
                    .within(namespace)
                    .named(name)
            };
            let found = client.ask(request("get"), api.get_opt(name)).await?;
            let version = found
                .as_ref()
                .and_then(|c| c.metadata.resource_version.clone());
            changed(policy_of(found.as_ref()));
            // Of one that is not there, every version is news.
            let version = version.unwrap_or_else(|| "0".to_owned());
            let params = WatchParams::default()
                .fields(&format!("metadata.name={name}"))
                .timeout(WATCH);
            let events = client
                .ask(request("watch"), api.watch(&params, &version))
                .await?;
            pin_mut!(events);
            let longest = Duration::from_secs(u64::from(WATCH)) + ANSWER;
            while let Ok(Some(Ok(event))) = tokio::time::timeout(longest, events.next()).await {
                match event {
                    WatchEvent::Added(c) | WatchEvent::Modified(c) => changed(policy_of(Some(&c))),
                    WatchEvent::Deleted(_) => changed(Policy::Missing),
                    WatchEvent::Bookmark(_) => {}
                    // The version is too old, say: reading anew helps.
                    WatchEvent::Error(_) => break,
                }
            }
            Ok(())
        })
    }

    /// What the ConfigMap says now.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub fn policy(&self) -> Result<Policy, cluster::Error> {
        cluster::run(async {
            let client = self.client()?;
            let ObjectName { namespace, name } = &self.configmap;
            let api: Api<ConfigMap> = Api::namespaced(client.kube(), namespace);
            let request = Request::new("get", "configmaps")
                .within(namespace)
                .named(name);
            let found = client.ask(request, api.get_opt(name)).await?;
            Ok(policy_of(found.as_ref()))
        })
    }

    /// Whether the DaemonSet is gone, or about to go.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub fn is_being_removed(&self) -> Result<bool, cluster::Error> {
        cluster::run(async {
            let client = self.client()?;
            let ObjectName { namespace, name } = &self.daemonset;
            let api: Api<DaemonSet> = Api::namespaced(client.kube(), namespace);
            let request = Request::new("get", "daemonsets.apps")
                .within(namespace)
                .named(name);
            let found = client.ask(request, api.get_opt(name)).await?;
            Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()))
        })
    }

    /// A new token of the service account, and how many seconds it is good for. Unlike the one that
    /// is mounted into the pod, it does not end with the pod.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub fn token(&self) -> Result<(String, u64), cluster::Error> {
        cluster::run(async {
            let client = self.client()?;
            let ObjectName { namespace, name } = &self.account;
            let api: Api<ServiceAccount> = Api::namespaced(client.kube(), namespace);
            let asked = TokenRequest {
                spec: TokenRequestSpec {
                    expiration_seconds: Some(TOKEN),
                    ..TokenRequestSpec::default()
                },
                ..TokenRequest::default()
            };
            let request = Request::new("create", "serviceaccounts/token")
                .within(namespace)
                .named(name);
            let params = PostParams::default();
            let said = request.to_string();
            let answer = client
                .ask(request, api.create_token_request(name, &params, &asked))
                .await?;
            let Some(status) = answer.status else {
                return Err(cluster::Error::BadAnswer {
                    server: client.server().to_owned(),
                    request: said,
                    reason: "there is no token in it".to_owned(),
                });
            };
            let ends = status.expiration_timestamp.0;
            Ok((status.token, good_for(ends, Timestamp::now())))
        })
    }

    /// Tells people that something is wrong with the ConfigMap.
    pub fn warn_of_policy(&self, reason: &str, message: &str) {
        self.warn::<ConfigMap>(&self.configmap, reason, message);
    }

    /// Tells people that something is wrong on this node.
    pub fn warn_of_node(&self, reason: &str, message: &str) {
        self.warn::<DaemonSet>(&self.daemonset, reason, message);
    }

    /// Makes an Event, once for each message and node.
    fn warn<K: Resource<DynamicType = ()>>(
        &self,
        object: &ObjectName,
        reason: &str,
        message: &str,
    ) {
        let event = self.event::<K>(object, reason, message);
        let made = cluster::run(async {
            let client = self.client()?;
            let api: Api<Event> = Api::namespaced(client.kube(), &object.namespace);
            let request = Request::new("create", "events").within(&object.namespace);
            let made = async {
                match api.create(&PostParams::default(), &event).await {
                    // It was told before.
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    answer => answer.map(drop),
                }
            };
            client.ask(request, made).await
        });
        if let Err(e) = made {
            tracing::warn!("no Event could be made: {e}");
        }
    }

    fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &ObjectName,
        reason: &str,
        message: &str,
    ) -> Event {
        let message = format!("node {}: {message}", self.node);
        let digest = Sha256::digest(format!("{reason}\0{message}").as_bytes());
        let now = Some(Time(Timestamp::now()));
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{}", object.name, crate::hex::hex(&digest[..8]))),
                namespace: Some(object.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                namespace: Some(object.namespace.clone()),
                name: Some(object.name.clone()),
                ..ObjectReference::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(shortened(&message)),
            source: Some(EventSource {
                component: Some("egressway".to_owned()),
                host: Some(self.node.clone()),
            }),
            first_timestamp: now.clone(),
            last_timestamp: now,
            count: Some(1),
            ..Event::default()
        }
    }
}

fn policy_of(configmap: Option<&ConfigMap>) -> Policy {
    let Some(configmap) = configmap else {
        return Policy::Missing;
    };
    let text = configmap
        .data
        .as_ref()
        .and_then(|data| data.get(POLICY_KEY));
    text.map_or(Policy::NoKey, |text| Policy::Text(text.clone()))
}

fn shortened(message: &str) -> String {
    let end = message.floor_char_boundary(MESSAGE);
    message[..end].to_owned()
}

/// How many seconds a token is good for. Not longer than was asked for: the API server's clock tells
/// when it ends, and this node's may be behind.
fn good_for(ends: Timestamp, now: Timestamp) -> u64 {
    let left = ends.as_second() - now.as_second();
    u64::try_from(left.min(TOKEN)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_makes_no_token_last() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (ends, now, seconds) in [
            (TOKEN, 0, TOKEN),
            (TOKEN, 60, TOKEN - 60),
            (TOKEN + 7200, 0, TOKEN),
            (TOKEN, TOKEN + 60, 0),
        ] {
            assert_eq!(good_for(at(ends), at(now)), seconds.unsigned_abs());
        }
    }

    #[test]
    fn names_of_objects() {
        let name: ObjectName = "egressway-system/egressway".parse().unwrap();
        assert_eq!(name.to_string(), "egressway-system/egressway");
        for bad in ["", "name", "/name", "namespace/"] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_fit_into_an_event() {
        let long = "é".repeat(1000);
        assert!(shortened(&long).len() <= MESSAGE);
        assert_eq!(shortened("short"), "short");
    }
}
