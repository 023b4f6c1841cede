//! Where the API server itself answers, without the Service in front of it.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Endpoints;
use kube::Api;

use super::{Client, Error, Request};

/// The addresses behind the Service default/kubernetes, on the ports called `https`.
///
/// # Errors
/// The API does not answer, or refuses.
pub async fn of_api_server(client: &Client) -> Result<Vec<SocketAddr>, Error> {
    let (namespace, name) = ("default", "kubernetes");
    let api = Api::<Endpoints>::namespaced(client.kube(), namespace);
    let request = Request::new("get", "endpoints")
        .within(namespace)
        .named(name);
    let found = client.ask(request, api.get(name)).await?;
    let mut addresses = Vec::new();
    for subset in found.subsets.unwrap_or_default() {
        let ports = subset.ports.unwrap_or_default();
        let ports = ports
            .iter()
            .filter(|p| p.name.as_deref().is_none_or(|name| name == "https"));
        for port in ports.filter_map(|p| u16::try_from(p.port).ok()) {
            let hosts = subset.addresses.iter().flatten();
            let hosts = hosts.filter_map(|a| a.ip.parse::<IpAddr>().ok());
            addresses.extend(hosts.map(|host| SocketAddr::new(host, port)));
        }
    }
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}
