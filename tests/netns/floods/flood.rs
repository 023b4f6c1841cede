//! A pod that sends as fast as others read, to where it may and to where it may not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};

use crate::harness::capture::EYE;
use crate::harness::egress::EGRESS;
use crate::harness::node::{FAR, ip};
use crate::harness::silence::stay_on_this_processor;
use crate::harness::{Pod, exec};

/// What every policy of these tests denies.
pub const DENIED: u16 = 5000;
const ALLOWED: u16 = 7000;
/// Addresses outside that `clusterCIDRs` name: what goes there keeps its source.
pub const INSIDE: [&str; 2] = ["192.168.77.1", "fd77::1"];

/// Packets on their way at most: fewer than any queue holds.
const ROOM: u64 = 64;

/// Who is written to, and from where it has to come.
struct Receiver {
    socket: UdpSocket,
    source: IpAddr,
}

/// What was sent and what arrived.
#[derive(Default)]
struct Counts {
    /// The sender shall end, and has ended.
    ends: AtomicBool,
    ended: AtomicBool,
    sent: AtomicU64,
    arrived: AtomicU64,
    from_elsewhere: AtomicU64,
    denied: AtomicU64,
}

impl Counts {
    fn on_the_way(&self) -> u64 {
        self.sent
            .load(SeqCst)
            .saturating_sub(self.arrived.load(SeqCst))
    }
}

/// Says so at its end, also where a test fails.
struct SaysSo<'a>(&'a AtomicBool);

impl Drop for SaysSo<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Does something while the pod sends; then everything has to be where it belongs. The pod may send
/// anything afterwards: that it is heard then is the proof that it was not before.
pub fn flooded<'n>(pod: &mut Pod<'n>, work: impl FnOnce(&mut Pod<'n>)) {
    flooded_until(pod, work, |pod| pod.readd("allow"));
}

/// The same where the pod gets the right to send anything in another way.
pub fn flooded_until<'n>(
    pod: &mut Pod<'n>,
    work: impl FnOnce(&mut Pod<'n>),
    free: impl FnOnce(&mut Pod<'n>),
) {
    let node = pod.node;
    // Flows that nobody asks for any more are forgotten before the table is full of them.
    let timeout = ("net/netfilter/nf_conntrack_udp_timeout", "5");
    node.netns.sysctls(&[timeout]);
    let listen = |address: &str, port| {
        let socket = node.ext.run(|| UdpSocket::bind((ip(address), port)));
        let socket = socket.expect("a socket");
        socket.set_nonblocking(true).expect("a non-blocking socket");
        setsockopt(&socket, sockopt::RcvBufForce, &EYE).expect("a large buffer");
        socket
    };
    let denied = FAR.map(|far| listen(far, DENIED));
    let addresses = pod.addresses();
    let receiver = |to: &str, source| Receiver {
        socket: listen(to, ALLOWED),
        source,
    };
    let receivers = (0..2).flat_map(|family| {
        [
            receiver(FAR[family], ip(EGRESS[family])),
            receiver(INSIDE[family], addresses[family]),
        ]
    });
    let receivers: Vec<Receiver> = receivers.collect();
    let counts = Counts::default();
    let netns = pod.netns.again();
    thread::scope(|scope| {
        let end = SaysSo(&counts.ends);
        scope.spawn(|| receive(&receivers, &counts));
        let sender = scope.spawn(|| {
            netns.run(|| {
                stay_on_this_processor();
                send(addresses, &counts);
            });
        });
        let begun = Instant::now();
        while counts.arrived.load(SeqCst) < 100 {
            assert!(begun.elapsed() < exec::limit(), "there is no flood");
            assert!(!sender.is_finished(), "the sender has failed");
            thread::yield_now();
        }
        work(pod);
        drop(end);
        sender.join().expect("the sender");
    });

    free(pod);
    netns.run(|| mark(addresses));
    let escaped: usize = denied.iter().map(until_marker).sum();
    let [sent, arrived, elsewhere, tried] = [
        &counts.sent,
        &counts.arrived,
        &counts.from_elsewhere,
        &counts.denied,
    ]
    .map(|count| count.load(SeqCst));
    println!("{sent} sent, {arrived} arrived; {tried} denied ones sent, {escaped} arrived");
    assert!(tried > 100, "nothing was denied");
    assert_eq!(escaped, 0, "of {tried} denied packets");
    assert_eq!(arrived, sent, "allowed packets");
    assert_eq!(elsewhere, 0, "from another address than they should");
}

/// New flows all the time: the base decides about a flow's first packet. All from one processor:
/// conntrack may drop one of two first packets of a flow that meet on two.
fn send(addresses: [IpAddr; 2], counts: &Counts) {
    let _ended = SaysSo(&counts.ended);
    while !counts.ends.load(SeqCst) {
        let sockets = addresses.map(|address| UdpSocket::bind((address, 0)).expect("a socket"));
        for _ in 0..8 {
            let full = Instant::now();
            while counts.on_the_way() > ROOM && full.elapsed() < exec::seconds(2) {
                thread::yield_now();
            }
            for (family, socket) in sockets.iter().enumerate() {
                let (far, inside) = (ip(FAR[family]), ip(INSIDE[family]));
                let all = [
                    (far, DENIED, &counts.denied),
                    (far, ALLOWED, &counts.sent),
                    (inside, ALLOWED, &counts.sent),
                ];
                for (to, port, count) in all {
                    // Counted before it can have arrived.
                    count.fetch_add(1, SeqCst);
                    socket.send_to(b"flood", (to, port)).expect("sent");
                }
            }
        }
    }
}

fn receive(receivers: &[Receiver], counts: &Counts) {
    let mut buffer = [0; 16];
    let mut last = Instant::now();
    loop {
        let mut some = false;
        for Receiver { socket, source } in receivers {
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                some = true;
                if from.ip() != *source {
                    counts.from_elsewhere.fetch_add(1, SeqCst);
                }
                counts.arrived.fetch_add(1, SeqCst);
            }
        }
        if some || !counts.ended.load(SeqCst) {
            last = Instant::now();
        } else if counts.on_the_way() == 0 || last.elapsed() > exec::seconds(2) {
            return; // what is still on its way is lost
        }
        if !some {
            thread::yield_now();
        }
    }
}

fn mark(addresses: [IpAddr; 2]) {
    for family in 0..2 {
        let socket = UdpSocket::bind((addresses[family], 0)).expect("a socket");
        let to = SocketAddr::new(ip(FAR[family]), DENIED);
        socket.send_to(b"marker", to).expect("sent");
    }
}

/// How much else has come before the marker.
fn until_marker(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(false).expect("a blocking socket");
    let patience = Some(exec::limit());
    socket.set_read_timeout(patience).expect("a timeout");
    let mut escaped = 0;
    let mut buffer = [0; 16];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).expect("the marker arrives");
        if &buffer[..length] == b"marker" {
            return escaped;
        }
        escaped += 1;
    }
}
