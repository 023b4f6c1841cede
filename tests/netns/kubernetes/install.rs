//! `egressway agent` as the DaemonSet runs it: its policy from a ConfigMap, its token from the API.

use crate::harness::cluster::{ACCOUNT, ADDRESS, ApiServer, PORT, SYSTEM};
use crate::harness::cni::binary;
use crate::harness::{exec, *};
use crate::install::get;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const CONFLIST: &str =
    r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}"#;
const POLICY: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

/// A node on which the DaemonSet's pod runs.
struct Pod<'a> {
    api: &'a ApiServer,
    node: Node,
    name: &'a str,
    child: Option<Child>,
}

impl<'a> Pod<'a> {
    /// A node with the bridge plugin, and a service account as the kubelet mounts it. `name` is that of
    /// the ConfigMap and of the DaemonSet; the account may only read those of `install/`.
    fn new(api: &'a ApiServer, name: &'a str) -> Self {
        let node = Node::new(NodeOptions::default());
        api.connect(&node.netns);
        let pod = Self {
            api,
            node,
            name,
            child: None,
        };
        for dir in ["bin", "net.d"] {
            fs::create_dir(pod.path(dir)).expect("make a directory");
        }
        fs::copy(binary("bridge"), pod.path("bin/bridge")).expect("copy the bridge plugin");
        fs::write(pod.path("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
        fs::remove_file(pod.path("policy.yaml")).expect("remove the policy file");
        let token = api.token(SYSTEM, ACCOUNT);
        api.kubeconfig(&pod.path("account"), &token);
        fs::write(pod.path("account/namespace"), SYSTEM).expect("write the namespace");
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.dir.path().join(name)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(binary("egressway"));
        command.arg(verb).env_clear();
        for (flag, path) in [
            ("--cni-bin-dir", "bin"),
            ("--cni-conf-dir", "net.d"),
            ("--policy-file", "policy.yaml"),
            ("--state-dir", "state"),
            ("--service-account-dir", "account"),
        ] {
            command.arg(flag).arg(self.path(path));
        }
        command
            .args(["--node-name", "node-1", "--api-server"])
            .arg(format!("https://{ADDRESS}:{PORT}"))
            .args(["--policy-configmap", &format!("{SYSTEM}/{}", self.name)])
            .args(["--daemonset", &format!("{SYSTEM}/egressway")]);
        command
    }

    fn start(&mut self) {
        self.child = Some(self.node.netns.spawn(&mut self.command("agent")));
    }

    fn set_policy(&self, data: &Value) {
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": SYSTEM}, "data": data,
        }));
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.path("policy.yaml")).unwrap_or_default()
    }

    fn entry(&self) -> Option<Value> {
        let text = fs::read_to_string(self.path("net.d/10-pods.conflist")).ok()?;
        let list: Value = serde_json::from_str(&text).expect("the conflist is JSON");
        let last = list["plugins"].as_array()?.last()?.clone();
        (last["type"] == "egressway").then_some(last)
    }

    fn terminate(&mut self) -> String {
        let child = self.child.take().expect("it was started");
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("send SIGTERM");
        let output = exec::finish(child, b"", "agent");
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stderr
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + exec::limit() * 2;
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Events of one object, as `kubectl describe` finds them: by its UID.
fn events_of(api: &ApiServer, uid: &Value, reason: &str) -> usize {
    let all = api.list(&json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": SYSTEM},
    }));
    let found = all.iter().filter(|event| {
        event["reason"] == reason && event["involvedObject"]["uid"] == *uid && uid.is_string()
    });
    found.count()
}

