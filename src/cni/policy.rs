//! Which policy the pod of an ADD has: every source asked, every text checked.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::kubernetes::Limit;
use crate::source::api::{self, Access, PodName};
use crate::source::{self, PodPolicy, PolicyFile, Snapshots, SourceError};
use crate::state::StateDir;

use super::conf::{Kubernetes, PodAnnotations, WhenUnreachable};
use super::{CniError, Conf, Invocation};

/// Reads all texts and checks them: nothing is written to the kernel before every one of them is
/// valid.
///
/// # Errors
/// Code 100 and 102: a text; 11 and 7: the API; 4: the runtime does not say whose policy it is.
pub fn of_pod(call: &Invocation, conf: &Conf, deadline: Instant) -> Result<PodPolicy, CniError> {
    let file = PolicyFile::load(&conf.policy_file).map_err(refused)?;
    let namespace = call.args.namespace.as_deref().unwrap_or_default();
    // A node starts its system pods whether or not it reaches the API.
    let exempt = file.exempt_namespaces.contains(namespace);
    match &conf.kubernetes {
        Some(kubernetes) if !exempt => from_api(call, conf, file, kubernetes, deadline),
        _ => {
            let annotations = handed_over(conf);
            if annotations.is_none() && !exempt {
                tracing::warn!(
                    "the runtime hands no pod annotations over: only the cluster's and the namespace's rules apply"
                );
            }
            source::resolve(&file, namespace, &file.namespace(namespace), annotations)
                .map_err(refused)
        }
    }
}

fn from_api(
    call: &Invocation,
    conf: &Conf,
    mut file: PolicyFile,
    kubernetes: &Kubernetes,
    deadline: Instant,
) -> Result<PodPolicy, CniError> {
    let namespace = named(call.args.namespace.as_deref(), "K8S_POD_NAMESPACE")?;
    let annotations = handed_over(conf);
    let pod = match annotations {
        Some(annotations) => api::PodAnnotations::HandedOver(annotations),
        None => api::PodAnnotations::Of(PodName {
            name: named(call.args.name.as_deref(), "K8S_POD_NAME")?,
            uid: call.args.uid.as_deref(),
        }),
    };
    if file.namespaces.contains_key(namespace) {
        tracing::warn!(
            "`namespaces.{namespace}` in the policy file is not looked at: `kubernetes` is set in the conflist, and the API says what the namespace's annotations are"
        );
    }
    let state = StateDir::new(&conf.state_dir);
    let access = Access {
        kubeconfig: &kubernetes.kubeconfig,
        limit: Limit::overall(kubernetes.timeout, deadline),
        snapshots: Snapshots {
            state: &state,
            max_age: kubernetes.snapshot_max_age,
            used: kubernetes.when_unreachable == WhenUnreachable::Snapshot,
        },
    };
    let said = api::read(&access, &file, namespace, pod).map_err(refused)?;
    file.facts = said.facts;
    file.egress_lists = said.egress_lists;
    let annotations = annotations.or(said.pod.as_ref());
    source::resolve(&file, namespace, &said.namespace, annotations).map_err(refused)
}

/// The pod's annotations, if the runtime gives them.
fn handed_over(conf: &Conf) -> Option<&BTreeMap<String, String>> {
    match &conf.pod_annotations {
        PodAnnotations::Present(annotations) => Some(annotations),
        PodAnnotations::Absent => None,
    }
}

/// Without it, rules that a namespace enforces would be passed over.
fn named<'a>(value: Option<&'a str>, key: &str) -> Result<&'a str, CniError> {
    value.ok_or_else(|| {
        CniError::environment(format!(
            "CNI_ARGS has no {key}, so the API cannot be asked for the pod's policy: take `kubernetes` out of the conflist of networks whose containers are not Kubernetes' pods"
        ))
    })
}

fn refused(error: SourceError) -> CniError {
    CniError::new(error.code(), error.to_string())
}
