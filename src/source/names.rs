//! Names in rules that only the Kubernetes API knows: `svc/NAMESPACE/NAME`, `apiserver`, and `dns` where
//! the policy file has no `clusterDNS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Api;

use super::api::named;
use super::{NamespaceAnnotations, PolicyFile, pod};
use crate::cluster::{Client, Error, Request};
use rules::effective::{DefaultAction, Facts, TierRules};
use rules::rule::{Target, Verb};

/// The Service through which pods ask for names, in clusters of every kind.
const DNS: &str = "kube-system/kube-dns";
/// The API server's own, and the name of its endpoints.
const API_SERVER: &str = "default/kubernetes";

/// One such name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Dns,
    ApiServer,
    /// `NAMESPACE/NAME`
    Service(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns => f.write_str("dns"),
            Name::ApiServer => f.write_str("apiserver"),
            Name::Service(service) => write!(f, "svc/{service}"),
        }
    }
}

/// The names without which this pod's policy has no meaning. Texts with faults have none: whoever puts
/// the policy together finds them.
pub(crate) fn needed(
    file: &PolicyFile,
    namespace: &NamespaceAnnotations,
    of_pod: Option<&BTreeMap<String, String>>,
) -> BTreeSet<Name> {
    let mut tiers = vec![file.enforced.clone(), file.defaults.clone()];
    tiers.extend(namespace.tiers().unwrap_or_default());
    tiers.extend(of_pod.and_then(|annotations| pod::rules(annotations).ok().flatten()));
    let rules = || tiers.iter().flat_map(|tier: &TierRules| &tier.rules);

    let mut names: BTreeSet<Name> = rules()
        .flat_map(|rule| rule.to.iter().chain(&rule.except))
        .filter_map(|target| match target {
            Target::Dns => Some(Name::Dns),
            Target::ApiServer => Some(Name::ApiServer),
            Target::Service(service) => Some(Name::Service(service.clone())),
            _ => None,
        })
        .collect();
    // The built-in allowance has something to allow only where something is denied.
    let denies = file.default_action == DefaultAction::Deny
        || rules().any(|rule| matches!(rule.verb, Verb::Deny | Verb::Reject));
    if denies {
        names.insert(Name::Dns);
    }
    if !file.facts.dns.is_empty() {
        names.remove(&Name::Dns);
    }
    names
}

/// Puts what a name stands for where rules look for it.
pub(super) fn learn(facts: &mut Facts, name: Name, addresses: Vec<IpAddr>) {
    match name {
        Name::Dns => facts.dns = addresses,
        Name::ApiServer => facts.api_server = addresses,
        Name::Service(service) => {
            facts.services.insert(service, addresses);
        }
    }
}

/// The addresses behind a name; none for a Service that has none of its own.
pub(super) async fn ask(client: &Client, name: &Name) -> Result<Vec<IpAddr>, Error> {
    match name {
        Name::Dns => ask_service(client, DNS).await,
        Name::Service(service) => ask_service(client, service).await,
        Name::ApiServer => {
            let (service, endpoints) =
                tokio::join!(ask_service(client, API_SERVER), ask_endpoints(client));
            let mut addresses = service?;
            addresses.extend(endpoints?);
            addresses.sort();
            addresses.dedup();
            Ok(addresses)
        }
    }
}

async fn ask_service(client: &Client, service: &str) -> Result<Vec<IpAddr>, Error> {
    let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
    let api = Api::<Service>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "services")
        .within(namespace)
        .named(name);
    let found = client.ask(request.clone(), api.get(name)).await?;
    named(client, &request, name, &found.metadata)?;
    let spec = found.spec.unwrap_or_default();
    // A server older than both families has the one only.
    let addresses = spec
        .cluster_ips
        .unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    // `None`, as a word, is a headless Service's.
    Ok(addresses.iter().filter_map(|ip| ip.parse().ok()).collect())
}

/// By the older kind, which every version of Kubernetes keeps for this one Service.
async fn ask_endpoints(client: &Client) -> Result<Vec<IpAddr>, Error> {
    let (namespace, name) = API_SERVER.split_once('/').unwrap_or_default();
    let api = Api::<Endpoints>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "endpoints")
        .within(namespace)
        .named(name);
    let found = client.ask(request.clone(), api.get(name)).await?;
    named(client, &request, name, &found.metadata)?;
    let subsets = found.subsets.unwrap_or_default();
    Ok(subsets
        .iter()
        .flat_map(|subset| subset.addresses.iter().flatten())
        .filter_map(|address| address.ip.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(policy: &str, namespace: &str, of_pod: &str) -> Vec<String> {
        let header = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";
        let file = PolicyFile::parse("policy", &format!("{header}{policy}")).expect("a policy");
        let annotation = |key: &str, text: &str| {
            BTreeMap::from([(format!("egressway.dev/{key}"), text.to_owned())])
        };
        let of_namespace =
            NamespaceAnnotations::from_map("ns", &annotation("default-rules", namespace));
        let of_pod = annotation("rules", of_pod);
        needed(&file, &of_namespace.expect("annotations"), Some(&of_pod))
            .iter()
            .map(Name::to_string)
            .collect()
    }

    #[test]
    fn only_what_some_rule_needs_is_asked() {
        assert!(needs("defaultAction: allow", "allow", "allow to internet").is_empty());
        assert_eq!(
            needs(
                "enforced: allow to svc/a/b\nclusterDNS: [10.96.0.10]",
                "allow except apiserver",
                "deny to dns, svc/a/b, SVC/c/d"
            ),
            ["apiserver", "svc/a/b", "svc/c/d"]
        );
    }

    #[test]
    fn the_dns_allowance_needs_dns_where_something_is_denied() {
        for policy in [
            "defaultAction: deny",
            "defaults: reject",
            "enforced: deny 1/tcp",
        ] {
            assert_eq!(needs(policy, "allow", "allow"), ["dns"], "{policy}");
        }
        let known = "defaultAction: deny\nclusterDNS: [10.96.0.10]";
        assert!(needs(known, "allow", "allow").is_empty());
        assert_eq!(
            needs("defaultAction: allow", "allow", "allow to dns"),
            ["dns"]
        );
    }
}
