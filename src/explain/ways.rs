//! Where a pod may have sent a packet before a Service translated it.
//!
//! Without a cluster nobody knows a Service's address. In rules that name one, it gets an address that no
//! packet has, so that they match where `--via` says that Service. Where that may have been another one,
//! each way on which the packet may have come is tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::source::{self, Name, NamespaceAnnotations, PolicyFile, SourceError};
use rules::effective::{Effective, Facts, TierRules};
use rules::evaluate::{Original, Packet};
use rules::rule::{Ports, Target, Transport};

use super::destination::{SERVICE, SentTo};
use super::question::Question;
use super::traffic;

/// What clusterDNS is called in clusters of every kind.
const DNS: &str = "kube-system/kube-dns";
/// What the API server is called.
const API_SERVER: &str = "default/kubernetes";
/// The port of the API server's Service in clusters of every kind.
const HTTPS: u16 = 443;
/// Which stand-in is all other nodes'.
const NODE: u16 = u16::MAX - 1;
/// A way for those who name what is not known in options: what is sent to the API server.
pub(super) const API_SERVER_WAY: &str = "--api-server";
/// A way for which no rule has a name.
pub(super) const ELSEWHERE: &str = "anything else";

/// What in a policy's rules only the cluster knows.
#[derive(Debug, Default)]
pub struct Unresolved {
    /// `NAMESPACE/NAME`
    services: Vec<String>,
    api_server: bool,
    /// Other nodes than this one.
    pub(super) nodes: bool,
    /// The policy file has no `clusterDNS`, where the built-in allowance would have something to allow.
    pub(super) dns: bool,
}

/// One way.
#[derive(Debug)]
pub(super) struct Way {
    /// `svc/shop/web:443`; `None`: what is not one of the others.
    pub name: Option<String>,
    pub original: Option<Original>,
    /// The destination is the API server.
    pub api_server: bool,
}

impl Unresolved {
    /// What is not known of the policy that is made of these.
    pub(super) fn of(
        file: &PolicyFile,
        namespace: &NamespaceAnnotations,
        of_pod: &Result<Option<TierRules>, SourceError>,
    ) -> Self {
        let mut unknown = Self::default();
        for name in source::needed(file, namespace, of_pod) {
            match name {
                Name::Service(service) => unknown.services.push(service),
                Name::ApiServer => unknown.api_server = true,
                Name::Dns => unknown.dns = true,
                Name::Nodes => unknown.nodes = true,
            }
        }
        unknown
    }

    /// Lets the names stand for addresses that no packet has.
    pub(super) fn fill(&self, facts: &mut Facts) {
        for (service, number) in self.services.iter().zip(1..) {
            facts
                .services
                .insert(service.clone(), stand_in(number).into());
        }
        if self.nodes {
            facts.nodes.extend(stand_in(NODE).map(IpNet::from));
        }
        if self.api_server {
            let port = |address| SocketAddr::new(address, HTTPS);
            facts.api_server = stand_in(0).map(port).into();
        }
    }

    /// All ways of a packet: first as it was asked, then what else it may be.
    pub(super) fn ways(
        &self,
        policy: &Effective,
        question: &Question,
        packet: &Packet,
    ) -> Vec<Way> {
        let via = question.via.as_ref();
        let port = via.and_then(|via| via.port).or(packet.port);
        let to = |address| Original {
            address,
            // What has no ports has none there, either.
            port: packet.port.and(port),
        };
        let way = |original| Way {
            name: None,
            original,
            api_server: question.api_server,
        };
        match via.map(|via| &via.to) {
            Some(SentTo::Service(service)) => vec![Way {
                api_server: question.api_server || (self.api_server && service == API_SERVER),
                ..way(Some(to(address_of(policy, service, packet.destination))))
            }],
            Some(SentTo::Address(address)) => {
                let mut ways = vec![way(Some(to(*address)))];
                // Where it arrived untranslated there was no Service.
                let known = *address == packet.destination || policy.facts.dns.contains(address);
                if !known {
                    ways.extend(self.services.iter().map(|service| Way {
                        name: Some(format!("{SERVICE}{service}")),
                        ..way(Some(to(address_of(policy, service, packet.destination))))
                    }));
                }
                ways
            }
            None => {
                let mut ways = vec![way(Some(to(packet.destination)))];
                for service in &self.services {
                    ways.extend(self.at_each_port(policy, service, packet));
                }
                if self.api_server && !question.api_server {
                    ways.push(Way {
                        name: Some(API_SERVER_WAY.to_owned()),
                        api_server: true,
                        ..way(Some(to(packet.destination)))
                    });
                }
                ways
            }
        }
    }

    /// The Service's ports, as far as rules tell them apart: behind it, the packet has another.
    fn at_each_port(&self, policy: &Effective, service: &str, packet: &Packet) -> Vec<Way> {
        let address = address_of(policy, service, packet.destination);
        let way = |name, port| Way {
            name: Some(name),
            original: Some(Original { address, port }),
            api_server: self.api_server && service == API_SERVER,
        };
        let Some(transport) = Transport::of(packet.protocol).filter(|_| packet.port.is_some())
        else {
            return vec![way(format!("{SERVICE}{service}"), None)];
        };
        let rules = policy.tiers.iter().flat_map(|tier| &tier.rules);
        let target = Target::Service(service.to_owned());
        let named: Vec<&Ports> = rules
            .filter(|rule| rule.to.contains(&target))
            .flat_map(|rule| &rule.ports)
            .collect();
        let pieces = traffic::cut(&named, transport, &(1..=u16::MAX), &[]).into_iter();
        pieces
            .map(|(first, last)| {
                let ports = match (first, last) {
                    (1, u16::MAX) => String::new(),
                    (first, last) if first == last => format!(":{first}"),
                    (first, last) => format!(":{first}-{last}"),
                };
                way(format!("{SERVICE}{service}{ports}"), Some(first))
            })
            .collect()
    }
}

/// A Service's address of the same IP version, if that is known; else one that no rule is about.
fn address_of(policy: &Effective, service: &str, to: IpAddr) -> IpAddr {
    let dns = match service {
        DNS => &policy.facts.dns[..],
        _ => &[],
    };
    let known = policy.facts.service(service).iter().chain(dns);
    let nobody = stand_in(u16::MAX);
    let mut all = known.chain(&nobody);
    *all.find(|address| address.is_ipv4() == to.is_ipv4())
        .unwrap_or(&to)
}

/// Addresses that are no packet's destination: of "this network" (RFC 1122, 3.2.1.3), and of those that once held an
/// IPv4 address (RFC 4291, 2.5.5.1).
fn stand_in(number: u16) -> [IpAddr; 2] {
    [
        Ipv4Addr::from(u32::from(number)).into(),
        Ipv6Addr::from(0x1_0000 + u128::from(number)).into(),
    ]
}
