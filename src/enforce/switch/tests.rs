//! A flood through every kind of change: not one denied packet arrives, none that is allowed is lost.
//!
//! A pod sends to two ports of a receiver behind the node as fast as the receiver reads. All policies
//! deny the one and allow the other, each by another kind of set. That the denied port is heard at all
//! is proven at the end, when nothing denies it any more.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlink::Netns;
use netlink::test_support::{in_fresh_netns, ip, link, new_netns, run, until, veth};
use nft::{DataType, KeyType};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rules::effective::{DefaultAction, Effective, Facts, Tier, TierRules};

use super::super::{Install, Shared};
use super::*;
use crate::plan::{AttachmentPlan, compile};
use crate::store::StateDir;

/// Of each kind of policy.
const SWITCHES: usize = 250;
/// Of every other change, which takes more steps.
const CHANGES: usize = 20;

const DENIED: u16 = 5000;
const ALLOWED: u16 = 7000;
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ID: &str = "0123456789abcdef";

/// Packets on their way at most: fewer than any queue holds.
const ROOM: u64 = 64;

fn policy(text: &str, default: DefaultAction) -> Compiled {
    let tier = TierRules::parse(Tier::Pod, "test", text, false).expect("valid rules");
    let policy = Effective::new(vec![tier], default, false, Facts::default());
    compile(&policy.expect("no unknown names"), 100)
}

/// Two policies of a kind, which differ in a rule that no packet here meets.
fn pair(text: &str) -> [Compiled; 2] {
    ["198.51.100.1", "198.51.100.2"].map(|other| {
        policy(
            &format!("{text}\ndeny proto/99 to {other}"),
            DefaultAction::Allow,
        )
    })
}

fn has_set(policy: &Compiled, wanted: impl Fn(&nft::Set) -> bool) -> bool {
    policy.sets.iter().any(|(set, _)| wanted(set))
}

fn plain() -> [Compiled; 2] {
    let both = pair(&format!("deny {DENIED}/udp to {RECEIVER}"));
    assert!(both[0].sets.is_empty());
    both
}

fn interval_set() -> [Compiled; 2] {
    let both = pair(&format!(
        "deny {DENIED}/udp to {RECEIVER}, 203.0.113.1, 203.0.113.5"
    ));
    assert!(has_set(&both[0], |set| set.interval && set.key == KeyType::Ipv4));
    both
}

fn concatenated_set() -> [Compiled; 2] {
    let rules = (0..60).map(|n| format!("deny {}/udp to {RECEIVER}, 203.0.113.{n}", DENIED + n));
    let both = pair(&rules.collect::<Vec<_>>().join("\n"));
    assert!(has_set(&both[0], |set| matches!(
        set.key,
        KeyType::Concat(_)
    )));
    both
}

fn port_map() -> [Compiled; 2] {
    let rules = (0..8).map(|n| format!("deny {}/udp to {RECEIVER}, 203.0.113.{n}", DENIED + n));
    let both = pair(&rules.collect::<Vec<_>>().join("\n"));
    assert!(has_set(&both[0], |set| {
        set.key == KeyType::Service && set.data == Some(DataType::Verdict)
    }));
    both
}

/// What was sent and what arrived.
#[derive(Default)]
struct Flood {
    /// The sender shall end, and has ended.
    ends: AtomicBool,
    ended: AtomicBool,
    sent: AtomicU64,
    arrived: AtomicU64,
    denied_sent: AtomicU64,
    denied_arrived: AtomicU64,
    /// Arrived from another address than the pod's.
    translated: AtomicU64,
}

