//! Kubernetes objects: which of them carry our annotations, and which make pods.

use super::annotations::{self, place};
use super::context::Context;
use super::finding::Findings;
use super::forged;
use super::items::{
    self, CRON_TEMPLATE, JOB_TEMPLATE, containers, is_policy, kind_of, string, template_of,
};
use super::keys::Carrier;
use super::kind;
use super::policy;
use super::text::Text;
use super::yaml::{self, Document, NodeView};
use crate::source::KIND;
use crate::source::annotation::ENFORCED_RULES;
use rules::effective::{Tier, TierRules};
use rules::fault::Complaint;

/// Capabilities with which a pod can leave any firewall of the host.
const CAPABILITIES: [&str; 3] = ["ALL", "NET_ADMIN", "CAP_NET_ADMIN"];

/// With which Multus gives a pod further networks (Kubernetes Network Custom Resource Definition De-facto Standard,
/// section 3.2).
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// Goes through a document. False if there is no Kubernetes object in it.
pub(super) fn check(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    document: &Document,
) -> bool {
    let objects = items::all(document);
    for object in &objects {
        findings.object = Some(name_of(*object));
        check_object(findings, context, outer, document, *object);
        findings.object = None;
    }
    !objects.is_empty()
}

/// Rules that the namespaces in a document enforce.
pub(super) fn enforced(file: &str, document: &Document) -> Vec<(String, TierRules)> {
    let rules = |object: NodeView<'_>| {
        let name = object.path(&["metadata", "name"])?.as_str()?;
        let text = object.path(&["metadata", "annotations", ENFORCED_RULES])?;
        let source = format!("{file}: {ENFORCED_RULES}");
        let rules = TierRules::parse(Tier::NamespaceEnforced, &source, text.as_text()?, false);
        Some((name.to_owned(), rules.ok()?))
    };
    let namespaces = items::of_kind(document, "Namespace").into_iter();
    namespaces.filter_map(rules).collect()
}

fn check_object(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    document: &Document,
    object: NodeView<'_>,
) {
    let metadata = object.get("metadata");
    let name = metadata.map_or("", |metadata| string(metadata, "name"));
    let namespace = metadata
        .and_then(|metadata| metadata.get("namespace"))
        .and_then(NodeView::as_str);
    if is_policy(object) {
        policy::check(findings, context, outer, document, object);
        return;
    }
    let kind = kind_of(object);
    if kind == "Pod" {
        check_pod(findings, context, outer, object, namespace);
        return;
    }
    if kind == "Namespace" {
        let carrier = Carrier::Namespace { name };
        annotations::check(findings, context, outer, metadata, &carrier);
        return;
    }
    if kind == "ConfigMap" {
        check_config_map(findings, context, outer, object);
    }
    let template = template_of(kind, object);
    let instead = template.map(|path| path.join("."));
    let carrier = Carrier::Other {
        instead: instead.as_deref(),
    };
    annotations::check(findings, context, outer, metadata, &carrier);
    if template == Some(CRON_TEMPLATE) {
        let job = object
            .path(JOB_TEMPLATE)
            .and_then(|job| job.get("metadata"));
        annotations::check(findings, context, outer, job, &carrier);
    }
    if let Some(template) = template.and_then(|path| object.path(path)) {
        check_pod(findings, context, outer, template, namespace);
    }
}

