//! Real veths, in namespaces of their own.

use netlink::bpf::Program;
use netlink::offload::Offload;
use netlink::tc::{self, Classifier};
use netlink::test_support::{in_fresh_netns, ip, link, new_netns, path_of, rtnl, run, veth};

use super::*;

/// r0 = -1; exit
const PASS: [[u8; 8]; 2] = [
    [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
];
/// Classic BPF, which needs no compiler.
const FOREIGN: &str = "filter add dev host0 ingress pref 9 bpf bytecode 1,6 0 0 0,";

struct World {
    dir: tempfile::TempDir,
    pod: Netns,
}

impl World {
    /// A pod at host0. To be called in the namespace that is the node.
    fn new() -> World {
        let pod = new_netns();
        veth("host0", "eth0", &pod);
        World {
            dir: tempfile::tempdir().expect("a directory"),
            // By a path that another thread, too, can open.
            pod: Netns::open(path_of(&pod)).map(|_| pod).expect("a path"),
        }
    }

    fn put(&self, mode: Mode, before: Option<&Guard>) -> Result<Guard, Error> {
        let path = path_of(&self.pod);
        let netns = Netns::open(path).expect("the pod's namespace");
        let place = Ends {
            veth: &link("host0"),
            netns: &netns,
        };
        let state = StateDir::new(self.dir.path());
        Guard::put(mode, &state, &mut rtnl(), &place, before)
    }

    fn pods_checksums(&self) -> bool {
        let get = || Offload::TransmitChecksums.get("eth0").expect("eth0");
        self.pod.run(get).expect("the pod's namespace")
    }
}

fn index() -> u32 {
    link("host0").index
}

fn filters() -> Vec<tc::Filter> {
    tc::filters(&mut rtnl(), index()).expect("filters")
}

fn tc(arguments: &str) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    // The bytecode is one argument with blanks in it.
    match arguments.split_once(" bytecode ") {
        None => drop(run("tc", &words)),
        Some((before, code)) => {
            let mut words: Vec<&str> = before.split_whitespace().collect();
            words.extend(["bytecode", code]);
            run("tc", &words);
        }
    }
}

fn qdiscs() -> String {
    run("tc", &["qdisc", "show", "dev", "host0"])
}

fn missing(guard: &Guard) -> String {
    let found = guard.verify(&mut rtnl(), index()).expect("an answer");
    found.unwrap_or_default()
}

#[test]
fn the_filter_is_put_once_and_leaves_nothing() {
    in_fresh_netns(|| {
        let world = World::new();
        let before = qdiscs();
        let guard = world.put(Mode::Drop, None).expect("a guard");
        let there = filters();
        assert!(matches!(&guard, Guard::Drop { tag } if tag.len() == 16));
        assert!(there.len() == 1 && is_own(&there[0]), "{there:?}");
        assert_eq!(missing(&guard), "");
        assert_eq!(world.put(Mode::Drop, Some(&guard)).expect("again"), guard);
        assert_eq!(filters(), there);
        // Nobody else would take it for a detour of packets.
        let detour = tc::detour(&mut rtnl(), index(), is_own).expect("an answer");
        assert_eq!(detour, None);
        guard.remove(&mut rtnl(), index()).expect("gone");
        guard.remove(&mut rtnl(), index()).expect("still gone");
        assert_eq!(qdiscs(), before);
        let words = "the filter egressway_csum at the veth is missing";
        assert_eq!(missing(&guard), words);
        // A veth that has gone takes all with it.
        guard.remove(&mut rtnl(), 4711).expect("nothing to do");
    });
}

