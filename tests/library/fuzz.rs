//! The fuzz targets without a fuzzer: their corpus, and a bounded number of mutations of it, the same in every run.
//!
//! `EGRESSWAY_FUZZ=N` tries N times as many. What fails is printed; put it into fuzz/corpus, so that it is tried for ever.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::Duration;

use egressway::store::document::{Document, decode};
use egressway::store::{
    LinkEntry, NamespaceAnswer, Owner, PolicyHead, PolicyKey, Record, Snapshot, Verified,
};
use fastrand::Rng;
use nix::time::{ClockId, clock_gettime};

#[path = "../../fuzz/src/targets.rs"]
mod targets;

/// Mutations of each target: some seconds, unoptimized.
const MUTATIONS: usize = 20_000;
/// No input is longer than this.
const LONGEST: usize = 4096;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let files = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect();
    assert!(seeds.len() >= 3, "{}: hardly a corpus", directory.display());
    seeds
}

/// One to four changes: a byte, a run left out, repeated, or taken from another seed.
fn mutate(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..=4) {
        if data.is_empty() {
            data.push(rng.u8(..));
        }
        let at = rng.usize(..data.len());
        let run = at..rng.usize(at..=data.len().min(at + 32));
        match rng.u8(..6) {
            0 => data[at] ^= 1 << rng.u8(..8),
            1 => data[at] = rng.u8(..),
            2 => {
                data.drain(run);
            }
            3 => {
                let copy = data[run].to_vec();
                let to = rng.usize(..=data.len());
                data.splice(to..to, copy);
            }
            4 => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len().min(from + 64));
                data.splice(run, other[from..to].iter().copied());
            }
            _ => {
                // Where lengths and numbers have their ends.
                let edge = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)];
                for byte in &mut data[run] {
                    *byte = edge;
                }
            }
        }
        data.truncate(LONGEST);
    }
    data
}

fn try_all(name: &str, target: fn(&[u8])) {
    let seeds = corpus(name);
    let many = std::env::var("EGRESSWAY_FUZZ")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut rng = Rng::with_seed(0x6563_6e69);
    let mutations = (0..MUTATIONS * many.unwrap_or(1)).map(|_| mutate(&mut rng, &seeds));
    for data in seeds.iter().cloned().chain(mutations) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(&data)));
        assert!(
            outcome.is_ok(),
            "{name}: {:?}\n{}",
            data,
            String::from_utf8_lossy(&data)
        );
    }
}

#[test]
fn rules() {
    try_all("rules", targets::rules);
}

#[test]
fn conflist() {
    try_all("conflist", targets::conflist);
}

#[test]
fn environment() {
    try_all("environment", targets::environment);
}

#[test]
fn policy() {
    try_all("policy", targets::policy);
}

#[test]
fn state() {
    fn some<D: Document>() -> bool {
        let seeds = corpus("state");
        seeds.iter().any(|seed| decode::<D>(seed).is_ok())
    }
    assert!(
        some::<Record<PolicyKey>>() && some::<Owner>() && some::<LinkEntry>() && some::<Verified>(),
        "no seed is such a document any more"
    );
    assert!(
        some::<PolicyHead>() && some::<Snapshot<NamespaceAnswer>>(),
        "no seed is such a document any more"
    );
    try_all("state", targets::state);
}

#[test]
fn netlink() {
    try_all("netlink", targets::netlink);
}

#[test]
fn dns() {
    try_all("dns", targets::dns);
}

#[test]
fn btf() {
    use egressway::guard::{btf::Btf, program::Layout};
    for seed in corpus("btf") {
        let layout = Btf::new(&seed).and_then(|btf| Layout::read(&btf));
        layout.expect("no seed is a kernel's types any more");
    }
    try_all("btf", targets::btf);
}

/// What this thread has used of a processor.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock")
        .into()
}

/// A text eight times as long takes about eight times as long: 200 KB, which Kubernetes lets an annotation have, cost
/// milliseconds. A quadratic step anywhere would take 64 times as long.
#[test]
fn a_long_annotation_costs_what_its_length_says() {
    type OfLength = fn(usize) -> String;
    let texts: [(&str, OfLength); 5] = [
        ("many rules", |n| {
            "allow 443/tcp to 198.51.100.0/24\n".repeat(n / 33)
        }),
        ("many faults", |n| "alow 443/tcp\n".repeat(n / 13)),
        ("one long list", |n| {
            format!("allow to {}10.0.0.1", "10.1.2.3, ".repeat(n / 10))
        }),
        ("one long word", |n| format!("allow {}", "x".repeat(n))),
        ("nothing but separators", |n| ";".repeat(n)),
    ];
    for (what, text) in texts {
        let cost = |length: usize| -> Duration {
            let text = text(length);
            // This thread's own time, and the shortest of some: others are at work on this machine.
            let once = || {
                let started = cpu_time();
                drop(rules::grammar::parse("fuzz", &text));
                cpu_time() - started
            };
            (0..7).map(|_| once()).min().expect("some")
        };
        let (short, long) = (cost(25_000), cost(200_000));
        assert!(
            long < short * 30,
            "{what}: 25 KB in {short:?}, 200 KB in {long:?}"
        );
    }
}
