//! Pods come and go while everything goes wrong at once: calls are killed at random moments or meet
//! errors, containers start again under the same names and addresses, records are cut in half, and
//! others flush the tables and damage files. Meanwhile every pod that is up is tried, over and over:
//! what it may not reach never hears of it, what it may reach answers the right address. In the end
//! everything is counted.
//!
//! `EGRESSWAY_CHURN_SECONDS` makes it longer, `EGRESSWAY_CHURN_SEED` begins with other random numbers.

mod calls;
mod counted;
mod ear;
mod vandal;

use std::net::UdpSocket;
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::faults::left;
use crate::harness::egress::{EGRESS, has_egress_addresses, shop_node, uplink};
use crate::harness::node::{FAR, ip};
use crate::harness::*;
use crate::load::{assert_counts, churn_time};
use crate::sync::sync;

use calls::Tally;
use counted::{Holding, peak_of_add, peak_of_sync, processes};
use ear::{ANSWERS, DENIED, Ear};

const PODS: usize = 32;
/// Calls at work at the same moment.
const WORKERS: usize = 4;

/// One of ten policies, each with what is denied to all.
fn rules(n: usize) -> String {
    format!(
        "deny {DENIED}/udp\ndeny 8{}/tcp to 192.0.2.1, 198.51.100.7 log\nallow",
        n % 10
    )
}

/// A pod's place on the node: its containers come and go.
struct Slot<'n> {
    pod: Pod<'n>,
    sockets: [UdpSocket; 2],
}

impl<'n> Slot<'n> {
    fn new(node: &'n Node, n: usize) -> Self {
        let namespace = if n.is_multiple_of(2) { "shop" } else { "other" };
        let spec = PodSpec::new(&format!("p{n}"), Primary::Calico)
            .namespace(namespace)
            .uncovered()
            .rules(&rules(n));
        let pod = node.pod(spec);
        let sockets = pod.addresses().map(|address| {
            let socket = pod.netns.run(|| UdpSocket::bind((address, 0)));
            let socket = socket.expect("a socket");
            let patience = Some(soon());
            socket.set_read_timeout(patience).expect("a timeout");
            socket
        });
        Self { pod, sockets }
    }

    /// A pod that is up sends what it may not, and then what it may: the answer says that the node
    /// has dealt with the former.
    fn probe(&self, ear: &Ear) {
        for family in 0..2 {
            let socket = &self.sockets[family];
            let far = ip(FAR[family]);
            let source = match self.pod.spec.namespace.as_str() {
                "shop" => EGRESS[family].to_owned(),
                _ => self.pod.addresses()[family].to_string(),
            };
            let name = self.pod.spec.name.as_bytes();
            socket.send_to(name, (far, DENIED)).expect("sent");
            let mut answer = [0; 64];
            let answered = (0..5).any(|_| {
                socket.send_to(b"x", (far, ANSWERS)).expect("sent");
                match socket.recv(&mut answer) {
                    Ok(length) => {
                        let seen = String::from_utf8_lossy(&answer[..length]);
                        assert_eq!(seen, source, "where {} comes from", self.pod.spec.name);
                        true
                    }
                    Err(_) => false,
                }
            });
            let node = self.pod.node;
            assert!(
                answered,
                "{} has no network\n{}",
                self.pod.spec.name,
                node.describe()
            );
            ear.assert_heard_nothing(node);
        }
    }
}

/// What all threads share.
struct World<'n> {
    node: &'n Node,
    slots: Vec<Mutex<Slot<'n>>>,
    ear: Ear,
    /// Read by who relies on the tables' being whole, written by who breaks and mends them.
    tables: RwLock<()>,
    end: Instant,
    /// How long a call takes if nothing happens to it.
    usual: Duration,
    tally: Mutex<Tally>,
}