/// A pod, or a template of pods.
fn check_pod(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    pod: NodeView<'_>,
    namespace: Option<&str>,
) {
    let carrier = Carrier::Pod { namespace };
    let has_rules = annotations::check(findings, context, outer, pod.get("metadata"), &carrier);
    let Some(spec) = pod.get("spec") else {
        return;
    };
    // Whoever's rules these are: without any of its own, it has the cluster's.
    if let Some(conflist) = &context.ignoring
        && !spec.get("hostNetwork").is_some_and(is_true)
    {
        forged::check_pod(findings, outer, spec, conflist);
    }
    if !has_rules {
        return;
    }
    if let Some(host_network) = spec.get("hostNetwork").filter(|value| is_true(*value)) {
        let complaint = Complaint::new(
            "this pod is in the host's network: no plugin is asked for it, and its rules have no effect",
        )
        .help("remove `hostNetwork`, or the annotation");
        findings.add(&kind::HOST_NETWORK, place(outer, host_network), complaint);
        return;
    }
    let exempt = |name: &&str| {
        let policy = context.policy.as_ref();
        policy.is_some_and(|policy| policy.exempt_namespaces.contains(*name))
    };
    if let (Some(namespace), Some(metadata)) = (namespace.filter(exempt), pod.get("metadata")) {
        let complaint = Complaint::new(format!(
            "the policy file exempts the namespace {namespace}: the rules of its pods have no effect"
        ));
        let annotations = metadata.get("annotations").unwrap_or(metadata);
        findings.add(
            &kind::EXEMPT_NAMESPACE,
            place(outer, annotations),
            complaint,
        );
    }
    check_networks(findings, outer, pod);
    if context.ignoring.is_none() {
        forged::check_added(findings, outer, spec);
    }
    // In a user namespace of its own, the pod's privileges do not reach the host's network.
    if spec.get("hostUsers").and_then(NodeView::as_str) != Some("false") {
        check_privileges(findings, outer, spec);
    }
}

/// What Multus adds to a pod is no part of the cluster's network, and has a conflist of its own.
fn check_networks(findings: &mut Findings<'_>, outer: &Text, pod: NodeView<'_>) {
    let annotation = pod.path(&["metadata", "annotations", NETWORKS]);
    let Some(networks) = annotation.filter(|n| n.as_str().is_some_and(|n| !n.trim().is_empty()))
    else {
        return;
    };
    let complaint = Complaint::new(
        "this pod has further networks: its rules hold there only if their conflists have egressway, too",
    )
    .help("add egressway to the NetworkAttachmentDefinitions of these networks, where they have a veth");
    findings.add(&kind::SECOND_NETWORK, place(outer, networks), complaint);
}

fn check_privileges(findings: &mut Findings<'_>, outer: &Text, spec: NodeView<'_>) {
    for container in containers(spec) {
        let Some(security) = container.get("securityContext") else {
            continue;
        };
        let name = string(container, "name");
        let added = security.path(&["capabilities", "add"]);
        let added = added
            .into_iter()
            .flat_map(NodeView::items)
            .filter(|capability| {
                let capability = capability.as_str().unwrap_or_default();
                CAPABILITIES
                    .iter()
                    .any(|risky| capability.eq_ignore_ascii_case(risky))
            });
        let privileged = security.get("privileged").filter(|value| is_true(*value));
        for found in privileged.into_iter().chain(added) {
            let what = match found.as_str() {
                Some(capability) if !is_true(found) => format!("has {capability}"),
                _ => "is privileged".to_owned(),
            };
            let complaint = Complaint::new(format!(
                "the container {name} {what}: it can leave any firewall of the host, and its rules are no guarantee"
            ))
            .help("remove the privilege, or set `hostUsers: false`");
            findings.add(&kind::NO_GUARANTEE, place(outer, found), complaint);
        }
    }
}

/// A policy file on its way to the nodes.
fn check_config_map(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    object: NodeView<'_>,
) {
    let data = object
        .get("data")
        .map(NodeView::entries)
        .unwrap_or_default();
    for (_, value) in data {
        let Some(text) = value.text(outer).filter(|t| t.content.contains(KIND)) else {
            continue;
        };
        let read = yaml::read(&text.content);
        for document in &read.documents {
            if let Some(root) = document.root().filter(|root| is_policy(*root)) {
                policy::check(findings, context, &text, document, root);
            }
        }
        if let Some(error) = read.error {
            let at = text.place(error.byte);
            findings.add(&kind::YAML_SYNTAX, (at, at), Complaint::new(error.message));
        }
    }
}

fn is_true(view: NodeView<'_>) -> bool {
    view.as_str()
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// `Deployment payments/web`.
fn name_of(object: NodeView<'_>) -> String {
    let metadata = |key| object.path(&["metadata", key]).and_then(NodeView::as_str);
    let name = match (
        metadata("namespace"),
        metadata("name").or(metadata("generateName")),
    ) {
        (Some(namespace), Some(name)) => format!(" {namespace}/{name}"),
        (None, Some(name)) => format!(" {name}"),
        (_, None) => String::new(),
    };
    format!("{}{name}", kind_of(object))
}
