//! Policy files, alone or in a ConfigMap.

use std::net::IpAddr;

use super::annotations;
use super::context::{self, Context};
use super::finding::Findings;
use super::input::Input;
use super::keys::Carrier;
use super::kind;
use super::text::Text;
use super::tier::{self, Surroundings};
use super::yaml::{self, Document, NodeView};
use crate::source::{PolicyFile, SourceError, impossible_egress};
use rules::effective::{Facts, Tier, TierRules};
use rules::fault::{Complaint, Faults};
use rules::grammar::targets;
use rules::nat64;

/// What the file's own values are called in faults; texts inside have longer names.
const OWN: &str = "policy";

/// The policy in a file, alone or in a ConfigMap; `None` if there is none without faults.
pub fn find(input: &Input) -> Option<PolicyFile> {
    let parse = |text: &str| PolicyFile::parse(&input.name, text).ok();
    let in_config_maps = || {
        let read = yaml::read(&input.text);
        let roots = read.documents.iter().filter_map(Document::root);
        let data = roots.filter_map(|root| root.get("data"));
        let texts = data
            .flat_map(NodeView::entries)
            .filter_map(|(_, text)| text.as_str());
        texts.filter_map(parse).next()
    };
    parse(&input.text).or_else(in_config_maps)
}

/// Checks a policy file, which is a document of `outer`.
pub(super) fn check(
    findings: &mut Findings<'_>,
    context: &Context,
    outer: &Text,
    document: &Document,
    root: NodeView<'_>,
) {
    let parsed = PolicyFile::parse(OWN, &alone(&outer.content, document));
    let policy = match parsed {
        Ok(policy) => Some(policy),
        Err(SourceError::Text(faults)) => {
            own_faults(findings, outer, &faults);
            None
        }
        // What is wrong with annotations is found below, all of it.
        Err(_) => None,
    };
    let facts = policy
        .as_ref()
        .map_or_else(|| facts_of(root), |policy| policy.facts.clone());
    egress_ips(findings, outer, root, &facts);
    let tier = |findings: &mut Findings<'_>, tier, key: &str, above| {
        let text = root.get(key).and_then(|value| value.text(outer))?;
        let around = Surroundings {
            above,
            facts: Some(&facts),
            ..context.surroundings()
        };
        tier::check(findings, tier, key, &text, &around)
    };
    let enforced: Option<TierRules> = tier(findings, Tier::ClusterEnforced, "enforced", Vec::new());
    let built_in = context::built_in(Some(&facts));
    let above = enforced.iter().chain(&built_in).collect();
    tier(findings, Tier::ClusterDefaults, "defaults", above);

    let limits = policy
        .as_ref()
        .map_or(context.limits, |policy| policy.limits);
    let inside = Context {
        policy,
        enforced,
        facts: Some(facts.clone()),
        namespaces: Default::default(),
        built_in,
        service_cidrs: context.service_cidrs.clone(),
        services: context.services.clone(),
        limits,
        no_api: context.no_api,
        ignoring: context.ignoring.clone(),
        now: context.now,
    };
    for (name, namespace) in root
        .get("namespaces")
        .map(NodeView::entries)
        .unwrap_or_default()
    {
        let carrier = Carrier::Namespace {
            name: name.as_str().unwrap_or_default(),
        };
        if let Some(annotations) = namespace.get("annotations") {
            annotations::check_map(findings, &inside, outer, annotations, &carrier);
        }
    }
}

/// What the file offers, and no ADD will take.
fn egress_ips(findings: &mut Findings<'_>, outer: &Text, root: NodeView<'_>, facts: &Facts) {
    let items = root.get("egressIPs").into_iter().flat_map(NodeView::items);
    for item in items {
        let entry = item.as_str().and_then(|word| targets::network(word).ok());
        let reason = entry.and_then(|entry| impossible_egress(&entry, facts));
        if let Some(reason) = reason {
            let at = annotations::place(outer, item);
            let complaint = annotations::impossible(&reason);
            findings.add(&kind::EGRESS_IP_REFUSED, at, complaint);
        }
    }
}

/// The document as a text of its own, each character in its line and column.
fn alone(text: &str, document: &Document) -> String {
    let before = text.get(..document.start).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let own = text.get(start..document.end).unwrap_or_default();
    "\n".repeat(before.matches('\n').count()) + own
}

fn own_faults(findings: &mut Findings<'_>, outer: &Text, faults: &Faults) {
    for fault in faults
        .described()
        .iter()
        .filter(|fault| fault.source == OWN)
    {
        let complaint = Complaint {
            message: fault.message.clone(),
            help: fault.help.clone(),
        };
        findings.add_in(&kind::POLICY_FILE, outer, fault.into(), complaint);
    }
}

/// What a policy file with faults says of the cluster, as far as that is valid.
fn facts_of(root: NodeView<'_>) -> Facts {
    let words = |key: &str| -> Vec<&str> {
        let list = root.get(key);
        let items = list.into_iter().flat_map(NodeView::items);
        items.filter_map(NodeView::as_str).collect()
    };
    let cidrs = words("clusterCIDRs").into_iter();
    let dns = words("clusterDNS").into_iter();
    let nodes = words("nodeCIDRs").into_iter();
    let prefixes = words("nat64Prefixes").into_iter();
    let tunnels = words("tunnelPorts").into_iter();
    let dns: Vec<IpAddr> = dns.filter_map(|word| targets::address(word).ok()).collect();
    Facts {
        cluster: cidrs
            .filter_map(|word| targets::network(word).ok())
            .collect(),
        resolvers: dns.clone(),
        dns,
        nodes: nodes
            .filter_map(|word| targets::network(word).ok())
            .collect(),
        nat64: match root.get("nat64Prefixes") {
            Some(_) => prefixes
                .filter_map(|word| nat64::prefix(word).ok())
                .collect(),
            None => vec![nat64::WELL_KNOWN],
        },
        tunnel_ports: tunnels.filter_map(|word| word.parse().ok()).collect(),
        ..Facts::default()
    }
}