impl World<'_> {
    fn is_over(&self) -> bool {
        Instant::now() > self.end
    }

    fn count(&self, what: &str) {
        let mut tally = self.tally.lock().expect("the tally");
        *tally.entry(what.to_owned()).or_default() += 1;
    }

    /// One of the ways in which a container ends and the next one starts.
    fn round(&self, slot: &mut Slot<'_>, rng: &mut Rng) {
        let n = rng.usize(..10);
        match rng.u8(..6) {
            0 => {
                self.count("another container before the first one's DEL");
                let late = slot.pod.call_with("DEL", &slot.pod.spec.annotations, None);
                slot.pod.start_again();
                slot.pod.spec = slot.pod.spec.clone().rules(&rules(n));
                self.add(&slot.pod, rng);
                self.del(&late, rng);
            }
            1 => {
                self.count("rules changed by another ADD");
                slot.pod.spec = slot.pod.spec.clone().rules(&rules(n));
                self.add(&slot.pod, rng);
            }
            2 => {
                self.count("a record cut in half");
                // Who flushes the tables now leaves this pod without rules: `sync` can't read them.
                let _whole = self.tables.read().expect("the tables");
                let record = format!("attachments/{}.json", slot.pod.id());
                vandal::cut(&self.node.state_dir().join(record));
                slot.probe(&self.ear);
                self.del(&slot.pod.call("DEL"), rng);
                slot.pod.start_again();
                self.add(&slot.pod, rng);
            }
            3 => {
                self.count("another container with the same addresses at once");
                self.del(&slot.pod.call("DEL"), rng);
                slot.pod.start_again();
                slot.pod.spec = slot.pod.spec.clone().rules(&rules(n));
                self.add(&slot.pod, rng);
            }
            _ => {
                self.count("the same container added again");
                self.del(&slot.pod.call("DEL"), rng);
                slot.pod.link_anew();
                self.add(&slot.pod, rng);
            }
        }
    }

    fn work(&self, rng: &mut Rng) {
        while !self.is_over() {
            // Only one that nobody else is at.
            if let Ok(mut slot) = self.slots[rng.usize(..PODS)].try_lock() {
                self.round(&mut slot, rng);
            }
        }
    }

    fn try_all(&self) {
        while !self.is_over() {
            for slot in &self.slots {
                let _whole = self.tables.read().expect("the tables");
                if let Ok(slot) = slot.try_lock() {
                    slot.probe(&self.ear);
                    self.count("tries of a pod that is up");
                }
                // The others need the processors, too.
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn everything_goes_wrong_while_pods_come_and_go() {
    let seed = std::env::var("EGRESSWAY_CHURN_SEED").ok();
    let seed = seed
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("EGRESSWAY_CHURN_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let node = shop_node();
    let _servers = node.serve_ext(&[ANSWERS]);
    let bare = uplink(&node);
    let slots = (0..PODS).map(|n| Mutex::new(Slot::new(&node, n)));
    let mut world = World {
        node: &node,
        slots: slots.collect(),
        ear: Ear::new(&node),
        tables: RwLock::new(()),
        end: Instant::now(),
        usual: Duration::ZERO,
        tally: Mutex::default(),
    };
    let settled = |world: &World<'_>| {
        for (n, slot) in world.slots.iter().enumerate() {
            let mut slot = slot.lock().expect("a slot");
            slot.pod.readd(&rules(n));
            slot.probe(&world.ear);
        }
        assert_counts(&node, PODS, 10);
        let slot = world.slots[0].lock().expect("a slot");
        (
            Holding::of(&node),
            peak_of_add(&slot.pod),
            peak_of_sync(&node),
        )
    };
    let (before, add_before, sync_before) = settled(&world);

    world.usual = {
        let slot = world.slots[0].lock().expect("a slot");
        slot.pod.ours("ADD").output.took
    };
    world.end = Instant::now() + churn_time();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (world, mut rng) = (&world, rng.fork());
            scope.spawn(move || world.work(&mut rng));
        }
        scope.spawn(|| world.try_all());
        let (world, mut rng) = (&world, rng.fork());
        scope.spawn(move || world.break_and_mend(&mut rng));
    });
    for (what, times) in world.tally.lock().expect("the tally").iter() {
        println!("{times:6} {what}");
    }

    // What a DEL that met an error has left is `sync`'s.
    let (changes, _) = sync(&node);
    for change in &changes {
        println!("the last sync: {change}");
    }
    let (after, add_after, sync_after) = settled(&world);
    assert_eq!(sync(&node), (vec![], true), "{}", node.describe());
    assert_eq!(after, before);
    println!(
        "peak of ADD: {add_before} KiB, then {add_after}; of sync: {sync_before}, then {sync_after}"
    );
    for (first, last) in [(add_before, add_after), (sync_before, sync_after)] {
        assert!(last < first + first / 8, "{first} KiB, then {last}");
    }
    for slot in &world.slots {
        slot.lock().expect("a slot").pod.ours("DEL").ok();
    }
    assert_eq!(left(&node), Vec::<String>::new());
    assert_eq!(has_egress_addresses(&node), [false, false]);
    assert_eq!(uplink(&node), bare);
    assert_eq!(processes(&node), Vec::<String>::new());
}
