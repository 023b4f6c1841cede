//! A named network namespace that goes when it is dropped.

use super::exec::{self, Output};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace under /run/netns, unique to this test process.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: File,
    ours: bool,
}

impl Netns {
    /// Makes a namespace with its loopback up. `role` is only for the reader of `ip netns`.
    pub fn new(role: &str) -> Self {
        let name = format!(
            "egressway-{}-{}-{role}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        exec::must(Command::new("ip").args(["netns", "add", &name]), b"");
        let handle = File::open(format!("/run/netns/{name}")).expect("open a fresh namespace");
        let netns = Self {
            name,
            handle,
            ours: true,
        };
        // Duplicate address detection would hold each IPv6 address back for a second; ICMP errors are
        // answers that the probes wait for, so that none may be lost to a rate limit.
        netns.sysctls(&[
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/dad_transmits", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            ("net/ipv4/ping_group_range", "0 2147483647"),
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ]);
        netns.ip("link set lo up");
        netns
    }

    /// A namespace that somebody else made, and removes. `path` is where it is mounted; what needs a name
    /// under /run/netns does not work with it.
    pub fn of_another(path: &Path) -> Self {
        let name = path.file_name().expect("a name").to_string_lossy();
        Self {
            name: name.into_owned(),
            handle: File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            ours: false,
        }
    }

    /// The same namespace for another user; it goes when its maker's is dropped.
    pub fn again(&self) -> Self {
        Self {
            name: self.name.clone(),
            handle: self.handle.try_clone().expect("a second handle"),
            ours: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that runtimes put in CNI_NETNS.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `f` on a thread inside the namespace. Sockets it makes stay there for their life.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("enter a namespace");
                    f()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a command inside. A child takes over the namespace of the thread that starts it.
    pub fn spawn(&self, command: &mut Command) -> Child {
        self.run(|| exec::spawn(command))
    }

    /// Runs a command inside, to its end.
    pub fn exec_with(&self, command: &mut Command, stdin: &[u8]) -> Output {
        let what = format!("{command:?}");
        exec::finish(self.spawn(command), stdin, &what)
    }

    /// Runs a command line (split at blanks) inside; it must succeed. Returns its stdout.
    pub fn exec(&self, line: &str) -> String {
        let output = self.try_exec(line);
        assert_eq!(
            output.code,
            Some(0),
            "{} in {}: {}",
            line,
            self.name,
            output.stderr
        );
        output.stdout_text()
    }

    /// Like `exec`, but failure is an answer.
    pub fn try_exec(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command line");
        self.exec_with(Command::new(program).args(words), b"")
    }

    /// Runs `ip` commands, one a line, inside; all must succeed.
    pub fn ip(&self, batch: &str) {
        let lines: Vec<&str> = batch
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        exec::must(
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]),
            lines.join("\n").as_bytes(),
        );
    }

    /// Loads nft text inside.
    pub fn nft(&self, text: &str) {
        let output = self.exec_with(Command::new("nft").args(["-f", "-"]), text.as_bytes());
        assert_eq!(
            output.code,
            Some(0),
            "nft in {}: {}\n{text}",
            self.name,
            output.stderr
        );
    }

    /// Writes sysctls (paths below /proc/sys) inside.
    pub fn sysctls(&self, values: &[(&str, &str)]) {
        self.run(|| {
            for (key, value) in values {
                fs::write(format!("/proc/sys/{key}"), value)
                    .unwrap_or_else(|e| panic!("sysctl {key}={value}: {e}"));
            }
        });
    }

    /// The output of `ip -j ARGS` inside.
    pub fn ip_json(&self, args: &str) -> serde_json::Value {
        let text = exec::must(
            Command::new("ip")
                .args(["-n", &self.name, "-j"])
                .args(args.split_whitespace()),
            b"",
        );
        if text.trim().is_empty() {
            return serde_json::Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("ip -j {args}: {e}: {text}"))
    }

    /// The hardware address of a device inside.
    pub fn mac(&self, device: &str) -> String {
        let link = self.ip_json(&format!("link show dev {device}"));
        link[0]["address"]
            .as_str()
            .expect("a hardware address")
            .to_owned()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.ours {
            return;
        }
        if thread::panicking() && std::env::var_os("EGRESSWAY_KEEP").is_some() {
            eprintln!("kept: ip netns exec {} bash", self.name);
            return;
        }
        // Nothing to do about a failure here, and a panic in drop would hide the test's own.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}
