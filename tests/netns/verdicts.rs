//! Verdicts for everybody: the agent reads the groups, and hands lines and packets to whoever asks.

use crate::harness::exec::{self, limit};
use crate::harness::node::{EXT, ip};
use crate::harness::*;
use crate::install::{Paths, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// Lines as they come.
struct Lines(Receiver<Value>);

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Lines {
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if tell.send(value).is_err() {
                    return;
                }
            }
        });
        Lines(lines)
    }

    /// The next one of this kind.
    fn next(&self, kind: &str) -> Value {
        loop {
            let line = self.0.recv_timeout(limit()).expect("a line");
            if line["kind"] == kind {
                return line;
            }
        }
    }

    /// The ports to which the packets of so many lines went.
    fn ports(&self, count: usize) -> Vec<u64> {
        let port = |_| self.next("verdict")["destinationPort"].as_u64();
        (0..count)
            .map(port)
            .map(|port| port.expect("a port"))
            .collect()
    }
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(node: &Node, words: &str) -> (Running, Lines) {
    let mut command = node.tool_command(words);
    let mut child = node.netns.spawn(command.stdout(Stdio::piped()));
    let lines = Lines::of(child.stdout.take().expect("a pipe"));
    (Running(child), lines)
}

fn send(pod: &Pod<'_>, port: u16) {
    pod.netns.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"x", (ip(EXT[0]), port)).expect("send");
    });
}

/// Until the agent that this node has now reads the groups.
fn until_read(node: &Node) {
    until("the agent reads verdicts", || {
        node.tool("logs --since 1s --no-follow -o json").code == Some(0)
            && !node
                .tool("logs --since 1s --no-follow")
                .stderr
                .contains("reads no verdicts")
    });
}

const RULES: &str =
    "deny 7001/udp log=1000/s name=erp\ndeny 7002/udp log=1000/s\nallow 7003/udp log";

#[test]
fn any_number_of_readers_and_stdout_get_every_line() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let mut agent = paths.start();
    let stdout = Lines::of(agent.stdout());
    let pod = node.pod(
        PodSpec::new("web", Primary::Bridge)
            .uid("1-2-3")
            .rules(RULES),
    );
    until_read(&node);
    let readers: Vec<_> = (0..3).map(|_| started(&node, "logs -o json")).collect();
    let (_one, only) = started(&node, "logs -o json --verdict allow");
    let file = node.dir.path().join("denied.pcap");
    let capture = format!("capture web --count 2 -w {}", file.display());
    let capture = node.netns.spawn(&mut node.tool_command(&capture));
    // Whoever has read this reads all that follows.
    for reader in readers.iter().map(|(_, lines)| lines).chain([&only]) {
        let mut tries = 0;
        while reader.0.try_recv().is_err() {
            send(&pod, 7003);
            tries += 1;
            assert!(tries < 1000, "it reads nothing");
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    until("the capture has begun", || {
        std::fs::metadata(&file).is_ok_and(|file| file.len() > 0)
    });
    for port in [7001, 7002, 7003] {
        send(&pod, port);
    }
    let own = |lines: &Lines| {
        let ports = std::iter::repeat_with(|| lines.ports(1)[0]);
        let mut ports = ports.skip_while(|port| *port == 7003);
        [ports.next(), ports.next(), ports.next()].map(Option::unwrap)
    };
    for (_, reader) in &readers {
        assert_eq!(own(reader), [7001, 7002, 7003]);
    }
    assert_eq!(only.ports(1), [7003]);
    let line = loop {
        let line = stdout.next("verdict");
        if line["destinationPort"] == 7001 {
            break line;
        }
    };
    for (field, wanted) in [
        ("v", 1.into()),
        ("namespace", "shop".into()),
        ("pod", "web".into()),
        ("podUID", "1-2-3".into()),
        ("verdict", "deny".into()),
        ("rule", "pod:erp".into()),
        ("ruleLine", Value::from(1)),
        ("protocol", "udp".into()),
    ] {
        assert_eq!(line[field], wanted, "{field}: {line}");
    }
    assert_eq!(stdout.ports(2), [7002, 7003]);
    let captured = exec::finish(capture, b"", "capture");
    assert_eq!(captured.code, Some(0), "{}", captured.stderr);
    let text = node
        .netns
        .exec(&format!("tcpdump -n -t -r {}", file.display()));
    assert!(
        text.contains(".7001: ") && text.contains(".7002: "),
        "{text}"
    );
    // The packets of the last minute, without a packet.
    let since = node.tool("logs --since 1m --no-follow -o json --verdict deny");
    assert_eq!(
        since.stdout_text().lines().count(),
        2,
        "{}",
        since.stdout_text()
    );
    let older = node.tool("logs --since 2h --no-follow --verdict deny");
    assert!(
        older
            .stderr
            .contains("the agent keeps the lines of the last "),
        "{}",
        older.stderr
    );
    assert_eq!(older.stdout_text().lines().count(), 2);
}

#[test]
fn a_reader_outlives_the_agent_and_says_that_lines_may_be_lost() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules(RULES));
    // Nobody keeps anything before there is an agent.
    let none = node.tool("logs --since 1m");
    assert_eq!(none.code, Some(1));
    assert!(
        none.stderr.contains("no agent answers at "),
        "{}",
        none.stderr
    );
    let agent = paths.start();
    until_read(&node);
    let (_reader, lines) = started(&node, "logs -o json");
    let read = |port: u16| {
        until("it reads", || {
            send(&pod, port);
            thread::sleep(std::time::Duration::from_millis(50));
            lines
                .0
                .try_iter()
                .any(|line| line["destinationPort"] == port)
        });
    };
    read(7001);
    agent.kill();
    let lost = lines.next("lost");
    assert_eq!(
        (&lost["lost"], &lost["lostMore"]),
        (&0.into(), &true.into()),
        "{lost}"
    );
    let _agent = paths.start();
    read(7002);
}