#[test]
fn what_was_there_before_stays() {
    in_fresh_netns(|| {
        let world = World::new();
        tc("qdisc add dev host0 ingress");
        tc("filter add dev host0 parent ffff: pref 5 u32 match u32 0 0 flowid 1:1");
        let before = (qdiscs(), filters());
        let guard = world.put(Mode::Drop, None).expect("a guard");
        assert!(is_own(&filters()[0]) && missing(&guard).is_empty());
        guard.remove(&mut rtnl(), index()).expect("gone");
        assert_eq!((qdiscs(), filters()), before);
        // A qdisc without any filter is somebody's as well.
        tc("filter del dev host0 parent ffff: pref 5");
        let before = qdiscs();
        let guard = world.put(Mode::Drop, None).expect("a guard");
        guard.remove(&mut rtnl(), index()).expect("gone");
        assert_eq!(qdiscs(), before);
    });
}

#[test]
fn what_came_after_it_stays() {
    in_fresh_netns(|| {
        let world = World::new();
        for side in ["ingress", "egress"] {
            let guard = world.put(Mode::Drop, None).expect("a guard");
            tc(&format!(
                "filter add dev host0 {side} pref 5 u32 match u32 0 0 flowid 1:1"
            ));
            guard.remove(&mut rtnl(), index()).expect("gone");
            assert!(qdiscs().contains("clsact"), "{side}");
            assert!(!filters().iter().any(is_own), "{side}");
            tc(&format!("filter del dev host0 {side} pref 5"));
            tc("qdisc del dev host0 clsact");
        }
    });
}

#[test]
fn it_is_the_first_or_nothing() {
    in_fresh_netns(|| {
        let world = World::new();
        tc("qdisc add dev host0 clsact");
        tc("filter add dev host0 ingress pref 1 u32 match u32 0 0 flowid 1:1");
        let before = filters();
        let error = world.put(Mode::Drop, None).expect_err("the place is taken");
        let words = "a filter of kind u32 at the ingress of host0 has preference 1";
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(filters(), before);
    });
}

#[test]
fn another_program_in_its_place_is_seen_and_replaced() {
    in_fresh_netns(|| {
        let world = World::new();
        let guard = world.put(Mode::Drop, None).expect("a guard");
        let other = Program::load("older", c"GPL", &PASS).expect("a program");
        let place = Classifier {
            preference: 1,
            handle: 1,
            name: program::NAME,
        };
        tc::put(&mut rtnl(), index(), &place, &other).expect("replaced");
        let words = missing(&guard);
        assert!(
            words.contains(&format!("another program ({}", other.tag)),
            "{words}"
        );
        assert_eq!(world.put(Mode::Drop, Some(&guard)).expect("mended"), guard);
        assert_eq!((missing(&guard), filters().len()), (String::new(), 1));
        // By another name it is a stranger's, which ADD refuses, and CHECK sees.
        guard.remove(&mut rtnl(), index()).expect("gone");
        tc("qdisc add dev host0 clsact");
        let stranger = Classifier {
            name: "stranger",
            ..place
        };
        tc::put(&mut rtnl(), index(), &stranger, &other).expect("put");
        assert!(!filters().iter().any(is_own));
        assert!(missing(&guard).contains("is missing"));
        let detour = tc::detour(&mut rtnl(), index(), is_own).expect("an answer");
        let words = Some(tc::Detour::Bpf("tc filter stranger".to_owned()));
        assert_eq!(detour, words);
    });
}

#[test]
fn a_filter_that_was_put_ahead_is_seen() {
    in_fresh_netns(|| {
        let world = World::new();
        let guard = world.put(Mode::Drop, None).expect("a guard");
        tc(FOREIGN);
        assert_eq!(missing(&guard), "", "it comes later");
        // The newest of one preference is asked first.
        tc("filter add dev host0 ingress pref 1 handle 7 bpf bytecode 1,6 0 0 0,");
        let words = "a filter of kind bpf is ahead of the filter egressway_csum at the veth";
        assert_eq!(missing(&guard), words);
    });
}

