//! Which policy the pod of an ADD has: every source asked, every text checked.
//!
//! A pod whose texts are those of another one, which is there already, has the policy of that one: the
//! same bytes say the same, so that they are neither parsed nor checked again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use crate::plan::named::Group;
use crate::plan::{self, Base};
use crate::source::api::{self, Access, PodName};
use crate::source::{self, PodPolicy, PolicyFile, SourceError, seen};
use crate::store::document::Document;
use crate::store::{GroupName, PolicyHead, PolicyKey, RecordNames, StateDir};
use rules::fault::shown;
use rules::stored::StoredPolicy;

use crate::refusal::CniError;

/// A pod that is about to have a policy, and who says which.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The policy file.
    pub file: &'a Path,
    /// How to ask the API; none: it is not asked.
    pub api: Option<Access<'a>>,
    /// The pod's namespace, as the runtime names it.
    pub namespace: Option<&'a str>,
    /// The pod's name.
    pub pod: Option<&'a str>,
    /// The pod's UID.
    pub uid: Option<&'a str>,
    /// The pod's annotations, if the runtime gives them.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// The NFLOG group of its log rules.
    pub log_group: u16,
}

impl Sources<'_> {
    /// The pod has rules, and its namespace is exempt: nobody asks them.
    pub fn ignored(&self, head: &PolicyHead) -> bool {
        let has_rules =
            |annotations: &BTreeMap<_, _>| annotations.contains_key(source::annotation::RULES);
        head.exempt && self.annotations.is_some_and(has_rules)
    }

    fn tell_ignored(&self, head: &PolicyHead) {
        if self.ignored(head) {
            tracing::warn!(
                "the pod's own rules ({}) are ignored: the policy file exempts its namespace {}",
                source::annotation::RULES,
                self.namespace.unwrap_or_default()
            );
        }
    }
}

/// The policy of one pod, all of whose texts are valid.
pub struct Policy<'a> {
    /// Under which it is stored.
    pub key: PolicyKey,
    /// What ADD has to know of it in any case.
    pub head: PolicyHead,
    /// No attachment of this node has it, as far as it can be read.
    pub is_new: bool,
    given: Given<'a>,
}

enum Given<'a> {
    Resolved(Box<PodPolicy>),
    Texts(Texts<'a>),
}

/// All that a pod's policy depends on where no API is asked.
struct Texts<'a> {
    /// The policy file's name, for people.
    source: String,
    file: String,
    namespace: &'a str,
    annotations: Option<&'a BTreeMap<String, String>>,
}

/// Reads all texts and checks them: nothing is written to the kernel before every one of them is
/// valid.
///
/// # Errors
/// Code 100 and 102: a text; 11 and 7: the API; 4: the runtime does not say whose policy it is.
pub fn of_pod<'a>(pod: &Sources<'a>, state: &StateDir) -> Result<Policy<'a>, CniError> {
    let texts = Texts {
        source: shown(pod.file),
        file: PolicyFile::read(pod.file).map_err(refused)?,
        namespace: pod.namespace.unwrap_or_default(),
        annotations: pod.annotations,
    };
    let policy = match &pod.api {
        Some(api) => {
            let file = texts.parse()?;
            // A node starts its system pods whether or not it reaches the API.
            let resolved = if file.exempt_namespaces.contains(texts.namespace) {
                texts.resolve(&file)?
            } else {
                from_api(pod, file, api)?
            };
            let policy = Policy::resolved(None, resolved, pod.log_group, state);
            pod.tell_ignored(&policy.head);
            return Ok(policy);
        }
        None => {
            let key = texts.key(pod.log_group);
            match state.policy_head(&key) {
                Some(head) => Policy {
                    key,
                    head,
                    is_new: false,
                    given: Given::Texts(texts),
                },
                None => {
                    let resolved = texts.resolve(&texts.parse()?)?;
                    Policy::resolved(Some(key), resolved, pod.log_group, state)
                }
            }
        }
    };
    pod.tell_ignored(&policy.head);
    if pod.annotations.is_none() && !policy.head.exempt {
        tracing::warn!(
            "the runtime hands no pod annotations over: only the cluster's and the namespace's rules apply"
        );
    }
    Ok(policy)
}

