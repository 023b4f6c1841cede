//! `egressway agent` as the DaemonSet runs it: its policy from a ConfigMap, its token from the API.

use super::agent::{Agent, CONFLIST, until};
use crate::harness::cluster::{ACCOUNT, ADDRESS, ApiServer, PORT, SYSTEM};
use crate::install::get;
use serde_json::{Value, json};
use std::fs;

const POLICY: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

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
    let mut agent = Agent::new(&api, "egressway-policy");
    agent.start();
    until("the kubeconfig is there", || {
        agent.path("net.d/egressway.d/kubeconfig").exists()
    });
    until("a missing ConfigMap is an Event", || {
        !events(&api, "PolicyInvalid").is_empty()
    });
    assert_eq!(agent.entry(), None, "without a policy no pod could start");
    until("it is not ready, and says why", || {
        let (status, text) = get(&agent.node.netns, "/readyz");
        status == 503 && text.contains("egressway-policy cannot be used")
    });

    agent.set_policy(&json!({"policy.yaml": POLICY}));
    until("the entry is put in", || agent.entry().is_some());
    assert_eq!(agent.policy(), POLICY);
    let entry = agent.entry().expect("it is there");
    let kubeconfig = agent.path("net.d/egressway.d/kubeconfig");
    assert_eq!(entry["kubernetes"]["kubeconfig"], json!(kubeconfig));
    assert_eq!(entry["kubernetes"]["nodeName"], "node-1");
    let of_the_pod = fs::read(agent.path("account/token")).expect("the pod's token");
    let token = agent.path("net.d/egressway.d/token");
    until("the plugin has a token of its own", || {
        fs::read(&token).is_ok_and(|own| own != of_the_pod)
    });
    until("the kubeconfig has the server's own address", || {
        fs::read_to_string(&kubeconfig)
            .is_ok_and(|text| text.contains(&format!("\"{ADDRESS}:{PORT}\"")))
    });

    // A change is followed, a fault is not.
    let stricter = format!("{POLICY}defaultAction: deny\n");
    agent.set_policy(&json!({"policy.yaml": stricter}));
    until("the change is followed", || agent.policy() == stricter);
    agent.set_policy(&json!({"policy.yaml": format!("{POLICY}enforced: |\n  deny 1/tpc\n")}));
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
        let (status, text) = get(&agent.node.netns, "/readyz");
        status == 503 && text.contains("tpc") && text.contains("last valid policy stays")
    });
    assert_eq!(agent.policy(), stricter, "the last good one stays");
    agent.set_policy(&json!({"policy.yaml": null}));
    until("a missing key is an Event", || said("policy.yaml"));
    assert_eq!(agent.policy(), stricter);

    // The pod ends, the DaemonSet stays: so does everything.
    assert!(agent.terminate().contains("everything stays in place"));
    assert!(agent.entry().is_some());
    // An API that does not answer does not keep a node that had a policy from starting.
    api.stop();
    agent.start();
    until("it has started", || {
        agent.path("net.d/egressway.d/policy.sha256").exists()
    });
    fs::write(agent.path("net.d/10-pods.conflist"), CONFLIST).expect("write the conflist");
    until("the entry is put in", || agent.entry().is_some());
    api.restart();
    delete_daemonset(&api);
    assert_takes_everything_out(&mut agent);
    assert!(
        agent.path("bin/egressway").exists(),
        "runtimes may still call it"
    );
}

#[test]
fn once_takes_the_policy_that_is_there() {
    let api = ApiServer::shared();
    let agent = Agent::new(api, "egressway-policy");
    let output = agent
        .node
        .netns
        .exec_with(agent.command("install").arg("--once"), b"");
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(agent.policy().contains("ClusterEgressPolicy"));
    assert!(agent.entry().is_some());
    let output = agent
        .node
        .netns
        .exec_with(agent.command("install").arg("--check"), b"");
    let text = output.stdout_text();
    assert_eq!(output.code, Some(0), "{text} {}", output.stderr);
    assert!(text.contains("ok      API"), "{text}");
}

/// Pods of a network that `clusterCIDRs` lack are no `cluster`: nobody sees that in the policy alone.
#[test]
fn pod_networks_that_the_policy_lacks_are_told() {
    let api = ApiServer::start();
    let mut agent = Agent::new(&api, "egressway-policy");
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
    agent.set_policy(&policy("10.244.0.0/16"));
    agent.start();
    until("the missing network is an Event", || said() == 1);
    let (status, text) = get(&agent.node.netns, "/readyz");
    assert_eq!(status, 200, "it is a warning only: {text}");
    // A fault of the policy marks that the good one has been compared.
    agent.set_policy(&policy("10.0.0.0/8"));
    agent.set_policy(&json!({"policy.yaml": "nonsense"}));
    until("the fault is an Event", || {
        !events(&api, "PolicyInvalid").is_empty()
    });
    assert_eq!(said(), 1, "with the network, there is nothing to warn of");
    agent.terminate();
}

