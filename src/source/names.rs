//! Names in rules that only the Kubernetes API knows: `svc/NAMESPACE/NAME`, `apiserver`, `nodes`, and `dns`
//! where the policy file has no `clusterDNS`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints, Node, Service, ServiceSpec};
use kube::Api;
use kube::api::ListParams;

use super::{NamespaceAnnotations, PolicyFile, SourceError};
use crate::cluster::{Client, Error, Request};
use crate::store::ServiceAnswer as Behind;
use rules::effective::{DefaultAction, Facts, TierRules};
use rules::rule::{Target, Verb};

/// The Service through which pods ask for names, in clusters of every kind.
const DNS: &str = "kube-system/kube-dns";
/// The API server's own, and the name of its endpoints.
const API_SERVER: &str = "default/kubernetes";

/// One such name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// `dns`: the Service kube-system/kube-dns.
    Dns,
    /// `apiserver`: the Service default/kubernetes and its endpoints.
    ApiServer,
    /// `nodes`
    Nodes,
    /// `svc/NAMESPACE/NAME`: with what comes behind `svc/`.
    Service(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns => f.write_str("dns"),
            Name::ApiServer => f.write_str("apiserver"),
            Name::Nodes => f.write_str("nodes"),
            Name::Service(service) => write!(f, "svc/{service}"),
        }
    }
}