impl Policy<'_> {
    /// `key`: of the texts, if these say it all.
    fn resolved(
        key: Option<PolicyKey>,
        policy: PodPolicy,
        log_group: u16,
        state: &StateDir,
    ) -> Self {
        let head = head(&policy, log_group);
        let known = key.is_none();
        let key = key.unwrap_or_else(|| outcome_key(&head, &policy, log_group));
        Policy {
            is_new: !known || state.policy_head(&key).is_none(),
            key,
            head,
            given: Given::Resolved(Box::new(policy)),
        }
    }

    /// The rules themselves.
    ///
    /// # Errors
    /// As [`of_pod`], although the same texts were valid once.
    pub fn read(&self) -> Result<Cow<'_, PodPolicy>, CniError> {
        match &self.given {
            Given::Resolved(policy) => Ok(Cow::Borrowed(policy)),
            Given::Texts(texts) => texts.resolve(&texts.parse()?).map(Cow::Owned),
        }
    }
}

impl Texts<'_> {
    fn key(&self, log_group: u16) -> PolicyKey {
        let version = version(log_group);
        let mut parts = vec![
            version.as_bytes(),
            self.source.as_bytes(),
            self.file.as_bytes(),
            self.namespace.as_bytes(),
        ];
        // Others' annotations say nothing; that the runtime hands none over does.
        if let Some(annotations) = self.annotations {
            parts.push(b"annotations");
            let ours = annotations
                .iter()
                .filter(|(key, _)| key.starts_with(source::annotation::PREFIX));
            parts.extend(ours.flat_map(|(key, text)| [key.as_bytes(), text.as_bytes()]));
        }
        PolicyKey::of(parts)
    }

    fn parse(&self) -> Result<PolicyFile, CniError> {
        PolicyFile::parse(&self.source, &self.file).map_err(refused)
    }

    fn resolve(&self, file: &PolicyFile) -> Result<PodPolicy, CniError> {
        let namespace = file.namespace(self.namespace);
        let of_pod = source::pod::rules(self.annotations);
        source::resolve(file, self.namespace, &namespace, of_pod).map_err(refused)
    }
}

/// What has to be known of a policy in any case.
pub(super) fn head(policy: &PodPolicy, log_group: u16) -> PolicyHead {
    let base = Base::new(&policy.effective.facts.cluster);
    let groups = Group::all(&policy.effective).into_iter();
    let groups: Vec<GroupName> = groups.filter_map(|group| group.id.parse().ok()).collect();
    PolicyHead {
        chain: plan::policy::name(&policy.effective, log_group),
        base: base.marker().to_owned(),
        exempt: policy.exempt,
        egress: policy.egress.clone(),
        names: (!groups.is_empty()).then_some(RecordNames {
            groups,
            only_allowed: false,
        }),
        start_without_agent: policy.start_without_agent,
    }
}

/// The key of a policy by what its texts have come to.
pub(super) fn outcome_key(head: &PolicyHead, policy: &PodPolicy, log_group: u16) -> PolicyKey {
    let parts = (head, StoredPolicy::from(&policy.effective));
    // Strings always serialize.
    let parts = serde_json::to_vec(&parts).unwrap_or_default();
    PolicyKey::of([version(log_group).as_bytes(), &parts])
}

/// What the same texts depend on besides: who reads and compiles them.
fn version(log_group: u16) -> String {
    let (compiler, document) = (plan::policy::compiler(), PolicyHead::VERSION);
    format!("{compiler} {document} {log_group}")
}

