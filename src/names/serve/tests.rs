use super::*;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket as StdUdp};
use std::time::Instant;

use netlink::test_support::{in_fresh_netns, ip};

use crate::names::message::{self, A, Question};
use crate::names::test_support::{ID, answer, query, record};
use crate::store::StateDir;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long something may take that has to come.
const LONG: Duration = Duration::from_secs(20);

/// What the server says: the first label of a name says how.
fn said(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    let question = Question::parse(query).expect("a question");
    let name = question.name.as_str();
    let good = |flags: u16, records: &[Vec<u8>]| {
        let mut message = answer(name, A, flags, records);
        message::set_id(&mut message, question.id);
        // As it was asked, in the same case.
        let end = 12 + name.len() + 2;
        message[12..end].copy_from_slice(&query[12..end]);
        message
    };
    let a = record(A, 60, &[203, 0, 113, 7]);
    match name.split('.').next() {
        Some("silent") => Vec::new(),
        Some("cut") if !by_tcp => vec![good(0x0200, &[])],
        Some("forged") => {
            let mut other_id = good(0, &[record(A, 60, &[6, 6, 6, 6])]);
            message::set_id(&mut other_id, !question.id);
            let mut other_name = answer("evil.test", A, 0, &[record(A, 60, &[6, 6, 6, 6])]);
            message::set_id(&mut other_name, question.id);
            let broken = good(0, &[a.clone()[..9].to_vec()]);
            vec![
                other_id,
                other_name,
                vec![1, 2, 3],
                query.to_vec(),
                broken,
                good(0, &[a]),
            ]
        }
        Some("large") => vec![good(0, &vec![a; 1000])],
        _ => vec![good(0, &[a])],
    }
}

/// A server of this namespace at port 53, until the test is over.
fn server() {
    let udp = StdUdp::bind((SERVER, 53)).expect("a port");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            for message in said(&buffer[..length], false) {
                udp.send_to(&message, from).expect("sent");
            }
        }
    });
    let tcp = std::net::TcpListener::bind((SERVER, 53)).expect("a port");
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                while let Some(query) = read(&mut stream) {
                    for message in said(&query, true) {
                        write(&mut stream, &message);
                    }
                }
            });
        }
    });
}

fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

fn write(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    stream
        .write_all(&[&length[..], message].concat())
        .expect("sent");
}

/// Where questions to the first server are taken.
fn at() -> SocketAddr {
    Led::all(&[SERVER]).next().expect("one").at()
}

fn started(dir: &tempfile::TempDir) -> ResolverThreads {
    let state = StateDir::new(dir.path());
    let resolver = Resolver::new(state, Duration::from_secs(60)).expect("sockets");
    let names = ResolverThreads::start(Arc::new(resolver)).expect("threads");
    names.set_servers(vec![SERVER]);
    until("it listens", || TcpStream::connect(at()).is_ok());
    names
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < end, "{what}: not in time");
        thread::sleep(Duration::from_millis(5));
    }
}

fn client() -> StdUdp {
    let socket = StdUdp::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    socket.connect(at()).expect("a way");
    socket.set_read_timeout(Some(LONG)).expect("set");
    socket
}

