//! Eyes on the wire: every frame that a namespace receives; and hands: scapy for frames no socket would send.

use super::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How much may wait for an eye, in bytes: on a busy machine it is seconds until it is read, and
/// what it loses would pass for stopped.
pub const EYE: usize = 64 << 20;

type Frames = Arc<(Mutex<Vec<Vec<u8>>>, Condvar)>;

/// Every frame that any device of a namespace receives, from `start` until it is dropped.
pub struct Capture {
    frames: Frames,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// The socket is open when this returns: nothing sent afterwards is missed.
    pub fn start(netns: &Netns) -> Self {
        let socket = netns.run(|| {
            socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
            .expect("a packet socket")
        });
        setsockopt(&socket, sockopt::RcvBufForce, &EYE).expect("a large buffer");
        let frames = Frames::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (frames, stop) = (Arc::clone(&frames), Arc::clone(&stop));
            move || {
                let mut buffer = vec![0; 65536];
                while !stop.load(Ordering::Relaxed) {
                    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                    if poll(&mut ready, PollTimeout::from(50u8)).unwrap_or(0) == 0 {
                        continue;
                    }
                    while let Ok((length, from)) =
                        recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)
                    {
                        // What the namespace itself sends is no arrival.
                        if from.is_some_and(|from| from.pkttype() != libc::PACKET_OUTGOING) {
                            frames
                                .0
                                .lock()
                                .expect("frames")
                                .push(buffer[..length].to_vec());
                            frames.1.notify_all();
                        }
                    }
                }
            }
        });
        Self {
            frames,
            stop,
            thread: Some(thread),
        }
    }

    /// The frames so far.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.frames.0.lock().expect("frames").clone()
    }

    /// Waits until a frame fits; `None` when time is over.
    pub fn wait_for(&self, patience: Duration, fits: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let frames = self.frames.0.lock().expect("frames");
        let (frames, _) = self
            .frames
            .1
            .wait_timeout_while(frames, patience, |frames| !frames.iter().any(|f| fits(f)))
            .expect("frames");
        frames.iter().find(|f| fits(f)).cloned()
    }

    /// Whether a frame with these bytes in it has arrived.
    pub fn saw(&self, marker: &str) -> bool {
        self.frames()
            .iter()
            .any(|frame| contains(frame, marker.as_bytes()))
    }

    /// Waits for a frame with these bytes in it.
    pub fn wait_for_marker(&self, marker: &str, patience: Duration) -> bool {
        self.wait_for(patience, |frame| contains(frame, marker.as_bytes()))
            .is_some()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether `needle` occurs in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Runs a scapy program inside; all of scapy's names are there, and `tx(frame)` sends a frame from eth0.
pub fn scapy(netns: &Netns, program: &str) {
    // One socket for all frames: scapy's own sendp opens one for each.
    let program = format!(
        "from scapy.all import *
conf.verb = 0
wire = conf.L2socket(iface='eth0')
def tx(frame): wire.send(frame)
{program}"
    );
    let output = netns.exec_with(
        Command::new("/usr/bin/python3").args(["-W", "ignore", "-c", &program]),
        b"",
    );
    assert_eq!(output.code, Some(0), "scapy: {}\n{program}", output.stderr);
}
