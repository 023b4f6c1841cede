//! Whether the policy's `clusterCIDRs` hold the networks from which this node's pods have their addresses: what is missing
//! there is `internet` or `private` in rules, and gets an egress IP.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::ListParams;

use super::Context;
use super::api::Api;
use crate::cluster::Request;
use crate::source::PolicyFile;

/// Compares them, and warns of what is missing. What the API does not say is no reason for a word.
pub(super) async fn compare(context: &Context, api: &Api, policy: ObjectReference) {
    let path = context.config.policy_file.clone();
    let Ok(Ok(file)) = context.worker.run(move || PolicyFile::load(&path)).await else {
        return;
    };
    let node = api.cluster().node();
    // The right to `get` would be one more.
    let only = ListParams::default().fields(&format!("metadata.name={node}"));
    let found = api.ask(|client| async move {
        let nodes: kube::Api<Node> = kube::Api::all(client.kube());
        client
            .ask(Request::new("list", "nodes"), nodes.list(&only))
            .await
    });
    let found = match found.await {
        Ok(found) => found,
        Err(e) => {
            tracing::debug!("cannot compare the node's podCIDRs with clusterCIDRs: {e}");
            return;
        }
    };
    let missing = missing(&found.items, &file.facts.cluster);
    if missing.is_empty() {
        return;
    }
    let note = format!(
        "clusterCIDRs of the policy do not hold {} of node {node}: its pods are no `cluster` in rules, and reach each other by their egress IPs; add the pods' networks",
        missing.join(" and ")
    );
    tracing::warn!("{note}");
    let teller = &context.teller;
    teller.warn(policy, "PolicyIncomplete", "ComparePodCIDRs", note);
}

/// `podCIDR 10.9.0.0/24`, for each that no network holds whole.
fn missing(nodes: &[Node], cluster: &[IpNet]) -> Vec<String> {
    let specs = nodes.iter().filter_map(|node| node.spec.as_ref());
    let all = specs.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    let mut nets: Vec<IpNet> = all.filter_map(|net| net.parse().ok()).collect();
    nets.sort();
    nets.dedup();
    let outside = |net: &IpNet| !cluster.iter().any(|known| known.contains(net));
    nets.retain(outside);
    nets.iter().map(|net| format!("podCIDR {net}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_of_the_cluster_holds_is_missing() {
        let node = |spec: serde_json::Value| -> Node {
            serde_json::from_value(serde_json::json!({ "metadata": {}, "spec": spec })).unwrap()
        };
        let cluster = ["10.244.0.0/16", "fd00:10:244::/56"].map(|net| net.parse().unwrap());
        let both = node(serde_json::json!({
            "podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:10:244:3::/64"],
        }));
        assert!(missing(&[both], &cluster).is_empty());
        let other = node(serde_json::json!({
            "podCIDR": "10.9.3.0/24", "podCIDRs": ["10.9.3.0/24", "fd09::/64"],
        }));
        assert_eq!(
            missing(&[other], &cluster),
            ["podCIDR 10.9.3.0/24", "podCIDR fd09::/64"]
        );
        // Calico and others give Nodes none.
        assert!(missing(&[node(serde_json::json!({}))], &cluster).is_empty());
    }
}
