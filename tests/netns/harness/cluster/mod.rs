//! A real kube-apiserver with its etcd, in a network namespace of its own.
//!
//! ```text
//!   node ── api0 198.19.0.K | apiK ── API server, lo: 198.18.0.1:6443
//! ```
//! RBAC is on, and what `install/` has is applied, so that a token of its service account may do what it
//! may in a cluster. There are no controllers: no Pod ever runs, no Namespace goes when it is deleted.

mod audit;
mod link;
pub mod manifests;
mod objects;
mod pki;

use super::{Netns, exec};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use tempfile::TempDir;

pub use link::Link;
pub use objects::with_kubeconfig;

/// Where the API server answers, in its own namespace and in every one that has a link to it.
pub const ADDRESS: &str = "198.18.0.1";
pub const PORT: u16 = 6443;
/// The namespace and the service account of `install/`.
pub const SYSTEM: &str = "egressway-system";
pub const ACCOUNT: &str = "egressway";

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    netns: Netns,
    dir: TempDir,
    running: Mutex<Option<Child>>,
    links: AtomicU32,
    etcd: Child,
    // The last one: it waits for the end of its input, and then takes away what is left.
    _janitor: Child,
}

impl ApiServer {
    /// The one server for all tests of this process. Tests use Kubernetes namespaces of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ApiServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server for this test alone, to stop it or to look at everything it was asked.
    pub fn start() -> Self {
        let binaries = binaries();
        let netns = Netns::new("api");
        netns.ip(&format!("addr add {ADDRESS}/32 dev lo"));
        let dir = tempfile::Builder::new()
            .prefix("egressway-api-")
            .tempdir()
            .expect("a temporary directory");
        pki::make(dir.path());
        fs::write(dir.path().join("audit.yaml"), audit::POLICY).expect("write the audit policy");
        let janitor = janitor(&netns, dir.path());
        let etcd = start(
            &netns,
            dir.path(),
            "etcd",
            Command::new(binaries.join("etcd"))
                .arg("--data-dir")
                .arg(dir.path().join("etcd"))
                .args([
                    "--listen-client-urls=http://127.0.0.1:2379",
                    "--advertise-client-urls=http://127.0.0.1:2379",
                    "--listen-peer-urls=http://127.0.0.1:2380",
                    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
                    "--initial-cluster=default=http://127.0.0.1:2380",
                    "--unsafe-no-fsync",
                ]),
        );
        let server = Self {
            netns,
            dir,
            running: Mutex::new(None),
            links: AtomicU32::new(0),
            etcd,
            _janitor: janitor,
        };
        server.restart();
        for object in manifests::install() {
            server.apply(&object);
        }
        server
    }

    /// Ends the server. Connections to it are refused from then on.
    pub fn stop(&self) {
        // Poisoned: a start failed, and said why.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = running.take() {
            child.kill().expect("kill kube-apiserver");
            child.wait().expect("wait for kube-apiserver");
        }
    }

    /// Starts the server if it does not run, and waits until it is ready.
    pub fn restart(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = Some(self.start_server());
        }
        let started = Instant::now();
        let child = running.as_mut().expect("just started");
        while !self.ready() {
            let ended = child.try_wait().expect("look after kube-apiserver");
            assert!(
                ended.is_none() && started.elapsed() < exec::limit() * 8,
                "kube-apiserver is not ready ({ended:?}): {}",
                self.log_end()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_server(&self) -> Child {
        let dir = self.dir.path();
        let file = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(binaries().join("kube-apiserver"));
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={ADDRESS}"),
            format!("--secure-port={PORT}"),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // It would refuse Pods without a default service account, which a controller makes.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            format!("--cert-dir={}", file("unused")),
        ]);
        start(&self.netns, dir, "kube-apiserver", &mut command)
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("kube-apiserver.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
        // Now: the janitor finds out whom to end from the directory, which is gone by its time.
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

/// Where kube-apiserver and etcd are. tests/apiserver/build.sh knows, and builds them if they are nowhere.
fn binaries() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apiserver/build.sh");
        let output = Command::new(script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|e| panic!("{script}: {e}"));
        assert!(output.status.success(), "{script}: {}", output.status);
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
    })
}

/// Starts a server that writes its output to `DIR/NAME.log`.
fn start(netns: &Netns, dir: &Path, name: &str, command: &mut Command) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(format!("{name}.log")))
        .expect("open a log file");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .process_group(0);
    let child = netns
        .run(|| command.spawn())
        .unwrap_or_else(|e| panic!("start {name}: {e}"));
    fs::write(dir.join(format!("{name}.pid")), format!("{}\n", child.id()))
        .expect("write a pid file");
    child
}

/// A process that ends the servers when this one ends, in whatever way: what is shared by all tests is
/// never dropped.
fn janitor(netns: &Netns, dir: &Path) -> Child {
    let mut child = Command::new("sh")
        .args([
            "-c",
            "echo ready; read -r _; kill -9 $(cat \"$2\"/*.pid); ip netns del \"$1\"; rm -rf \"$2\"",
            "janitor",
            netns.name(),
        ])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("start the janitor");
    let mut first = [0];
    let mut out = child.stdout.take().expect("piped stdout");
    out.read_exact(&mut first).expect("hear of the janitor");
    child
}
