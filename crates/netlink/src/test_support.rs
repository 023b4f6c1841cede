//! Namespaces and veths for this module's tests. They need root, and nothing outlives them.

use std::{
    os::fd::{AsFd, AsRawFd},
    panic,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};

use super::{Netns, Rtnl, link};

/// Runs a test on a thread of its own, in a network namespace of its own.
pub fn in_fresh_netns<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                ip("link set lo up");
                test()
            })
            .join()
    });
    result.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Another network namespace, with lo up.
pub fn new_netns() -> Netns {
    in_fresh_netns(|| Netns::current().unwrap())
}

/// Runs `ip ARGUMENTS` in the calling thread's namespace.
pub fn ip(arguments: &str) {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
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

/// Makes a veth pair: `name` here, `peer` in the other namespace, both up, without IPv6
/// addresses of their own, so that nothing but the test sends.
pub fn veth(name: &str, peer: &str, other: &Netns) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    ip(&format!("link set {name} addrgenmode none up"));
    ip(&format!("link set {peer} netns {}", path_of(other)));
    other
        .run(|| ip(&format!("link set {peer} addrgenmode none up")))
        .unwrap();
    has_carrier(name);
}

/// Waits until a device carries traffic: the kernel tells a moment after its other end is up.
pub fn has_carrier(name: &str) {
    until(&format!("{name} carries traffic"), || {
        let carrier = run("ip", &["-o", "link", "show", name]);
        carrier.contains("LOWER_UP").then_some(())
    });
}

/// A path by which child processes, too, can open the namespace.
pub fn path_of(netns: &Netns) -> String {
    let descriptor = netns.as_fd().as_raw_fd();
    format!("/proc/{}/fd/{descriptor}", std::process::id())
}

/// A deadline that no working test meets.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// A routing socket in the calling thread's namespace.
pub fn rtnl() -> Rtnl {
    Rtnl::open(soon()).unwrap()
}

/// The link of that name, which must exist.
pub fn link(name: &str) -> link::Link {
    link::get_by_name(&mut rtnl(), name).unwrap().unwrap()
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = soon();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
