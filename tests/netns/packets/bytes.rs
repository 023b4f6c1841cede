//! Packets as bytes: what a pod's raw socket sends, and what eyes make of what they see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::case::Sent;

/// In front of a packet's number in its payload.
const MARKER: [u8; 4] = *b"EGWY";

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The source port of a packet: no two of one case have the same.
pub fn source_port(serial: u32) -> u16 {
    20_000 + (serial % 40_000) as u16
}

/// The whole IP packet. The kernel fills in the checksum of IPv4's header.
pub fn build(from: IpAddr, sent: &Sent, serial: u32) -> Vec<u8> {
    let marker = [MARKER, serial.to_be_bytes()].concat();
    let ports = [
        source_port(serial).to_be_bytes(),
        sent.port.unwrap_or(0).to_be_bytes(),
    ]
    .concat();
    // the header with zeros for the checksum, where that is, and whether it covers addresses
    let (mut body, at, pseudo) = match (sent.protocol, sent.icmp) {
        (TCP, _) => {
            let mut syn = [&ports[..], &serial.to_be_bytes(), &[0; 4]].concat();
            syn.extend([5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
            (syn, 16, true)
        }
        (UDP, _) => {
            let length = 8 + marker.len() as u16;
            let header = [&ports[..], &length.to_be_bytes(), &[0, 0]].concat();
            (header, 6, true)
        }
        (SCTP, _) => return ip(from, sent, &sctp_init(&ports, &marker)),
        (_, Some((kind, code))) => {
            let id = (serial as u16).to_be_bytes();
            let header = vec![kind, code, 0, 0, id[0], id[1], 0, 1];
            (header, 2, sent.protocol == ICMPV6)
        }
        // No header that anybody reads. The kernel answers a packet with an ICMP error only if its
        // bytes add up, whatever the protocol (`nf_reject_verify_csum`); IPv6's include addresses.
        _ => (vec![0; 8], 4, from.is_ipv6()),
    };
    body.extend(&marker);
    let mut covered = body.clone();
    if pseudo {
        covered.extend(octets(from));
        covered.extend(octets(sent.to));
        covered.extend([0, sent.protocol]);
        covered.extend((body.len() as u16).to_be_bytes());
    }
    let sum = checksum(&covered);
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip(from, sent, &body)
}

/// RFC 9260, 3.3.2, with a parameter that nobody knows.
fn sctp_init(ports: &[u8], marker: &[u8]) -> Vec<u8> {
    let mut bytes = [ports, &[0; 8], &[1, 0, 0, 32]].concat();
    bytes.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    bytes.extend([0x80, 0xff, 0, 12]);
    bytes.extend(marker);
    let sum = crc32c(&bytes);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn ip(from: IpAddr, sent: &Sent, body: &[u8]) -> Vec<u8> {
    let mut packet = match from {
        IpAddr::V4(_) => {
            let length = (20 + body.len() as u16).to_be_bytes();
            vec![
                0x45,
                0,
                length[0],
                length[1],
                0,
                1,
                0x40,
                0,
                64,
                sent.protocol,
                0,
                0,
            ]
        }
        IpAddr::V6(_) => {
            let length = (body.len() as u16).to_be_bytes();
            vec![0x60, 0, 0, 0, length[0], length[1], sent.protocol, 64]
        }
    };
    packet.extend(octets(from));
    packet.extend(octets(sent.to));
    packet.extend(body);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let mut sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff, // UDP: zero would mean none
        sum => sum,
    }
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// What somebody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A packet of ours, with its number.
    Ours(u32),
    /// A TCP reset to this port.
    Reset(u16),
    /// An ICMP error "destination unreachable" of this code, about a packet of ours.
    Unreachable(u8, u32),
    Else,
}

/// None: no IP.
pub fn read(packet: &[u8]) -> Option<Seen> {
    let (source, destination, protocol, body): (IpAddr, IpAddr, u8, &[u8]) =
        match packet.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = packet.first_chunk()?;
                let address = |at: usize| -> Option<Ipv4Addr> {
                    Some(Ipv4Addr::from(*header[at..].first_chunk::<4>()?))
                };
                let length = usize::from(header[0] & 15) * 4;
                (
                    address(12)?.into(),
                    address(16)?.into(),
                    header[9],
                    packet.get(length..)?,
                )
            }
            6 => {
                let header: &[u8; 40] = packet.first_chunk()?;
                let address = |at: usize| -> Option<Ipv6Addr> {
                    Some(Ipv6Addr::from(*header[at..].first_chunk::<16>()?))
                };
                let body = packet.get(40..)?;
                (address(8)?.into(), address(24)?.into(), header[6], body)
            }
            _ => return None,
        };
    const RST: u8 = 4;
    let what = match (protocol, source.is_ipv4(), body) {
        (TCP, _, [_, _, high, low, ..]) if body.get(13).is_some_and(|flags| flags & RST != 0) => {
            What::Reset(u16::from_be_bytes([*high, *low]))
        }
        // Our own ICMP errors quote nothing.
        (ICMP, true, [3, code, ..]) | (ICMPV6, false, [1, code, ..]) if body.len() > 16 => {
            serial(body).map_or(What::Else, |serial| What::Unreachable(*code, serial))
        }
        _ => serial(body).map_or(What::Else, What::Ours),
    };
    Some(Seen {
        source,
        destination,
        what,
    })
}

fn serial(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(4).position(|window| window == MARKER)?;
    Some(u32::from_be_bytes(*bytes[at + 4..].first_chunk()?))
}
