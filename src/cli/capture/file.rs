//! Logged packets as a pcap file: link type RAW, times in nanoseconds.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use netlink::nflog::Logged;

/// How much of a packet is logged, in bytes: more is never in the file.
const SNAPLEN: u32 = 128;

/// Makes the file's bytes, which are taken out piece by piece.
pub(super) struct Pcap {
    writer: PcapWriter<Made>,
    made: Made,
}

/// Bytes that were not taken yet. The writer and its owner share them.
#[derive(Debug, Clone, Default)]
struct Made(Rc<RefCell<Vec<u8>>>);

impl Write for Made {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pcap {
    /// Makes the file's header.
    pub(super) fn new() -> Result<Self, PcapError> {
        let made = Made::default();
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::RAW,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::native(),
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(made.clone(), header)?;
        Ok(Pcap { writer, made })
    }

    /// Adds a packet. One whose time the kernel does not know is of now.
    pub(super) fn push(&mut self, logged: &Logged) -> Result<(), PcapError> {
        let kept = logged.payload.len().min(SNAPLEN as usize);
        let data = &logged.payload[..kept];
        let length = length(data).unwrap_or(0).max(kept as u32);
        let time = since_1970(logged.time.unwrap_or_else(Timestamp::now));
        let packet = PcapPacket::new(time, length, data);
        self.writer.write_packet(&packet).map(drop)
    }

    /// What was made since this was asked last.
    pub(super) fn take(&self) -> Vec<u8> {
        self.made.0.take()
    }
}

/// The format has no earlier times.
fn since_1970(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

/// The whole packet's length by its IP header (RFC 791, 3.1; RFC 8200, 3). None: it is cut off, or
/// the packet is a jumbogram.
fn length(packet: &[u8]) -> Option<u32> {
    const IPV6_HEADER: u32 = 40;
    match packet.first()? >> 4 {
        4 => Some(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]).into()),
        6 => match u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]) {
            0 => None,
            behind => Some(IPV6_HEADER + u32::from(behind)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(payload: Vec<u8>) -> Logged {
        Logged {
            original: None,
            prefix: "egressway pod:erp deny".to_owned(),
            time: Some("1970-01-02T00:00:01.000002Z".parse().expect("a time")),
            indev: None,
            physindev: None,
            outdev: None,
            hw_protocol: 0x0800,
            payload,
        }
    }

    /// The numbers of a file made here, in this machine's byte order.
    fn words(bytes: &[u8]) -> Vec<u32> {
        let word = |chunk: &[u8]| u32::from_ne_bytes(chunk.try_into().expect("four bytes"));
        bytes.chunks_exact(4).map(word).collect()
    }

    #[test]
    fn the_header_says_raw_ip_and_nanoseconds() {
        let file = Pcap::new().expect("a header");
        let header = file.take();
        assert_eq!(header.len(), 24);
        assert_eq!(words(&header)[0], 0xa1b2_3c4d);
        assert_eq!(words(&header)[4..], [128, 101]);
        assert!(file.take().is_empty(), "taken once");
    }

    #[test]
    fn a_packet_has_its_time_and_both_lengths() {
        let mut file = Pcap::new().expect("a header");
        file.take();
        let mut v4 = vec![0x45, 0, 0x05, 0xdc]; // 1500 bytes
        v4.resize(128, 7);
        file.push(&logged(v4.clone())).expect("is made");
        let record = file.take();
        assert_eq!(words(&record[..16]), [86_401, 2_000, 128, 1500]);
        assert_eq!(record[16..], v4);

        let mut v6 = vec![0x60, 0, 0, 0, 0, 8];
        v6.resize(48, 7);
        file.push(&logged(v6)).expect("is made");
        assert_eq!(words(&file.take()[..16])[2..], [48, 48]);
    }

    #[test]
    fn what_is_cut_off_or_lies_is_no_shorter_than_what_is_there() {
        for payload in [vec![], vec![0x45], vec![0x45, 0, 0, 1, 9, 9], vec![0xff; 9]] {
            let mut file = Pcap::new().expect("a header");
            file.take();
            let there = payload.len() as u32;
            file.push(&logged(payload)).expect("is made");
            assert_eq!(words(&file.take()[..16])[2..], [there, there]);
        }
        let mut file = Pcap::new().expect("a header");
        file.take();
        file.push(&logged(vec![0x45; 200])).expect("is made");
        assert_eq!(words(&file.take()[..16])[2], 128);
    }
}
