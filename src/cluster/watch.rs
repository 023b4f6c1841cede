//! Following objects: all there are, then each change, for as long as somebody listens.
//!
//! A watch begins where a list ended, and a watch that ends (servers end each after some minutes) is
//! followed by one from the last version that was heard of. Only if the server has forgotten that
//! version, which it says with 410 Gone, everything is listed anew. `kube-runtime` does the same in 27
//! crates.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Client, Error, Request};

/// How long one watch lasts. Servers take at most 295 s for granted.
const LASTS: Duration = Duration::from_secs(240);

/// How many objects one answer to a list has at most.
const PAGE: u32 = 500;

/// The version, or the rest of the list, is gone from the server.
const GONE: u16 = 410;

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiEvent<K> {
    /// All there are. What is not among them is gone.
    All(Vec<K>),
    /// One was made, or has changed.
    Now(K),
    /// One was deleted.
    Gone(K),
}

impl<K> ApiEvent<K> {
    /// Of one object that is followed: how it is now, if it is there.
    pub fn one(&self) -> Option<&K> {
        match self {
            ApiEvent::All(all) => all.first(),
            ApiEvent::Now(object) => Some(object),
            ApiEvent::Gone(_) => None,
        }
    }
}

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

/// Objects that are followed.
pub struct ApiWatch<K> {
    resource: &'static str,
    namespace: Option<String>,
    name: Option<String>,
    /// `metadata.name=web`, `spec.nodeName=node-1`
    fields: Option<String>,
    /// The version up to which everything was heard.
    version: Option<String>,
    events: Option<Events<K>>,
}

impl<K> ApiWatch<K>
where
    K: Clone + DeserializeOwned + Debug + Resource<DynamicType = ()> + Send + 'static,
{
    /// One object. `resource` as in a Role, with its group; `namespace` if it has one.
    pub fn one(resource: &'static str, namespace: Option<&str>, name: &str) -> Self {
        ApiWatch {
            resource,
            namespace: namespace.map(str::to_owned),
            name: Some(name.to_owned()),
            fields: Some(format!("metadata.name={name}")),
            version: None,
            events: None,
        }
    }

    /// All of the cluster, or those for which `fields` holds: `spec.nodeName=node-1`.
    pub const fn all(resource: &'static str, fields: Option<String>) -> Self {
        ApiWatch {
            resource,
            namespace: None,
            name: None,
            fields,
            version: None,
            events: None,
        }
    }

    /// What is followed, as in a Role.
    pub const fn resource(&self) -> &'static str {
        self.resource
    }

    /// The next news. `api` is asked, and its client used until the watch ends. This may be dropped at
    /// any time: nothing is lost by it.
    ///
    /// # Errors
    /// The API does not answer, or refuses. To be called again after a while, see [`Backoff`].
    pub async fn next(&mut self, client: &Client, api: &Api<K>) -> Result<ApiEvent<K>, Error> {
        loop {
            let Some(version) = self.version.clone() else {
                return self.list(client, api).await;
            };
            if self.events.is_none() {
                let params = WatchParams::default().timeout(LASTS.as_secs() as u32);
                let params = match &self.fields {
                    Some(fields) => params.fields(fields),
                    None => params,
                };
                let started = client
                    .ask(self.request("watch"), api.watch(&params, &version))
                    .await;
                self.events = Some(match started {
                    Ok(events) => events.boxed(),
                    Err(e) if is_gone(&e) => {
                        self.version = None;
                        continue;
                    }
                    Err(e) => return Err(e),
                });
            }
            if let Some(heard) = self.hear(client).await? {
                return Ok(heard);
            }
        }
    }

    /// The next event of the watch that is open; none if it has ended, or was about nothing.
    async fn hear(&mut self, client: &Client) -> Result<Option<ApiEvent<K>>, Error> {
        let Some(events) = &mut self.events else {
            return Ok(None);
        };
        // A server ends a watch in time, a connection may be lost without a word.
        let next = tokio::time::timeout(LASTS + client.patience(), events.next()).await;
        let Ok(Some(event)) = next else {
            self.events = None;
            return Ok(None);
        };
        let (object, gone) = match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
            Ok(WatchEvent::Deleted(object)) => (object, true),
            Ok(WatchEvent::Bookmark(mark)) => {
                self.version = Some(mark.metadata.resource_version);
                return Ok(None);
            }
            Ok(WatchEvent::Error(status)) => {
                self.events = None;
                let e = client.failure(&self.request("watch"), kube::Error::Api(status));
                if is_gone(&e) {
                    self.version = None;
                    return Ok(None);
                }
                return Err(e);
            }
            Err(e) => {
                self.events = None;
                return Err(client.failure(&self.request("watch"), e));
            }
        };
        self.version = object.resource_version().or(self.version.take());
        Ok(Some(if gone {
            ApiEvent::Gone(object)
        } else {
            ApiEvent::Now(object)
        }))
    }

    async fn list(&mut self, client: &Client, api: &Api<K>) -> Result<ApiEvent<K>, Error> {
        let fields = self.fields.clone();
        // From the server's memory: a thousand nodes that start at once must not all go to etcd.
        let first = || {
            let params = ListParams::default().limit(PAGE).match_any();
            match &fields {
                Some(fields) => params.fields(fields),
                None => params,
            }
        };
        let mut params = first();
        let mut all = Vec::new();
        loop {
            let answer = client.ask(self.request("list"), api.list(&params)).await;
            let page = match answer {
                // Too much has changed since the first page. Then everything at once.
                Err(e) if is_gone(&e) && params.continue_token.is_some() => {
                    all.clear();
                    params = first();
                    params.limit = None;
                    continue;
                }
                answer => answer?,
            };
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => {
                    params = params.continue_token(&token);
                    // The token says it.
                    params.resource_version = None;
                    params.version_match = None;
                }
                None => {
                    self.version = page.metadata.resource_version;
                    return Ok(ApiEvent::All(all));
                }
            }
        }
    }

    fn request(&self, verb: &'static str) -> Request {
        Request {
            verb,
            resource: self.resource,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Refused { code: GONE, .. })
}

/// How long to wait after a failure: longer each time, and never the same for two nodes.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Self::LONGEST);
        now + now.mul_f64(jitter() / 2.0)
    }

    /// It went well: the next failure is a first one.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// From 0 to 1, by the keys that the standard library draws for its maps.
fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 32) as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_end_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..10).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= Backoff::FIRST && waits[0] < Backoff::FIRST * 2);
        assert!(waits[9] >= Backoff::LONGEST && waits[9] <= Backoff::LONGEST * 3 / 2);
        backoff.reset();
        assert!(backoff.wait() < Backoff::FIRST * 2);
        let jitters: Vec<u64> = (0..8).map(|_| (jitter() * 1e9) as u64).collect();
        assert!(jitters.iter().any(|j| *j != jitters[0]), "{jitters:?}");
    }
}
