//! The built binary as a runtime starts it: whatever comes in, one JSON document comes out, or nothing.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What [`egressway::conf::DEADLINE`] and the grace after it allow, and something for a busy machine.
const LIMIT: Duration = Duration::from_secs(14);

const GOOD: &str = r#"{"cniVersion":"1.0.0","name":"net","type":"egressway","prevResult":{}}"#;

/// The plugin with nothing in its environment but `vars`.
fn plugin<'a>(vars: impl IntoIterator<Item = (&'a str, OsString)>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressway"));
    command.env_clear().envs(vars).current_dir("/");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn vars(verb: &str) -> Vec<(&'static str, OsString)> {
    vec![
        ("CNI_COMMAND", verb.into()),
        ("CNI_CONTAINERID", "some-container-id".into()),
        ("CNI_NETNS", "/run/netns/no-such-namespace".into()),
        ("CNI_IFNAME", "eth0".into()),
        ("CNI_ARGS", "IgnoreUnknown=1".into()),
        ("CNI_PATH", "/opt/cni/bin".into()),
    ]
}

fn with(
    verb: &str,
    name: &'static str,
    value: impl Into<OsString>,
) -> Vec<(&'static str, OsString)> {
    let mut vars = vars(verb);
    vars.retain(|(n, _)| *n != name);
    vars.push((name, value.into()));
    vars
}

/// Writes `stdin`, closes it, and waits for the end, at most [`LIMIT`].
fn run(mut command: Command, stdin: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    // It may end without reading all.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    finish(child)
}

fn finish(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("the plugin did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// The one JSON document on stdout.
fn document(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&stdout)
        .unwrap_or_else(|e| panic!("not one JSON document: {e}: {stdout:?}"))
}

/// Fails unless `output` is an error with this code and nothing else.
#[track_caller]
fn assert_error(output: &Output, code: u64, message: &str) -> Value {
    let document = document(output);
    assert_eq!(output.status.code(), Some(1), "{document}");
    assert_eq!(document["code"], code, "{document}");
    assert!(
        document["msg"].as_str().unwrap().contains(message),
        "{document}"
    );
    assert!(document["cniVersion"].is_string(), "{document}");
    assert!(output.stdout.len() < 8192, "{} bytes", output.stdout.len());
    document
}

#[test]
fn version_needs_nothing() {
    let only = || [("CNI_COMMAND", OsString::from("VERSION"))];
    let mut closed = plugin(only());
    closed.stdin(Stdio::null());
    let closed = finish(closed.spawn().unwrap());
    let open = plugin(only()).spawn().unwrap();
    // As libcni asks for it, with stdin left open.
    let dummies =
        ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"].map(|name| (name, OsString::from("dummy")));
    let mut dummy = plugin(only().into_iter().chain(dummies)).spawn().unwrap();
    let stdin = dummy.stdin.take();
    for output in [closed, finish(open), finish(dummy)] {
        assert!(output.status.success());
        assert!(output.stderr.is_empty());
        assert_eq!(
            document(&output),
            serde_json::json!({
                "cniVersion": "1.1.0",
                "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
            })
        );
    }
    drop(stdin);
}

#[test]
fn started_by_hand() {
    for vars in [vec![], vec![("CNI_COMMAND", OsString::new())]] {
        let output = run(plugin(vars), b"");
        assert!(output.status.success());
        assert!(output.stdout.is_empty());
        let about = String::from_utf8(output.stderr).unwrap();
        assert!(
            about.contains("CNI protocol versions supported: 0.1.0, 0.2.0"),
            "{about}"
        );
    }
    for (flag, text) in [
        ("--version", env!("CARGO_PKG_VERSION")),
        ("--help", "Usage: egressway"),
    ] {
        let mut command = plugin([]);
        command.arg(flag);
        let output = run(command, b"");
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(text));
    }
}

#[test]
fn environment_errors() {
    let only = [("CNI_COMMAND", OsString::from("ADD"))];
    let missing = "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing";
    assert_error(&run(plugin(only), GOOD.as_bytes()), 4, missing);
    assert_error(
        &run(plugin(vars("UPDATE")), GOOD.as_bytes()),
        4,
        "unknown CNI_COMMAND: \"UPDATE\"",
    );

    let invalid = OsString::from_vec(b"\xff\xfe".to_vec());
    let huge = OsString::from("x".repeat(100_000) + "/");
    for name in [
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_NETNS",
        "CNI_ARGS",
    ] {
        assert_error(
            &run(plugin(with("ADD", name, invalid.clone())), GOOD.as_bytes()),
            4,
            name,
        );
    }
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        assert_error(
            &run(plugin(with("ADD", name, huge.clone())), GOOD.as_bytes()),
            4,
            name,
        );
        assert_error(
            &run(plugin(with("ADD", name, "a/\nb\r\u{1b}")), GOOD.as_bytes()),
            4,
            name,
        );
    }
}

