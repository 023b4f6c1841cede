//! A full node: many pods, many calls at once, many connections, and what runs out.
//!
//! `EGRESSWAY_CHURN_SECONDS` says how long pods come and go, here and in [`crate::churn`]; a few seconds if
//! it is not set.

use crate::faults::left;
use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node};
use crate::harness::exec;
use crate::harness::node::{EXT, FAR, ip};
use crate::harness::*;
use serde_json::Value;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// As many as Kubernetes' largest node plans for.
const PODS: usize = 250;
/// How many calls are made at the same moment.
const AT_ONCE: usize = 100;

/// How long pods come and go.
pub fn churn_time() -> Duration {
    let seconds = std::env::var("EGRESSWAY_CHURN_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Two namespaces, one of them with egress addresses; ten policies.
fn spec(n: usize) -> PodSpec {
    let namespace = if n.is_multiple_of(2) { "shop" } else { "other" };
    PodSpec::new(&format!("p{n}"), Primary::Calico)
        .namespace(namespace)
        .uncovered()
        .rules(&format!(
            "deny 8{}/tcp to 192.0.2.1, 198.51.100.7\nallow",
            n % 10
        ))
}

/// A call as a runtime makes it: again, where trying again can help.
fn call(pod: &Pod<'_>, verb: &str) {
    for _ in 0..5 {
        let run = pod.ours(verb);
        if run.succeeded() {
            return;
        }
        assert_eq!(run.error().code, 11, "{verb}: {:?}", run.output);
        println!("{verb}: {}", run.error().msg);
    }
    panic!("{verb} of {} never succeeds", pod.spec.name);
}

/// Carries out a call for each of the pods, all at the same moment.
fn at_once(pods: &[Pod<'_>], verb: &str) {
    let start = Barrier::new(pods.len());
    let times: Vec<Duration> = thread::scope(|scope| {
        let calls: Vec<_> = pods
            .iter()
            .map(|pod| {
                scope.spawn(|| {
                    start.wait();
                    let started = Instant::now();
                    call(pod, verb);
                    started.elapsed()
                })
            })
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().expect("a call"))
            .collect()
    });
    report(&format!("{verb}, {} at once", pods.len()), &times);
}

fn report(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
    println!(
        "{what}: {} calls, median {:?}, 99 % {:?}",
        sorted.len(),
        at(50),
        at(99)
    );
}

/// Everything of ours is there as often as it must be for these many pods.
pub fn assert_counts(node: &Node, pods: usize, policies: usize) {
    let objects = node.objects();
    let of = |prefix: &str| {
        objects
            .iter()
            .filter(|o| o.contains(&format!(" chain {prefix}")))
            .count()
    };
    for prefix in ["pod-", "if-", "nd-"] {
        assert_eq!(of(prefix), pods, "{prefix}");
    }
    let names = objects
        .iter()
        .filter_map(|o| o.strip_prefix("inet chain pol-"));
    let mut names: Vec<&str> = names
        .map(|name| name.split('-').next().unwrap_or(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), policies, "policies");
    for set in ["pod4", "pod6"] {
        assert_eq!(
            node.elements(set).matches("goto pod-").count(),
            pods,
            "{set}"
        );
    }
    assert_eq!(node.records().len(), pods, "records");
    let links = std::fs::read_dir(node.state_dir().join("links")).expect("links");
    assert_eq!(links.count(), pods, "notes of links");
}

#[test]
fn a_full_node_churns() {
    let churn = churn_time();
    let node = shop_node();
    let _servers = node.serve_ext(&[7]);
    // The veths first: they are not what is measured.
    let slots: Vec<Mutex<Option<Pod<'_>>>> = (0..PODS).map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (node, slots) = (&node, &slots);
            scope.spawn(move || {
                for n in (worker..PODS).step_by(8) {
                    *slots[n].lock().expect("a slot") = Some(node.pod(spec(n)));
                }
            });
        }
    });
    let pods: Vec<Pod<'_>> = slots
        .into_iter()
        .map(|slot| slot.into_inner().expect("a slot").expect("a pod"))
        .collect();
    for pods in pods.chunks(AT_ONCE) {
        at_once(pods, "ADD");
    }
    assert_counts(&node, PODS, 10);
    assert_eq!(has_egress_addresses(&node), [true, true]);

    // The first pod talks all the time, the others come and go.
    let (steady, others) = pods.split_first().expect("pods");
    let (over, sent, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let times = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = steady
                .netns
                .run(|| UdpSocket::bind((steady.v4, 0)).expect("a socket"));
            socket
                .set_read_timeout(Some(exec::seconds(5)))
                .expect("a timeout");
            let mut answer = [0; 64];
            while !over.load(Ordering::Relaxed) {
                socket.send_to(b"x", (ip(FAR[0]), 7)).expect("sent");
                sent.fetch_add(1, Ordering::Relaxed);
                match socket.recv(&mut answer) {
                    // Always by the same address.
                    Ok(length) => assert_eq!(&answer[..length], EGRESS[0].as_bytes()),
                    Err(_) => {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let end = Instant::now() + churn;
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let times = &times;
                scope.spawn(move || {
                    for n in (worker..others.len()).step_by(4).cycle() {
                        if Instant::now() > end {
                            return;
                        }
                        let started = Instant::now();
                        call(&others[n], "DEL");
                        call(&others[n], "ADD");
                        times.lock().expect("times").push(started.elapsed());
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
        over.store(true, Ordering::Relaxed);
    });
    let times = times.into_inner().expect("times");
    let (first, last) = times.split_at(times.len() / 2);
    report("DEL and ADD, first half", first);
    report("DEL and ADD, second half", last);
    let (sent, lost) = (sent.into_inner(), lost.into_inner());
    println!("{sent} packets sent beside it, {lost} lost");
    assert!(
        sent > 20 && times.len() > 8,
        "{sent} packets, {} rounds",
        times.len()
    );
    assert_eq!(lost, 0, "of {sent}");
    assert_counts(&node, PODS, 10);
    let output = node.tool("sync -o json");
    let report: Value = serde_json::from_str(&output.stdout_text()).expect("JSON");
    assert_eq!(
        (&report["changes"], &report["compared"]),
        (&Value::Array(vec![]), &PODS.into())
    );
    for pods in pods.chunks(AT_ONCE) {
        at_once(pods, "DEL");
    }
    assert_eq!(left(&node), Vec::<String>::new());
    assert_eq!(has_egress_addresses(&node), [false, false]);
}

/// The outside says nothing about closed ports.
fn quiet(node: &Node) {
    node.ext.nft(
        "add table inet quiet
         add chain inet quiet in { type filter hook input priority 0; }
         add rule inet quiet in udp dport 1000-60000 drop",
    );
}

fn connections(node: &Node, pod: &Pod<'_>) -> usize {
    let list = node.netns.exec(&format!("conntrack -L -s {}", pod.v4));
    list.lines().count()
}

#[test]
fn a_pod_with_twenty_thousand_connections() {
    let node = shop_node();
    quiet(&node);
    let pod = node.pod(PodSpec::new("a", Primary::Ptp));
    let bystander = node.pod(PodSpec::new("b", Primary::Ptp));
    let send = |pod: &Pod<'_>, ports: std::ops::Range<u16>| {
        let socket = pod
            .netns
            .run(|| UdpSocket::bind((pod.v4, 0)).expect("a socket"));
        for port in ports {
            socket.send_to(b"x", (ip(FAR[0]), port)).expect("sent");
        }
    };
    send(&pod, 20_000..40_000);
    send(&bystander, 20_000..20_010);
    let there = connections(&node, &pod);
    assert!(there > 19_000, "{there} connections");
    let del = pod.ours("DEL");
    println!("DEL with {there} connections: {:?}", del.output.took);
    del.ok();
    assert_eq!(connections(&node, &pod), 0);
    assert_eq!(connections(&node, &bystander), 10);
    pod.ours("ADD").ok();
    assert_eq!(pod.ours("CHECK").ok(), "");
    pod.delete();
    bystander.delete();
    assert_eq!(left(&node), Vec::<String>::new());
}

/// Two pods behind one address, each from all ports below 512 to one destination: NAT keeps such
/// ports below 512, so that half of the connections find none. The operator sees it.
#[test]
fn an_egress_address_whose_ports_run_out_is_seen() {
    let node = shop_node();
    quiet(&node);
    let pods = ["a", "b"].map(|name| node.pod(PodSpec::new(name, Primary::Ptp)));
    let failed = || {
        let list = node.tool_json("show -o json");
        list["connectionsFailed"].as_u64().expect("a number")
    };
    assert_eq!(failed(), 0);
    for pod in &pods {
        pod.netns.run(|| {
            for port in 1..512 {
                let socket = UdpSocket::bind((pod.v4, port)).expect("a port");
                // The kernel may say that it could not.
                let _ = socket.send_to(b"x", (ip(FAR[0]), 9999));
            }
        });
    }
    let seen = failed();
    assert!(seen > 300, "{seen}: {}", node.netns.exec("conntrack -S"));
    let text = node.tool("show").stdout_text();
    assert!(text.contains("no free port"), "{text}");
}

/// More log messages than anybody can write down: the node's work goes on, and what was lost is told.
#[test]
fn a_log_storm() {
    let node = Node::new(NodeOptions::default());
    node.set_policy(&Policy::default().set("limits", serde_json::json!({"logPerSecond": 10000})));
    quiet(&node);
    let pod = node.pod(
        PodSpec::new("a", Primary::Ptp).rules("deny udp to any log=10000/s name=storm\nallow"),
    );
    // A reader that does not get to read: its pipe is full.
    let reader = node
        .netns
        .spawn(&mut node.tool_command("logs --count 3000"));
    let socket = pod
        .netns
        .run(|| UdpSocket::bind((pod.v4, 0)).expect("a socket"));
    let started = Instant::now();
    let storming = || {
        for _ in 0..5000 {
            let _ = socket.send_to(b"x", (ip(EXT[0]), 9999));
        }
    };
    let denied = || {
        let list = node.tool_json("show -o json");
        list["attachments"][0]["denied"]["packets"]
            .as_u64()
            .expect("a number")
    };
    while denied() < 100_000 || started.elapsed() < Duration::from_secs(3) {
        storming();
        assert!(started.elapsed() < exec::seconds(60), "{} denied", denied());
    }
    let others = node.pod(PodSpec::new("b", Primary::Ptp).rules("deny 81/tcp"));
    assert_eq!(others.ours("CHECK").ok(), "");
    others.delete();
    // Now it is read, and sees that it missed some, while the storm goes on.
    let over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                storming();
            }
        });
        let ended = exec::finish(reader, b"", "logs");
        over.store(true, Ordering::Relaxed);
        ended
    });
    assert!(
        ended.stderr.contains("lost"),
        "{:?}, {} bytes of lines",
        ended.stderr,
        ended.stdout.len()
    );
    pod.delete();
    node.assert_nothing_left();
}
