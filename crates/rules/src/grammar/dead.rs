//! Rules that no packet can ever match: their author meant something else.

use std::collections::HashSet;

use crate::class::DNS_PORT;
use crate::fault::Complaint;
use crate::rule::{Ports, Rule, Target, Transport};

/// What keeps the rule from ever matching, if anything does.
pub(super) fn never_matches(rule: &Rule) -> Option<Complaint> {
    all_excepted(rule).or_else(|| no_port_fits(rule))
}

fn all_excepted(rule: &Rule) -> Option<Complaint> {
    if rule.except.is_empty() {
        return None;
    }
    let except: HashSet<&Target> = rule.except.iter().collect();
    let nothing_left =
        except.contains(&Target::Any) || rule.to.iter().all(|target| except.contains(target));
    nothing_left.then(|| {
        Complaint::new("this rule can never match: `except` takes all of its targets away")
    })
}

/// What the targets have to offer.
struct Reach {
    ipv4: bool,
    ipv6: bool,
    dns: bool,
    /// Over TCP only, at ports that are not known here.
    api_server: bool,
}

fn no_port_fits(rule: &Rule) -> Option<Complaint> {
    let mut reach = Reach {
        ipv4: false,
        ipv6: false,
        dns: false,
        api_server: false,
    };
    for target in &rule.to {
        match target {
            Target::Net(net) if net.addr().is_ipv4() => reach.ipv4 = true,
            Target::Range(first, _) if first.is_ipv4() => reach.ipv4 = true,
            Target::Net(_) | Target::Range(..) => reach.ipv6 = true,
            Target::Dns => reach.dns = true,
            Target::ApiServer => reach.api_server = true,
            Target::Any
            | Target::Internet
            | Target::Private
            | Target::Cluster
            | Target::Node
            | Target::Nodes
            | Target::Metadata
            | Target::Multicast
            | Target::Service(_)
            | Target::Name(_) => {
                reach.ipv4 = true;
                reach.ipv6 = true;
            }
        }
    }
    if rule.ports.is_empty() || rule.ports.iter().any(|ports| fits(ports, &reach)) {
        return None;
    }
    let complaint = |why: &str| Complaint::new(format!("this rule can never match: {why}"));
    Some(if reach.ipv6 {
        complaint("`icmp` is IPv4, and its targets are IPv6").help("IPv6 has `icmpv6`")
    } else if reach.ipv4 {
        complaint("`icmpv6` is IPv6, and its targets are IPv4").help("IPv4 has `icmp`")
    } else if reach.api_server {
        complaint("`apiserver` is reached over tcp, and its ports are others")
    } else {
        complaint("`dns` is port 53 over tcp or udp, and its ports are others")
    })
}

fn fits(ports: &Ports, reach: &Reach) -> bool {
    let addresses = reach.ipv4 || reach.ipv6;
    match ports {
        Ports::Icmp { .. } => reach.ipv4,
        Ports::Icmpv6 { .. } => reach.ipv6,
        Ports::Transport(transport, range) => {
            addresses
                || (reach.dns && *transport != Transport::Sctp && range.contains(&DNS_PORT))
                || (reach.api_server && *transport == Transport::Tcp)
        }
        Ports::Protocol(number) => {
            let dns = [Transport::Tcp, Transport::Udp]
                .iter()
                .any(|transport| transport.protocol() == *number);
            let tcp = *number == Transport::Tcp.protocol();
            addresses || (reach.dns && dns) || (reach.api_server && tcp)
        }
    }
}