#[test]
fn checksums_are_left_to_nobody() {
    in_fresh_netns(|| {
        let world = World::new();
        let joins = || Offload::ReceiveJoining.get("host0").expect("host0");
        assert!(world.pods_checksums());
        // Kernels before 5.13 say of each veth that it joins, and no veth does.
        let joined = joins();
        let guard = world.put(Mode::Resolve, None).expect("a guard");
        let resolve = |guard: &Guard| match guard {
            Guard::Resolve {
                joining,
                reason: None,
                ..
            } => *joining != joined,
            _ => false,
        };
        assert!(resolve(&guard), "{guard:?}");
        assert!(!world.pods_checksums() && joins());
        assert_eq!((missing(&guard), filters().len()), (String::new(), 0));
        let again = world.put(Mode::Resolve, Some(&guard)).expect("again");
        assert!(resolve(&again), "{again:?}");
        // Whatever the pod calls it.
        world
            .pod
            .run(|| {
                ip("link set eth0 down");
                ip("link set eth0 name net9");
                Offload::TransmitChecksums.set("net9", true).expect("on");
            })
            .expect("the pod's namespace");
        let words = "the TX checksum offload of the pod's net9 is on";
        assert_eq!(missing(&guard), words);
        world
            .pod
            .run(|| ip("link set net9 name eth0"))
            .expect("the pod's namespace");
        world.put(Mode::Resolve, Some(&guard)).expect("again");
        guard.remove(&mut rtnl(), index()).expect("undone");
        assert!(world.pods_checksums());
        assert_eq!(joins(), joined);
    });
}

/// A path is reused; the number of a namespace is not, for as long as the veth leads there.
#[test]
fn another_pods_namespace_is_left_alone() {
    in_fresh_netns(|| {
        let world = World::new();
        let other = new_netns();
        veth("host1", "eth0", &other);
        let Guard::Resolve { reason, .. } = world.put(Mode::Resolve, None).expect("a guard") else {
            panic!("no resolve")
        };
        for netns in [path_of(&other), "/nonexistent".to_owned()] {
            let guard = Guard::Resolve {
                netns: netns.into(),
                joining: true,
                reason: reason.clone(),
            };
            let words = missing(&guard);
            assert!(
                words.contains("is not the pod's network namespace any more"),
                "{words}"
            );
            guard.remove(&mut rtnl(), index()).expect("nothing to do");
            assert!(!world.pods_checksums());
        }
    });
}

#[test]
fn another_setting_leaves_nothing_of_the_last() {
    in_fresh_netns(|| {
        let world = World::new();
        let before = qdiscs();
        let (mut last, modes) = (None, [Mode::Drop, Mode::Resolve, Mode::Ignore]);
        // Each after each.
        for mode in [0, 1, 2, 1, 0, 2, 0].map(|n: usize| modes[n]) {
            let guard = world.put(mode, last.as_ref()).expect("a guard");
            assert_eq!(missing(&guard), "");
            assert_eq!(world.pods_checksums(), mode != Mode::Resolve, "{mode:?}");
            assert_eq!(filters().len(), usize::from(mode == Mode::Drop), "{mode:?}");
            assert_eq!(qdiscs() == before, mode != Mode::Drop, "{mode:?}");
            last = Some(guard);
        }
    });
}

#[test]
fn a_record_keeps_it() {
    let guards = [
        Guard::Drop {
            tag: "0123456789abcdef".to_owned(),
        },
        Guard::Resolve {
            netns: "/run/netns/pod".into(),
            joining: true,
            reason: Some("why".to_owned()),
        },
        Guard::Ignore,
    ];
    for guard in guards {
        let text = serde_json::to_string(&guard).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Guard>(&text).expect("a guard"),
            guard
        );
    }
}

/// Sent and received by one namespace: the program is the same.
#[test]
fn the_trial_tells_that_this_kernel_can() {
    let outcome = trial::run().expect("a trial");
    assert!(matches!(outcome, trial::Outcome::Works(_)), "{outcome:?}");
    in_fresh_netns(|| {
        assert!(trial::run().is_ok());
        let lo = tc::filters(&mut rtnl(), link("lo").index).expect("filters");
        assert!(lo.is_empty(), "the caller's namespace is left alone");
    });
}
