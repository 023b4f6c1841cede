//! What the first bytes of a logged packet say about it. They may be cut off anywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rules::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// A packet's ends, as far as its bytes tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// IANA's protocol number. None: it is cut off behind IPv6 extension headers.
    pub protocol: Option<u8>,
    /// What stands behind the IP header.
    pub transport: Transport,
}

/// What the transport header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, UDP, SCTP.
    Ports {
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// Another protocol, a fragment other than the first, or cut off.
    Unknown,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

// IANA's IPv6 extension headers that lead on to another one. ESP hides what follows.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// Reads an IP packet. None: it isn't one, or its addresses are cut off.
pub fn parse(ethertype: u16, bytes: &[u8]) -> Option<Packet> {
    match (ethertype, bytes.first()? >> 4) {
        (ETHERTYPE_IPV4, 4) => ipv4(bytes),
        (ETHERTYPE_IPV6, 6) => ipv6(bytes),
        _ => None,
    }
}

/// Whether a protocol has ports that rules know.
pub fn has_ports(protocol: u8) -> bool {
    [TCP, UDP, SCTP].contains(&protocol)
}

/// How a protocol is called, as rules call it: `tcp`, `icmpv6`, `proto/47`.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        SCTP => "sctp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        other => format!("proto/{other}"),
    }
}

/// The number of a protocol by what [`protocol_name`] calls it.
pub fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(TCP),
        "udp" => Some(UDP),
        "sctp" => Some(SCTP),
        "icmp" => Some(ICMP),
        "icmpv6" => Some(ICMPV6),
        other => other.strip_prefix("proto/")?.parse().ok(),
    }
}

/// RFC 791, section 3.1.
fn ipv4(bytes: &[u8]) -> Option<Packet> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let protocol = header[9];
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let transport = match bytes.get(header_length..) {
        Some(rest) if offset == 0 && header_length >= header.len() => transport(protocol, rest),
        _ => Transport::Unknown,
    };
    Some(Packet {
        source: IpAddr::V4(Ipv4Addr::from(*bytes[12..].first_chunk()?)),
        destination: IpAddr::V4(Ipv4Addr::from(*bytes[16..].first_chunk()?)),
        protocol: Some(protocol),
        transport,
    })
}

/// RFC 8200, sections 3 and 4.
fn ipv6(bytes: &[u8]) -> Option<Packet> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    let (protocol, transport) = behind_extensions(header[6], &bytes[header.len()..]);
    Some(Packet {
        source: IpAddr::V6(Ipv6Addr::from(*header[8..].first_chunk()?)),
        destination: IpAddr::V6(Ipv6Addr::from(*header[24..].first_chunk()?)),
        protocol,
        transport,
    })
}

