//! Clients of all kinds.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as Stream;

use netlink::nflog::Lost;
use netlink::test_support::soon;

use super::*;
use crate::verdicts::client::{self, Client, Said, Wanted};
use crate::verdicts::ring::Entry;

struct Agent {
    dir: tempfile::TempDir,
    hub: Hub,
}

impl Agent {
    fn start() -> Agent {
        let agent = Agent {
            dir: tempfile::tempdir().expect("a directory"),
            hub: Hub::default(),
        };
        agent.hub.set_reading(Reading::Now {
            tells_original: true,
        });
        agent.serve();
        agent
    }

    fn serve(&self) {
        let served = Served {
            hub: self.hub.clone(),
            group: 100,
            node: Arc::new(|| Node {
                v: 1,
                node: Some("a".to_owned()),
                ..Node::default()
            }),
            names: {
                let state = crate::store::StateDir::new(self.dir.path());
                let resolver = Resolver::new(state, Duration::from_secs(60));
                Arc::new(resolver.expect("sockets"))
            },
        };
        start(served, self.dir.path().to_owned()).expect("a thread");
        while Stream::connect(self.path()).is_err() {
            assert!(Instant::now() < soon(), "it never listens");
        }
    }

    fn path(&self) -> PathBuf {
        wire::socket(self.dir.path())
    }

    fn log(&self, port: u16) {
        let line = crate::verdicts::test_support::line(
            1,
            &format!("shop/web deny pod:1 tcp 203.0.113.9 {port}"),
        );
        let entry = Entry {
            line: line.json().into_bytes().into(),
            ether_type: 0x0800,
            packet: vec![0x45; 4].into(),
        };
        self.hub.push(vec![entry], Lost::default());
    }

