//! Where the packet goes, as written on the command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rules::fault::{Complaint, quoted};
use rules::grammar::{label, ports, targets};
use rules::rule::{Ports, Target};

/// What stands before a Service's namespace and name, here as in rules.
pub(super) const SERVICE: &str = "svc/";

/// An address or a name, and what of the traffic to it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where to.
    pub host: Host,
    /// `None`: every protocol.
    pub traffic: Option<Ports>,
}

/// Where a packet goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// As the packet has it.
    Address(IpAddr),
    /// A domain name, or a pod's.
    Name(String),
    /// A pod with its namespace.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its own name.
        name: String,
    },
}

/// Where the pod sent the packet, before a Service's translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// Where to.
    pub to: SentTo,
    /// `None`: the same as after translation.
    pub port: Option<u16>,
}

/// What a pod sends to, before translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentTo {
    /// A Service's address, or one that is none's.
    Address(IpAddr),
    /// `shop/web`, whatever its address is.
    Service(String),
}

impl FromStr for Destination {
    type Err = String;

    /// `203.0.113.7:443/tcp`, `[2001:db8::1]:443/tcp`, `203.0.113.7`, `203.0.113.7/icmp/8`, `example.com:443/tcp`,
    /// `shop/db:5432`, `db:5432`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(service) = service(text) {
            return Err(no_destination(service));
        }
        if text.contains("://") {
            return Err(
                "expected an address and a port, as in 203.0.113.7:443/tcp, found a URL".to_owned(),
            );
        }
        let (namespace, text) = namespace(text);
        let (host, port, rest) = split(text)?;
        let traffic = match (port, rest) {
            (None, None) => None,
            (None, Some(rest)) => Some(parse_ports(rest)?),
            (Some(port), Some(rest)) => Some(parse_ports(&format!("{port}/{rest}"))?),
            // Of a pod, most people know only that much.
            (Some(port), None) if host.parse::<IpAddr>().is_err() && is_name(host) => {
                Some(parse_ports(&format!("{port}/tcp"))?)
            }
            (Some(_), None) => {
                return Err(format!(
                    "expected a protocol behind the port: did you mean `{text}/tcp`?"
                ));
            }
        };
        let host = match targets::address(host) {
            _ if namespace.is_some() && is_name(host) => Host::Pod {
                namespace: namespace.unwrap_or_default().to_owned(),
                name: host.to_owned(),
            },
            Ok(address) => Host::Address(address),
            Err(_) if is_name(host) => Host::Name(host.to_owned()),
            Err(complaint) => return Err(words(complaint)),
        };
        let destination = Destination { host, traffic };
        match destination.host {
            Host::Address(address) if !destination.suits(address) => Err(
                "`icmp` is IPv4's and `icmpv6` is IPv6's: the address is of the other".to_owned(),
            ),
            _ => Ok(destination),
        }
    }
}

impl Destination {
    /// Whether the traffic exists in the address's IP version.
    pub(super) fn suits(&self, address: IpAddr) -> bool {
        match self.traffic {
            Some(Ports::Icmp { .. }) => address.is_ipv4(),
            Some(Ports::Icmpv6 { .. }) => address.is_ipv6(),
            _ => true,
        }
    }
}

impl FromStr for Via {
    type Err = String;

    /// `10.96.0.20:443`, `[fd00::1]:443`, `10.96.0.20`, `svc/shop/web:443`, `svc/shop/web`.
    fn from_str(text: &str) -> Result<Self, String> {
        if service(text).is_some() {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let Target::Service(service) = targets::parse(name).map_err(words)? else {
                return Err(format!(
                    "expected svc/NAMESPACE/NAME, found {}",
                    quoted(name)
                ));
            };
            let wrong = |_| format!("expected svc/NAMESPACE/NAME:PORT, found {}", quoted(text));
            return Ok(Via {
                to: SentTo::Service(service),
                port: port.map(str::parse).transpose().map_err(wrong)?,
            });
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Via {
                to: SentTo::Address(socket.ip()),
                port: Some(socket.port()),
            });
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let address = targets::address(bare.unwrap_or(text)).map_err(words)?;
        Ok(Via {
            to: SentTo::Address(address),
            port: None,
        })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.to, self.port) {
            (SentTo::Address(address), Some(port)) => SocketAddr::new(*address, port).fmt(f),
            (SentTo::Address(address), None) => address.fmt(f),
            (SentTo::Service(service), Some(port)) => write!(f, "{SERVICE}{service}:{port}"),
            (SentTo::Service(service), None) => write!(f, "{SERVICE}{service}"),
        }
    }
}

