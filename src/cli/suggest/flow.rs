//! What a logged packet was, as a rule would have to name it.

use std::net::IpAddr;

use crate::verdicts::Line;
use crate::verdicts::packet::protocol_number;
use rules::protocol::{ICMP, ICMPV6};
use rules::rule::{Ports, Transport};

/// What a packet asks for at its destination. In the order in which rules list their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AskedFor {
    Transport(Transport, u16),
    /// By its type: codes are details of one.
    Icmp(u8),
    /// By its type: codes are details of one.
    Icmpv6(u8),
    Protocol(u8),
}

/// What a rule has to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flow {
    pub service: AskedFor,
    pub destination: IpAddr,
}

impl Flow {
    /// None: the line tells too little to allow just this. It has no protocol or port, as in a
    /// fragment, or one that no rule can name: port 0, IPv4 inside IPv6.
    pub(super) fn of(line: &Line) -> Option<Flow> {
        let protocol = protocol_number(line.protocol.as_deref()?)?;
        let ipv4 = match line.destination {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => return None,
            IpAddr::V6(_) => false,
        };
        let transport = [Transport::Tcp, Transport::Udp, Transport::Sctp]
            .into_iter()
            .find(|transport| transport.protocol() == protocol);
        let service = match (transport, protocol) {
            (Some(transport), _) => {
                AskedFor::Transport(transport, line.destination_port.filter(|port| *port != 0)?)
            }
            (None, ICMP) if ipv4 => AskedFor::Icmp(line.icmp_type?),
            (None, ICMPV6) if !ipv4 => AskedFor::Icmpv6(line.icmp_type?),
            (None, other) => AskedFor::Protocol(other),
        };
        Some(Flow {
            service,
            destination: line.destination,
        })
    }
}

/// The shortest port list of exactly these services, which are sorted.
pub(super) fn ports(services: impl IntoIterator<Item = AskedFor>) -> Vec<Ports> {
    let mut all: Vec<Ports> = Vec::new();
    for service in services {
        let ports = match service {
            AskedFor::Transport(transport, port) => {
                if let Some(Ports::Transport(before, range)) = all.last_mut()
                    && *before == transport
                    && range.end().checked_add(1) == Some(port)
                {
                    *range = *range.start()..=port;
                    continue;
                }
                Ports::Transport(transport, port..=port)
            }
            AskedFor::Icmp(kind) => Ports::Icmp {
                kind: Some(kind),
                code: None,
            },
            AskedFor::Icmpv6(kind) => Ports::Icmpv6 {
                kind: Some(kind),
                code: None,
            },
            AskedFor::Protocol(number) => Ports::Protocol(number),
        };
        all.push(ports);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(services: &[AskedFor]) -> String {
        let all: Vec<String> = ports(services.iter().copied())
            .iter()
            .map(ToString::to_string)
            .collect();
        all.join(",")
    }

    #[test]
    fn neighbouring_ports_of_one_protocol_are_a_range() {
        let tcp = |port| AskedFor::Transport(Transport::Tcp, port);
        let udp = |port| AskedFor::Transport(Transport::Udp, port);
        let all = [tcp(80), tcp(443), tcp(444), tcp(445), udp(446), tcp(65535)];
        assert_eq!(text(&all), "80/tcp,443-445/tcp,446/udp,65535/tcp");
        let others = [
            AskedFor::Icmp(3),
            AskedFor::Icmp(4),
            AskedFor::Icmpv6(128),
            AskedFor::Protocol(47),
        ];
        assert_eq!(text(&others), "icmp/3,icmp/4,icmpv6/128,proto/47");
    }
}
