//! Policy means what the kernel does, with real packets.
//!
//! Random policies go through the plugin into the kernel, and random packets from a pod's raw
//! sockets through it. What arrived, what was refused and how, which counters moved, which log lines
//! came and what `explain` says must be what `Effective::trace` says.
//!
//! EGRESSWAY_SEED=N   the first case's seed; the others follow
//! EGRESSWAY_CASES=N  how many cases, 45
//!
//! A case that fails is made small, printed, and written to a file: put that into
//! tests/netns/packets/cases, where it is tried each time.

mod bytes;
mod case;
mod expected;
mod eye;
mod random;
mod sightings;
mod smaller;
mod world;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Node, NodeOptions};
use case::Case;
use world::World;

/// Packets of each case.
const PACKETS: usize = 100;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// Tries a case; if it fails, panics with a small one.
fn hold(world: &mut World, name: &str, case: &Case) {
    let Err(first) = world.try_case(case) else {
        return;
    };
    // Should it not happen again, that is all there is to read.
    println!("at first:\n{}", first.text);
    let (small, wrong) = smaller::smallest(world, case);
    let json = serde_json::to_string_pretty(&small).expect("JSON");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    // In a virtual machine it may not be writable: what counts is printed.
    let written =
        fs::write(&file, &json).map_or_else(|e| e.to_string(), |()| file.display().to_string());
    panic!("{name} ({written}):\n{json}\n{}", wrong.text);
}

#[test]
fn the_kernel_does_as_the_evaluator_says() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number("EGRESSWAY_SEED").unwrap_or(since_1970.map_or(0, |d| d.as_secs()));
    let cases = number("EGRESSWAY_CASES").unwrap_or(45);
    println!("replay with EGRESSWAY_SEED={seed} EGRESSWAY_CASES={cases}");
    let node = Node::new(NodeOptions::default());
    let mut world = World::new(&node);
    for seed in seed..seed + cases {
        hold(
            &mut world,
            &format!("seed-{seed}"),
            &random::case(seed, PACKETS),
        );
    }
    println!("{:?}", world.fates);
    // All or nothing would prove little. Of a few cases, as on other kernels, it can be by chance.
    assert!(cases < 45 || world.fates.len() == 4, "{:?}", world.fates);
}

#[test]
fn what_was_wrong_once_is_right() {
    let node = Node::new(NodeOptions::default());
    let mut world = World::new(&node);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/packets/cases");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        hold(&mut world, &name, &case);
    }
}
