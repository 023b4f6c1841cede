//! What `install/` says agrees with itself and with the program.

use crate::harness::cluster::{ACCOUNT, SYSTEM, manifests};
use crate::harness::{cni, exec};
use serde_json::Value;
use std::process::Command;

fn one(kind: &str) -> Value {
    let mut found = manifests::install();
    found.retain(|object| object["kind"] == kind);
    assert_eq!(found.len(), 1, "objects of kind {kind}");
    found.remove(0)
}

#[test]
fn the_policy_is_clean() {
    let mut lint = Command::new(cni::binary("egressway"));
    lint.args(["lint", "--strict"])
        .arg(manifests::directory().join("base/policy.yaml"));
    let said = exec::run(&mut lint, b"");
    assert_eq!(said.code, Some(0), "{}{}", said.stdout_text(), said.stderr);
}

#[test]
fn names_agree() {
    assert_eq!(one("Namespace")["metadata"]["name"], SYSTEM);
    assert_eq!(one("ServiceAccount")["metadata"]["name"], ACCOUNT);
    let pod = &one("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], ACCOUNT);
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        let binding = one(kind);
        assert_eq!(binding["subjects"][0]["name"], ACCOUNT);
        assert_eq!(binding["subjects"][0]["namespace"], SYSTEM);
        let role = one(kind.trim_end_matches("Binding"));
        assert_eq!(binding["roleRef"]["kind"], role["kind"]);
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    }
}

/// The admission policies bind this namespace's service account, and each is in force.
#[test]
fn admission_policies_are_about_our_service_account() {
    let all = manifests::all();
    let of = |kind: &str| -> Vec<Value> {
        let found = all.iter().filter(|object| object["kind"] == kind);
        found.cloned().collect()
    };
    let account = format!("\"system:serviceaccount:{SYSTEM}:{ACCOUNT}\"");
    let is_of_nodes = |object: &Value| {
        let name = object["metadata"]["name"].as_str().expect("a name");
        name.starts_with("egressway-node-")
    };
    let mut policies = of("ValidatingAdmissionPolicy");
    policies.retain(is_of_nodes);
    assert_eq!(policies.len(), 2);
    for policy in &policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let condition = policy["spec"]["matchConditions"][0]["expression"].as_str();
        let condition = condition.expect("a condition");
        assert_eq!(condition, format!("request.userInfo.username == {account}"));
    }
    let mut bindings = of("ValidatingAdmissionPolicyBinding");
    bindings.retain(is_of_nodes);
    assert_eq!(bindings.len(), policies.len());
    for (policy, binding) in policies.iter().zip(&bindings) {
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["validationActions"][0], "Deny");
        let labels = &binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"];
        assert_eq!(labels["kubernetes.io/metadata.name"], SYSTEM);
    }
}

/// What is written into the conflist holds on the host, too.
#[test]
fn host_paths_are_the_same_inside() {
    let pod = &one("DaemonSet")["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().expect("volumes");
    let mounts = pod["containers"][0]["volumeMounts"].as_array();
    let mounts = mounts.expect("volumeMounts");
    assert_eq!(volumes.len(), mounts.len());
    for mount in mounts {
        let volume = volumes.iter().find(|v| v["name"] == mount["name"]);
        let path = &volume.expect("the mount's volume")["hostPath"]["path"];
        assert_eq!(path, &mount["mountPath"]);
    }
}
