//! Leases: which node of the cluster has which egress address.
//!
//! One object `egress-ip-ADDRESS` (`coordination.k8s.io/v1`) in the namespace `egressway-system`, held
//! by the node that its `holderIdentity` names. It is made with `create` and changed with its
//! `resourceVersion`: of two nodes that try at the same instant, the API server refuses one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};

use crate::cluster::{Client, Error, Limit, Request};

/// Where the Leases are.
pub const NAMESPACE: &str = "egressway-system";
/// The address that a Lease is about; its name can't be read back.
pub const ADDRESS: &str = "egressway.dev/address";
/// For which namespace's pods the node has it.
pub const FOR: &str = "egressway.dev/namespace";

/// How long a Lease holds without being renewed.
pub const DURATION: Duration = Duration::from_secs(60);

/// By how much nodes' clocks may differ before an address could be taken too early: this part of the
/// duration. Even then, the probe finds an address that is still in use.
const SKEW: i32 = 4;

const RESOURCE: &str = "leases.coordination.k8s.io";

/// How to reach the Leases, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The way to the API.
    pub kubeconfig: PathBuf,
    /// This node's name, the holder.
    pub node: String,
}

/// What came of renewing a Lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// This node still has it.
    Held,
    /// Another one has it.
    Lost {
        /// That node.
        holder: String,
    },
}

/// The Leases of the cluster, as one node uses them.
pub struct Leases {
    client: Client,
    api: kube::Api<Lease>,
    node: String,
    duration: Duration,
}

/// `egress-ip-203-0-113-10`, `egress-ip-2001-db8--10`. A name must not end in a dash.
pub fn name(address: IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    let end = if text.ends_with('-') { "0" } else { "" };
    format!("egress-ip-{text}{end}")
}

impl Leases {
    /// To be called inside [`kubernetes::run`](crate::cluster::run).
    ///
    /// # Errors
    /// The kubeconfig can't be used.
    pub fn open(access: &Access, limit: Limit, duration: Duration) -> Result<Leases, Error> {
        let client = Client::from_kubeconfig(&access.kubeconfig, limit)?;
        Ok(Leases {
            api: kube::Api::namespaced(client.kube(), NAMESPACE),
            client,
            node: access.node.clone(),
            duration,
        })
    }

