//! One pod's policy by what is known already: nobody is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::annotation::{self, PREFIX};
use super::names::{self, Name};
use super::{NamespaceAnnotations, PodPolicy, PolicyFile, SourceError, needed, pod, resolve};
use crate::store::ServiceAnswer;

/// Annotations by their keys.
pub type Annotations = BTreeMap<String, String>;

/// What of an object's annotations is ours. Others' say nothing, and change more often.
pub fn ours(annotations: Option<Annotations>) -> Annotations {
    let mut annotations = annotations.unwrap_or_default();
    annotations.retain(|key, _| key.starts_with(PREFIX));
    annotations
}

/// The annotations of a pod whose own rules are this text.
pub fn of_rules(text: &str) -> Annotations {
    Annotations::from([(annotation::RULES.to_owned(), text.to_owned())])
}

/// Whose text is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Author {
    /// The pod's.
    Pod,
    /// Its namespace's.
    Namespace,
    /// The policy file's.
    Cluster,
}

/// Why there is no policy.
#[derive(Debug)]
pub enum Lack {
    /// What these names stand for is not known yet.
    Names(BTreeSet<Name>),
    /// These texts are at fault.
    Faults(Vec<(Author, SourceError)>),
}

/// What the names in rules stand for; of one that the API does not have, nothing.
pub type Names = BTreeMap<Name, Option<ServiceAnswer>>;

/// What a running pod's texts come to.
#[derive(Debug)]
pub struct Known {
    /// The names without which they have no meaning.
    pub needed: BTreeSet<Name>,
    /// Its policy.
    pub policy: Result<PodPolicy, Lack>,
}

impl Lack {
    fn fault(author: Author, error: SourceError) -> Lack {
        Lack::Faults(vec![(author, error)])
    }
}

/// Puts the policy of a running pod together. Its egress addresses are what they were when it started: so
/// what its namespace says of these is left out.
///
/// `of_namespace` is none where no API is asked: then the policy file says it.
pub fn policy(
    file: &PolicyFile,
    namespace: &str,
    of_namespace: Option<&Annotations>,
    of_pod: &Annotations,
    known: &Names,
) -> Known {
    let place = format!("namespace {namespace}");
    let is_exempt = file.exempt_namespaces.contains(namespace);
    let mut faults = Vec::new();
    let of_namespace = match of_namespace {
        Some(annotations) => NamespaceAnnotations::from_map(&place, annotations),
        None => Ok(file.namespace(namespace)),
    };
    let of_namespace = of_namespace.and_then(|of_namespace| {
        let read = NamespaceAnnotations {
            egress_ip: None,
            ..of_namespace
        };
        // Nobody asks for what an exempt pod has no rules for.
        if !is_exempt {
            read.check()?;
        }
        Ok(read)
    });
    let of_namespace = of_namespace.unwrap_or_else(|e| {
        faults.push((Author::Namespace, e));
        NamespaceAnnotations::default()
    });
    // Both are told, whichever of them is mended first.
    let of_pod = match is_exempt {
        true => None,
        false => pod::rules(Some(of_pod)).unwrap_or_else(|e| {
            faults.push((Author::Pod, e));
            None
        }),
    };
    let of_pod = Ok(of_pod);
    let needed = match is_exempt || !faults.is_empty() {
        true => BTreeSet::new(),
        false => needed(file, &of_namespace, &of_pod),
    };
    let policy = match faults.is_empty() {
        true => learnt(file, &of_namespace, &needed, known),
        false => Err(Lack::Faults(faults)),
    };
    let policy = policy.and_then(|file| {
        let policy = resolve(&file, namespace, &of_namespace, of_pod);
        policy.map_err(|e| Lack::fault(author(&e, &place), e))
    });
    Known { needed, policy }
}

/// The names in the rules of a pod that has not started yet. Texts with faults have none: it will be told of these.
pub fn names_for(
    file: &PolicyFile,
    namespace: &str,
    of_namespace: &Annotations,
    of_pod: &Annotations,
) -> BTreeSet<Name> {
    if file.exempt_namespaces.contains(namespace) {
        return BTreeSet::new();
    }
    let of_namespace = NamespaceAnnotations::from_map(namespace, of_namespace);
    match (of_namespace, pod::rules(Some(of_pod))) {
        (Ok(of_namespace), Ok(of_pod)) => needed(file, &of_namespace, &Ok(of_pod)),
        _ => BTreeSet::new(),
    }
}

