//! Faults at chosen system calls, by strace: a signal, an error, a delay.

use super::Node;
use super::cni::{Call, PluginRun};
use super::exec::Output;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
/// Shares jobs out to a few nodes that work side by side; what they return comes in no order.
pub fn on_nodes<J: Sync, R: Send>(
    jobs: &[J],
    make: impl Fn() -> Node + Sync,
    work: impl Fn(&Node, &mut dyn Iterator<Item = &J>) -> Vec<R> + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
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