/// What stands behind `svc/`, in any case as in rules.
fn service(text: &str) -> Option<&str> {
    let (start, rest) = text.split_at_checked(SERVICE.len())?;
    start.eq_ignore_ascii_case(SERVICE).then_some(rest)
}

/// A Service is no place where a packet arrives: rules look at that, too.
fn no_destination(service: &str) -> String {
    let (sent_to, protocol) = match service.rsplit_once('/') {
        Some((sent_to, protocol)) if sent_to.contains('/') => (sent_to, protocol),
        _ => (service, "tcp"),
    };
    format!(
        "a Service is where a pod sends, and rules also look at where that arrives: give the address and port of a \
         pod behind it, and the Service with --via, as in `10.244.1.2:8080/{protocol} --via {SERVICE}{sent_to}`"
    )
}

/// The address in front of what `traffic` says: `203.0.113.7:443/tcp`.
pub(super) fn shown(address: IpAddr, traffic: Option<&Ports>) -> String {
    match traffic {
        None => address.to_string(),
        Some(Ports::Transport(_, range)) if *range == (0..=u16::MAX) => {
            format!(
                "{address}/{}",
                traffic.map(Ports::to_string).unwrap_or_default()
            )
        }
        Some(ports @ Ports::Transport(..)) if address.is_ipv6() => format!("[{address}]:{ports}"),
        Some(ports @ Ports::Transport(..)) => format!("{address}:{ports}"),
        Some(ports) => format!("{address}/{ports}"),
    }
}

/// What stands before a pod's name: `shop/db:5432/tcp`, `pod/shop/db`. What stands behind an address or a domain name is
/// a protocol.
fn namespace(text: &str) -> (Option<&str>, &str) {
    let text = text.strip_prefix("pod/").unwrap_or(text);
    let Some((first, rest)) = text.split_once('/') else {
        return (None, text);
    };
    let behind = rest.split([':', '/']).next().unwrap_or_default();
    let is_pod = label::is_label(first)
        && is_name(behind)
        && ports::parse(behind).is_err()
        && !behind.eq_ignore_ascii_case("proto");
    match is_pod {
        true => (Some(first), rest),
        false => (None, text),
    }
}

/// Host, port and what stands behind the first slash.
fn split(text: &str) -> Result<(&str, Option<&str>, Option<&str>), String> {
    let (place, rest) = match text.split_once('/') {
        Some((place, rest)) => (place, Some(rest)),
        None => (text, None),
    };
    if rest.is_some_and(|rest| rest.parse::<u8>().is_ok()) {
        return Err("expected one address, found a network".to_owned());
    }
    if let Some(inside) = place.strip_prefix('[') {
        let (host, behind) = inside
            .split_once(']')
            .ok_or_else(|| "the `[` has no `]`".to_owned())?;
        return match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port), rest)),
            None if behind.is_empty() => Ok((host, None, rest)),
            None => Err(format!("expected `:PORT` behind `]`, found `{behind}`")),
        };
    }
    if place.parse::<IpAddr>().is_ok() {
        return Ok((place, None, rest));
    }
    match place.rsplit_once(':') {
        Some((host, port)) => Ok((host, Some(port), rest)),
        None => Ok((place, None, rest)),
    }
}

fn parse_ports(text: &str) -> Result<Ports, String> {
    ports::parse(text).map_err(words)
}

/// Labels with dots between them; the last one is no number, which would be a misspelt address.
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    text.to_ascii_lowercase().split('.').all(label::is_label) && last.parse::<u64>().is_err()
}