fn ask(client: &StdUdp, message: &[u8]) -> Vec<u8> {
    client.send(message).expect("sent");
    let mut buffer = [0; 65535];
    let length = client.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

fn addresses(name: &str, message: &[u8]) -> usize {
    let question = Question::parse(&query(name, A)).expect("a question");
    assert!(question.is_answered_by(message, ID), "{message:?}");
    question
        .addresses(message, 2000)
        .expect("an answer")
        .found
        .len()
}

fn count(names: &ResolverThreads, outcome: &str) -> u64 {
    let mut outcomes = names.resolver().counts.outcomes();
    outcomes
        .find(|(name, _)| *name == outcome)
        .expect("known")
        .1
}

fn in_a_node(test: impl FnOnce(&tempfile::TempDir) + Send) {
    in_fresh_netns(|| {
        ip("route add local 169.254.20.11/32 dev lo");
        server();
        test(&tempfile::tempdir().expect("a directory"));
    });
}

#[test]
fn answers_are_relayed_as_they_are() {
    in_a_node(|dir| {
        let names = started(dir);
        let client = client();
        for name in ["api.example.com", "Api.EXAMPLE.com", "forged.example.com"] {
            let answer = ask(&client, &query(name, A));
            assert_eq!(addresses(name, &answer), 1, "{name}");
            assert_eq!(
                answer[12..12 + name.len() + 2],
                query(name, A)[12..12 + name.len() + 2]
            );
        }
        assert_eq!(names.resolver().counts.bad_answers(), 5);
        // A and AAAA from one socket, as glibc asks, and answers in whatever order.
        let mut other = query("b.example.com", A);
        message::set_id(&mut other, !ID);
        client.send(&other).expect("sent");
        assert!(
            !ask(&client, &query("silent.example.com", A)).is_empty(),
            "the other one's"
        );
        // Large ones, and those that are cut.
        let large = ask(&client, &query("large.example.com", A));
        assert_eq!(large.len(), 12 + 23 + 1000 * 16);
        let cut = ask(&client, &query("cut.example.com", A));
        assert_eq!((cut[2] & 2, addresses("cut.example.com", &cut)), (2, 0));
        // What is no question gets no answer, and the next one does.
        for bad in [&[][..], &[0; 12], &[0xff; 600], &cut] {
            client.send(bad).expect("sent");
        }
        assert_eq!(
            addresses("c.example.com", &ask(&client, &query("c.example.com", A))),
            1
        );
        assert_eq!(count(&names, "malformed"), 4);
        names.end();
    });
}

#[test]
fn connections_are_relayed_too() {
    in_a_node(|dir| {
        let names = started(dir);
        let mut stream = TcpStream::connect(at()).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("set");
        // Several at once, and the answers after the client has said all.
        for name in [
            "cut.example.com",
            "large.example.com",
            "forged.example.com",
            "silent.example.com",
        ] {
            write(&mut stream, &query(name, A));
        }
        for name in ["cut.example.com", "large.example.com", "forged.example.com"] {
            let answer = read(&mut stream).expect("an answer");
            assert_eq!(addresses(name, &answer), 1, "{name}");
        }
        let mut stream = TcpStream::connect(at()).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("set");
        write(&mut stream, &query("api.example.com", A));
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        assert_eq!(
            addresses("api.example.com", &read(&mut stream).expect("an answer")),
            1
        );
        assert_eq!(read(&mut stream), None, "it ends, too");
        names.end();
    });
}

#[test]
fn one_pod_cannot_take_all_there_is() {
    in_a_node(|dir| {
        let names = started(dir);
        let client = client();
        for n in 0..1100_u16 {
            let mut query = query("silent.example.com", A);
            message::set_id(&mut query, n);
            client.send(&query).expect("sent");
            if n % 50 == 0 {
                thread::sleep(Duration::from_millis(5)); // the receiver's buffer is bounded, too
            }
        }
        until("the rest is refused", || count(&names, "limited") == 100);
        // Another one is served.
        let other = StdUdp::bind("127.0.0.2:0").expect("a port");
        other.connect(at()).expect("a way");
        other.set_read_timeout(Some(LONG)).expect("set");
        assert_eq!(
            addresses(
                "api.example.com",
                &ask(&other, &query("api.example.com", A))
            ),
            1
        );
        // They are over by and by.
        until("the first ones are given up", || {
            count(&names, "timeout") == 1000
        });
        assert_eq!(
            addresses(
                "api.example.com",
                &ask(&client, &query("api.example.com", A))
            ),
            1
        );
        names.end();
    });
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    in_fresh_netns(|| {
        ip("route add local 169.254.20.11/32 dev lo");
        let dir = tempfile::tempdir().expect("a directory");
        let names = started(&dir);
        let answer = ask(&client(), &query("api.example.com", A));
        assert_eq!((answer[3] & 15, answer.len()), (2, 12 + 17 + 4));
        assert_eq!(count(&names, "unreachable"), 1);
        names.end();
    });
}

#[test]
fn a_successor_takes_over_without_a_lost_question() {
    in_a_node(|dir| {
        let mut names = started(dir);
        let stop = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let stop = Arc::clone(&stop);
                let here = netlink::Netns::current().expect("a namespace");
                thread::spawn(move || {
                    here.run(|| {
                        let mut answered = 0_u32;
                        while !stop.load(Ordering::Relaxed) {
                            let client = client();
                            client
                                .set_read_timeout(Some(Duration::from_secs(2)))
                                .expect("set");
                            assert_eq!(
                                addresses(
                                    "a.example.com",
                                    &ask(&client, &query("a.example.com", A))
                                ),
                                1
                            );
                            answered += 1;
                        }
                        answered
                    })
                    .expect("a namespace")
                })
            })
            .collect();
        for _ in 0..10 {
            let old = std::mem::replace(&mut names, started(dir));
            thread::sleep(Duration::from_millis(20));
            old.end();
        }
        stop.store(true, Ordering::Relaxed);
        let answered: u32 = asking
            .into_iter()
            .map(|one| one.join().expect("none was lost"))
            .sum();
        assert!(answered > 100, "{answered}");
        names.end();
        assert!(TcpStream::connect(at()).is_err(), "nobody listens any more");
    });
}

#[test]
fn one_that_hangs_listens_no_more_until_it_goes_on() {
    in_a_node(|dir| {
        let names = started(dir);
        {
            // As if another part held it for ever.
            let _held = names.resolver().hold();
            let client = client();
            client.send(&query("api.example.com", A)).expect("sent");
            until("nobody listens", || TcpStream::connect(at()).is_err());
        }
        until("somebody listens", || TcpStream::connect(at()).is_ok());
        assert_eq!(
            addresses(
                "api.example.com",
                &ask(&client(), &query("api.example.com", A))
            ),
            1
        );
        names.end();
    });
}
