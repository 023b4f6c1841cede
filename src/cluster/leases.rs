//! Leases: which node of the cluster has which egress address.
//!
//! One object `egress-ip-ADDRESS` (`coordination.k8s.io/v1`) in the namespace `egressway-system`, held
//! by the node that its `holderIdentity` names. It is made with `create` and changed with its
//! `resourceVersion`: of two nodes that try at the same instant, the API server refuses one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};

use super::{Client, Error, Request};

/// Where the Leases are.
pub const NAMESPACE: &str = "egressway-system";
/// The address that a Lease is about; its name can't be read back.
pub const ADDRESS: &str = "egressway.dev/address";
/// For which namespace's pods the node has it.
pub const FOR: &str = "egressway.dev/namespace";

/// Who writes Leases, for their `managedFields`: an admission policy tells the time by what this one wrote
/// last.
const MANAGER: &str = "egressway";

/// By how much nodes' clocks may differ before an address could be taken too early: this part of the
/// duration. Even then, the probe finds an address that is still in use.
const SKEW: u32 = 4;

const RESOURCE: &str = "leases.coordination.k8s.io";

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
    /// It is not there any more: given back, or removed by somebody.
    Gone,
}

/// The Leases of the cluster, as one node uses them.
#[derive(Clone)]
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
    /// As `node` uses them. What it takes and renews lasts for `duration`.
    pub fn of(client: Client, node: &str, duration: Duration) -> Leases {
        Leases {
            api: kube::Api::namespaced(client.kube(), NAMESPACE),
            client,
            node: node.to_owned(),
            duration,
        }
    }

    /// The same, for other durations.
    pub fn lasting(&self, duration: Duration) -> Leases {
        Leases {
            duration,
            ..self.clone()
        }
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

    /// Whether this node holds it.
    pub fn is_own(&self, lease: &Lease) -> bool {
        holder(lease) == Some(&self.node)
    }

    /// Takes an address that is free, or this node's own already, as the Lease was when it was `seen`. False: another
    /// node was faster.
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
        match seen {
            None => {
                let request = Request::new("create", RESOURCE).within(NAMESPACE);
                let params = written_by_us();
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
            let Some(found) = seen.take() else {
                return Ok(Renewal::Gone);
            };
            if !self.is_own(&found) {
                let holder = holder(&found).unwrap_or("nobody").to_owned();
                return Ok(Renewal::Lost { holder });
            }
            let lease = self.lease(&name, address, namespace, Some(&found));
            *seen = self.replace(&name, &lease).await?;
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
        loop {
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
            let deleted = async { or_conflict(deleted.await) };
            // It was renewed at this very moment, or is another node's by now.
            if self.client.ask(request("delete"), deleted).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// None: it is not as it was when it was seen.
    async fn replace(&self, name: &str, lease: &Lease) -> Result<Option<Lease>, Error> {
        let request = Request::new("update", RESOURCE)
            .within(NAMESPACE)
            .named(name);
        let params = written_by_us();
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

fn written_by_us() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
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

/// The address that a Lease is about.
pub fn address(lease: &Lease) -> Option<IpAddr> {
    annotation(lease, ADDRESS)?.parse().ok()
}

/// How long from `now` on it may not be taken: nothing if nobody holds it, or its holder has not renewed it
/// in time. None: for ever. One without a time never ends: somebody keeps the address for something else.
pub fn held_for(lease: &Lease, now: Timestamp) -> Option<Duration> {
    if holder(lease).is_none() {
        return Some(Duration::ZERO);
    }
    let spec = lease.spec.as_ref()?;
    let MicroTime(renewed) = spec.renew_time.as_ref().or(spec.acquire_time.as_ref())?;
    let duration = u64::try_from(spec.lease_duration_seconds?).ok()?;
    let longest = Duration::from_secs(duration);
    let until = *renewed + (longest + longest / SKEW);
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
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
        let free = |holder, renewed, seconds| {
            held_for(&lease(holder, renewed, seconds), now) == Some(Duration::ZERO)
        };
        assert!(free(None, Some(10_000), Some(60)));
        assert!(free(Some(""), Some(10_000), Some(60)));
        assert!(!free(Some("a"), Some(10_000 - 60), Some(60)));
        assert!(
            !free(Some("a"), Some(10_000 - 74), Some(60)),
            "clocks differ"
        );
        assert!(free(Some("a"), Some(10_000 - 75), Some(60)));
        let left = held_for(&lease(Some("a"), Some(10_000), Some(8)), now);
        assert_eq!(left, Some(Duration::from_secs(10)));
        assert!(
            !free(Some("a"), Some(20_000), Some(60)),
            "a clock that is ahead"
        );
        assert!(!free(Some("a"), None, Some(60)), "kept by hand");
        assert!(!free(Some("a"), Some(0), None), "kept by hand");
        assert_eq!(held_for(&Lease::default(), now), Some(Duration::ZERO));
    }
}