    /// All Leases by their names, in one question.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub async fn list(&self) -> Result<BTreeMap<String, Lease>, Error> {
        let request = Request::new("list", RESOURCE).within(NAMESPACE);
        let list = self
            .client
            .ask(request, self.api.list(&ListParams::default()))
            .await?;
        Ok(list
            .items
            .into_iter()
            .filter_map(|lease| Some((lease.metadata.name.clone()?, lease)))
            .collect())
    }

    /// Whether this node may try to take the address, as the Lease was when it was `seen`.
    pub fn is_free(&self, seen: Option<&Lease>) -> bool {
        seen.is_none_or(|lease| self.is_own(lease) || is_free(lease, Timestamp::now()))
    }

    /// Whether this node holds it.
    pub fn is_own(&self, lease: &Lease) -> bool {
        holder(lease) == Some(&self.node)
    }

    /// Takes an address that [`is_free`](Self::is_free), or that is this node's own already. False:
    /// another node was faster.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub async fn take(
        &self,
        address: IpAddr,
        namespace: &str,
        seen: Option<&Lease>,
    ) -> Result<bool, Error> {
        let name = name(address);
        let lease = self.lease(&name, address, namespace, seen);
        let params = PostParams::default();
        match seen {
            None => {
                let request = Request::new("create", RESOURCE).within(NAMESPACE);
                let made = self.api.create(&params, &lease);
                let made = async { or_conflict(made.await) };
                self.client.ask(request.named(&name), made).await
            }
            Some(_) => self.replace(&name, &lease).await,
        }
        .map(|lease| lease.is_some())
    }

    /// Renews a Lease of this node. `seen` is how it was left the last time, and becomes how it is now.
    ///
    /// # Errors
    /// The API does not answer, or refuses; the Lease stays as it is.
    pub async fn renew(
        &self,
        address: IpAddr,
        namespace: &str,
        seen: &mut Option<Lease>,
    ) -> Result<Renewal, Error> {
        let name = name(address);
        loop {
            if seen.is_none() {
                let request = Request::new("get", RESOURCE).within(NAMESPACE);
                let found = self.api.get_opt(&name);
                *seen = self.client.ask(request.named(&name), found).await?;
            }
            let lease = self.lease(&name, address, namespace, seen.as_ref());
            match seen.take() {
                Some(found) if !self.is_own(&found) => {
                    let holder = holder(&found).unwrap_or("nobody").to_owned();
                    return Ok(Renewal::Lost { holder });
                }
                Some(_) => *seen = self.replace(&name, &lease).await?,
                // Somebody has removed it; the address is still in use here.
                None if self.take(address, namespace, None).await? => return Ok(Renewal::Held),
                None => continue,
            }
            if seen.is_some() {
                return Ok(Renewal::Held);
            }
        }
    }

    /// Gives the address back, if it is still this node's.
    ///
    /// # Errors
    /// The API does not answer, or refuses.
    pub async fn give_back(&self, address: IpAddr) -> Result<(), Error> {
        let name = name(address);
        let request = |verb| Request::new(verb, RESOURCE).within(NAMESPACE).named(&name);
        let found = self
            .client
            .ask(request("get"), self.api.get_opt(&name))
            .await?;
        let Some(found) = found.filter(|lease| self.is_own(lease)) else {
            return Ok(());
        };
        let exactly_it = DeleteParams::default().preconditions(Preconditions {
            resource_version: found.metadata.resource_version,
            uid: found.metadata.uid,
        });
        let deleted = self.api.delete(&name, &exactly_it);
        // What another node has changed or removed by now is not this node's any more.
        let deleted = async { or_conflict(deleted.await) };
        self.client.ask(request("delete"), deleted).await.map(drop)
    }

    /// None: it is not as it was when it was seen.
    async fn replace(&self, name: &str, lease: &Lease) -> Result<Option<Lease>, Error> {
        let request = Request::new("update", RESOURCE)
            .within(NAMESPACE)
            .named(name);
        let params = PostParams::default();
        let replaced = self.api.replace(name, &params, lease);
        let replaced = async { or_conflict(replaced.await) };
        self.client.ask(request, replaced).await
    }

    /// The Lease as it is to be: this node's, renewed now.
    fn lease(&self, name: &str, address: IpAddr, namespace: &str, seen: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = seen.and_then(|lease| lease.spec.clone());
        let own = seen.is_some_and(|lease| self.is_own(lease));
        let (acquired, transitions) = match before {
            Some(before) if own => (before.acquire_time, before.lease_transitions),
            Some(before) => (None, Some(before.lease_transitions.unwrap_or(0) + 1)),
            None => (None, Some(0)),
        };
        Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                resource_version: seen.and_then(|l| l.metadata.resource_version.clone()),
                annotations: Some(
                    [(ADDRESS, address.to_string()), (FOR, namespace.to_owned())]
                        .map(|(key, value)| (key.to_owned(), value))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.node.clone()),
                lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: transitions,
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Who holds it.
pub fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// An annotation of a Lease.
pub fn annotation<'a>(lease: &'a Lease, key: &str) -> Option<&'a str> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Nobody holds it, or its holder has not renewed it in time. One without a time never ends: somebody
/// keeps the address for something else.
fn is_free(lease: &Lease, now: Timestamp) -> bool {
    if holder(lease).is_none() {
        return true;
    }
    let spec = lease.spec.as_ref();
    let renewed = spec.and_then(|s| s.renew_time.as_ref().or(s.acquire_time.as_ref()));
    let duration = spec.and_then(|s| s.lease_duration_seconds);
    match (renewed, duration) {
        (Some(MicroTime(renewed)), Some(duration)) => {
            let longest = i64::from(duration) + i64::from(duration / SKEW);
            now.as_second() - renewed.as_second() > longest
        }
        _ => false,
    }
}

/// The object, or none if it was there already (409 AlreadyExists), has changed (409 Conflict) or is
/// gone (404).
fn or_conflict<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        answer => answer.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn names_of_objects() {
        for (address, expected) in [
            ("203.0.113.10", "egress-ip-203-0-113-10"),
            ("2001:db8::10", "egress-ip-2001-db8--10"),
            ("2001:db8::", "egress-ip-2001-db8--0"),
            ("::1", "egress-ip---1"),
        ] {
            assert_eq!(name(ip(address)), expected);
        }
    }

    fn lease(holder: Option<&str>, renewed: Option<i64>, seconds: Option<i32>) -> Lease {
        let time = |second| MicroTime(Timestamp::from_second(second).unwrap());
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                renew_time: renewed.map(time),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn when_an_address_is_free() {
        let now = Timestamp::from_second(10_000).unwrap();
        let free = |holder, renewed, seconds| is_free(&lease(holder, renewed, seconds), now);
        assert!(free(None, Some(10_000), Some(60)));
        assert!(free(Some(""), Some(10_000), Some(60)));
        assert!(!free(Some("a"), Some(10_000 - 60), Some(60)));
        assert!(
            !free(Some("a"), Some(10_000 - 75), Some(60)),
            "clocks differ"
        );
        assert!(free(Some("a"), Some(10_000 - 76), Some(60)));
        assert!(
            !free(Some("a"), Some(20_000), Some(60)),
            "a clock that is ahead"
        );
        assert!(!free(Some("a"), None, Some(60)), "kept by hand");
        assert!(!free(Some("a"), Some(0), None), "kept by hand");
        assert!(is_free(&Lease::default(), now));
    }
}
