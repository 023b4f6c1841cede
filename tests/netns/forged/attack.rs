//! What a pod can try: each a packet that is judged as one thing and leaves as another.

use super::frame::{ETHERNET, Frame, MORE, Rewrite, tail, with_tail};
use super::scene::Sender;
use crate::harness::node::{EXT, FAR, ip};
use std::net::IpAddr;

/// What makes the kernel write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The uplink, if it leaves checksums to the kernel.
    Device,
    /// Fragmentation on the way out, whatever the uplink does.
    Fragmentation,
}

pub struct Attack {
    pub name: &'static str,
    pub writer: Writer,
    pub frames: Vec<Frame>,
    pub rewrite: Rewrite,
    /// In each of its frames.
    pub mark: String,
}

/// Where the payload of UDP begins.
const PAYLOAD4: usize = ETHERNET + 20 + 8;
const PAYLOAD6: usize = ETHERNET + 40 + 8;
/// Where the header of IP has these.
const TTL4: usize = ETHERNET + 8;
const SOURCE4: usize = ETHERNET + 12;
const SOURCE6: usize = ETHERNET + 8;
const TARGET6: usize = ETHERNET + 24;
/// The destination's port, where the transport's header has it.
const PORT4: usize = ETHERNET + 20 + 2;
const PORT6: usize = ETHERNET + 40 + 2;
const FORBIDDEN: [u8; 2] = 53u16.to_be_bytes();

impl Attack {
    /// A UDP packet to an address that the pod may reach on 443, of this much payload.
    fn plain(
        sender: &Sender<'_>,
        name: &'static str,
        to: IpAddr,
        (at, offset): (usize, u16),
        wanted: [u8; 2],
        length: usize,
    ) -> Self {
        let mark = format!("<{name}>");
        let payload = payload(&mark, length);
        let bytes = sender.to(to).udp(443, &payload);
        let rewrite = Rewrite {
            at,
            to: wanted,
            offset,
        };
        let spare = if to.is_ipv4() { PAYLOAD4 } else { PAYLOAD6 };
        let writer = match length > 1300 {
            true => Writer::Fragmentation,
            false => Writer::Device,
        };
        Self {
            name,
            writer,
            frames: vec![Frame::forged(bytes, rewrite, spare)],
            rewrite,
            mark,
        }
    }

    /// The same in two fragments, both with a checksum to be written: connection tracking makes one
    /// packet of them, which has to be cut again.
    fn in_fragments(sender: &Sender<'_>, name: &'static str, at: usize, wanted: [u8; 2]) -> Self {
        let mark = format!("<{name}>");
        let ends = sender.to(ip(EXT[0]));
        let payload = payload(&mark, 88);
        let whole = ends.udp(443, &payload);
        // Of the UDP header and payload of 96 bytes, 48 each.
        let (first, second) = whole[ETHERNET + 20..].split_at(48);
        let id = u16::from_be_bytes([name.len() as u8, wanted[1]]);
        let second = ends.ipv4(17, id, 48 / 8, &[], second);
        let first = ends.ipv4(17, id, MORE, &[], first);
        let rewrite = Rewrite {
            at,
            to: wanted,
            offset: 0,
        };
        // What is summed is the packet that is put together again.
        let summed = whole[at..].to_vec();
        let first = Frame::forged_over(first, &summed, rewrite, PAYLOAD4);
        let second = Frame {
            bytes: second,
            checksum: Some((ETHERNET as u16 + 20, 6)),
        };
        Self {
            name,
            writer: Writer::Fragmentation,
            frames: vec![first, second],
            rewrite,
            mark,
        }
    }

    /// Whether a frame that arrived is what was to be written.
    pub fn succeeded(&self, frame: &[u8]) -> bool {
        frame.get(self.rewrite.at..self.rewrite.at + 2) == Some(&self.rewrite.to[..])
    }
}

/// The two bytes that make up for the rest, the mark, and so on until it is long enough; with a mark
/// behind, too, for when it is cut.
fn payload(mark: &str, length: usize) -> Vec<u8> {
    let mut payload = vec![0; length];
    payload[2..2 + mark.len()].copy_from_slice(mark.as_bytes());
    let end = length - mark.len();
    payload[end..].copy_from_slice(mark.as_bytes());
    payload
}

/// Every one of them, out by the uplink.
pub fn all(sender: &Sender<'_>) -> Vec<Attack> {
    let (v4, v6) = (ip(EXT[0]), ip(FAR[1]));
    let IpAddr::V6(own6) = sender.pod.v6 else {
        panic!("an address of IPv6")
    };
    let neighbour6 = tail(with_tail(own6, 0x77).into());
    let plain = |name, to, place, wanted| Attack::plain(sender, name, to, place, wanted, 64);
    vec![
        plain("port", v4, (PORT4, 0), FORBIDDEN),
        plain("port, summed from afar", v4, (PORT4, 16), FORBIDDEN),
        plain("port, by the offset of UDP", v4, (PORT4, 6), FORBIDDEN),
        plain("source", v4, (SOURCE4 + 2, 0), [1, 77]),
        plain("source, by its first half", v4, (SOURCE4, 0), [172, 30]),
        plain("TTL and protocol", v4, (TTL4, 0), [63, 6]),
        plain("port of IPv6", v6, (PORT6, 0), FORBIDDEN),
        plain("port of IPv6, from afar", v6, (PORT6, 16), FORBIDDEN),
        plain("target of IPv6", v6, (TARGET6 + 14, 0), [0x0a, 0xf4]),
        plain(
            "target of IPv6, from afar",
            v6,
            (TARGET6 + 14, 16),
            [0x0a, 0xf4],
        ),
        plain("source of IPv6", v6, (SOURCE6 + 14, 0), neighbour6),
        Attack::in_fragments(sender, "port, in fragments", PORT4, FORBIDDEN),
        Attack::in_fragments(sender, "source, in fragments", SOURCE4 + 2, [1, 78]),
        Attack::plain(sender, "port, too long", v4, (PORT4, 0), FORBIDDEN, 1400),
    ]
}
