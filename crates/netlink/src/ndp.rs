//! Neighbour discovery packets in Ethernet frames (RFC 4861), as duplicate address detection
//! uses them (RFC 4862). Nothing here does I/O.

use std::net::Ipv6Addr;

pub(super) const ETHERTYPE: u16 = 0x86dd;
/// The Ethernet group of all nodes (RFC 2464, 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Type, code, checksum, flags, target.
const ICMPV6: usize = 24;
const NEXT_HEADER_ICMPV6: u8 = 58;
/// Others come from beyond a router, and are not to be believed.
const HOP_LIMIT: u8 = 255;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The advertisement's flags: replace what you know.
const OVERRIDE: u8 = 0x20;
const OPTION_TARGET_MAC: u8 = 2;

/// Classic BPF that lets only solicitations and advertisements through: on a busy uplink the
/// socket would otherwise fill up with other IPv6, and an answer could get lost.
#[rustfmt::skip]
pub(super) const FILTER: [libc::sock_filter; 7] = [
    load_byte(ETHERNET + 6), // next header
    unless_equal_skip(NEXT_HEADER_ICMPV6, 4),
    load_byte(ETHERNET + IPV6), // ICMPv6 type
    if_equal_skip(NEIGHBOUR_SOLICITATION, 1),
    unless_equal_skip(NEIGHBOUR_ADVERTISEMENT, 1),
    pass(u32::MAX),
    pass(0),
];

const fn load_byte(offset: usize) -> libc::sock_filter {
    instruction(
        libc::BPF_LD | libc::BPF_B | libc::BPF_ABS,
        0,
        0,
        offset as u32,
    )
}

const fn if_equal_skip(value: u8, count: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    instruction(code, count, 0, value as u32)
}

const fn unless_equal_skip(value: u8, count: u8) -> libc::sock_filter {
    let code = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    instruction(code, 0, count, value as u32)
}

/// Lets that many bytes of the frame through.
const fn pass(length: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, length)
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// The Ethernet group to which solicitations for an address go (RFC 4291, 2.7.1; RFC 2464, 7).
pub(super) fn solicited_node_mac(address: Ipv6Addr) -> [u8; 6] {
    let octets = address.octets();
    [0x33, 0x33, 0xff, octets[13], octets[14], octets[15]]
}

/// The question whether anybody uses an address, from somebody who doesn't yet (RFC 4862, 5.4.2).
pub(super) fn probe(sender: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let octets = address.octets();
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 0x02]);
    group[11..14].copy_from_slice(&[1, 0xff, octets[13]]);
    group[14..].copy_from_slice(&octets[14..]);
    let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(octets);
    let macs = (sender, solicited_node_mac(address));
    frame(macs, (Ipv6Addr::UNSPECIFIED, group.into()), message)
}

/// The statement that an address is at a MAC from now on: an unsolicited neighbour
/// advertisement (RFC 4861, 7.2.6).
pub(super) fn announcement(sender: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([OPTION_TARGET_MAC, 1]); // length in units of eight bytes
    message.extend(sender);
    frame((sender, ALL_NODES_MAC), (address, ALL_NODES), message)
}

/// An ICMPv6 message, its checksum still zero, in its IPv6 packet and Ethernet frame.
fn frame(
    (from_mac, to_mac): ([u8; 6], [u8; 6]),
    (from, to): (Ipv6Addr, Ipv6Addr),
    mut message: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(ETHERNET + IPV6 + message.len());
    frame.extend(to_mac);
    frame.extend(from_mac);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]); // version 6
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([NEXT_HEADER_ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The address that a frame claims, with the MAC that claims it: by advertising it, by
/// soliciting from it, or by probing for it as we do. None: it claims none.
pub(super) fn claim(frame: &[u8]) -> Option<(Ipv6Addr, [u8; 6])> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
    let (header, rest) = packet.split_first_chunk::<IPV6>()?;
    if ethernet[12..] != ETHERTYPE.to_be_bytes()
        || header[0] >> 4 != 6
        || header[6] != NEXT_HEADER_ICMPV6
        || header[7] != HOP_LIMIT
    {
        return None;
    }
    // Behind the packet, padding may follow.
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = rest.get(..length)?;
    let fixed = message.first_chunk::<ICMPV6>()?;
    let from = Ipv6Addr::from(*header[8..24].first_chunk()?);
    let to = Ipv6Addr::from(*header[24..40].first_chunk()?);
    // With the checksum in it, the sum is zero.
    if checksum(from, to, message) != 0 {
        return None;
    }
    let mac = *ethernet[6..12].first_chunk()?;
    let target = Ipv6Addr::from(*fixed[8..24].first_chunk()?);
    match fixed[0] {
        NEIGHBOUR_ADVERTISEMENT => Some((target, mac)),
        NEIGHBOUR_SOLICITATION if from.is_unspecified() => Some((target, mac)),
        NEIGHBOUR_SOLICITATION => Some((from, mac)),
        _ => None,
    }
}

/// The Internet checksum of an ICMPv6 message and its pseudo-header (RFC 8200, 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum = message.len() as u32 + u32::from(NEXT_HEADER_ICMPV6);
    for bytes in [&from.octets()[..], &to.octets()[..], message] {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x1234);

    /// Both as scapy builds them, checksums included.
    #[rustfmt::skip]
    const PROBE: [u8; 78] = [
        0x33, 0x33, 0xff, 0x00, 0x12, 0x34, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
        0x60, 0, 0, 0, 0, 24, 58, 255, // IPv6
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // from
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x00, 0x12, 0x34, // to
        135, 0, 0x28, 0x87, 0, 0, 0, 0, // ICMPv6
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, // target
    ];
    #[rustfmt::skip]
    const ANNOUNCEMENT: [u8; 86] = [
        0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
        0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, // from
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to
        136, 0, 0xd4, 0xc4, 0x20, 0, 0, 0, // ICMPv6, override
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, // target
        2, 1, 2, 0, 0, 0, 0, 1, // the target's MAC
    ];

    #[test]
    fn frames_are_as_the_rfcs_say() {
        assert_eq!(probe(MAC, ADDRESS), PROBE);
        assert_eq!(announcement(MAC, ADDRESS), ANNOUNCEMENT);
    }

    #[test]
    fn advertising_and_probing_claim_the_target() {
        assert_eq!(claim(&PROBE), Some((ADDRESS, MAC)));
        assert_eq!(claim(&ANNOUNCEMENT), Some((ADDRESS, MAC)));
    }

    #[test]
    fn a_solicitation_claims_the_address_it_is_sent_from() {
        let mut message = PROBE[54..].to_vec();
        message[2..4].fill(0);
        let asker: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let asked = frame((MAC, ALL_NODES_MAC), (asker, ALL_NODES), message);
        assert_eq!(claim(&asked), Some((asker, MAC)));
    }

    #[test]
    fn other_frames_claim_nothing() {
        assert_eq!(claim(&[]), None);
        for length in 0..PROBE.len() {
            assert_eq!(claim(&PROBE[..length]), None, "cut to {length}");
        }
        // EtherType, version, payload length, next header, hop limit, type, checksum, target.
        for offset in [13, 14, 19, 20, 21, 54, 56, 77] {
            let mut other = PROBE;
            other[offset] ^= 0x81;
            assert_eq!(claim(&other), None, "byte {offset}");
        }
        let mut padded = PROBE.to_vec();
        padded.resize(100, 0xaa);
        assert!(claim(&padded).is_some());
    }
}
