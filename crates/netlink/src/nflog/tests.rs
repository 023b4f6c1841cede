use std::net::UdpSocket;

use super::*;
use crate::{
    test_support::{in_fresh_netns, run, soon, until},
    wait,
};

const GROUP: u16 = 100;

/// Logs what is sent to port 7000 of this host.
fn log_rule() {
    run(
        "nft",
        &["add table inet t; \
           add chain inet t out { type filter hook output priority 0; }; \
           add rule inet t out udp dport 7000 \
             log prefix \"egressway pod:erp deny\" group 100 snaplen 128 drop"],
    );
}

/// Sends so many datagrams, each with its number in it.
fn send(numbers: std::ops::Range<u32>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in numbers {
        // Dropped by the rule: the sender is told EPERM.
        let _ = socket.send_to(&number.to_be_bytes(), "127.0.0.1:7000");
    }
}

/// The next messages; waits for them.
fn next(reader: &mut Nflog) -> Vec<Logged> {
    assert!(wait::readable(&[reader.as_fd()], soon()).unwrap());
    reader.receive().unwrap()
}

/// The number in the datagram, after 20 bytes of IP header and 8 of UDP.
fn sent_number(logged: &Logged) -> u32 {
    u32::from_be_bytes(logged.payload[28..].try_into().unwrap())
}

#[test]
fn reads_what_a_rule_logs() {
    in_fresh_netns(|| {
        log_rule();
        let mut reader = Nflog::bind(GROUP, soon()).unwrap();
        assert_eq!(reader.receive().unwrap(), []);
        let before = Timestamp::now();
        send(7..8);
        let messages = next(&mut reader);
        let [logged] = &messages[..] else {
            panic!("not one message: {messages:?}");
        };
        assert_eq!(logged.prefix, "egressway pod:erp deny");
        assert_eq!(logged.hw_protocol, 0x0800);
        assert_eq!((logged.indev, logged.outdev), (None, Some(1)));
        assert_eq!(logged.physindev, None);
        assert_eq!(&logged.payload[12..20], [127, 0, 0, 1, 127, 0, 0, 1]);
        assert_eq!(sent_number(logged), 7);
        if let Some(time) = logged.time {
            // The kernel cuts the time to microseconds.
            let early = before - jiff::SignedDuration::from_micros(1);
            assert!(early <= time && time <= Timestamp::now(), "{time}");
        }
        assert_eq!(reader.lost(), Lost::default());
    });
}

#[test]
fn one_call_takes_many_messages() {
    in_fresh_netns(|| {
        log_rule();
        let mut reader = Nflog::bind(GROUP, soon()).unwrap();
        send(0..1000);
        let (mut numbers, mut calls) = (Vec::new(), 0);
        while numbers.len() < 1000 {
            let messages = next(&mut reader);
            numbers.extend(messages.iter().map(sent_number));
            calls += 1;
        }
        println!("1000 messages in {calls} calls");
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        // More where the hold-back timer of a busy machine fires in between.
        assert!(calls < 100, "{calls} calls");
        assert_eq!(reader.lost(), Lost::default());
    });
}

#[test]
fn counts_what_a_slow_reader_loses() {
    in_fresh_netns(|| {
        log_rule();
        let mut reader = Nflog::bind(GROUP, soon()).unwrap();
        reader.shrink_backlog();
        send(0..5000);
        let (mut received, mut sent) = (0, 5000);
        let first = next(&mut reader);
        received += first.len() as u64;
        assert!(reader.lost().more);
        // The last of the backlog is followed by the gap only when something new comes.
        while reader.lost().messages == 0 {
            let messages = reader.receive().unwrap();
            received += messages.len() as u64;
            if messages.is_empty() {
                send(0..1);
                sent += 1;
                received += next(&mut reader).len() as u64;
            }
        }
        while received + reader.lost().messages < sent {
            received += next(&mut reader).len() as u64;
        }
        assert_eq!(received + reader.lost().messages, sent);
        assert!(!reader.lost().more);
    });
}

#[test]
fn a_group_has_one_reader() {
    in_fresh_netns(|| {
        let first = Nflog::bind(GROUP, soon()).unwrap();
        let refusal = Nflog::bind(GROUP, soon()).unwrap_err();
        let port = own_port(&first);
        assert!(
            matches!(refusal, Error::Taken { group: GROUP, port: p } if p == port),
            "{refusal:?}"
        );
        assert_eq!(
            refusal.to_string(),
            format!(
                "cannot read NFLOG group 100: it has a reader already, probably process {port}; a group has only one"
            )
        );
        Nflog::bind(GROUP + 1, soon()).unwrap();
        drop(first);
        // What another test starts meanwhile has a copy of it until it runs its own program.
        until("the group is free", || Nflog::bind(GROUP, soon()).ok());
    });
}

#[test]
fn the_kernels_list_names_the_reader() {
    let list = "    5  71234     0 2    128     10  1\n  100   4711     3 2    128     10  1\n";
    assert_eq!(port_of_reader(list, 100), Some(4711));
    assert_eq!(port_of_reader(list, 10), None);
    assert_eq!(port_of_reader("", 100), None);
}

#[test]
fn times_are_read_as_far_as_they_make_sense() {
    let bytes = |seconds: i64, microseconds: i64| {
        [seconds.to_be_bytes(), microseconds.to_be_bytes()].concat()
    };
    let read = timestamp(&bytes(1_700_000_000, 5)).unwrap();
    assert_eq!(read.to_string(), "2023-11-14T22:13:20.000005Z");
    assert_eq!(timestamp(&bytes(i64::MAX, 0)), None);
    assert_eq!(timestamp(&bytes(0, i64::MAX)), None);
    assert_eq!(timestamp(&bytes(0, 0)[..15]), None);
}

fn own_port(reader: &Nflog) -> u32 {
    let mut address = netlink_sys::SocketAddr::new(0, 0);
    reader.socket.get_address(&mut address).unwrap();
    address.port_number()
}