#[test]
fn groups_that_somebody_else_reads_are_waited_for_and_told() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules(RULES));
    let other = Nflog::start(&node.netns, 100);
    let mut agent = paths.start();
    let stdout = Lines::of(agent.stdout());
    let told = loop {
        let line = stdout.next("log");
        let message = line["message"].as_str().expect("a text").to_owned();
        if message.contains("no verdicts are read") {
            break message;
        }
    };
    assert!(told.contains("it has a reader already"), "{told}");
    until("`logs` says so", || {
        let logs = node.tool("logs --since 1s --no-follow");
        logs.stderr
            .contains("the agent reads no verdicts at present")
    });
    drop(other);
    until_read(&node);
    send(&pod, 7001);
    assert_eq!(stdout.ports(1), [7001]);
}

/// Two agents, as in a rolling update: the new one waits, and takes over when the old one ends.
#[test]
fn an_agent_takes_over_from_the_one_before() {
    let node = Node::new(NodeOptions::default());
    let paths = Paths::new(&node);
    let pod = node.pod(PodSpec::new("web", Primary::Bridge).rules(RULES));
    let old = paths.start();
    until_read(&node);
    let mut new = paths.start();
    let stdout = Lines::of(new.stdout());
    loop {
        let line = stdout.next("log");
        if line["message"]
            .as_str()
            .expect("a text")
            .contains("no verdicts are read")
        {
            break;
        }
    }
    let (_reader, lines) = started(&node, "logs -o json");
    until("the old one hands out", || {
        send(&pod, 7001);
        thread::sleep(std::time::Duration::from_millis(50));
        lines.0.try_iter().count() > 0
    });
    old.kill();
    until("the new one hands out", || {
        send(&pod, 7002);
        thread::sleep(std::time::Duration::from_millis(50));
        lines
            .0
            .try_iter()
            .any(|line| line["destinationPort"] == 7002)
    });
}