fn events(api: &ApiServer, reason: &str) -> Vec<String> {
    let all = api.list(&json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": SYSTEM},
    }));
    all.iter()
        .filter(|event| event["reason"] == reason)
        .filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn from_the_configmap_to_the_end_of_the_daemonset() {
    let api = ApiServer::start();
    api.delete(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "egressway-policy", "namespace": SYSTEM},
    }));
    let mut pod = Pod::new(&api, "egressway-policy");
    pod.start();
    until("the kubeconfig is there", || {
        pod.path("net.d/egressway.d/kubeconfig").exists()
    });
    until("a missing ConfigMap is an Event", || {
        !events(&api, "PolicyInvalid").is_empty()
    });
    assert_eq!(pod.entry(), None, "without a policy no pod could start");
    until("it is not ready, and says why", || {
        let (status, text) = get(&pod.node.netns, "/readyz");
        status == 503 && text.contains("egressway-policy cannot be used")
    });

    pod.set_policy(&json!({"policy.yaml": POLICY}));
    until("the entry is put in", || pod.entry().is_some());
    assert_eq!(pod.policy(), POLICY);
    let entry = pod.entry().expect("it is there");
    let kubeconfig = pod.path("net.d/egressway.d/kubeconfig");
    assert_eq!(entry["kubernetes"]["kubeconfig"], json!(kubeconfig));
    assert_eq!(entry["kubernetes"]["nodeName"], "node-1");
    let of_the_pod = fs::read(pod.path("account/token")).expect("the pod's token");
    let token = pod.path("net.d/egressway.d/token");
    until("the plugin has a token of its own", || {
        fs::read(&token).is_ok_and(|own| own != of_the_pod)
    });
    until("the kubeconfig has the server's own address", || {
        fs::read_to_string(&kubeconfig)
            .is_ok_and(|text| text.contains(&format!("\"{ADDRESS}:{PORT}\"")))
    });

    // A change is followed, a fault is not.
    let stricter = format!("{POLICY}defaultAction: deny\n");
    pod.set_policy(&json!({"policy.yaml": stricter}));
    until("the change is followed", || pod.policy() == stricter);
    pod.set_policy(&json!({"policy.yaml": format!("{POLICY}enforced: |\n  deny 1/tpc\n")}));
    let said = |word: &str| {
        let events = events(&api, "PolicyInvalid");
        events.iter().any(|message| message.contains(word))
    };
    until("the fault is an Event", || said("tpc") && said("^^^"));
    let configmap = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "egressway-policy", "namespace": SYSTEM},
    });
    let uid = api.get(&configmap).expect("the ConfigMap")["metadata"]["uid"].clone();
    assert!(events_of(&api, &uid, "PolicyInvalid") > 0);
    until("it is not ready", || {
        let (status, text) = get(&pod.node.netns, "/readyz");
        status == 503 && text.contains("tpc") && text.contains("last good policy stays")
    });
    assert_eq!(pod.policy(), stricter, "the last good one stays");
    pod.set_policy(&json!({"policy.yaml": null}));
    until("a missing key is an Event", || said("policy.yaml"));
    assert_eq!(pod.policy(), stricter);

    // The pod ends, the DaemonSet stays: so does everything.
    assert!(pod.terminate().contains("everything stays in place"));
    assert!(pod.entry().is_some());
    // An API that does not answer does not keep a node that had a policy from starting.
    api.stop();
    pod.start();
    until("it has started", || {
        pod.path("net.d/egressway.d/policy.sha256").exists()
    });
    fs::write(pod.path("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
    until("the entry is put in", || pod.entry().is_some());
    api.restart();
    api.delete(&json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "egressway", "namespace": SYSTEM},
    }));
    let said = pod.terminate();
    assert!(said.contains("the DaemonSet is being deleted"), "{said}");
    assert_eq!(pod.entry(), None);
    for gone in ["policy.yaml", "net.d/egressway.d", "state"] {
        assert!(!pod.path(gone).exists(), "{gone}");
    }
    assert!(
        pod.path("bin/egressway").exists(),
        "runtimes may still call it"
    );
}

#[test]
fn once_takes_the_policy_that_is_there() {
    let api = ApiServer::shared();
    let pod = Pod::new(api, "egressway-policy");
    let output = pod
        .node
        .netns
        .exec_with(pod.command("install").arg("--once"), b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(pod.policy().contains("ClusterEgressPolicy"));
    assert!(pod.entry().is_some());
    let output = pod
        .node
        .netns
        .exec_with(pod.command("install").arg("--check"), b"");
    let text = output.stdout_text();
    assert_eq!(output.code, Some(0), "{text} {}", output.stderr);
    assert!(text.contains("ok      API"), "{text}");
}

/// Pods of a network that `clusterCIDRs` lack are no `cluster`: nobody sees that in the policy alone.
#[test]
fn pod_networks_that_the_policy_lacks_are_told() {
    let api = ApiServer::start();
    let mut pod = Pod::new(&api, "egressway-policy");
    api.create(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "spec": {"podCIDR": "10.9.3.0/24", "podCIDRs": ["10.9.3.0/24"]},
    }));
    let policy = |cidrs: &str| json!({"policy.yaml": format!("{POLICY}clusterCIDRs: [{cidrs}]\n")});
    let said = || {
        let events = events(&api, "PolicyIncomplete");
        events
            .iter()
            .filter(|note| note.contains("podCIDR 10.9.3.0/24"))
            .count()
    };
    pod.set_policy(&policy("10.244.0.0/16"));
    pod.start();
    until("the missing network is an Event", || said() == 1);
    let (status, text) = get(&pod.node.netns, "/readyz");
    assert_eq!(status, 200, "it is a warning only: {text}");
    // A fault of the policy marks that the good one has been compared.
    pod.set_policy(&policy("10.0.0.0/8"));
    pod.set_policy(&json!({"policy.yaml": "nonsense"}));
    until("the fault is an Event", || {
        !events(&api, "PolicyInvalid").is_empty()
    });
    assert_eq!(said(), 1, "with the network, there is nothing to warn of");
    pod.terminate();
}

