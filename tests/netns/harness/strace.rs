//! Faults at chosen system calls, by strace: a signal, an error, a delay.

use super::Node;
use super::cni::{Call, PluginRun};
use super::exec::{self, Output};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A system call of a call of the plugin: its name, and which of that name it is, from 1.
pub type Syscall = (String, usize);

/// What has no effect outside the process: what comes before and after it is the same for everybody.
const INSIDE: [&str; 21] = [
    "execve",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "futex",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "getrandom",
    "sched_getaffinity",
    "sched_yield",
    "clock_nanosleep",
    "gettid",
];

/// A call of the plugin under `strace -e inject=INJECT`.
pub fn injected(node: &Node, call: &Call, inject: &str) -> PluginRun {
    let expression = format!("inject={inject}");
    let wrapper = [
        "/usr/bin/strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        &expression,
    ];
    call.run_under(&node.netns, &wrapper)
}

/// The same of a subcommand.
pub fn injected_command(node: &Node, command: &Command, inject: &str) -> Output {
    let expression = format!("inject={inject}");
    under_strace(node, command, &["-o", "/dev/null", "-e", &expression])
}

fn under_strace(node: &Node, command: &Command, options: &[&str]) -> Output {
    let mut strace = Command::new("/usr/bin/strace");
    strace.arg("-f").args(options);
    strace.arg(command.get_program()).args(command.get_args());
    node.netns.exec_with(&mut strace, b"")
}

/// Every system call of the main thread that may be seen from outside, in order; with the trace.
pub fn syscalls(node: &Node, call: &Call) -> (Vec<Syscall>, String) {
    let file = node.dir.path().join("strace");
    let path = file.to_str().expect("a path");
    call.run_under(&node.netns, &["/usr/bin/strace", "-f", "-o", path])
        .ok();
    let text = fs::read_to_string(&file).expect("a trace");
    (of_main_thread(&text), text)
}

/// The same of a subcommand, which must succeed.
pub fn syscalls_of(node: &Node, command: &Command) -> Vec<Syscall> {
    let file = node.dir.path().join("strace");
    let output = under_strace(node, command, &["-o", file.to_str().expect("a path")]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    of_main_thread(&fs::read_to_string(&file).expect("a trace"))
}

fn of_main_thread(text: &str) -> Vec<Syscall> {
    let main = text.split(' ').next().expect("a process id").to_owned();
    let mut found: Vec<Syscall> = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(&main) else {
            continue;
        };
        let Some((name, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || INSIDE.contains(&name) {
            continue;
        }
        let before = found.iter().filter(|(other, _)| other == name).count();
        found.push((name.to_owned(), before + 1));
    }
    assert!(found.len() > 20, "only {found:?}\n{text}");
    found
}
/// strace at a process that runs, with all of its threads, until this ends.
pub struct Attached(Child);

impl Attached {
    /// Its threads are traced when this returns.
    pub fn to(pid: u32, options: &[&str]) -> Attached {
        let mut command = Command::new("/usr/bin/strace");
        command.args(["-f", "-p", &pid.to_string()]).args(options);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let strace = Attached(command.spawn().expect("start strace"));
        let begun = Instant::now();
        while !is_traced(pid) {
            assert!(begun.elapsed() < exec::limit(), "it is not traced");
            thread::sleep(Duration::from_millis(5));
        }
        strace
    }

    /// A fault at a system call that one of its threads makes from now on.
    pub fn injecting(pid: u32, inject: &str) -> Attached {
        let expression = format!("inject={inject}");
        Attached::to(pid, &["-o", "/dev/null", "-e", &expression])
    }
}

/// All threads of a process are.
fn is_traced(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

impl Drop for Attached {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a process id"));
        let _ = kill(pid, Signal::SIGINT); // it leaves the process as it is
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(5));
        }
        // It waits for ever for the threads of a process that was killed while it left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The calls in a trace of several threads that a thread of this number made.
pub fn of_thread(text: &str, thread: u32) -> Vec<Syscall> {
    let mut found: Vec<Syscall> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some(&thread.to_string()) {
            continue;
        }
        let Some((name, _)) = words.next().and_then(|word| word.split_once('(')) else {
            continue; // the rest of one that another thread interrupted
        };
        let before = found.iter().filter(|(other, _)| other == name).count();
        found.push((name.to_owned(), before + 1));
    }
    found
}

/// Shares jobs out to a few nodes that work side by side; what they return comes in no order.
pub fn on_nodes<J: Sync, R: Send>(
    jobs: &[J],
    make: impl Fn() -> Node + Sync,
    work: impl Fn(&Node, &mut dyn Iterator<Item = &J>) -> Vec<R> + Sync,
) -> Vec<R> {
    on_some_nodes(4, jobs, make, work)
}

/// The same on so many nodes.
pub fn on_some_nodes<J: Sync, R: Send>(
    count: usize,
    jobs: &[J],
    make: impl Fn() -> Node + Sync,
    work: impl Fn(&Node, &mut dyn Iterator<Item = &J>) -> Vec<R> + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    let node = make();
                    let mut mine =
                        std::iter::from_fn(|| jobs.get(next.fetch_add(1, Ordering::Relaxed)));
                    work(&node, &mut mine)
                })
            })
            .collect();
        let results = workers.into_iter().map(|w| w.join().expect("a worker"));
        results.flatten().collect()
    })
}
