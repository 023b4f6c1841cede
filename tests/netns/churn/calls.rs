//! Calls of the plugin as a runtime makes them, some of which go wrong.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::World;
use crate::harness::cni::Call;
use crate::harness::strace::injected;
use crate::harness::*;

/// What happened how often.
pub type Tally = BTreeMap<String, usize>;

/// After so many tries nothing goes wrong any more.
const TRIES: usize = 3;

/// Where errors are injected, and which.
const CALLS: [&str; 7] = [
    "sendto", "recvfrom", "openat", "write", "flock", "fsync", "socket",
];
const ERRORS: [&str; 4] = ["ENOMEM", "ENOSPC", "EMFILE", "EINTR"];

/// How a call ended, as the runtime sees it.
enum End {
    Good,
    /// It was killed, or met an error that was injected: whatever it answers.
    Meddled,
    Refused(String),
}

impl World<'_> {
    fn call(&self, call: &Call, meddle: bool, rng: &mut Rng) -> End {
        let node = self.node;
        let run = match rng.u8(..12) {
            0..4 if meddle => {
                let run = call.run_killed(&node.netns, self.usual.mul_f64(1.5 * rng.f64()));
                if run.output.code.is_none() {
                    self.count("calls killed");
                    return End::Meddled;
                }
                run
            }
            4 if meddle => {
                let (name, error) = (
                    rng.choice(CALLS).expect("one"),
                    rng.choice(ERRORS).expect("one"),
                );
                let inject = format!("{name}:error={error}:when={}", rng.usize(1..20));
                let run = injected(node, call, &inject);
                if !run.succeeded() {
                    self.count("calls failed by an injected error");
                    return End::Meddled;
                }
                run
            }
            _ => call.run(&node.netns),
        };
        if run.succeeded() {
            return End::Good;
        }
        End::Refused(format!("{:?}", run.error()))
    }

    /// ADD until it is good; DEL after each that is not, as runtimes do.
    pub fn add(&self, pod: &Pod<'_>, rng: &mut Rng) {
        let undo = pod.call_with("DEL", &pod.spec.annotations, None);
        self.until_good("ADD", &pod.call("ADD"), rng, |rng| {
            self.del(&undo, rng);
            pod.link_anew(); // DEL has set it down
        });
    }

    /// DEL until it is good.
    pub fn del(&self, del: &Call, rng: &mut Rng) {
        self.until_good("DEL", del, rng, |_| {});
    }

    /// What is refused must say that trying again can help.
    fn until_good(&self, verb: &str, call: &Call, rng: &mut Rng, undo: impl Fn(&mut Rng)) {
        for attempt in 0..TRIES + 5 {
            match self.call(call, attempt < TRIES, rng) {
                End::Good => return self.count(&format!("{verb}s")),
                End::Meddled => {}
                End::Refused(error) => {
                    let again = error.contains("code: 11,");
                    assert!(again, "{verb}: {error}\n{}", self.node.describe());
                    println!("{verb}: {error}");
                }
            }
            undo(rng);
        }
        panic!("{verb} never succeeds: {call:?}\n{}", self.node.describe());
    }
}
