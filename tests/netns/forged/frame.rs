//! Frames with a checksum that the kernel still has to write, at whatever place.

use std::net::{IpAddr, Ipv6Addr};

/// What a frame is made of.
#[derive(Debug, Clone)]
pub struct Ends {
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub from: IpAddr,
    pub to: IpAddr,
}

/// Two bytes of a frame that shall be others when it leaves than when it was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Where they are.
    pub at: usize,
    /// What they shall be.
    pub to: [u8; 2],
    /// How far before them the kernel begins to sum.
    pub offset: u16,
}

/// A frame, and where its checksum goes.
#[derive(Debug, Clone)]
pub struct Frame {
    pub bytes: Vec<u8>,
    pub checksum: Option<(u16, u16)>,
}

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// The field of an IPv4 header: more fragments.
pub const MORE: u16 = 0x2000;

pub fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a MAC"))
        .collect();
    bytes.try_into().expect("six bytes")
}

impl Ends {
    pub fn ethernet(&self, ethertype: u16) -> Vec<u8> {
        let mut frame = [self.to_mac, self.from_mac].concat();
        frame.extend(ethertype.to_be_bytes());
        frame
    }

    /// UDP from port 4000. Its checksum is 0, which of IPv4 means none.
    pub fn udp(&self, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        for word in [4000, port, 8 + payload.len() as u16, 0] {
            datagram.extend(u16::to_be_bytes(word));
        }
        datagram.extend(payload);
        self.ip(17, &datagram)
    }

    /// A packet of either family without options.
    pub fn ip(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self.from {
            IpAddr::V4(_) => self.ipv4(protocol, 0, 0, &[], payload),
            IpAddr::V6(_) => self.ipv6(protocol, &[], payload),
        }
    }

    pub fn ipv4(
        &self,
        protocol: u8,
        id: u16,
        fragment: u16,
        options: &[u8],
        payload: &[u8],
    ) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from, self.to) else {
            panic!("not IPv4")
        };
        let length = 20 + options.len();
        let mut header = vec![0x40 | (length / 4) as u8, 0];
        header.extend(((length + payload.len()) as u16).to_be_bytes());
        header.extend(id.to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0]);
        header.extend(from.octets());
        header.extend(to.octets());
        header.extend(options);
        let sum = !sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [self.ethernet(0x0800), header, payload.to_vec()].concat()
    }

    /// `extensions`: whole headers, each with the kind of the next, the last one with the protocol.
    pub fn ipv6(&self, first: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from, self.to) else {
            panic!("not IPv6")
        };
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(((extensions.len() + payload.len()) as u16).to_be_bytes());
        header.extend([first, 64]);
        header.extend(from.octets());
        header.extend(to.octets());
        [
            self.ethernet(0x86dd),
            header,
            extensions.to_vec(),
            payload.to_vec(),
        ]
        .concat()
    }

    /// An ARP reply of `sender`, to who has `to`.
    pub fn arp_reply(&self, sender: IpAddr, filling: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(sender), IpAddr::V4(to)) = (sender, self.to) else {
            panic!("not IPv4")
        };
        let mut frame = self.ethernet(0x0806);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(self.from_mac);
        frame.extend(sender.octets());
        frame.extend(self.to_mac);
        frame.extend(to.octets());
        frame.extend(filling);
        frame
    }

    /// Sum of the pseudo header, with which a packet's own checksum begins.
    pub fn pseudo(&self, protocol: u8, length: usize) -> u16 {
        let mut bytes = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            _ => panic!("one family"),
        };
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, protocol]);
        sum(&bytes)
    }
}

/// The Internet checksum's sum (RFC 1071), not complemented.
pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl Frame {
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            checksum: None,
        }
    }

    /// Has the kernel write `rewrite.to`, by a word of the payload that makes up for the rest: the two
    /// bytes at `spare`. `lost`: what the sum loses on the way, such as a TTL.
    pub fn forged(bytes: Vec<u8>, rewrite: Rewrite, spare: usize) -> Self {
        let start = rewrite.at - usize::from(rewrite.offset);
        Self::forged_over(bytes.clone(), &bytes[start..], rewrite, spare)
    }

    /// The same where the kernel sums more than this frame: its own bytes from the start, then others'.
    pub fn forged_over(mut bytes: Vec<u8>, summed: &[u8], rewrite: Rewrite, spare: usize) -> Self {
        let start = rewrite.at - usize::from(rewrite.offset);
        assert!(
            spare >= start && (spare - start).is_multiple_of(2),
            "{spare} is not in the sum"
        );
        let old = u16::from_be_bytes([bytes[spare], bytes[spare + 1]]);
        let rest = u32::from(sum(summed)) + u32::from(!old);
        let wanted = u32::from(!u16::from_be_bytes(rewrite.to));
        let mut word = wanted + 2 * 0xffff - (rest % 0xffff);
        while word > 0xffff {
            word = (word & 0xffff) + (word >> 16);
        }
        bytes[spare..spare + 2].copy_from_slice(&(word as u16).to_be_bytes());
        Self {
            bytes,
            checksum: Some((start as u16, rewrite.offset)),
        }
    }
}

/// The last two bytes of an address.
pub fn tail(address: IpAddr) -> [u8; 2] {
    match address {
        IpAddr::V4(a) => [a.octets()[2], a.octets()[3]],
        IpAddr::V6(a) => [a.octets()[14], a.octets()[15]],
    }
}

/// The same address with another tail.
pub fn with_tail(address: Ipv6Addr, tail: u16) -> Ipv6Addr {
    let mut segments = address.segments();
    segments[7] = tail;
    segments.into()
}