/// Another program's entry of the same type: two programs of one name cannot be told apart by a runtime.
#[test]
fn another_programs_entry_of_our_name_is_left_alone() {
    let api = ApiServer::start();
    let mut agent = Agent::new(&api, "egressway-policy");
    agent.set_policy(&json!({"policy.yaml": POLICY}));
    let theirs = CONFLIST.replace(
        r#"{"type": "bridge"}"#,
        r#"{"type": "bridge"}, {"type": "egressway", "routes": []}"#,
    );
    fs::write(agent.path("net.d/10-pods.conflist"), &theirs).expect("write the conflist");
    // A file behind it is none that the runtime uses.
    fs::write(agent.path("net.d/20-more.conflist"), CONFLIST).expect("write another");
    let is_untouched = |agent: &Agent<'_>| {
        let read = |name: &str| fs::read_to_string(agent.path(name)).expect("is there");
        assert_eq!(read("net.d/10-pods.conflist"), theirs);
        assert_eq!(read("net.d/20-more.conflist"), CONFLIST);
    };
    let once = agent
        .node
        .netns
        .exec_with(&mut agent.command("install"), b"");
    assert_ne!(once.code, Some(0));
    assert!(once.stderr.contains("another program's"), "{}", once.stderr);
    is_untouched(&agent);
    agent.start();
    until("it is not ready, and says why", || {
        let (status, text) = get(&agent.node.netns, "/readyz");
        status == 503 && text.contains("another program's") && text.contains("routes")
    });
    is_untouched(&agent);
    agent.terminate();
    let removed = agent
        .node
        .netns
        .exec_with(&mut agent.command("uninstall"), b"");
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    is_untouched(&agent);
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

fn delete_daemonset(api: &ApiServer) {
    api.delete(&json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "egressway", "namespace": SYSTEM},
    }));
}

/// Ends its pod, which is the last of its DaemonSet.
fn assert_takes_everything_out(agent: &mut Agent<'_>) {
    let said = agent.terminate();
    assert!(said.contains("the DaemonSet is being deleted"), "{said}");
    assert_eq!(agent.entry(), None);
    for gone in ["policy.yaml", "net.d/egressway.d", "state"] {
        assert!(!agent.path(gone).exists(), "{gone}");
    }
}

fn started(api: &ApiServer) -> Agent<'_> {
    let mut agent = Agent::new(api, "egressway-policy");
    agent.start();
    until("it is ready", || get(&agent.node.netns, "/readyz").0 == 200);
    assert!(agent.entry().is_some());
    agent
}

/// All that `install/` has is deleted, the rights to ask before the DaemonSet.
#[test]
fn deleting_all_of_install_takes_everything_out() {
    for whole_namespace in [true, false] {
        let api = ApiServer::start();
        let mut agent = started(&api);
        if whole_namespace {
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}});
            api.delete(&namespace);
            delete_rights(&api);
        } else {
            delete_rights(&api);
            delete_daemonset(&api);
        }
        assert_takes_everything_out(&mut agent);
    }
}

/// That it may ask no more says nothing: somebody may have removed the rights by mistake.
#[test]
fn without_rights_everything_stays() {
    let api = ApiServer::start();
    let mut agent = started(&api);
    delete_rights(&api);
    let said = agent.terminate();
    assert!(said.contains("everything stays in place, since"), "{said}");
    assert!(agent.entry().is_some());
    assert!(agent.path("net.d/egressway.d/token").exists());
}

/// The server's memory begins anew. The policy is followed on, with one more list, not with one every few seconds.
#[test]
fn an_api_server_that_starts_again_is_followed_on() {
    let api = ApiServer::start();
    let agent = started(&api);
    api.stop();
    api.restart();
    let stricter = format!("{POLICY}defaultAction: deny\n");
    agent.set_policy(&json!({"policy.yaml": stricter}));
    until("the change is followed", || agent.policy() == stricter);
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
        agent.set_policy(&json!({"policy.yaml": policy}));
        until("the change is followed", || agent.policy() == policy);
    }
    assert_eq!(asked(), before, "the watch tells everything");
}
