//! Running a command with input, all of its output, and a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// As many seconds; `EGRESSWAY_PATIENCE` multiplies them, for emulated machines. Every wait of a test is of these.
pub fn seconds(number: u64) -> Duration {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    let patience = PATIENCE.get_or_init(|| {
        std::env::var("EGRESSWAY_PATIENCE").map_or(1, |text| {
            text.parse().expect("EGRESSWAY_PATIENCE: a number")
        })
    });
    Duration::from_secs(number) * *patience
}

/// How long anything that is run may take.
pub fn limit() -> Duration {
    seconds(60)
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Starts `command` with pipes on all three streams.
pub fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {command:?}: {e}"))
}

/// Feeds `stdin` to the child, waits for its end (at most [`limit`]) and collects its output.
pub fn finish(child: Child, stdin: &[u8], what: &str) -> Output {
    finish_within(child, stdin, what, limit())
}

/// The same, for what takes longer than most.
pub fn finish_within(child: Child, stdin: &[u8], what: &str, limit: Duration) -> Output {
    let (output, in_time) = attend(child, stdin, limit);
    assert!(in_time, "{what}: not done after {limit:?}");
    output
}

/// Feeds `stdin` to the child and kills it after `delay`, unless it has ended by itself before.
pub fn kill_after(child: Child, stdin: &[u8], delay: Duration) -> Output {
    attend(child, stdin, delay).0
}

/// Feeds `stdin` to the child, collects its output, and kills it at the limit. Whether it ended by
/// itself before.
fn attend(mut child: Child, stdin: &[u8], limit: Duration) -> (Output, bool) {
    let started = Instant::now();
    let mut input = child.stdin.take().expect("piped stdin");
    let mut out = child.stdout.take().expect("piped stdout");
    let mut err = child.stderr.take().expect("piped stderr");
    thread::scope(|scope| {
        // Streams are served side by side: a child that fills one pipe must not block on another.
        scope.spawn(move || {
            // A child may end without reading its input; that is its own business.
            let _ = input.write_all(stdin);
        });
        let stdout = scope.spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).expect("read stdout");
            bytes
        });
        let stderr = scope.spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).expect("read stderr");
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (status, in_time) = loop {
            if let Some(status) = child.try_wait().expect("wait for a child") {
                break (status, true);
            }
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                child.kill().expect("kill a child");
                break (child.wait().expect("wait for a killed child"), false);
            }
            thread::sleep(left.min(Duration::from_millis(2)));
        };
        let output = Output {
            code: status.code(),
            stdout: stdout.join().expect("stdout reader"),
            stderr: stderr.join().expect("stderr reader"),
            took: started.elapsed(),
        };
        (output, in_time)
    })
}

/// Runs a command to its end.
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let what = format!("{command:?}");
    finish(spawn(command), stdin, &what)
}

/// Runs a command that must succeed and returns its stdout.
pub fn must(command: &mut Command, stdin: &[u8]) -> String {
    let output = run(command, stdin);
    assert_eq!(
        output.code,
        Some(0),
        "{command:?}\ninput: {}\nstdout: {}\nstderr: {}",
        String::from_utf8_lossy(stdin),
        output.stdout_text(),
        output.stderr
    );
    output.stdout_text()
}
