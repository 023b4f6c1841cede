//! Questions that come by connections (RFC 7766): one to the server for each of a client's, several questions at once,
//! answers in the server's order.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::counts::DnsOutcome;
use super::message::{self, Malformed, Question};
use super::relay::{ANSWER, Relay, Taken, UnderWay};

/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(20);

/// Connections of one pod, and of all.
const MOST_OF_A_POD: usize = 100;
const MOST_OF_ALL: usize = 2000;

/// Questions of one connection that wait for their answers.
const MOST_WAITING: usize = 100;

/// How long until connections are accepted again after that has failed.
const AGAIN: Duration = Duration::from_millis(100);

type Clients = Rc<RefCell<HashMap<IpAddr, usize>>>;

/// Takes connections for ever, and asks `server`. Ends when the listener is shut.
pub async fn serve(relay: Relay, listener: TcpListener, server: SocketAddr) -> io::Error {
    let clients = Clients::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(client) = TcpClient::new(&clients, from.ip().to_canonical()) else {
                    relay.resolver().counts.question(DnsOutcome::Limited);
                    continue;
                };
                let relay = relay.clone();
                tokio::task::spawn_local(async move {
                    if let Err(e) = converse(&relay, stream, from, server).await {
                        tracing::debug!("a connection from {from} has ended: {e}");
                    }
                    drop(client);
                });
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return e,
            // Too many open files, say: time may help.
            Err(e) => {
                tracing::debug!("cannot accept a connection: {e}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// A connection, as long as it is there.
struct TcpClient(Clients, IpAddr);

impl TcpClient {
    fn new(clients: &Clients, pod: IpAddr) -> Option<TcpClient> {
        let mut all = clients.borrow_mut();
        let total: usize = all.values().sum();
        let of_pod = all.entry(pod).or_default();
        if *of_pod >= MOST_OF_A_POD || total >= MOST_OF_ALL {
            return None;
        }
        *of_pod += 1;
        Some(TcpClient(Rc::clone(clients), pod))
    }
}

impl Drop for TcpClient {
    fn drop(&mut self) {
        let mut all = self.0.borrow_mut();
        if let Some(of_pod) = all.get_mut(&self.1) {
            *of_pod -= 1;
            if *of_pod == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// What waits for its answer, by the number by which it was asked.
#[derive(Default)]
struct Waiting {
    questions: RefCell<HashMap<u16, (Question, UnderWay)>>,
    /// The client says no more.
    no_more: Cell<bool>,
    /// One was answered, or the client says no more.
    news: Notify,
}

async fn converse(
    relay: &Relay,
    client: TcpStream,
    from: SocketAddr,
    server: SocketAddr,
) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let (mut from_client, to_client) = client.into_split();
    // Who only looks whether somebody listens costs the server nothing.
    let Some(first) = next(&mut from_client).await? else {
        return Ok(());
    };
    let upstream = match timeout(ANSWER, TcpStream::connect(server)).await {
        Ok(Ok(upstream)) => upstream,
        Ok(Err(e)) => {
            relay.resolver().counts.question(DnsOutcome::Unreachable);
            return Err(e);
        }
        Err(_) => {
            relay.resolver().counts.question(DnsOutcome::Timeout);
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    let _ = upstream.set_nodelay(true);
    let (from_server, to_server) = upstream.into_split();
    let waiting = Waiting::default();
    let (answers, to_write) = mpsc::channel(MOST_WAITING);
    let relaying = async {
        let asking = ask(
            relay,
            &waiting,
            (first, from_client, from),
            to_server,
            answers.clone(),
        );
        let answering = answer(relay, &waiting, from_server, answers);
        tokio::try_join!(asking, answering)
    };
    let mut writing = pin!(write(to_client, to_write));
    tokio::select! {
        // One of both is over, and with them who could have more to write.
        _ = relaying => {}
        ended = &mut writing => return ended,
    }
    writing.await
}

/// Gives the client's questions to the server.
async fn ask(
    relay: &Relay,
    waiting: &Waiting,
    (first, mut from_client, from): (Vec<u8>, OwnedReadHalf, SocketAddr),
    mut to_server: OwnedWriteHalf,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut next_message = Some(first);
    while let Some(mut query) = next_message {
        match relay.take(from, &query) {
            Taken::Nothing => {}
            Taken::Answer(answer) => drop(answers.send(answer).await),
            Taken::Ask(question, under_way) => {
                while waiting.questions.borrow().len() >= MOST_WAITING {
                    waiting.news.notified().await;
                }
                let mut id = relay.number();
                while waiting.questions.borrow().contains_key(&id) {
                    id = relay.number();
                }
                message::set_id(&mut query, id);
                waiting
                    .questions
                    .borrow_mut()
                    .insert(id, (question, under_way));
                send(&mut to_server, &query).await?;
            }
        }
        next_message = next(&mut from_client).await?;
    }
    waiting.no_more.set(true);
    waiting.news.notify_one();
    // The server may wait for that, or close: both would be too early while it owes answers.
    while !waiting.questions.borrow().is_empty() {
        waiting.news.notified().await;
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Gives the server's answers to the client.
async fn answer(
    relay: &Relay,
    waiting: &Waiting,
    mut from_server: OwnedReadHalf,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let counts = &relay.resolver().counts;
    while let Some(mut answer) = next(&mut from_server).await? {
        let id = message::id(&answer).unwrap_or_default();
        let learned = match waiting.questions.borrow().get(&id) {
            Some((question, under_way)) if question.is_answered_by(&answer, id) => {
                let learned = relay.learn(question, under_way, &answer);
                learned.map(|()| question.id)
            }
            _ => {
                counts.bad_answer();
                Err(Malformed)
            }
        };
        let Ok(asked) = learned else {
            continue; // the true one may still come
        };
        waiting.questions.borrow_mut().remove(&id);
        message::set_id(&mut answer, asked);
        if answers.send(answer).await.is_err() {
            break;
        }
        waiting.news.notify_one();
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

async fn write(
    mut to_client: OwnedWriteHalf,
    mut answers: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        send(&mut to_client, &answer).await?;
    }
    Ok(())
}

/// One message, behind its length.
async fn send(stream: &mut OwnedWriteHalf, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    timeout(IDLE, stream.write_all(&framed)).await?
}

/// The next message; none: there will be no more.
async fn next(stream: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match timeout(IDLE, stream.read_exact(&mut length)).await? {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    timeout(IDLE, stream.read_exact(&mut message)).await??;
    Ok(Some(message))
}
