//! What names in rules stand for on one node: what a policy file and the API say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::class::{DNS_PORT, METADATA, WIRESERVER, WIRESERVER_PORTS};
use super::rule::{Target, Transport};

/// What names in rules stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The policy file's `clusterCIDRs`: pods and Services.
    pub cluster: Vec<IpNet>,
    /// The policy file's `clusterDNS`, or what the API says of it.
    pub dns: Vec<IpAddr>,
    /// The policy file's `clusterDNS` alone: questions to these are led to the node's own resolver, if rules have
    /// domain names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<IpAddr>,
    /// The policy file's `nodeCIDRs`, and what the API says of nodes: their addresses and the first ones of
    /// their pods' networks, which tunnels and bridges have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<IpNet>,
    /// The policy file's `nat64Prefixes`; none holds an address of another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nat64: Vec<Ipv6Net>,
    /// The policy file's `tunnelPorts`: more UDP ports at which nodes open what they are sent than
    /// [`TUNNEL_PORTS`](super::builtin::TUNNEL_PORTS).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_ports: Vec<u16>,
    /// What is behind `apiserver`, from the API: the Service and its endpoints, each with a TCP port of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_server: Vec<SocketAddr>,
    /// The addresses of the Services that are named, from the API: `shop/web` stands for these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Vec<IpAddr>>,
}

/// A keyword that stands for services rather than for addresses. A packet goes to one of them if that is
/// where the pod sent it, and if that is where it goes after it was translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// `dns`
    Dns,
    /// `metadata`
    Metadata,
    /// `apiserver`
    ApiServer,
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 3] = [Word::Dns, Word::Metadata, Word::ApiServer];
}

impl From<Word> for Target {
    fn from(word: Word) -> Self {
        match word {
            Word::Dns => Target::Dns,
            Word::Metadata => Target::Metadata,
            Word::ApiServer => Target::ApiServer,
        }
    }
}

/// Addresses, and which of their ports are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub addresses: Vec<IpNet>,
    /// Whether an IPv4 address also means the one behind a NAT64 prefix: only a node translates the
    /// address of a Service, and knows no such one.
    pub nat64: bool,
    /// Over which transports, at which ports; `None`: whatever is sent there.
    pub ports: Option<(&'static [Transport], Vec<u16>)>,
}

impl Endpoint {
    /// Whether what has this protocol (IANA) and port is meant.
    pub fn takes(&self, protocol: u8, port: Option<u16>) -> bool {
        self.ports.as_ref().is_none_or(|(transports, ports)| {
            let transport = Transport::of(protocol);
            transport.is_some_and(|transport| transports.contains(&transport))
                && port.is_some_and(|port| ports.contains(&port))
        })
    }
}

impl Facts {
    /// What a Service's name stands for; empty if that is not known.
    pub fn service(&self, name: &str) -> &[IpAddr] {
        self.services.get(name).map_or(&[], Vec::as_slice)
    }

    /// The services that a word stands for; none if nothing is known of them.
    pub fn endpoints(&self, word: Word) -> Vec<Endpoint> {
        const TCP: &[Transport] = &[Transport::Tcp];
        match word {
            Word::Dns if self.dns.is_empty() => Vec::new(),
            Word::Dns => vec![Endpoint {
                addresses: self.dns.iter().copied().map(IpNet::from).collect(),
                nat64: false,
                ports: Some((&[Transport::Udp, Transport::Tcp], vec![DNS_PORT])),
            }],
            Word::Metadata => vec![
                Endpoint {
                    addresses: METADATA.iter().map(|service| service.address).collect(),
                    nat64: true,
                    ports: None,
                },
                Endpoint {
                    addresses: vec![WIRESERVER.address],
                    nat64: true,
                    ports: Some((TCP, WIRESERVER_PORTS.to_vec())),
                },
            ],
            Word::ApiServer => {
                let mut by_port: BTreeMap<u16, Vec<IpNet>> = BTreeMap::new();
                for socket in &self.api_server {
                    let addresses = by_port.entry(socket.port()).or_default();
                    addresses.push(IpNet::from(socket.ip()));
                }
                let endpoint = |(port, addresses)| Endpoint {
                    addresses,
                    nat64: true,
                    ports: Some((TCP, vec![port])),
                };
                by_port.into_iter().map(endpoint).collect()
            }
        }
    }
}
