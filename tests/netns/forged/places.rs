//! At which places a checksum may be written: exactly where the kernel itself has it.

use super::frame::{ETHERNET, Ends, Frame, sum};
use super::pod;
use super::scene::{Sender, arrived, node};
use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use fastrand::Rng;

const TCP: (u8, u16, usize) = (6, 16, 20);
const UDP: (u8, u16, usize) = (17, 6, 8);

/// A packet whose checksum is at one place, and which says what the sum begins with.
struct Known {
    name: &'static str,
    bytes: Vec<u8>,
    start: u16,
    offset: u16,
}

/// A transport's header with its checksum begun, and some payload.
fn transport(ends: &Ends, (protocol, offset, length): (u8, u16, usize), mark: &str) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(&[0x0f, 0xa0, 0x01, 0xbb]);
    bytes.extend(format!("<{mark}>").bytes());
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    match protocol {
        6 => bytes[12..14].copy_from_slice(&[5 << 4, 0x10]),
        _ => {
            let length = bytes.len() as u16;
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }
    let begun = ends.pseudo(protocol, bytes.len());
    let at = usize::from(offset);
    bytes[at..at + 2].copy_from_slice(&begun.to_be_bytes());
    bytes
}

fn known(sender: &Sender<'_>) -> Vec<Known> {
    let (v4, v6) = (sender.to(ip(EXT[0])), sender.to(ip(FAR[1])));
    // Nothing, three times, then the end of options.
    let options = [1, 1, 1, 0];
    // Hop-by-hop options of eight bytes, then destination options of sixteen.
    let pad = |next: u8, words: usize| {
        [
            &[next, words as u8 - 1, 1, (words * 8 - 4) as u8][..],
            &vec![0; words * 8 - 4],
        ]
        .concat()
    };
    let known = |name, bytes, header: usize, offset| Known {
        name,
        bytes,
        start: (ETHERNET + header) as u16,
        offset,
    };
    let mut all = Vec::new();
    for (name, kind) in [("TCP", TCP), ("UDP", UDP)] {
        let (protocol, offset, _) = kind;
        let payload = |ends: &Ends, name: &str| transport(ends, kind, name);
        let (a, b, c, d) = match name {
            "TCP" => ("TCP4", "TCP4-options", "TCP6", "TCP6-extensions"),
            _ => ("UDP4", "UDP4-options", "UDP6", "UDP6-extensions"),
        };
        let extensions = [pad(60, 1), pad(protocol, 2)].concat();
        let far = extensions.len();
        all.push(known(
            a,
            v4.ipv4(protocol, 0, 0, &[], &payload(&v4, a)),
            20,
            offset,
        ));
        all.push(known(
            b,
            v4.ipv4(protocol, 0, 0, &options, &payload(&v4, b)),
            24,
            offset,
        ));
        all.push(known(
            c,
            v6.ipv6(protocol, &[], &payload(&v6, c)),
            40,
            offset,
        ));
        all.push(known(
            d,
            v6.ipv6(0, &extensions, &payload(&v6, d)),
            40 + far,
            offset,
        ));
    }
    all
}

/// Of one packet, by any of its places: all are dropped but the right one. What the pod's own kernel
/// refuses was never sent.
#[test]
fn every_other_place_is_dropped() {
    let node = node("drop", false);
    let pod = pod(&node, Primary::Ptp);
    let sender = Sender::new(&pod);
    let mut rng = Rng::with_seed(0x00c5_0001);
    let mut tried = 0;
    for packet in known(&sender) {
        let right = (packet.start, packet.offset);
        let frame = |checksum| Frame {
            bytes: packet.bytes.clone(),
            checksum: Some(checksum),
        };
        // Each place near the right one, and any.
        let length = packet.bytes.len() as u16;
        let near = (packet.start.saturating_sub(24)..packet.start + 12)
            .flat_map(|start| [0, 2, 6, 8, 16, 17].map(|offset| (start, offset)));
        let any = (0..120).map(|_| (rng.u16(0..length), rng.u16(0..length)));
        let mut places: Vec<(u16, u16)> = near.chain(any).collect();
        // A sum that is written to the same two bytes by another way.
        places.extend(
            (0..right.1)
                .map(|less| (right.0 + less, right.1 - less))
                .skip(1),
        );
        places.retain(|place| *place != right);
        let before = sender.dropped();
        let taken = places
            .iter()
            .filter(|place| sender.try_send(&frame(**place)).is_ok())
            .count();
        assert_eq!(sender.dropped() - before, taken as u64, "{}", packet.name);
        tried += taken;
        sender.send(&frame(right));
        assert_eq!(sender.dropped() - before, taken as u64, "{}", packet.name);
    }
    assert!(tried >= 1500, "{tried}");
}

