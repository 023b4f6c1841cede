//! The policy file of a node under test.

use serde_json::{Map, Value, json};

/// The policy file's contents; written as JSON, which is YAML.
#[derive(Debug, Clone)]
pub struct Policy(Map<String, Value>);

impl Default for Policy {
    /// Everything allowed; the test network's cluster, DNS and egress addresses known.
    fn default() -> Self {
        let Value::Object(map) = json!({
            "apiVersion": "egressway.dev/v1alpha1",
            "kind": "ClusterEgressPolicy",
            "defaultAction": "allow",
            "mode": "enforce",
            "clusterCIDRs": ["10.244.0.0/16", "10.96.0.0/12", "fd44::/16", "fd96::/112"],
            "clusterDNS": ["10.96.0.10", "fd96::a"],
            "egressIPs": ["172.30.0.48/28", "fd30::50/124"],
        }) else {
            unreachable!("an object literal")
        };
        Self(map)
    }
}

impl Policy {
    /// Sets any key.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    pub fn enforced(self, rules: &str) -> Self {
        self.set("enforced", json!(rules))
    }

    pub fn defaults(self, rules: &str) -> Self {
        self.set("defaults", json!(rules))
    }

    pub fn default_action(self, action: &str) -> Self {
        self.set("defaultAction", json!(action))
    }

    pub fn mode(self, mode: &str) -> Self {
        self.set("mode", json!(mode))
    }

    /// Adds an annotation of a namespace, as the API would say: `("shop", "egress-ip", "172.30.0.50")`.
    pub fn namespace(mut self, name: &str, annotation: &str, value: &str) -> Self {
        let namespaces = self.0.entry("namespaces").or_insert_with(|| json!({}));
        let namespace = namespaces
            .as_object_mut()
            .expect("a map")
            .entry(name)
            .or_insert_with(|| json!({"annotations": {}}));
        namespace["annotations"][format!("egressway.dev/{annotation}")] = json!(value);
        self
    }

    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.0).expect("JSON")
    }
}