impl Flood {
    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }

    fn on_the_way(&self) -> u64 {
        Self::count(&self.sent).saturating_sub(Self::count(&self.arrived))
    }

    /// New flows all the time: a base decides about a flow's first packet. From one CPU: conntrack may
    /// drop one of two first packets of a flow that meet on two.
    fn send(&self) {
        let mut first = CpuSet::new();
        first.set(0).expect("there is one");
        sched_setaffinity(Pid::from_raw(0), &first).expect("may be asked for");
        while !self.ends.load(Ordering::SeqCst) {
            let socket = UdpSocket::bind((POD, 0)).expect("a socket");
            for _ in 0..8 {
                let send = |port, counter: &AtomicU64| {
                    if socket.send_to(b"flood", (RECEIVER, port)).is_ok() {
                        counter.fetch_add(1, Ordering::SeqCst);
                    }
                };
                send(DENIED, &self.denied_sent);
                // What is denied needs no room, and is what may get out.
                let full = Instant::now() + Duration::from_secs(2);
                while self.on_the_way() > ROOM && Instant::now() < full {
                    send(DENIED, &self.denied_sent);
                }
                send(ALLOWED, &self.sent);
            }
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    fn receive(&self, socket: &UdpSocket, counter: &AtomicU64) {
        let mut buffer = [0; 16];
        while !self.ended.load(Ordering::SeqCst) || self.on_the_way() > 0 {
            match socket.recv_from(&mut buffer) {
                Ok((_, from)) => {
                    counter.fetch_add(1, Ordering::SeqCst);
                    if from.ip() != IpAddr::from(POD) {
                        self.translated.fetch_add(1, Ordering::SeqCst);
                    }
                }
                // Nothing for so long: what is still on its way is lost.
                Err(_) if self.ended.load(Ordering::SeqCst) => break,
                Err(_) => {}
            }
        }
    }
}

struct Node {
    pod: Netns,
    far: Netns,
    plan: AttachmentPlan,
}

impl Node {
    fn new() -> Self {
        let (pod, far) = (new_netns(), new_netns());
        veth("host0", "eth0", &pod);
        veth("up0", "eth0", &far);
        ip("addr add 10.0.0.1/24 dev host0");
        ip("addr add 192.0.2.1/24 dev up0");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a namespace of our own");
        let mac = pod.run(|| {
            ip("addr add 10.0.0.2/24 dev eth0");
            ip("route add default via 10.0.0.1");
            link("eth0").mac.expect("an Ethernet device")
        });
        let far_mac = far.run(|| {
            ip("addr add 192.0.2.2/24 dev eth0");
            ip("route add default via 192.0.2.1");
            link("eth0").mac.expect("an Ethernet device")
        });
        // Nobody has to ask for anybody in the middle of a flood.
        let known = |address, mac: [u8; 6], device| {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            ip(&format!(
                "neigh replace {address} lladdr {mac} nud permanent dev {device}"
            ));
        };
        known("192.0.2.2", far_mac.expect("a namespace"), "up0");
        let gateway = link("host0").mac.expect("an Ethernet device");
        pod.run(|| known("10.0.0.1", gateway, "eth0"))
            .expect("a namespace");
        let plan = AttachmentPlan {
            id: ID.to_owned(),
            veth: "host0".to_owned(),
            mac: mac.expect("a namespace"),
            addresses: vec![POD.into()],
            link_local: Vec::new(),
            iif: Some(link("host0").index),
            bridge: None,
            policy: String::new(),
            egress: vec![EGRESS.into()],
        };
        Self { pod, far, plan }
    }

    fn with(&self, policy: &Compiled) -> AttachmentPlan {
        AttachmentPlan {
            policy: policy.name.clone(),
            ..self.plan.clone()
        }
    }

    fn listen(&self, port: u16) -> UdpSocket {
        let socket = self.far.run(|| UdpSocket::bind((RECEIVER, port)));
        let socket = socket.expect("a namespace").expect("a socket");
        let patience = Duration::from_millis(500);
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        socket
    }

    /// Makes changes under a flood, and says what it came to.
    fn flooded(&self, denied: &UdpSocket, allowed: &UdpSocket, changes: impl FnOnce()) {
        let flood = Flood::default();
        thread::scope(|scope| {
            scope.spawn(|| flood.receive(denied, &flood.denied_arrived));
            scope.spawn(|| flood.receive(allowed, &flood.arrived));
            scope.spawn(|| self.pod.run(|| flood.send()).expect("a namespace"));
            until("the flood has begun", || {
                (Flood::count(&flood.arrived) > 100).then_some(())
            });
            changes();
            flood.ends.store(true, Ordering::SeqCst);
        });
        let count = Flood::count;
        let (sent, arrived) = (count(&flood.sent), count(&flood.arrived));
        let escaped = count(&flood.denied_arrived);
        println!("{sent} sent, {arrived} arrived, {escaped} denied ones, too");
        assert!(count(&flood.denied_sent) >= 100, "nothing was denied");
        assert_eq!(
            escaped,
            0,
            "of {} denied packets",
            count(&flood.denied_sent)
        );
        assert_eq!(arrived, sent, "allowed packets");
        assert_eq!(count(&flood.translated), 0, "inside the cluster");
    }

    /// The denied port is heard as soon as nothing denies it.
    fn is_heard(&self, socket: &UdpSocket) {
        let sent = self.pod.run(|| {
            let from = UdpSocket::bind((POD, 0)).expect("a socket");
            from.send_to(b"marker", SocketAddr::from((RECEIVER, DENIED)))
        });
        sent.expect("a namespace").expect("is sent");
        let mut buffer = [0; 16];
        let (length, _) = socket.recv_from(&mut buffer).expect("the marker arrives");
        assert_eq!(&buffer[..length], b"marker");
    }
}

fn base(more: &str) -> Base {
    let cluster = ["10.0.0.0/8", "192.0.2.0/24", more];
    Base::new(&cluster.map(|net| net.parse().expect("a network")))
}

/// What was there before `judged4` was.
#[test]
fn pods_of_an_older_layout_are_known_to_be_judged() {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let (node, base) = (Node::new(), base("198.51.100.0/24"));
        let mut nft = Nft::open().expect("a socket");
        let [policy, _] = plain();
        install(&node.with(&policy), &policy, &base, false).commit_with(&mut nft, &state);
        for change in [
            "flush chain inet egressway opened",
            "delete element inet egressway judged4 { 10.0.0.2 }",
            "add chain inet egressway related",
            "add rule inet egressway related accept",
        ] {
            run("nft", &[change]);
        }
        let mut ledger = Ledger::open(&state, &mut nft).expect("the kernel tells");
        put_base(&mut nft, &mut ledger, &base).expect("the kernel takes it");
        let judged = nft.addresses(&INET, base::judged(Family::V4));
        assert_eq!(judged.expect("the kernel tells"), [IpAddr::from(POD)]);
        assert!(nft.chain(&INET, "related").expect("told").is_none());
    });
}

