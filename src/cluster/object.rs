//! Objects by their names.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;

/// An object's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(ObjectName {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err("expected NAMESPACE/NAME".to_owned()),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ObjectName {
    /// As an Event names what it is about. Without the UID, `kubectl describe` does not show it.
    pub fn reference<K: Resource<DynamicType = ()>>(&self, uid: Option<String>) -> ObjectReference {
        ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: Some(self.namespace.clone()),
            name: Some(self.name.clone()),
            uid,
            ..ObjectReference::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        let name: ObjectName = "egressway-system/egressway".parse().unwrap();
        assert_eq!(name.to_string(), "egressway-system/egressway");
        for bad in ["", "name", "/name", "namespace/"] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
    }
}
