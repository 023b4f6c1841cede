//! A taint of a Node, which keeps pods from being scheduled there.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Client, Error, Request};

/// How often to try while others change the Node.
const ATTEMPTS: u32 = 5;

/// Puts the taint `key` with the effect `NoSchedule` on a Node, or takes every taint of that key off it. Whether
/// anything had to be changed.
///
/// Taints are one list, of which others have entries: it is written only over the version that was read.
///
/// # Errors
/// The API does not answer, or refuses.
pub async fn set(client: &Client, node: &str, key: &str, wanted: bool) -> Result<bool, Error> {
    let api: Api<Node> = Api::all(client.kube());
    let mut attempts = 1..ATTEMPTS;
    loop {
        let request = Request::new("get", "nodes").named(node);
        let found = client.ask(request, api.get(node)).await?;
        let before = found.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let Some(taints) = changed(before, key, wanted) else {
            return Ok(false);
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "spec": {"taints": taints},
        }));
        let request = Request::new("patch", "nodes").named(node);
        let params = PatchParams::default();
        match client.ask(request, api.patch(node, &params, &patch)).await {
            // Somebody was faster.
            Err(Error::Refused { code: 409, .. }) if attempts.next().is_some() => {}
            answer => return answer.map(|_| true),
        }
    }
}

/// The list as it shall be; none if it is so already.
fn changed(before: Vec<Taint>, key: &str, wanted: bool) -> Option<Vec<Taint>> {
    let has = before.iter().any(|taint| taint.key == key);
    if has == wanted {
        return None;
    }
    let mut taints = before;
    taints.retain(|taint| taint.key != key);
    if wanted {
        taints.push(Taint {
            key: key.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        });
    }
    Some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, effect: &str) -> Taint {
        Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            ..Taint::default()
        }
    }

    #[test]
    fn the_taints_of_others_stay() {
        let others = || vec![taint("a", "NoExecute"), taint("b", "NoSchedule")];
        assert_eq!(changed(others(), "ours", false), None);
        let put = changed(others(), "ours", true).expect("a change");
        assert_eq!(put[..2], others());
        assert_eq!(put[2..], [taint("ours", "NoSchedule")]);
        assert_eq!(changed(put.clone(), "ours", true), None);
        assert_eq!(changed(put, "ours", false), Some(others()));
    }

    /// The kubelet may have registered the node with either effect, or with both.
    #[test]
    fn every_taint_of_the_key_goes() {
        let both = vec![taint("ours", "NoExecute"), taint("ours", "NoSchedule")];
        assert_eq!(changed(both, "ours", false), Some(Vec::new()));
    }
}