/// The policy file, with what these names stand for.
fn learnt(
    file: &PolicyFile,
    of_namespace: &NamespaceAnnotations,
    needed: &BTreeSet<Name>,
    known: &Names,
) -> Result<PolicyFile, Lack> {
    let unknown = needed.iter().filter(|name| !known.contains_key(name));
    let unknown: BTreeSet<Name> = unknown.cloned().collect();
    if !unknown.is_empty() {
        return Err(Lack::Names(unknown));
    }
    let mut file = file.clone();
    for name in needed {
        let found = known.get(name).cloned().flatten();
        let behind = names::settled(name, found)
            .map_err(|e| Lack::fault(author_of(name, &file, of_namespace), e))?;
        names::learn(&mut file.facts, name.clone(), behind);
    }
    Ok(file)
}

/// Who has written a name: the widest of them, who can correct it for all.
fn author_of(name: &Name, file: &PolicyFile, of_namespace: &NamespaceAnnotations) -> Author {
    if needed(file, &NamespaceAnnotations::default(), &Ok(None)).contains(name) {
        Author::Cluster
    } else if needed(file, of_namespace, &Ok(None)).contains(name) {
        Author::Namespace
    } else {
        Author::Pod
    }
}

fn author(error: &SourceError, namespace: &str) -> Author {
    let source = match error {
        SourceError::Text(faults) => faults.described().first().map(|fault| &*fault.source),
        SourceError::Annotation { place, .. } => Some(&**place),
        _ => None,
    };
    match source {
        Some(source) if source.starts_with("pod annotation") => Author::Pod,
        Some(source) if source.starts_with(namespace) => Author::Namespace,
        Some(_) => Author::Cluster,
        None => Author::Pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::effective::Tier;

    const HEADER: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

    fn annotations(entries: &[(&str, &str)]) -> Annotations {
        let prefixed = |(key, text): &(&str, &str)| (format!("{PREFIX}{key}"), (*text).to_owned());
        entries.iter().map(prefixed).collect()
    }

    fn of(
        file: &str,
        namespace: &[(&str, &str)],
        pod: &str,
        known: &Names,
    ) -> Result<PodPolicy, Lack> {
        let file = PolicyFile::parse("f", &format!("{HEADER}{file}")).expect("a policy");
        let of_namespace = annotations(namespace);
        policy(&file, "shop", Some(&of_namespace), &of_rules(pod), known).policy
    }

    fn fault(found: Result<PodPolicy, Lack>) -> (Author, String) {
        match found {
            Err(Lack::Faults(all)) if all.len() == 1 => (all[0].0, all[0].1.to_string()),
            other => panic!("not one fault: {other:?}"),
        }
    }

    #[test]
    fn a_fault_is_that_of_whoever_wrote_it() {
        let none = Names::new();
        let pod = fault(of("", &[], "alow", &none));
        assert_eq!(pod.0, Author::Pod, "{pod:?}");
        for key in ["default-rules", "enforced-rules", "mode", "rules"] {
            let namespace = fault(of("", &[(key, "alow")], "allow", &none));
            assert_eq!(namespace.0, Author::Namespace, "{key}: {namespace:?}");
        }
        let Err(Lack::Faults(both)) = of("", &[("mode", "alow")], "alow", &none) else {
            panic!("both are faulty");
        };
        let authors: Vec<Author> = both.iter().map(|(author, _)| *author).collect();
        assert_eq!(authors, [Author::Namespace, Author::Pod]);
        let missing = Names::from([(Name::Service("a/b".to_owned()), None)]);
        let rules = "allow to svc/a/b";
        let pod = fault(of("", &[], rules, &missing));
        assert_eq!(pod.0, Author::Pod, "{pod:?}");
        let namespace = fault(of("", &[("default-rules", rules)], rules, &missing));
        assert_eq!(namespace.0, Author::Namespace, "{namespace:?}");
        let cluster = fault(of(&format!("enforced: {rules}"), &[], rules, &missing));
        assert_eq!(cluster.0, Author::Cluster, "{cluster:?}");
    }

    #[test]
    fn an_egress_address_that_cannot_be_keeps_no_rule_from_running_pods() {
        let faulty = [("egress-ip", "nonsense"), ("default-rules", "deny 1/tcp")];
        let policy = of("clusterDNS: [10.96.0.10]", &faulty, "allow", &Names::new());
        let policy = policy.expect("the rules are valid");
        let tiers: Vec<Tier> = policy.effective.tiers.iter().map(|t| t.tier).collect();
        assert!(tiers.contains(&Tier::NamespaceDefaults), "{tiers:?}");
    }

    #[test]
    fn what_is_not_known_yet_is_named() {
        let found = of("", &[], "deny to nodes; allow", &Names::new());
        let Err(Lack::Names(names)) = found else {
            panic!("{found:?}");
        };
        assert_eq!(names, BTreeSet::from([Name::Dns, Name::Nodes]));
        // Nobody asks for what an exempt pod has no rules for.
        assert!(
            of(
                "exemptNamespaces: [shop]",
                &[],
                "deny to nodes",
                &Names::new()
            )
            .is_ok()
        );
    }
}
