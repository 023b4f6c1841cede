//! A token of the service account that does not end with a pod.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use super::{Client, Error, ObjectName, Request};

/// For how long a token is asked for, in seconds.
const LASTS: i64 = 24 * 3600;

/// A new token, and how many seconds it is good for. Unlike the one that is mounted into a pod, it does
/// not end with the pod. It is bound to the Node, so that it ends with that, and so that the API server
/// can tell which node uses it; servers before 1.31 can't, and give one that is bound to nothing.
///
/// # Errors
/// The API does not answer, or refuses.
pub async fn request(
    client: &Client,
    account: &ObjectName,
    node: &str,
) -> Result<(String, u64), Error> {
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.to_owned()),
        uid: None,
    };
    match ask(client, account, Some(bound)).await {
        // 400: it does not know tokens of Nodes.
        Err(Error::Refused { code: 400, .. }) => ask(client, account, None).await,
        answer => answer,
    }
}

async fn ask(
    client: &Client,
    account: &ObjectName,
    bound: Option<BoundObjectReference>,
) -> Result<(String, u64), Error> {
    let ObjectName { namespace, name } = account;
    let api: Api<ServiceAccount> = Api::namespaced(client.kube(), namespace);
    let asked = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(LASTS),
            bound_object_ref: bound,
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let request = Request::new("create", "serviceaccounts/token")
        .within(namespace)
        .named(name);
    let params = PostParams::default();
    let answer = client
        .ask(
            request.clone(),
            api.create_token_request(name, &params, &asked),
        )
        .await?;
    let Some(status) = answer.status else {
        return Err(client.bad_answer(&request, "there is no token in it"));
    };
    let ends = status.expiration_timestamp.0;
    Ok((status.token, good_for(ends, Timestamp::now())))
}

/// How many seconds a token is good for. Not longer than was asked for: the API server's clock tells
/// when it ends, and this node's may be behind.
fn good_for(ends: Timestamp, now: Timestamp) -> u64 {
    let left = ends.as_second() - now.as_second();
    u64::try_from(left.min(LASTS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_makes_no_token_last() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (ends, now, seconds) in [
            (LASTS, 0, LASTS),
            (LASTS, 60, LASTS - 60),
            (LASTS + 7200, 0, LASTS),
            (LASTS, LASTS + 60, 0),
        ] {
            assert_eq!(good_for(at(ends), at(now)), seconds.unsigned_abs());
        }
    }
}