    fn ask(&self, question: &[u8]) -> BufReader<Stream> {
        let mut stream = Stream::connect(self.path()).expect("it listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        // It may have answered before all was said.
        let _ = stream.write_all(question);
        BufReader::new(stream)
    }

    fn answer(&self, question: &str) -> String {
        let mut text = String::new();
        let _ = self.ask(question.as_bytes()).read_to_string(&mut text);
        text
    }
}

/// Takes until so many lines have come; their ports.
fn ports(client: &mut Client, count: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    let until = soon();
    while ports.len() < count {
        assert!(Instant::now() < until, "only {ports:?}");
        for said in client.receive().expect("an agent") {
            if let Said::Line(message) = said {
                ports.extend(message.line.destination_port);
            }
        }
    }
    ports
}

const FOLLOW: Wanted = Wanted {
    since: None,
    follow: true,
    packets: false,
};

#[test]
fn any_number_of_readers_get_the_same_lines() {
    let agent = Agent::start();
    agent.log(1);
    let mut readers: Vec<Client> = (0..10)
        .map(|_| Client::open(agent.dir.path(), FOLLOW).expect("an agent"))
        .collect();
    let since = Wanted {
        since: Some(Duration::from_secs(60)),
        ..FOLLOW
    };
    let mut late = Client::open(agent.dir.path(), since).expect("an agent");
    agent.log(2);
    agent.log(3);
    for reader in &mut readers {
        assert_eq!(ports(reader, 2), [2, 3]);
    }
    assert_eq!(ports(&mut late, 3), [1, 2, 3]);
    let whole = Wanted {
        follow: false,
        packets: true,
        ..since
    };
    let mut whole = Client::open(agent.dir.path(), whole).expect("an agent");
    let mut packets = Vec::new();
    'all: loop {
        for said in whole.receive().expect("an agent") {
            match said {
                Said::Line(message) => packets.extend(message.logged()),
                Said::End => break 'all,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(packets.len(), 3);
    assert_eq!(
        (packets[0].payload.len(), &*packets[0].prefix),
        (4, "egressway pod:1 deny")
    );
}

#[test]
fn the_socket_is_roots_alone_and_comes_back() {
    let agent = Agent::start();
    let mode = || std::fs::metadata(agent.path()).map(|file| file.permissions().mode() & 0o777);
    assert_eq!(mode().expect("a socket"), 0o600);
    std::fs::remove_file(agent.path()).expect("removable");
    let until = soon();
    while mode().is_err() {
        assert!(Instant::now() < until, "it never comes back");
    }
    assert_eq!(
        client::node(agent.dir.path())
            .expect("an answer")
            .node
            .as_deref(),
        Some("a")
    );
}

#[test]
fn a_reader_outlives_the_agent() {
    let first = Agent::start();
    let mut reader = Client::open(first.dir.path(), FOLLOW).expect("an agent");
    first.log(1);
    assert_eq!(ports(&mut reader, 1), [1]);
    thread::sleep(Duration::from_millis(500));
    // As if the process had ended: nobody is at the other end.
    reader.cut();
    let said = reader.receive().expect("no error");
    assert!(matches!(said[..], [Said::Gone]), "{said:?}");
    assert!(reader.lost().more);
    first.log(2); // what another agent has read by the time it is asked
    assert_eq!(ports(&mut reader, 1), [2]);
}

#[test]
fn who_asks_wrongly_is_told_so() {
    let agent = Agent::start();
    for (question, wanted) in [
        ("\n", "is not understood"),
        ("GET / HTTP/1.1\r\n\r\n", "is not understood"),
        (
            "{\"v\":2,\"want\":\"dance\"}\n",
            "speaks version 1, and was asked in version 2",
        ),
        ("{\"v\":1,\"want\":\"dance\"}\n", "is not understood"),
        (
            "{\"v\":1,\"want\":\"verdicts\",\"since\":\"x\"}\n",
            "is not understood",
        ),
        (&"x".repeat(100_000), "at most 4096 bytes"),
    ] {
        let answer = agent.answer(question);
        // A reset can overtake the answer to what is too long.
        let is_cut = question.len() > LONGEST && answer.is_empty();
        assert!(answer.contains(wanted) || is_cut, "{answer}");
    }
    for seconds in ["-1.0", "1e300", "0.0"] {
        let answer = agent.answer(&format!(
            "{{\"v\":1,\"want\":\"verdicts\",\"since\":{seconds}}}\n"
        ));
        assert!(
            answer.starts_with("{\"kind\":\"begin\",\"v\":1,"),
            "{answer}"
        );
    }
}

#[test]
fn thousands_of_connections_keep_nobody_from_the_log_for_long() {
    let agent = Agent::start();
    let mut kept = Vec::new();
    for _ in 0..3000 {
        // This process has a limit of its own.
        kept.extend(Stream::connect(agent.path()).ok());
        if kept.len() == 500 {
            kept.truncate(400);
        }
    }
    let mut refused = String::new();
    let last = kept.last_mut().expect("connections");
    last.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    BufReader::new(last)
        .read_line(&mut refused)
        .expect("an answer");
    assert!(
        refused.contains("readers are served already") || refused.contains("took too long"),
        "{refused}"
    );
    // Those who ask nothing have to leave; nothing is asked of the others.
    let until = Instant::now() + 4 * ASK;
    let mut reader = loop {
        match Client::open(agent.dir.path(), FOLLOW) {
            Ok(reader) => break reader,
            Err(e) => assert!(Instant::now() < until, "{e}"),
        }
        thread::sleep(Duration::from_millis(50));
    };
    agent.log(7);
    assert_eq!(ports(&mut reader, 1), [7]);
}

#[test]
fn a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_misses() {
    let agent = Agent::start();
    let mut still = agent.ask(b"{\"v\":1,\"want\":\"verdicts\",\"follow\":true}\n");
    let mut begin = String::new();
    still.read_line(&mut begin).expect("an answer");
    let mut quick = Client::open(agent.dir.path(), FOLLOW).expect("an agent");
    const LINES: u64 = 150_000;
    let mut seen = 0;
    let mut take = |quick: &mut Client| {
        let said = quick.receive().expect("an agent");
        seen += said
            .iter()
            .filter(|said| matches!(said, Said::Line(_)))
            .count() as u64;
        seen + quick.lost().messages
    };
    for n in 0..LINES {
        agent.log((n % 60_000) as u16);
        if n % 30 == 0 {
            take(&mut quick);
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    while take(&mut quick) < LINES {
        assert!(Instant::now() < until, "it never gets all");
    }
    let (mut seen, mut lost) = (0, 0);
    let mut line = String::new();
    while seen + lost < LINES {
        line.clear();
        still.read_line(&mut line).expect("a line");
        let value: serde_json::Value = serde_json::from_str(&line).expect("whole lines");
        match value["lost"].as_u64() {
            Some(n) => lost += n,
            None => seen += 1,
        }
    }
    assert!(lost > 0 && seen + lost == LINES, "{seen} {lost}");
}