/// At the right place of another protocol, or of what has none: dropped, each.
#[test]
fn what_has_no_checksum_of_its_own_is_dropped() {
    let node = node("drop", false);
    let pod = pod(&node, Primary::Bridge);
    let sender = Sender::new(&pod);
    let (v4, v6) = (sender.to(ip(EXT[0])), sender.to(ip(FAR[1])));
    let (l4, l6) = (ETHERNET as u16 + 20, ETHERNET as u16 + 40);
    let body = [0; 64];
    let mut frames = Vec::new();
    // Tunnels, whose inside the kernel writes only for a tunnel of its own; ICMP, SCTP, and others.
    for protocol in [1, 2, 4, 6, 17, 33, 41, 44, 47, 50, 58, 132, 136, 255] {
        for offset in [2, 6, 8, 16, 24, 40] {
            if [(6, 16), (17, 6)].contains(&(protocol, offset)) {
                continue;
            }
            frames.push((v4.ipv4(protocol, 0, 0, &[], &body), (l4, offset)));
            frames.push((v6.ipv6(protocol, &[], &body), (l6, offset)));
        }
    }
    // Fragments, at what would be the right place.
    for (fragment, offset) in [(0x2000, 6), (0x0001, 6), (0x2001, 6), (0x1fff, 6)] {
        frames.push((v4.ipv4(17, 9, fragment, &[], &body), (l4, offset)));
    }
    let fragment = [17, 0, 0, 1, 0, 0, 0, 9];
    frames.push((v6.ipv6(44, &fragment, &body), (l6 + 8, 6)));
    // More extension headers than anybody has, and one that is longer than the packet.
    let header = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let many: Vec<u8> = [60, 60, 60, 60, 17].into_iter().flat_map(header).collect();
    frames.push((v6.ipv6(60, &many, &body), (l6 + 40, 6)));
    frames.push((
        v6.ipv6(60, &[17, 200, 1, 4, 0, 0, 0, 0], &body),
        (l6 + 8, 6),
    ));
    // Headers that are none: of length 0, 16, 60; of the other version.
    for first in [0x40, 0x44, 0x4f, 0x55, 0x65, 0x05] {
        let mut bytes = v4.ipv4(17, 0, 0, &[], &body);
        bytes[ETHERNET] = first;
        let length = u16::from(first & 0xf) * 4;
        let place = match first {
            // Fifteen words of header: its own place would be the right one.
            0x4f => (l4, 6),
            _ => (ETHERNET as u16 + length.max(6), 6),
        };
        frames.push((bytes, place));
    }
    let mut bytes = v6.ipv6(17, &[], &body);
    bytes[ETHERNET] = 0x45;
    frames.push((bytes, (l6, 6)));
    // Neither IPv4 nor IPv6.
    for ethertype in [0x0806, 0x88cc, 0x0800 + 1, 0x88a8, 0x8847] {
        let mut bytes = v4.ethernet(ethertype);
        bytes.extend(&v4.udp(443, &body)[ETHERNET..]);
        frames.push((bytes, (l4, 6)));
    }
    for (bytes, checksum) in frames {
        let before = sender.dropped();
        let frame = Frame {
            bytes,
            checksum: Some(checksum),
        };
        let Ok(()) = sender.try_send(&frame) else {
            continue;
        };
        let dropped = sender.dropped() - before;
        assert_eq!(dropped, 1, "{checksum:?} of {:x?}", frame.bytes);
    }
}

/// A packet socket with the checksum at its place, as gVisor, Kata and virtual machines send: it arrives,
/// and the sum is right.
#[test]
fn the_right_place_arrives_with_the_right_sum() {
    for setting in ["drop", "resolve"] {
        let node = node(setting, false);
        let pod = node.pod(PodSpec::new("guest", Primary::Ptp));
        let (sender, capture) = (Sender::new(&pod), Capture::start(&node.ext));
        let packets = known(&sender);
        for packet in &packets {
            sender.send(&Frame {
                bytes: packet.bytes.clone(),
                checksum: Some((packet.start, packet.offset)),
            });
        }
        sender.fence(&capture, "fence.");
        for packet in &packets {
            let frames = arrived(&capture, &format!("<{}>", packet.name));
            assert_eq!(frames.len(), 1, "{setting}: {}", packet.name);
            let transport = &frames[0][usize::from(packet.start)..];
            let ends = sender.to(match packet.name.contains('4') {
                true => ip(EXT[0]),
                false => ip(FAR[1]),
            });
            let protocol = if packet.name.starts_with("TCP") {
                6
            } else {
                17
            };
            // Ethernet fills up short frames.
            let length = packet.bytes.len() - usize::from(packet.start);
            let pseudo = ends.pseudo(protocol, length).to_be_bytes();
            let whole = [&pseudo[..], &transport[..length]].concat();
            assert_eq!(sum(&whole), 0xffff, "{setting}: {}", packet.name);
        }
        assert_eq!(sender.dropped(), 0);
    }
}