fn words(complaint: Complaint) -> String {
    match complaint.help {
        Some(help) => format!("{}; {help}", complaint.message),
        None => complaint.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, written again: HOST TRAFFIC; or what is wrong.
    fn read(text: &str) -> String {
        match text.parse::<Destination>() {
            Ok(Destination { host, traffic }) => {
                let traffic = traffic.map_or("everything".to_owned(), |ports| ports.to_string());
                format!("{host:?} {traffic}")
            }
            Err(wrong) => wrong,
        }
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("203.0.113.7", "Address(203.0.113.7) everything"),
            ("203.0.113.7:443/tcp", "Address(203.0.113.7) 443/tcp"),
            (
                "203.0.113.7:8000-8100/udp",
                "Address(203.0.113.7) 8000-8100/udp",
            ),
            ("203.0.113.7/sctp", "Address(203.0.113.7) sctp"),
            ("203.0.113.7/icmp/8", "Address(203.0.113.7) icmp/8"),
            ("203.0.113.7/proto/47", "Address(203.0.113.7) proto/47"),
            ("[2001:db8::1]:443/tcp", "Address(2001:db8::1) 443/tcp"),
            ("[2001:db8::1]", "Address(2001:db8::1) everything"),
            ("2001:db8::1/icmpv6", "Address(2001:db8::1) icmpv6"),
            ("example.com:443/tcp", "Name(\"example.com\") 443/tcp"),
            ("db:5432", "Name(\"db\") 5432/tcp"),
            ("db/udp", "Name(\"db\") udp"),
            (
                "shop/db-0:5432",
                "Pod { namespace: \"shop\", name: \"db-0\" } 5432/tcp",
            ),
            (
                "pod/shop/db-0:53/udp",
                "Pod { namespace: \"shop\", name: \"db-0\" } 53/udp",
            ),
            (
                "shop/db/icmp/8",
                "Pod { namespace: \"shop\", name: \"db\" } icmp/8",
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            (
                "203.0.113.7:443",
                "expected a protocol behind the port: did you mean `203.0.113.7:443/tcp`?",
            ),
            ("203.0.113.0/24", "expected one address, found a network"),
            (
                "203.0.113.7:443/tpc",
                "expected `tcp`, `udp` or `sctp` behind the port, found `tpc`; did you mean `443/tcp`?",
            ),
            (
                "203.0.113.999:1/tcp",
                "expected an address, found `203.0.113.999`",
            ),
            ("[2001:db8::1:443/tcp", "the `[` has no `]`"),
            (
                "2001:db8::1/icmp/8",
                "`icmp` is IPv4's and `icmpv6` is IPv6's: the address is of the other",
            ),
            ("", "expected an address, found ``"),
            (
                "https://example.com/",
                "expected an address and a port, as in 203.0.113.7:443/tcp, found a URL",
            ),
            (
                "svc/shop/web:443/udp",
                "a Service is where a pod sends, and rules also look at where that arrives: give the address and \
                 port of a pod behind it, and the Service with --via, as in `10.244.1.2:8080/udp --via \
                 svc/shop/web:443`",
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn ways_are_addresses_or_services() {
        for text in [
            "10.96.0.20",
            "10.96.0.20:443",
            "fd00::1",
            "[fd00::1]:443",
            "svc/shop/web",
            "svc/shop/web:443",
        ] {
            let via: Via = text.parse().unwrap();
            assert_eq!(via.to_string(), text);
        }
        for wrong in [
            "svc/web",
            "svc/shop/web:http",
            "svc/shop/web:443/tcp",
            "shop/web",
            "",
        ] {
            assert!(wrong.parse::<Via>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn destinations_are_shown_as_they_are_written() {
        for text in [
            "203.0.113.7",
            "203.0.113.7:443/tcp",
            "[2001:db8::1]:443/tcp",
            "2001:db8::1/udp",
            "203.0.113.7/icmp/8",
        ] {
            let Destination { host, traffic } = text.parse().unwrap();
            let Host::Address(address) = host else {
                panic!("{text} is no name");
            };
            assert_eq!(shown(address, traffic.as_ref()), text);
        }
    }
}
