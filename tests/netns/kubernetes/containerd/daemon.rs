//! containerd on a node: in the node's network namespace, with process and mount namespaces of its own,
//! so that nothing of it outlives the test.

use super::cri::Runtime;
use super::image;
use crate::harness::{Netns, Node, cni, exec};
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A running containerd.
#[derive(Debug)]
pub struct Containerd<'n> {
    node: &'n Node,
    dir: PathBuf,
    unshare: Child,
    pub runtime: Runtime,
}

impl<'n> Containerd<'n> {
    /// Starts containerd with a chain of bridge, portmap and our plugin.
    pub fn start(node: &'n Node) -> Self {
        let dir = node.dir.path().join("containerd");
        for part in ["bin", "net.d", "logs", "scratch"] {
            fs::create_dir_all(dir.join(part)).expect("make a directory");
        }
        plugins(&dir);
        conflist(node, &dir);
        fs::write(dir.join("config.toml"), config(&dir)).expect("write the configuration");
        image::write(&dir.join("pause.tar"), &dir.join("scratch"));
        let log = fs::File::create(dir.join("log")).expect("make a log file");
        // /run/containerd: runc's state, whatever `state` says; /var/lib/cni: libcni's cache.
        let script = "for d in /run/containerd /run/netns /var/lib/cni; do mkdir -p $d; mount -t tmpfs none $d; done
            exec containerd --config \"$0\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-euc", script])
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let unshare = node
            .netns
            .run(|| command.spawn())
            .expect("start containerd: package containerd");
        let containerd = Self {
            node,
            runtime: Runtime::at(&dir.join("socket")),
            dir,
            unshare,
        };
        containerd.wait();
        let mut import = Command::new("ctr");
        import.arg("--address").arg(containerd.dir.join("socket"));
        import.args(["--namespace", "k8s.io", "images", "import"]);
        import.args(["--snapshotter", "native"]);
        exec::must(import.arg(containerd.dir.join("pause.tar")), b"");
        containerd
    }

    fn wait(&self) {
        let started = Instant::now();
        while !self.runtime.answers() {
            assert!(
                started.elapsed() < exec::limit() * 4,
                "containerd does not answer: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// For failure messages.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Our plugin's calls so far: `ADD /var/run/netns/cni-...`, `DEL` (without a namespace).
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The namespace of a pod, as our plugin's last ADD got it.
    pub fn pod_netns(&self) -> Netns {
        let calls = self.calls();
        let add = calls
            .iter()
            .rev()
            .find_map(|call| call.strip_prefix("ADD "));
        let name = Path::new(add.expect("an ADD")).file_name();
        let unshare = self.unshare.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let children = fs::read_to_string(children).expect("containerd's process");
        let pid = children.split_whitespace().next().expect("a child");
        // Its own /run/netns is mounted in containerd's mount namespace only.
        let run = PathBuf::from(format!("/proc/{pid}/root/run/netns"));
        Netns::of_another(&run.join(name.expect("a name")))
    }

    pub fn node(&self) -> &Node {
        self.node
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // With it goes the first process of its process namespace, and so everything in there.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// The reference plugins and, under our name, a script that notes each call before ours gets it.
fn plugins(dir: &Path) {
    for plugin in ["bridge", "host-local", "portmap", "loopback"] {
        symlink(cni::binary(plugin), dir.join("bin").join(plugin)).expect("link a plugin");
    }
    let ours = dir.join("bin/egressway");
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $CNI_NETNS\" >>{}/calls\nexec {} \"$@\"\n",
        dir.display(),
        cni::binary("egressway").display()
    );
    fs::write(&ours, script).expect("write a script");
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o755)).expect("make it a program");
}

fn conflist(node: &Node, dir: &Path) {
    let bridge: Map<String, Value> = crate::harness::Primary::Bridge
        .conf(node, false)
        .expect("bridge is a plugin");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let list = json!({
        "cniVersion": "1.0.0", "name": cni::NETWORK, "plugins": [bridge, portmap, node.ours],
    });
    fs::write(dir.join("net.d/10-test.conflist"), list.to_string()).expect("write the conflist");
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    let pause = image::PAUSE;
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
oom_score = 0
[grpc]
  address = "{dir}/socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/bin"
    conf_dir = "{dir}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}
