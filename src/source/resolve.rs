//! One pod's policy out of all sources.

use ipnet::IpNet;

use super::mode::Mode;
use super::{NamespaceAnnotations, PolicyFile, SourceError, egress};
use rules::builtin;
use rules::effective::{DefaultAction, Effective, Tier, TierRules};
use rules::fault::Collector;

/// What applies to one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPolicy {
    /// Its rules.
    pub effective: Effective,
    /// Its namespace is exempt: `effective` allows everything.
    pub exempt: bool,
    /// The addresses that its namespace may show outside, in the order of the list; empty: no list.
    pub egress: Vec<IpNet>,
    /// With domain names, the pod starts although nobody resolves them: all of them stay closed until then.
    pub start_without_agent: bool,
}

/// Puts one pod's policy together. `of_pod` is what [`pod::rules`](super::pod::rules) has read.
///
/// # Errors
/// Faults in the texts of the namespace or the pod, or an egress address that is refused.
pub fn resolve(
    file: &PolicyFile,
    namespace: &str,
    namespace_annotations: &NamespaceAnnotations,
    of_pod: Result<Option<TierRules>, SourceError>,
) -> Result<PodPolicy, SourceError> {
    let egress = egress_list(file, namespace, namespace_annotations)?;
    let exempt = file.exempt_namespaces.contains(namespace);
    let effective = if exempt {
        Effective {
            tiers: Vec::new(),
            default_action: DefaultAction::Allow,
            default_audit: false,
            facts: file.facts.clone(),
            pod_log_rate: None,
            exempt: true,
        }
    } else {
        effective(file, namespace_annotations, of_pod)?
    };
    Ok(PodPolicy {
        effective,
        exempt,
        egress,
        start_without_agent: file.names.start_without_agent,
    })
}

fn egress_list(
    file: &PolicyFile,
    namespace: &str,
    annotations: &NamespaceAnnotations,
) -> Result<Vec<IpNet>, SourceError> {
    let list = annotations.egress()?;
    if let Some(text) = &annotations.egress_ip {
        let place = &text.source;
        check_egress(&list, place, namespace, file)?;
    }
    Ok(list)
}

/// Refuses what can't be an egress address, what the policy file does not offer, and what another namespace
/// of the file lists.
fn check_egress(
    list: &[IpNet],
    place: &str,
    namespace: &str,
    file: &PolicyFile,
) -> Result<(), SourceError> {
    let (offered, lists) = (&file.egress_ips, &file.egress_lists);
    for entry in list {
        if let Some(reason) = egress::impossible(entry, &file.facts) {
            return Err(SourceError::EgressImpossible {
                place: place.to_owned(),
                reason,
            });
        }
        if !offered.iter().any(|net| net.contains(entry)) {
            return Err(SourceError::EgressNotOffered {
                place: place.to_owned(),
                entry: *entry,
                offered: for_people(offered),
            });
        }
        for (owner, others) in lists.iter().filter(|(owner, _)| *owner != namespace) {
            if let Some(owned) = others.iter().find(|other| egress::overlap(entry, other)) {
                return Err(SourceError::EgressTaken {
                    place: place.to_owned(),
                    entry: *entry,
                    owner: owner.clone(),
                    owned: *owned,
                });
            }
        }
    }
    Ok(())
}

fn for_people(nets: &[IpNet]) -> String {
    if nets.is_empty() {
        return "which has none".to_owned();
    }
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(", ")
}

fn effective(
    file: &PolicyFile,
    namespace: &NamespaceAnnotations,
    of_pod: Result<Option<TierRules>, SourceError>,
) -> Result<Effective, SourceError> {
    let mut faults = Collector::default();
    let mut tiers = vec![file.enforced.clone(), file.defaults.clone()];
    match namespace.tiers() {
        Ok(found) => tiers.extend(found.into_iter().cloned()),
        Err(found) => faults.extend(found),
    }
    let mode = namespace.mode().unwrap_or_else(|found| {
        faults.extend(found);
        Mode::Enforce
    });
    match of_pod {
        Ok(found) => tiers.extend(found),
        Err(SourceError::Text(found)) => faults.extend(found),
        Err(other) => return Err(other),
    }
    let own = |tier: &&TierRules| {
        matches!(
            tier.tier,
            Tier::NamespaceEnforced | Tier::Pod | Tier::NamespaceDefaults
        )
    };
    for text in tiers.iter().filter(own) {
        if let Err(found) = file.limits.check(text) {
            faults.extend(found);
        }
    }
    faults.finish(())?;
    tiers.extend(builtin::tiers(&file.facts)?);
    soften(&mut tiers, file.mode, mode);

    let audit = [file.mode, mode].contains(&Mode::Audit);
    let facts = file.facts.clone();
    Ok(Effective {
        pod_log_rate: Some(file.log_per_second),
        ..Effective::new(tiers, file.default_action, audit, facts)?
    })
}

/// A namespace's audit mode never softens what the cluster enforces, nor what is built in. The DNS allowance
/// denies nothing.
fn soften(tiers: &mut [TierRules], cluster: Mode, namespace: Mode) {
    for tier in tiers {
        tier.audit = match tier.tier {
            Tier::Dns => false,
            Tier::ClusterEnforced | Tier::BuiltIn => cluster == Mode::Audit,
            Tier::NamespaceEnforced
            | Tier::Pod
            | Tier::NamespaceDefaults
            | Tier::ClusterDefaults => [cluster, namespace].contains(&Mode::Audit),
        };
    }
}

#[cfg(test)]
mod tests;