fn behind_extensions(mut next: u8, mut rest: &[u8]) -> (Option<u8>, Transport) {
    while is_extension(next) {
        let Some(&[following, length, high, low]) = rest.first_chunk() else {
            return (None, Transport::Unknown);
        };
        let length = match next {
            FRAGMENT => 8,
            // In units of 4 bytes, less 2 (RFC 4302, section 2.2).
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if next == FRAGMENT && u16::from_be_bytes([high, low]) >> 3 != 0 {
            let protocol = (!is_extension(following)).then_some(following);
            return (protocol, Transport::Unknown);
        }
        next = following;
        rest = rest.get(length..).unwrap_or_default();
    }
    (Some(next), transport(next, rest))
}

fn is_extension(header: u8) -> bool {
    [
        HOP_BY_HOP,
        ROUTING,
        FRAGMENT,
        AUTHENTICATION,
        DESTINATION_OPTIONS,
        MOBILITY,
        HIP,
        SHIM6,
    ]
    .contains(&header)
}

fn transport(protocol: u8, bytes: &[u8]) -> Transport {
    match (protocol, bytes) {
        (TCP | UDP | SCTP, &[s0, s1, d0, d1, ..]) => Transport::Ports {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
        },
        (ICMP | ICMPV6, &[kind, code, ..]) => Transport::Icmp { kind, code },
        _ => Transport::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORTS: [u8; 4] = [0x9c, 0x40, 0x01, 0xbb]; // 40000, 443
    const TO_443: Transport = Transport::Ports {
        source: 40000,
        destination: 443,
    };

    /// 10.0.0.2 to 203.0.113.9; `words` is the header's length in 4 bytes, filled with options.
    fn ipv4_packet(words: u8, fragment: u16, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let [high, low] = fragment.to_be_bytes();
        let mut bytes = vec![0x40 | words, 0, 0, 60, 0, 1, high, low, 64, protocol, 0, 0];
        bytes.extend([10, 0, 0, 2, 203, 0, 113, 9]);
        bytes.resize(usize::from(words) * 4, 1);
        bytes.extend(rest);
        bytes
    }

    /// 2001:db8::2 to 2001:db8::9.
    fn ipv6_packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 60, next, 64];
        for last in [2, 9] {
            bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        bytes.extend(rest);
        bytes
    }

    fn read_ipv4(bytes: &[u8]) -> (Option<u8>, Transport) {
        let packet = parse(ETHERTYPE_IPV4, bytes).unwrap();
        assert_eq!(packet.source.to_string(), "10.0.0.2");
        assert_eq!(packet.destination.to_string(), "203.0.113.9");
        (packet.protocol, packet.transport)
    }

    fn read_ipv6(bytes: &[u8]) -> (Option<u8>, Transport) {
        let packet = parse(ETHERTYPE_IPV6, bytes).unwrap();
        assert_eq!(packet.source.to_string(), "2001:db8::2");
        assert_eq!(packet.destination.to_string(), "2001:db8::9");
        (packet.protocol, packet.transport)
    }

    #[test]
    fn transports_of_ipv4() {
        for protocol in [TCP, UDP, SCTP] {
            let read = read_ipv4(&ipv4_packet(5, 0, protocol, &PORTS));
            assert_eq!(read, (Some(protocol), TO_443));
        }
        let icmp = Transport::Icmp { kind: 3, code: 4 };
        let read = read_ipv4(&ipv4_packet(5, 0, ICMP, &[3, 4, 0, 0]));
        assert_eq!(read, (Some(ICMP), icmp));
        let gre = read_ipv4(&ipv4_packet(5, 0, 47, &PORTS));
        assert_eq!(gre, (Some(47), Transport::Unknown));
    }

    #[test]
    fn ports_behind_ipv4_options() {
        let read = read_ipv4(&ipv4_packet(15, 0, TCP, &PORTS));
        assert_eq!(read, (Some(TCP), TO_443));
    }

    #[test]
    fn only_first_fragments_have_ports() {
        let more_fragments = 0x2000;
        let first = read_ipv4(&ipv4_packet(5, more_fragments, UDP, &PORTS));
        assert_eq!(first, (Some(UDP), TO_443));
        let second = read_ipv4(&ipv4_packet(5, more_fragments | 1, UDP, &PORTS));
        assert_eq!(second, (Some(UDP), Transport::Unknown));
        let second = read_ipv6(&ipv6_packet(
            FRAGMENT,
            &[&[UDP, 0, 0, 9, 0, 0, 0, 1], &PORTS[..]].concat(),
        ));
        assert_eq!(second, (Some(UDP), Transport::Unknown));
        let first = read_ipv6(&ipv6_packet(
            FRAGMENT,
            &[&[UDP, 0, 0, 1, 0, 0, 0, 1], &PORTS[..]].concat(),
        ));
        assert_eq!(first, (Some(UDP), TO_443));
        // What is fragmented may itself begin with an extension header, which is not seen here.
        let unclear = read_ipv6(&ipv6_packet(
            FRAGMENT,
            &[DESTINATION_OPTIONS, 0, 0, 8, 0, 0, 0, 1],
        ));
        assert_eq!(unclear, (None, Transport::Unknown));
    }

    #[test]
    fn a_wrong_ipv4_header_length_gives_no_ports() {
        let mut bytes = ipv4_packet(5, 0, TCP, &PORTS);
        for words in [0, 4, 15] {
            bytes[0] = 0x40 | words;
            assert_eq!(read_ipv4(&bytes), (Some(TCP), Transport::Unknown));
        }
    }

    #[test]
    fn ports_behind_ipv6_extension_headers() {
        let plain = read_ipv6(&ipv6_packet(TCP, &PORTS));
        assert_eq!(plain, (Some(TCP), TO_443));
        let icmp = Transport::Icmp { kind: 128, code: 0 };
        let echo = read_ipv6(&ipv6_packet(ICMPV6, &[128, 0, 0, 0]));
        assert_eq!(echo, (Some(ICMPV6), icmp));

        let mut chain = vec![DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]; // hop-by-hop, 8 bytes
        chain.extend([AUTHENTICATION, 1].iter().chain(&[0; 14])); // destination, 16 bytes
        chain.extend([SCTP, 4].iter().chain(&[0; 22])); // authentication, 24 bytes
        chain.extend(PORTS);
        let read = read_ipv6(&ipv6_packet(HOP_BY_HOP, &chain));
        assert_eq!(read, (Some(SCTP), TO_443));
        let cut = read_ipv6(&ipv6_packet(HOP_BY_HOP, &chain[..24]));
        assert_eq!(cut, (None, Transport::Unknown));
        let cut = read_ipv6(&ipv6_packet(HOP_BY_HOP, &chain[..49]));
        assert_eq!(cut, (Some(SCTP), Transport::Unknown));

        let esp = read_ipv6(&ipv6_packet(50, &PORTS));
        assert_eq!(esp, (Some(50), Transport::Unknown));
    }

    #[test]
    fn what_is_no_ip_packet() {
        let ipv4 = ipv4_packet(5, 0, TCP, &PORTS);
        assert_eq!(parse(ETHERTYPE_IPV6, &ipv4), None);
        assert_eq!(parse(0x0806, &ipv4), None);
        assert_eq!(parse(ETHERTYPE_IPV4, &ipv4[..19]), None);
        assert_eq!(parse(ETHERTYPE_IPV6, &ipv6_packet(TCP, &[])[..39]), None);
        assert_eq!(parse(ETHERTYPE_IPV4, &[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            version in prop_oneof![Just(0x45u8), Just(0x4fu8), Just(0x60u8)],
            next in prop::sample::select(vec![0u8, 6, 43, 44, 51, 60, 135]),
            mut bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(44u8), Just(51u8), any::<u8>()], 0..200),
        ) {
            for (at, value) in [(0, version), (6, next)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let ethertype = if version == 0x60 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
            let least = if version == 0x60 { 40 } else { 20 };
            prop_assert_eq!(parse(ethertype, &bytes).is_some(), bytes.len() >= least);
        }
    }

    #[test]
    fn every_protocol_is_found_again_by_its_name() {
        for number in 0..=u8::MAX {
            assert_eq!(protocol_number(&protocol_name(number)), Some(number));
        }
        for name in ["", "gre", "proto/256", "proto/", "proto/-1", "47"] {
            assert_eq!(protocol_number(name), None, "{name}");
        }
    }

    #[test]
    fn protocols_are_called_as_in_rules() {
        let names = [1, 6, 17, 47, 58, 132].map(protocol_name);
        assert_eq!(names, ["icmp", "tcp", "udp", "proto/47", "icmpv6", "sctp"]);
    }
}
