//! What the API server was asked, from its audit log.

use super::ApiServer;
use serde_json::Value;
use std::fs;

/// One line for each answered request, without bodies.
pub const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// One request, in the order in which they were answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCall {
    /// `system:serviceaccount:NAMESPACE:NAME` for a token's owner.
    pub user: String,
    /// As in a Role.
    pub verb: String,
    /// As in a Role: `leases`, `serviceaccounts/token`. Empty for `/readyz` and the like.
    pub resource: String,
    /// Path and query.
    pub uri: String,
    /// The answer's HTTP status.
    pub code: u64,
}

impl ApiServer {
    /// Everything that was asked with a token of `ACCOUNT`. Watches are there from their start on.
    pub fn calls(&self) -> Vec<ApiCall> {
        let user = format!("system:serviceaccount:{}:{}", super::SYSTEM, super::ACCOUNT);
        let mut calls = self.all_calls();
        calls.retain(|call| call.user == user);
        calls
    }

    /// Everything that was asked by anybody, this server itself included.
    pub fn all_calls(&self) -> Vec<ApiCall> {
        let log = fs::read_to_string(self.dir.path().join("audit.log")).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        log.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|event| ApiCall {
                resource: match (
                    &event["objectRef"]["resource"],
                    &event["objectRef"]["subresource"],
                ) {
                    (resource, Value::String(sub)) => format!("{}/{sub}", text(resource)),
                    (resource, _) => text(resource),
                },
                user: text(&event["user"]["username"]),
                verb: text(&event["verb"]),
                uri: text(&event["requestURI"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            })
            .collect()
    }
}
