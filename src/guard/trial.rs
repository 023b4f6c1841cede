//! Whether the guard works on this kernel: tried with real packets, in a network namespace that nobody
//! else sees.

use std::time::{Duration, Instant};
use std::{io, thread};

use netlink::unfinished::Unfinished;
use netlink::{self, Netns, Rtnl, link, tc};

use super::kernel::{self, Unavailable};
use super::{Error, filter};
use crate::guard::program::Reading;

/// How long a packet may take through lo.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kernel's own number of the device that each namespace has.
const LO: u32 = 1;

/// What the trial found out.
#[derive(Debug)]
pub enum Outcome {
    /// It works, with the program made in this way.
    Works(Reading),
    /// This kernel can't have it: pods get [`super::Mode::Resolve`] instead.
    Unavailable(Unavailable),
}

/// Why there was no trial, or what was wrong with its outcome.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Failure {
    #[error("cannot test the filter against forged checksums: {0}")]
    Net(#[from] netlink::Error),
    #[error("cannot test the filter against forged checksums: {0}")]
    Put(#[from] Error),
    #[error("cannot send a packet to test the filter against forged checksums: {0}")]
    Send(#[from] io::Error),
    #[error(
        "the filter against forged checksums dropped {dropped} of the trial's packets, not the {forged} forged ones of {all}"
    )]
    Wrong {
        dropped: u64,
        forged: u64,
        all: usize,
    },
}

/// Tries it. The node's own namespace is not touched.
///
/// # Errors
/// It could not be tried, or does the wrong thing.
pub fn run() -> Result<Outcome, Failure> {
    Netns::scratch()?.run(in_here)?
}

fn in_here() -> Result<Outcome, Failure> {
    let mut rtnl = Rtnl::open(Instant::now() + Duration::from_secs(10))?;
    link::set_up(&mut rtnl, LO)?;
    let (program, reading) = match kernel::fresh_program() {
        Ok(made) => made,
        Err(why) => return Ok(Outcome::Unavailable(why)),
    };
    match filter::hang(&mut rtnl, LO, "lo", &program) {
        Ok(_) => {}
        Err(Error::Unavailable(why)) => return Ok(Outcome::Unavailable(why)),
        Err(e) => return Err(e.into()),
    }
    let socket = Unfinished::open(LO)?;
    let packets = packets();
    let forged = packets.iter().filter(|packet| packet.forged).count() as u64;
    for packet in &packets {
        socket.send(&packet.frame, packet.checksum)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let dropped = loop {
        let dropped = tc::dropped(&mut rtnl)?.get(&LO).copied().unwrap_or(0);
        // The last one is forged: whatever else is dropped has been counted by then.
        if dropped >= forged || Instant::now() >= deadline {
            break dropped;
        }
        thread::sleep(Duration::from_millis(1));
    };
    if dropped != forged {
        let all = packets.len();
        return Err(Failure::Wrong {
            dropped,
            forged,
            all,
        });
    }
    Ok(Outcome::Works(reading))
}

struct TrialPacket {
    frame: Vec<u8>,
    checksum: Option<(u16, u16)>,
    forged: bool,
}

/// UDP of both families to a port that nobody listens on, with the checksum where it belongs, at the
/// destination's port, and finished; ARP at last.
fn packets() -> Vec<TrialPacket> {
    let mut packets = Vec::new();
    for frame in [ipv4(), ipv6()] {
        let transport = (frame.len() - UDP.len()) as u16;
        let places = [
            (Some((transport, 6)), false),
            (None, false),
            (Some((transport, 2)), true),
            (Some((transport - 8, 14)), true),
        ];
        packets.extend(places.map(|(checksum, forged)| TrialPacket {
            frame: frame.clone(),
            checksum,
            forged,
        }));
    }
    packets.push(TrialPacket {
        frame: ethernet(0x0806, &[&[0; 46]]),
        // Newer kernels take none that begins earlier.
        checksum: Some((20, 10)),
        forged: true,
    });
    packets
}

/// From and to port 9, eight bytes with the header.
const UDP: [u8; 8] = [0, 9, 0, 9, 0, 8, 0, 0];

fn ipv4() -> Vec<u8> {
    let mut header = [
        0x45, 0, 0, 28, 0, 0, 0x40, 0, 1, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
    ];
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(0x0800, &[&header, &UDP])
}

fn ipv6() -> Vec<u8> {
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 8, 17, 1]);
    header[23] = 1; // from ::1
    header[39] = 1; // to ::1
    ethernet(0x86dd, &[&header, &UDP])
}

fn ethernet(ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(parts.concat());
    frame
}
