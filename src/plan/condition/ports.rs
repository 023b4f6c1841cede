//! What a rule's ports test.

use std::ops::RangeInclusive;

use nft::Field;
use rules::facts::Endpoint;
use rules::protocol;
use rules::rule::{Ports, Transport};
use rules::set::Family;

use crate::plan::lookup::PortRanges;
use crate::plan::traffic::Traffic;

/// One entry of a rule's ports, those of one transport protocol together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortTest {
    Any,
    Protocol(u8),
    /// Every protocol but TCP.
    NotTcp,
    Ports(Transport, PortRanges),
    Icmp(Option<u8>, Option<u8>),
    Icmpv6(Option<u8>, Option<u8>),
}

impl PortTest {
    /// What a list of ports tests: any of these.
    pub fn of(ports: &[Ports]) -> Vec<PortTest> {
        if ports.is_empty() {
            return vec![PortTest::Any];
        }
        let mut tests = Vec::new();
        for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
            let ranges = ports.iter().filter_map(|p| match p {
                Ports::Transport(t, range) if *t == transport => Some(range.clone()),
                _ => None,
            });
            match join(ranges.collect()) {
                ranges if ranges.is_empty() => {}
                ranges if ranges[..] == [0..=u16::MAX] => {
                    tests.push(PortTest::Protocol(transport.protocol()));
                }
                ranges => tests.push(PortTest::Ports(transport, ranges)),
            }
        }
        for port in ports {
            match *port {
                Ports::Transport(..) => {}
                Ports::Icmp { kind, code } => tests.push(PortTest::Icmp(kind, code)),
                Ports::Icmpv6 { kind, code } => tests.push(PortTest::Icmpv6(kind, code)),
                Ports::Protocol(number) => tests.push(PortTest::Protocol(number)),
            }
        }
        tests
    }

    /// The only family in which this can match.
    pub const fn family(&self) -> Option<Family> {
        match self {
            PortTest::Icmp(..) => Some(Family::V4),
            PortTest::Icmpv6(..) => Some(Family::V6),
            _ => None,
        }
    }

    /// Whether no packet passes both: translation changes addresses and ports, and no protocol.
    pub fn excludes(&self, other: &PortTest) -> bool {
        const TCP: u8 = Transport::Tcp.protocol();
        match (self, other) {
            (PortTest::NotTcp, one) | (one, PortTest::NotTcp) => one.protocol() == Some(TCP),
            (one, other) => match (one.protocol(), other.protocol()) {
                (Some(one), Some(other)) => one != other,
                _ => false,
            },
        }
    }

    /// The only IP protocol that passes.
    fn protocol(&self) -> Option<u8> {
        match self {
            PortTest::Any | PortTest::NotTcp => None,
            PortTest::Protocol(number) => Some(*number),
            PortTest::Ports(transport, _) => Some(transport.protocol()),
            PortTest::Icmp(..) => Some(protocol::ICMP),
            PortTest::Icmpv6(..) => Some(protocol::ICMPV6),
        }
    }

    /// What is left of it where only this traffic is meant.
    pub fn within(&self, traffic: &Traffic) -> Vec<PortTest> {
        const TCP: Transport = Transport::Tcp;
        if traffic.is_all() {
            return vec![self.clone()];
        }
        let own = traffic.tcp_ports(&PortRanges::from_iter([0..=u16::MAX]));
        let tcp = match &traffic.tcp {
            None => Some(PortTest::Protocol(TCP.protocol())),
            Some(_) => ports(TCP, own),
        };
        match self {
            PortTest::Any => tcp
                .into_iter()
                .chain(traffic.others.then_some(PortTest::NotTcp))
                .collect(),
            PortTest::Protocol(number) if *number == TCP.protocol() => tcp.into_iter().collect(),
            PortTest::Ports(TCP, ranges) => {
                let common = traffic.tcp_ports(ranges);
                ports(TCP, common).into_iter().collect()
            }
            others => traffic.others.then(|| others.clone()).into_iter().collect(),
        }
    }

    /// What is left of it at an endpoint.
    pub fn at(&self, endpoint: &Endpoint) -> Vec<PortTest> {
        let Some((transports, theirs)) = &endpoint.ports else {
            return vec![self.clone()];
        };
        let theirs = |mine: &dyn Fn(u16) -> bool| {
            let kept = theirs.iter().copied().filter(|port| mine(*port));
            join(kept.map(|port| port..=port).collect())
        };
        let left = |transport: &Transport| match self {
            PortTest::Any => ports(*transport, theirs(&|_| true)),
            PortTest::Protocol(number) if *number == transport.protocol() => {
                ports(*transport, theirs(&|_| true))
            }
            PortTest::Ports(own, ranges) if own == transport => {
                let has = |port| ranges.iter().any(|range| range.contains(&port));
                ports(*transport, theirs(&has))
            }
            _ => None,
        };
        transports.iter().filter_map(left).collect()
    }
}

/// These ports, if there are any.
fn ports(transport: Transport, ranges: PortRanges) -> Option<PortTest> {
    (!ranges.is_empty()).then_some(PortTest::Ports(transport, ranges))
}

/// Sorted, overlapping and adjacent ones joined.
fn join(mut ranges: PortRanges) -> PortRanges {
    ranges.sort_by_key(|range: &RangeInclusive<u16>| *range.start());
    ranges.dedup_by(|range, last| {
        let joins = *range.start() <= last.end().saturating_add(1);
        if joins {
            *last = *last.start()..=*last.end().max(range.end());
        }
        joins
    });
    ranges
}

/// Where a transport's packets have their destination port.
pub const fn dport(transport: Transport) -> Field {
    match transport {
        Transport::Tcp => Field::TcpDport,
        Transport::Udp => Field::UdpDport,
        Transport::Sctp => Field::SctpDport,
    }
}