/// The names without which this pod's policy has no meaning. Texts with faults have none: whoever puts
/// the policy together finds them.
pub(crate) fn needed(
    file: &PolicyFile,
    namespace: &NamespaceAnnotations,
    of_pod: &Result<Option<TierRules>, SourceError>,
) -> BTreeSet<Name> {
    let mut tiers = vec![&file.enforced, &file.defaults];
    tiers.extend(namespace.tiers().unwrap_or_default());
    tiers.extend(of_pod.iter().flatten());
    let rules = || tiers.iter().flat_map(|tier| &tier.rules);

    let mut names: BTreeSet<Name> = rules()
        .flat_map(|rule| rule.to.iter().chain(&rule.except))
        .filter_map(|target| match target {
            Target::Dns => Some(Name::Dns),
            Target::ApiServer => Some(Name::ApiServer),
            Target::Nodes => Some(Name::Nodes),
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
pub(super) fn learn(facts: &mut Facts, name: Name, behind: Behind) {
    match (name, behind) {
        (Name::Dns, Behind::Addresses(all)) => facts.dns = all,
        (Name::Service(service), Behind::Addresses(all)) => {
            facts.services.insert(service, all);
        }
        (_, Behind::Sockets(all)) => facts.api_server = all,
        // Beside what the policy file says.
        (_, Behind::Networks(all)) => facts.nodes.extend(all),
        (_, Behind::Addresses(_)) => {} // no other name stands for these
    }
}

/// What is known of a name, as rules take it; nothing: the API has no such object.
///
/// # Errors
/// [`SourceError::NoService`], [`SourceError::NoAddress`]
pub(super) fn settled(name: &Name, found: Option<Behind>) -> Result<Behind, SourceError> {
    match (found, name) {
        (Some(behind), _) if !behind.is_empty() => Ok(behind),
        (None, Name::Service(service)) => Err(SourceError::NoService {
            service: service.clone(),
        }),
        // Rules that say `dns` are refused later; without one, this is no reason.
        (None, Name::Dns) => Ok(Behind::Addresses(Vec::new())),
        _ => Err(SourceError::NoAddress {
            name: name.to_string(),
        }),
    }
}

impl Name {
    /// The Service about which it is, by its namespace and name; none for `nodes`.
    pub(crate) fn service(&self) -> Option<(&str, &str)> {
        let service = match self {
            Name::Dns => DNS,
            Name::ApiServer => API_SERVER,
            Name::Service(service) => service,
            Name::Nodes => return None,
        };
        Some(service.split_once('/').unwrap_or(("default", service)))
    }
}

/// What `svc/NAMESPACE/NAME` or `dns` stands for.
pub(crate) fn behind_service(service: &Service) -> Behind {
    Behind::Addresses(service.spec.as_ref().map(addresses_of).unwrap_or_default())
}

/// What `apiserver` stands for: its Service, and what is behind that.
pub(crate) fn behind_api_server(service: &Service, endpoints: Option<&Endpoints>) -> Behind {
    let subsets = endpoints.and_then(|endpoints| endpoints.subsets.as_deref());
    let spec = service.spec.as_ref();
    let mut sockets = spec.map(sockets_of).unwrap_or_default();
    sockets.extend(subsets.unwrap_or_default().iter().flat_map(sockets_behind));
    sockets.sort();
    sockets.dedup();
    Behind::Sockets(sockets)
}

/// What `nodes` stands for.
pub(crate) fn behind_nodes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Behind {
    let mut nets: Vec<IpNet> = nodes.into_iter().flat_map(networks_of).collect();
    nets.sort();
    nets.dedup();
    Behind::Networks(nets)
}

/// What a name stands for; nothing for a Service that has no address of its own.
pub(super) async fn ask(client: &Client, name: &Name) -> Result<Behind, Error> {
    match name {
        Name::Dns => Ok(behind_service(&ask_service(client, DNS).await?)),
        Name::Service(service) => Ok(behind_service(&ask_service(client, service).await?)),
        Name::ApiServer => {
            let (service, endpoints) =
                tokio::join!(ask_service(client, API_SERVER), ask_endpoints(client));
            Ok(behind_api_server(&service?, Some(&endpoints?)))
        }
        Name::Nodes => Ok(behind_nodes(&ask_nodes(client).await?)),
    }
}

/// A protocol that is not given is TCP.
fn is_tcp(protocol: Option<&String>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn each_with_each(addresses: &[IpAddr], ports: &[i32]) -> Vec<SocketAddr> {
    let ports: Vec<u16> = ports
        .iter()
        .filter_map(|port| (*port).try_into().ok())
        .collect();
    let with_all = |address: &IpAddr| -> Vec<SocketAddr> {
        ports
            .iter()
            .map(|port| SocketAddr::new(*address, *port))
            .collect()
    };
    addresses.iter().flat_map(with_all).collect()
}

fn sockets_of(service: &ServiceSpec) -> Vec<SocketAddr> {
    let ports = service.ports.iter().flatten();
    let tcp = ports.filter(|port| is_tcp(port.protocol.as_ref()));
    let ports: Vec<i32> = tcp.map(|port| port.port).collect();
    each_with_each(&addresses_of(service), &ports)
}

fn sockets_behind(subset: &EndpointSubset) -> Vec<SocketAddr> {
    let ports = subset.ports.iter().flatten();
    let tcp = ports.filter(|port| is_tcp(port.protocol.as_ref()));
    let ports: Vec<i32> = tcp.map(|port| port.port).collect();
    let addresses = subset.addresses.iter().flatten();
    let addresses: Vec<IpAddr> = addresses.filter_map(|a| a.ip.parse().ok()).collect();
    each_with_each(&addresses, &ports)
}

/// How many nodes one answer has at most.
const PAGE: u32 = 500;

async fn ask_nodes(client: &Client) -> Result<Vec<Node>, Error> {
    let api = Api::<Node>::all(client.kube());
    let request = Request::new("list", "nodes");
    let mut params = ListParams::default().limit(PAGE);
    let mut nodes = Vec::new();
    loop {
        let page = match client.ask(request.clone(), api.list(&params)).await {
            // Then everything at once, which cannot expire.
            Err(Error::Refused { code: EXPIRED, .. }) if params.continue_token.is_some() => {
                params = ListParams::default();
                nodes.clear();
                continue;
            }
            answer => answer?,
        };
        nodes.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(nodes),
        }
    }
}

/// Too much was changed since the first page: its snapshot is gone from etcd.
const EXPIRED: u16 = 410;

/// A node's addresses, and the first ones of its pods' networks: by these, tunnels and bridges take packets
/// that are for the node itself.
fn networks_of(node: &Node) -> Vec<IpNet> {
    let status = node.status.iter().flat_map(|status| &status.addresses);
    let own = status.flatten().filter_map(|address| {
        let address: IpAddr = address.address.parse().ok()?; // names stand there, too
        Some(IpNet::from(address))
    });
    let spec = node.spec.iter();
    let of_pods = spec.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    own.chain(of_pods.filter_map(|net| first_two(net)))
        .collect()
}

/// The network's own address, which a tunnel has (flannel), and the first one in it, which a bridge has.
fn first_two(net: &str) -> Option<IpNet> {
    let net: IpNet = net.parse().ok()?;
    let length = net.prefix_len().max(net.max_prefix_len() - 1);
    IpNet::new(net.network(), length).ok()
}

async fn ask_service(client: &Client, service: &str) -> Result<Service, Error> {
    let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
    let api = Api::<Service>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "services")
        .within(namespace)
        .named(name);
    let found = client.ask(request.clone(), api.get(name)).await?;
    client.expect_name(&request, name, &found.metadata)?;
    Ok(found)
}

fn addresses_of(service: &ServiceSpec) -> Vec<IpAddr> {
    // A server older than both families has the one only.
    let addresses = match &service.cluster_ips {
        Some(addresses) => addresses.as_slice(),
        None => service.cluster_ip.as_slice(),
    };
    // `None`, as a word, is a headless Service's.
    addresses.iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// By the older kind, which every version of Kubernetes keeps for this one Service.
async fn ask_endpoints(client: &Client) -> Result<Endpoints, Error> {
    let (namespace, name) = API_SERVER.split_once('/').unwrap_or_default();
    let api = Api::<Endpoints>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "endpoints")
        .within(namespace)
        .named(name);
    let found = client.ask(request.clone(), api.get(name)).await?;
    client.expect_name(&request, name, &found.metadata)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::pod;
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
        let of_pod = pod::rules(Some(&of_pod));
        needed(&file, &of_namespace.expect("annotations"), &of_pod)
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
                "allow except apiserver, nodes",
                "deny to dns, svc/a/b, SVC/c/d"
            ),
            ["apiserver", "nodes", "svc/a/b", "svc/c/d"]
        );
    }

    #[test]
    fn the_first_addresses_of_a_nodes_pods_are_the_nodes() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd44:0:0:3::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "172.30.0.11"},
                {"type": "ExternalIP", "address": "2001:db8::11"},
                {"type": "Hostname", "address": "node1"},
            ]},
        }))
        .expect("a node");
        let mut found: Vec<String> = networks_of(&node).iter().map(ToString::to_string).collect();
        found.dedup();
        assert_eq!(
            found,
            [
                "172.30.0.11/32",
                "2001:db8::11/128",
                "10.244.3.0/31",
                "fd44:0:0:3::/127",
                "10.244.3.0/31"
            ]
        );
        assert_eq!(first_two("10.1.2.3/32"), "10.1.2.3/32".parse().ok());
    }

    #[test]
    fn the_api_server_is_its_tcp_ports() {
        let service: ServiceSpec = serde_json::from_value(serde_json::json!({
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd96::1"],
            "ports": [{"name": "https", "port": 443}, {"port": 53, "protocol": "UDP"}],
        }))
        .expect("a Service");
        let subset: EndpointSubset = serde_json::from_value(serde_json::json!({
            "addresses": [{"ip": "172.30.0.11"}, {"ip": "172.30.0.12"}],
            "ports": [{"port": 6443, "protocol": "TCP"}, {"port": 6444, "protocol": "UDP"}],
        }))
        .expect("a subset");
        let text = |sockets: Vec<SocketAddr>| -> Vec<String> {
            sockets.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            text(sockets_of(&service)),
            ["10.96.0.1:443", "[fd96::1]:443"]
        );
        assert_eq!(
            text(sockets_behind(&subset)),
            ["172.30.0.11:6443", "172.30.0.12:6443"]
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
