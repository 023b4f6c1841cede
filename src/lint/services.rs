//! The Services among the files, to judge rules that name some.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::items;
use super::kind::{self, Kind};
use super::yaml::{Document, NodeView};
use rules::fault::Complaint;
use rules::nearest::nearest;
use rules::rule::{Ports, Transport};

/// By `NAMESPACE/NAME`.
#[derive(Debug, Clone, Default)]
pub(super) struct Services(BTreeMap<String, Service>);

#[derive(Debug, Clone)]
struct Service {
    /// Those that are written down; mostly the cluster gives one.
    addresses: Vec<IpAddr>,
    /// Why it has no address at all.
    none: Option<&'static str>,
    ports: Vec<(Transport, u16)>,
}

impl Services {
    /// Learns those of a document. One that does not say its namespace may come to be in any: it is left out.
    pub fn learn(&mut self, document: &Document) {
        let all = items::of_kind(document, "Service").into_iter();
        self.0.extend(all.filter_map(|object| {
            let metadata = |key| object.path(&["metadata", key]).and_then(NodeView::as_str);
            let name = format!("{}/{}", metadata("namespace")?, metadata("name")?);
            Some((name, Service::of(object.get("spec")?)))
        }));
    }

    /// What is wrong with a rule about this Service and these ports.
    pub fn judge(&self, name: &str, ports: &[Ports]) -> Option<(&'static Kind, Complaint)> {
        let Some(service) = self.0.get(name) else {
            return self.misspelt(name);
        };
        if let Some(why) = service.none {
            let message = format!("the Service {name} {why}: the pod does not start");
            let complaint = Complaint::new(message).help("write the addresses behind it");
            return Some((&kind::NO_SERVICE_ADDRESS, complaint));
        }
        let asked = |ports: &Ports| match ports {
            Ports::Transport(transport, range) => {
                let same = |(t, port): &(Transport, u16)| t == transport && range.contains(port);
                service.ports.iter().any(same)
            }
            // A number may stand for anything, and pings are not translated.
            _ => true,
        };
        if ports.is_empty() || service.ports.is_empty() || ports.iter().any(asked) {
            return None;
        }
        let has: Vec<String> = service.ports.iter().copied().map(shown).collect();
        let message = format!(
            "the Service {name} has no such port, only {}",
            has.join(", ")
        );
        let complaint = Complaint::new(message)
            .help("write the Service's own port, whatever port the pods behind it have");
        Some((&kind::SERVICE_PORT, complaint))
    }

    /// The name of the Service at this address.
    pub fn at(&self, address: IpAddr) -> Option<&str> {
        let mut found = self
            .0
            .iter()
            .filter(|(_, s)| s.addresses.contains(&address));
        found.next().map(|(name, _)| name.as_str())
    }

    /// A name that is not there, but nearly.
    fn misspelt(&self, name: &str) -> Option<(&'static Kind, Complaint)> {
        let namespace = name.split_once('/')?.0;
        let others = self.0.keys().map(String::as_str);
        let others: Vec<&str> = others
            .filter(|other| other.split_once('/').is_some_and(|(ns, _)| ns == namespace))
            .map(|other| &other[namespace.len() + 1..])
            .collect();
        let near = nearest(&name[namespace.len() + 1..], &others)?;
        let message = format!("there is no Service {name} among these files");
        let complaint = Complaint::new(message).meant(format!("svc/{namespace}/{near}"));
        Some((&kind::UNKNOWN_SERVICE, complaint))
    }
}

impl Service {
    fn of(spec: NodeView<'_>) -> Self {
        let text = |key| spec.get(key).and_then(NodeView::as_str);
        let lists = [spec.get("clusterIPs")].into_iter().flatten();
        let listed = lists.flat_map(NodeView::items).filter_map(NodeView::as_str);
        let addresses = listed.chain(text("clusterIP"));
        Self {
            addresses: addresses.filter_map(|a| a.parse().ok()).collect(),
            none: match (text("type"), text("clusterIP")) {
                (Some("ExternalName"), _) => Some("has no address (type ExternalName)"),
                (_, Some("None")) => Some("has no address of its own (clusterIP: None)"),
                _ => None,
            },
            ports: ports(spec),
        }
    }
}

fn ports(spec: NodeView<'_>) -> Vec<(Transport, u16)> {
    let all = spec.get("ports").into_iter().flat_map(NodeView::items);
    all.filter_map(|port| {
        let text = |key| port.get(key).and_then(NodeView::as_str);
        let transport = match text("protocol") {
            Some("UDP") => Transport::Udp,
            Some("SCTP") => Transport::Sctp,
            _ => Transport::Tcp,
        };
        Some((transport, text("port")?.parse().ok()?))
    })
    .collect()
}

fn shown((transport, port): (Transport, u16)) -> String {
    Ports::Transport(transport, port..=port).to_string()
}