/// Another program's entry of the same type: two programs of one name cannot be told apart by a runtime.
#[test]
fn another_programs_entry_of_our_name_is_left_alone() {
    let api = ApiServer::start();
    let mut pod = Pod::new(&api, "egressway-policy");
    pod.set_policy(&json!({"policy.yaml": POLICY}));
    let theirs = CONFLIST.replace(
        r#"{"type": "bridge"}"#,
        r#"{"type": "bridge"}, {"type": "egressway", "routes": []}"#,
    );
    fs::write(pod.path("net.d/10-pods.conflist"), &theirs).expect("write the conflist");
    // A file behind it is none that the runtime uses.
    fs::write(pod.path("net.d/20-more.conflist"), CONFLIST).expect("write another");
    let is_untouched = |pod: &Pod<'_>| {
        let read = |name: &str| fs::read_to_string(pod.path(name)).expect("is there");
        assert_eq!(read("net.d/10-pods.conflist"), theirs);
        assert_eq!(read("net.d/20-more.conflist"), CONFLIST);
    };
    let once = pod.node.netns.exec_with(&mut pod.command("install"), b"");
    assert_ne!(once.code, Some(0));
    assert!(once.stderr.contains("another program's"), "{}", once.stderr);
    is_untouched(&pod);
    pod.start();
    until("it is not ready, and says why", || {
        let (status, text) = get(&pod.node.netns, "/readyz");
        status == 503 && text.contains("another program's") && text.contains("routes")
    });
    is_untouched(&pod);
    pod.terminate();
    let removed = pod.node.netns.exec_with(&mut pod.command("uninstall"), b"");
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    is_untouched(&pod);
}

/// The order in which `kubectl delete -k` asks, in a cluster whose controllers do nothing.
fn delete_rights(api: &ApiServer) {
    for (version, kind, namespace) in [
        ("v1", "ServiceAccount", Some(SYSTEM)),
        ("rbac.authorization.k8s.io/v1", "Role", Some(SYSTEM)),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", None),
        ("rbac.authorization.k8s.io/v1", "RoleBinding", Some(SYSTEM)),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None),
    ] {
        let mut metadata = json!({"name": ACCOUNT});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        api.delete(&json!({"apiVersion": version, "kind": kind, "metadata": metadata}));
    }
}

fn started(api: &ApiServer) -> Pod<'_> {
    let mut pod = Pod::new(api, "egressway-policy");
    pod.start();
    until("it is ready", || get(&pod.node.netns, "/readyz").0 == 200);
    assert!(pod.entry().is_some());
    pod
}

/// All that `install/` has is deleted, the rights to ask before the DaemonSet.
#[test]
fn deleting_all_of_install_takes_everything_out() {
    for whole_namespace in [true, false] {
        let api = ApiServer::start();
        let mut pod = started(&api);
        if whole_namespace {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
            api.delete(&namespace);
            delete_rights(&api);
        } else {
            delete_rights(&api);
            api.delete(&json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet",
                "metadata": {"name": "egressway", "namespace": SYSTEM},
            }));
        }
        let said = pod.terminate();
        assert!(said.contains("the DaemonSet is being deleted"), "{said}");
        assert_eq!(pod.entry(), None);
        for gone in ["policy.yaml", "net.d/egressway.d", "state"] {
            assert!(!pod.path(gone).exists(), "{gone}");
        }
    }
}

/// That it may ask no more says nothing: somebody may have removed the rights by mistake.
#[test]
fn without_rights_everything_stays() {
    let api = ApiServer::start();
    let mut pod = started(&api);
    delete_rights(&api);
    let said = pod.terminate();
    assert!(said.contains("everything stays in place, since"), "{said}");
    assert!(pod.entry().is_some());
    assert!(pod.path("net.d/egressway.d/token").exists());
}

/// The server's memory begins anew. The policy is followed on, with one more list, not with one every few seconds.
#[test]
fn an_api_server_that_starts_again_is_followed_on() {
    let api = ApiServer::start();
    let pod = started(&api);
    api.stop();
    api.restart();
    let stricter = format!("{POLICY}defaultAction: deny\n");
    pod.set_policy(&json!({"policy.yaml": stricter}));
    until("the change is followed", || pod.policy() == stricter);
    let asked = || {
        let mut calls = api.calls();
        calls.retain(|call| {
            call.resource == "configmaps" && matches!(&call.verb[..], "get" | "list")
        });
        calls.len()
    };
    let before = asked();
    for n in 0..20 {
        let policy = format!("{stricter}# {n}\n");
        pod.set_policy(&json!({"policy.yaml": policy}));
        until("the change is followed", || pod.policy() == policy);
    }
    assert_eq!(asked(), before, "the watch tells everything");
}