/// Everything from the start: no rule of the kernel's outlives the namespace.
fn in_node(test: impl FnOnce(&Node, &mut Nft, &StateDir) + Send) {
    in_fresh_netns(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let node = Node::new();
        let mut nft = Nft::open().expect("a socket");
        let (denied, allowed) = (node.listen(DENIED), node.listen(ALLOWED));
        let first = &plain()[0];
        install(&node.with(first), first, &base("198.51.100.0/24"), false)
            .commit_with(&mut nft, &state);
        node.flooded(&denied, &allowed, || test(&node, &mut nft, &state));
        let open = policy("", DefaultAction::Allow);
        move_to(&mut nft, &state, &open);
        node.is_heard(&denied);
        let left = run("nft", &["list", "table", "inet", "egressway"]);
        assert!(left.contains("iif != \"host0\""), "{left}");
        let policies = left.lines().filter(|line| line.contains("chain pol-"));
        assert_eq!(policies.count(), open.chains.len(), "{left}");
    });
}

/// An installation without its loans.
struct Whole {
    plan: AttachmentPlan,
    policy: Compiled,
    base: Base,
    running: bool,
}

fn install(plan: &AttachmentPlan, policy: &Compiled, base: &Base, running: bool) -> Whole {
    Whole {
        plan: plan.clone(),
        policy: policy.clone(),
        base: base.clone(),
        running,
    }
}

impl Whole {
    fn commit_with(&self, nft: &mut Nft, state: &StateDir) {
        let shared = Shared {
            marker: self.base.marker(),
            base: &|| Ok(Cow::Borrowed(&self.base)),
            policy: &|| Ok(Cow::Borrowed(&self.policy)),
        };
        let install = Install {
            attachment: &self.plan,
            shared: &shared,
            before: self.running.then_some(self.policy.name.as_str()),
            bridge_ports: &[],
            previous: &[],
        };
        let mut ledger = Ledger::open(state, nft).expect("the kernel tells");
        install
            .commit(nft, &mut ledger)
            .expect("the kernel takes it");
    }
}

