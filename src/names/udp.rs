//! Questions that come as datagrams. Each is asked from a socket of its own: with the number, an answer that somebody
//! forges has to guess both.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::counts::DnsOutcome;
use super::message::{self, Question, Rcode};
use super::relay::{ANSWER, Relay, Taken, UnderWay};

/// So many questions are taken before others get their turn.
const BATCH: usize = 64;

/// Takes questions for ever, and asks `server`.
pub async fn serve(relay: Relay, listener: Rc<UdpSocket>, server: SocketAddr) -> io::Error {
    // Known from here on: `take` can't wait for it.
    let _ = listener.writable().await;
    loop {
        if let Err(e) = listener.readable().await {
            return e;
        }
        for _ in 0..BATCH {
            match take(&relay, &listener, server) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // What a client has sent before may be told here: its port is closed, say.
                Err(e) => tracing::debug!("cannot take a question: {e}"),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Takes one.
pub fn take(relay: &Relay, listener: &Rc<UdpSocket>, server: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    let mut buffer = relay.buffer();
    let (length, from) = listener.try_recv_from(&mut buffer)?;
    let query = &buffer[..length];
    match relay.take(from, query) {
        Taken::Nothing => {}
        Taken::Answer(answer) => {
            // Like any datagram it may be lost.
            let _ = listener.try_send_to(&answer, from);
        }
        Taken::Ask(question, under_way) => {
            let asking = Asking {
                relay: relay.clone(),
                listener: Rc::clone(listener),
                from,
                server,
                query: query.to_vec(),
                question,
                under_way,
                began,
            };
            tokio::task::spawn_local(asking.run());
        }
    }
    Ok(())
}

struct Asking {
    relay: Relay,
    listener: Rc<UdpSocket>,
    from: SocketAddr,
    server: SocketAddr,
    query: Vec<u8>,
    question: Question,
    under_way: UnderWay,
    began: Instant,
}

impl Asking {
    async fn run(mut self) {
        let counts = &self.relay.resolver().counts;
        let id = self.relay.number();
        message::set_id(&mut self.query, id);
        let asked = match ask(self.server, &self.query) {
            Ok(upstream) => {
                let before = self.began.elapsed();
                timeout(ANSWER, self.answer(upstream, id, before)).await
            }
            Err(e) => Ok(Err(e)),
        };
        match asked {
            Ok(Ok(())) => {}
            Err(_) => counts.question(DnsOutcome::Timeout),
            Ok(Err(e)) => {
                counts.question(DnsOutcome::Unreachable);
                tracing::debug!("cannot ask {}: {e}", self.server);
                message::set_id(&mut self.query, self.question.id);
                // So that the client need not wait.
                let answer = self.question.refuse(&self.query, Rcode::ServFail);
                let _ = self.listener.send_to(&answer, self.from).await;
            }
        }
    }

    /// Waits for the answer, and passes it on.
    async fn answer(&self, upstream: UdpSocket, id: u16, before: Duration) -> io::Result<()> {
        loop {
            let ready = upstream.ready(Interest::READABLE | Interest::ERROR).await?;
            if ready.is_error() {
                let error = upstream.take_error()?;
                return Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
            }
            match self.pass_on(&upstream, id, before)? {
                Passed::Nothing => {} // the true one may still come
                Passed::On => return Ok(()),
                Passed::Later(answer) => {
                    let _ = self.listener.send_to(&answer, self.from).await;
                    return Ok(());
                }
            }
        }
    }

    /// Reads what has come; if it is the answer, learns it, and gives it to the client.
    fn pass_on(&self, upstream: &UdpSocket, id: u16, before: Duration) -> io::Result<Passed> {
        let counts = &self.relay.resolver().counts;
        let began = Instant::now();
        let mut buffer = self.relay.buffer();
        let length = match upstream.try_recv(&mut buffer) {
            Ok(length) => length,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Passed::Nothing),
            Err(e) => return Err(e),
        };
        let answer = &mut buffer[..length];
        if !self.question.is_answered_by(answer, id) {
            counts.bad_answer();
            return Ok(Passed::Nothing);
        }
        let learned = self.relay.learn(&self.question, &self.under_way, answer);
        if learned.is_err() {
            return Ok(Passed::Nothing);
        }
        message::set_id(answer, self.question.id);
        counts.took(before + began.elapsed());
        match self.listener.try_send_to(answer, self.from) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Passed::Later(answer.to_vec())),
            // That a client has gone is its own affair.
            _ => Ok(Passed::On),
        }
    }
}

/// What has become of a message from a server.
enum Passed {
    /// It is no answer.
    Nothing,
    /// The client has it.
    On,
    /// It waits until it can be sent.
    Later(Vec<u8>),
}

/// From a port that the kernel chooses at random.
fn ask(server: SocketAddr, query: &[u8]) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    socket.send(query)?;
    UdpSocket::from_std(socket)
}
