//! Servers that tell every client which source address they saw.

use super::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// TCP and UDP servers on every given address and port, until dropped.
///
/// TCP: one line with the peer's address, then each byte back. UDP: the peer's address for every datagram.
/// One socket an address, so that an answer always leaves from the address that was asked.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Binds at once, so that a client may try as soon as this returns.
    pub fn start(netns: &Netns, addresses: &[IpAddr], ports: &[u16]) -> Self {
        let wanted: Vec<SocketAddr> = addresses
            .iter()
            .flat_map(|a| ports.iter().map(move |p| SocketAddr::new(*a, *p)))
            .collect();
        let (tcp, udp): (Vec<_>, Vec<_>) = netns.run(|| {
            wanted
                .iter()
                .map(|at| {
                    let tcp =
                        TcpListener::bind(at).unwrap_or_else(|e| panic!("listen on {at}: {e}"));
                    tcp.set_nonblocking(true).expect("a non-blocking listener");
                    let udp = UdpSocket::bind(at).unwrap_or_else(|e| panic!("bind {at}: {e}"));
                    udp.set_nonblocking(true).expect("a non-blocking socket");
                    (tcp, udp)
                })
                .unzip()
        });
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(&tcp, &udp, &stop)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(tcp: &[TcpListener], udp: &[UdpSocket], stop: &Arc<AtomicBool>) {
    let mut sockets: Vec<PollFd> = tcp
        .iter()
        .map(AsFd::as_fd)
        .chain(udp.iter().map(AsFd::as_fd))
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        if poll(&mut sockets, PollTimeout::from(50u8)).unwrap_or(0) == 0 {
            continue;
        }
        for listener in tcp {
            while let Ok((stream, peer)) = listener.accept() {
                let stop = Arc::clone(stop);
                thread::spawn(move || converse(stream, peer, &stop));
            }
        }
        let mut datagram = [0; 2048];
        for socket in udp {
            while let Ok((_, peer)) = socket.recv_from(&mut datagram) {
                // A client that has gone away is not the server's concern.
                let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        }
    }
}

fn converse(mut stream: TcpStream, peer: SocketAddr, stop: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
    let _ = stream.write_all(format!("{}\n", peer.ip()).as_bytes());
    let mut bytes = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => {
                let _ = stream.write_all(&bytes[..n]);
            }
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return,
        }
    }
}