#[test]
fn stdin_errors() {
    for stdin in [
        &b""[..],
        b"{",
        b"nonsense",
        b"[1]",
        b"\"x\"",
        b"{\"name\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        &[0; 4096],
    ] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let output = run(plugin(vars(verb)), stdin);
            assert_eq!(
                assert_error(&output, 6, "not a JSON object")["cniVersion"],
                "1.1.0"
            );
        }
    }
    let mut closed = plugin(vars("ADD"));
    closed.stdin(Stdio::null());
    assert_error(&finish(closed.spawn().unwrap()), 6, "not a JSON object");

    let mut directory = plugin(vars("ADD"));
    directory.stdin(std::fs::File::open("/").unwrap());
    assert_error(
        &finish(directory.spawn().unwrap()),
        5,
        "error reading from stdin",
    );

    let huge = format!(
        r#"{{"name":"net","cniVersion":"1.0.0","logLevel":"{}"}}"#,
        "x".repeat(8 << 20)
    );
    assert_error(&run(plugin(vars("ADD")), huge.as_bytes()), 7, "logLevel");
    let deep = format!(r#"{{"name":{}}}"#, "[".repeat(1 << 20));
    assert_error(
        &run(plugin(vars("ADD")), deep.as_bytes()),
        6,
        "not a JSON object",
    );
}

#[test]
fn errors_are_told_in_the_configurations_version() {
    let stdin = r#"{"cniVersion":"0.3.1","name":"net","prevResult":{},"policyfile":"/x"}"#;
    let output = run(plugin(vars("ADD")), stdin.as_bytes());
    assert_eq!(
        assert_error(&output, 7, "did you mean \"policyFile\"?")["cniVersion"],
        "0.3.1"
    );
    let output = run(
        plugin(vars("ADD")),
        br#"{"cniVersion":"9.8.7","name":"net"}"#,
    );
    let document = assert_error(&output, 1, "incompatible CNI versions");
    assert_eq!(document["cniVersion"], "1.1.0");
    assert!(
        document["details"]
            .as_str()
            .unwrap()
            .starts_with("config is \"9.8.7\""),
        "{document}"
    );
}

/// Whoever should read the answer is gone: no panic, no signal, but a failure.
#[test]
fn closed_stdout() {
    for (verb, stdin) in [("VERSION", ""), ("ADD", "{")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = plugin(vars(verb));
        command.stdout(writer);
        let output = run(command, stdin.as_bytes());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// An ADD that can't succeed: its network namespace does not exist.
fn doomed_add(dir: &Path, log_file: &Path) -> (Command, String) {
    let stdin = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "net",
        "prevResult": {},
        "stateDir": dir.join("state"),
        "policyFile": dir.join("policy.yaml"),
        "logLevel": "trace",
        "logFile": log_file,
    });
    let vars = with("ADD", "CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web");
    (plugin(vars), stdin.to_string())
}

/// A closed stderr, which the log and the panic hook would write to, changes nothing.
#[test]
fn closed_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let (mut command, stdin) = doomed_add(dir.path(), Path::new("/"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stderr(writer);
    let output = run(command, stdin.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let document = document(&output);
    let msg = document["msg"].as_str().unwrap();
    assert!(!msg.contains("internal error"), "{document}");
}

#[test]
fn the_log_names_the_container_and_the_pod() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (command, stdin) = doomed_add(dir.path(), &log);
    let output = run(command, stdin.as_bytes());
    let msg = document(&output)["msg"].as_str().unwrap().to_owned();
    assert!(output.stderr.is_empty());
    let text = std::fs::read_to_string(&log).unwrap();
    let failed = text.lines().find(|line| line.contains("ERROR")).unwrap();
    for part in [
        "some-container-id",
        "shop",
        "web",
        msg.lines().next().unwrap(),
    ] {
        assert!(failed.contains(part), "{part}: {text}");
    }

    // A log file that can't be opened is no reason to fail: the log goes to stderr.
    let (command, stdin) = doomed_add(dir.path(), dir.path());
    let output = run(command, stdin.as_bytes());
    assert_eq!(document(&output)["msg"], msg);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot open the log file"), "{stderr}");
}

/// Takes as long as a call may: 10 s.
#[test]
fn stdin_that_never_ends() {
    let started = Instant::now();
    let mut child = plugin(vars("ADD")).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{").unwrap();
    let output = finish(child);
    drop(stdin);
    assert_error(&output, 11, "timed out after 10 s");
    assert!(started.elapsed() >= egressway::conf::DEADLINE);
}

/// The end of the time comes early here, to a call that waits for a lock: it is told and logged, in the
/// configuration's version.
#[test]
fn time_that_is_up_is_told_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let (lock, log) = (dir.path().join("lock"), dir.path().join("log"));
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let stdin = serde_json::json!({
        "cniVersion": "0.3.1", "name": "net", "stateDir": dir.path(), "logFile": log,
    });
    let mut child = plugin(vars("DEL")).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.to_string().as_bytes()).unwrap();
    drop(pipe);
    let descriptors = format!("/proc/{}/fd", child.id());
    let is_lock = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == lock))
    };
    let started = Instant::now();
    while !std::fs::read_dir(&descriptors).unwrap().any(is_lock) {
        assert!(started.elapsed() < LIMIT, "it never came to the lock");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGALRM).unwrap();
    let output = finish(child);
    let document = assert_error(&output, 11, "timed out after 10 s");
    assert_eq!(document["cniVersion"], "0.3.1");
    let logged = std::fs::read_to_string(&log).unwrap();
    let line = "ERROR DEL of some-container-id: timed out after 10 s";
    assert!(logged.lines().any(|logged| logged == line), "{logged}");
}

/// Nobody reads stdout and its pipe is full, so that no answer can be given. Takes 11 s.
#[test]
fn stdout_that_nobody_reads() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b' '; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut command = plugin(vars("VERSION"));
    command.stdout(writer);
    let output = finish(command.spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
}
