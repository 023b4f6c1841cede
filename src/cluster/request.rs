//! What is asked of the API, for messages.

use std::fmt;

/// What is asked, in Kubernetes' own words, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As in a Role: `get`, `list`, `create`, ...
    pub verb: &'static str,
    /// As in a Role, with its group: `namespaces`, `leases.coordination.k8s.io`.
    pub resource: &'static str,
    /// The object's namespace, if it has one.
    pub namespace: Option<String>,
    /// The object's name, if one is meant.
    pub name: Option<String>,
}

impl Request {
    /// A verb and a resource, as in a Role.
    pub const fn new(verb: &'static str, resource: &'static str) -> Self {
        Request {
            verb,
            resource,
            namespace: None,
            name: None,
        }
    }

    /// In one namespace.
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// One object.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

impl fmt::Display for Request {
    /// `get pods shop/web-0`, `list services in kube-system`, `get namespaces shop`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (Some(namespace), None) => write!(f, " in {namespace}"),
            (None, Some(name)) => write!(f, " {name}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_in_a_role() {
        let of = |request: Request| request.to_string();
        assert_eq!(
            of(Request::new("get", "namespaces").named("shop")),
            "get namespaces shop"
        );
        assert_eq!(
            of(Request::new("get", "pods").within("shop").named("web-0")),
            "get pods shop/web-0"
        );
        assert_eq!(
            of(Request::new("list", "services").within("kube-system")),
            "list services in kube-system"
        );
    }
}