fn from_api(
    pod: &Sources<'_>,
    mut file: PolicyFile,
    api: &Access<'_>,
) -> Result<PodPolicy, CniError> {
    let namespace = named(pod.namespace, "K8S_POD_NAMESPACE")?;
    let of_pod = match pod.annotations {
        Some(annotations) => api::OwnAnnotations::HandedOver(annotations),
        None => api::OwnAnnotations::Of(PodName {
            name: named(pod.pod, "K8S_POD_NAME")?,
            uid: pod.uid,
        }),
    };
    if file.namespaces.contains_key(namespace) {
        tracing::warn!(
            "`namespaces.{namespace}` in the policy file is ignored: `kubernetes` is set in the conflist, and the API says what the namespace's annotations are"
        );
    }
    let view = api.snapshots.state.living_view();
    let said = match view.and_then(|view| seen::said(&view, &file, namespace, of_pod)) {
        Some(said) => said,
        None => api::read(api, &file, namespace, of_pod).map_err(refused)?,
    };
    file.facts = said.facts;
    file.egress_lists = said.egress_lists;
    source::resolve(&file, namespace, &said.namespace, said.of_pod).map_err(refused)
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

    fn annotations(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        entries.iter().map(owned).collect()
    }

    fn key(
        source: &str,
        file: &str,
        namespace: &str,
        annotations: Option<&BTreeMap<String, String>>,
        log_group: u16,
    ) -> PolicyKey {
        let texts = Texts {
            source: source.to_owned(),
            file: file.to_owned(),
            namespace,
            annotations,
        };
        texts.key(log_group)
    }

    #[test]
    fn whatever_a_policy_depends_on_makes_another_key() {
        let rules = annotations(&[("egressway.dev/rules", "deny")]);
        let others = annotations(&[("egressway.dev/rules", "deny"), ("team", "shop")]);
        let changed = [
            annotations(&[("egressway.dev/rules", "deny ")]),
            annotations(&[("egressway.dev/rule", "sdeny")]),
            annotations(&[]),
        ];
        let first = key("f", FILE, "shop", Some(&rules), 100);
        assert_eq!(key("f", FILE, "shop", Some(&others), 100), first);
        let mut different = vec![
            key("g", FILE, "shop", Some(&rules), 100),
            key("f", &FILE[1..], "shop", Some(&rules), 100),
            key("f", FILE, "shop2", Some(&rules), 100),
            key("f", FILE, "shop", None, 100),
            key("f", FILE, "shop", Some(&rules), 101),
            first,
        ];
        different.extend(changed.iter().map(|a| key("f", FILE, "shop", Some(a), 100)));
        let count = different.len();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), count);
    }

    #[test]
    fn what_is_known_of_a_policy_is_what_its_texts_say() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(dir.path());
        let rules = annotations(&[("egressway.dev/rules", "deny to 192.0.2.1")]);
        let texts = |file: &str| Texts {
            source: "f".to_owned(),
            file: file.to_owned(),
            namespace: "shop",
            annotations: Some(&rules),
        };
        let (text, key) = (texts(FILE), texts(FILE).key(100));
        let read = text.resolve(&text.parse().expect("valid")).expect("valid");
        let policy = Policy::resolved(Some(key.clone()), read.clone(), 100, &state);
        assert!(policy.is_new && policy.key == key);
        let compiled = plan::compile(&read.effective, 100);
        assert_eq!(policy.head.chain, compiled.name);
        let id = crate::store::attachment_id("net", "c1", "eth0");
        state
            .keep_policy(&id, &key, policy.is_new, || {
                Ok::<_, CniError>((policy.head.clone(), StoredPolicy::from(&read.effective)))
            })
            .expect("writable");
        assert_eq!(state.policy_head(&key).as_ref(), Some(&policy.head));
        let stored = state.read_policy(&id, &key).expect("readable");
        assert_eq!(
            stored.map(|p| p.rebuild()),
            Some(Ok(read.effective.clone()))
        );
        let known = Policy {
            key,
            head: policy.head,
            is_new: false,
            given: Given::Texts(text),
        };
        assert_eq!(known.read(), Ok(Cow::Borrowed(&read)));
    }
}