fn move_to(nft: &mut Nft, state: &StateDir, policy: &Compiled) {
    let mut ledger = Ledger::open(state, nft).expect("the kernel tells");
    let moves = [Move { id: ID, policy }];
    switch(nft, &mut ledger, &moves).expect("the kernel takes it");
}

#[test]
fn a_switch_lets_nothing_out_and_loses_nothing() {
    in_node(|_, nft, state| {
        for kind in [plain, interval_set, concatenated_set, port_map] {
            let both = kind();
            for policy in both.iter().cycle().take(SWITCHES) {
                move_to(nft, state, policy);
            }
        }
    });
}

#[test]
fn an_add_with_other_rules_lets_nothing_out_and_loses_nothing() {
    in_node(|node, nft, state| {
        for kind in [plain, interval_set, concatenated_set, port_map] {
            let both = kind();
            for policy in both.iter().cycle().take(CHANGES) {
                let base = base("198.51.100.0/24");
                install(&node.with(policy), policy, &base, true).commit_with(nft, state);
            }
        }
    });
}

#[test]
fn mending_a_policy_lets_nothing_out_and_loses_nothing() {
    in_node(|node, nft, state| {
        for kind in [plain, interval_set, concatenated_set, port_map] {
            let [policy, _] = kind();
            let base = base("198.51.100.0/24");
            let whole = install(&node.with(&policy), &policy, &base, true);
            whole.commit_with(nft, state);
            for _ in 0..CHANGES {
                // Behind its last one: it harms nobody, and has to go.
                let foreign = Rule::new().counter().in_chain(&*policy.name);
                nft.commit(Transaction::new().add(&INET, foreign))
                    .expect("the kernel takes it");
                assert!(damaged_policy(nft, &policy).expect("told").is_some());
                whole.commit_with(nft, state);
                assert!(damaged_policy(nft, &policy).expect("told").is_none());
            }
        }
    });
}

/// One of the two tables is deleted: what the other one still has of a policy is not taken for nothing, and the
/// policy is whole again with the next pod that has it, and with the same one.
#[test]
fn a_policy_of_which_one_table_is_left_becomes_whole() {
    let both = policy("allow 9/udp to multicast\ndeny 5/tcp", DefaultAction::Allow);
    assert!(both.multicast.is_some());
    for deleted in ["inet", "netdev"] {
        for running in [false, true] {
            in_fresh_netns(|| {
                let dir = tempfile::tempdir().expect("a directory");
                let state = StateDir::new(dir.path());
                let (node, base) = (Node::new(), base("198.51.100.0/24"));
                let mut nft = Nft::open().expect("a socket");
                let first = node.with(&both);
                install(&first, &both, &base, false).commit_with(&mut nft, &state);
                let second = AttachmentPlan {
                    id: "fedcba9876543210".to_owned(),
                    veth: "up0".to_owned(),
                    addresses: vec![Ipv4Addr::new(10, 0, 0, 3).into()],
                    egress: Vec::new(),
                    ..first.clone()
                };
                install(&second, &both, &base, false).commit_with(&mut nft, &state);
                run("nft", &["delete", "table", deleted, "egressway"]);
                let again = install(&first, &both, &base, running);
                again.commit_with(&mut nft, &state);
                assert_eq!(damaged_policy(&mut nft, &both).expect("told"), None);
            });
        }
    }
}

#[test]
fn another_base_lets_nothing_out_and_loses_nothing() {
    in_node(|node, nft, state| {
        let [policy, _] = interval_set();
        let bases = ["198.51.100.0/24", "203.0.113.0/24"].map(base);
        for base in bases.iter().cycle().take(CHANGES) {
            install(&node.with(&policy), &policy, base, true).commit_with(nft, state);
            assert_eq!(damaged_base(nft, base).expect("told"), None);
        }
        // A network that is missing is put back the same way.
        let [_, current] = &bases;
        for _ in 0..CHANGES {
            let set = current.marker();
            let element = format!("delete element inet egressway {set} {{ 203.0.113.0/24 }}");
            run("nft", &[&element]);
            assert!(damaged_base(nft, current).expect("told").is_some());
            install(&node.with(&policy), &policy, current, true).commit_with(nft, state);
            assert!(damaged_base(nft, current).expect("told").is_none());
        }
    });
}
