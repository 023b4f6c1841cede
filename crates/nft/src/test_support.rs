//! A network namespace for a test. It needs root, and nothing outlives it. `egressway-netlink` has the same for its
//! own tests: this crate is published without that one.

use std::{panic, process::Command, thread};

use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread of its own, in a network namespace of its own, with lo up.
pub fn in_fresh_netns<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                run("ip", &["link", "set", "lo", "up"]);
                test()
            })
            .join()
    });
    result.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Runs a command in the calling thread's namespace; its failure fails the test.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
