//! Whose packet it is: an attachment of this node, or what manifests and a policy file describe.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::attachment::Record;
use crate::net::{self, Rtnl, address};
use crate::policy::effective::Effective;
use crate::policy::fault::Faults;
use crate::source::{self, NamespaceAnnotations, PolicyFile, SourceError};
use crate::state::{AttachmentId, StateDir, StateError};

use super::manifest::{Manifest, ManifestError};

/// How long the kernel may take to list addresses.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A policy file that says nothing.
const EMPTY: &str = "apiVersion: egress-cni.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

/// Why it is not known what applies.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubjectError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot list this node's addresses: {0}")]
    Addresses(#[from] net::Error),
    #[error("the rules recorded for {name} were written by another version: {faults}")]
    OtherVersion { name: String, faults: Faults },
    #[error(
        "no pod {name} is attached on this node, by {}; elsewhere, use --manifest and --policy{}",
        state.display(),
        unreadable.as_ref().map(|e| format!(" ({e})")).unwrap_or_default()
    )]
    NoAttachment {
        name: String,
        state: PathBuf,
        unreadable: Option<StateError>,
    },
    #[error("{name} has several attachments: say which by its id\n{}", list.join("\n"))]
    SeveralAttachments { name: String, list: Vec<String> },
    #[error("the {what} says that the namespace is {said}, not {wanted}")]
    OtherNamespace {
        what: &'static str,
        said: String,
        wanted: String,
    },
}

/// Whose packet it is, and all that applies to it.
#[derive(Debug)]
pub(super) struct Subject {
    /// For people: `payments/web-0`, `payments/deployment/web`.
    pub name: String,
    pub namespace: Option<String>,
    pub pod: Option<String>,
    /// On a node, the attachment.
    pub attachment: Option<String>,
    pub policy: Effective,
    /// Its namespace is exempt.
    pub exempt: bool,
    /// What the outside may see.
    pub egress: Vec<IpNet>,
    /// The pod's own addresses; empty: not known.
    pub addresses: Vec<IpAddr>,
    /// Addresses of the node.
    pub local: Vec<IpAddr>,
    /// Egress IPs that the node has, which serve nothing but ping.
    pub guarded: Vec<IpAddr>,
    /// What else whoever asks should know.
    pub notes: Vec<String>,
}

/// What to read instead of a node's state.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub manifest: Option<&'a Path>,
    pub namespace_manifest: Option<&'a Path>,
    pub policy: Option<&'a Path>,
    pub namespace: Option<&'a str>,
    /// Which workload of the manifest.
    pub workload: Option<&'a str>,
}

impl Files<'_> {
    pub(super) fn subject(&self) -> Result<Subject, SubjectError> {
        let mut notes = Vec::new();
        let file = match self.policy {
            Some(path) => PolicyFile::load(path)?,
            None => {
                notes.push("no --policy: nothing of the cluster's is considered".to_owned());
                PolicyFile::parse("no policy file", EMPTY)?
            }
        };
        let manifest = self.manifest.map(Manifest::read).transpose()?;
        let workload = manifest
            .as_ref()
            .map(|manifest| manifest.workload(self.workload))
            .transpose()?;
        if let Some(workload) = workload.as_ref().filter(|workload| workload.misplaced) {
            notes.push(format!(
                "egress-cni.dev/ annotations of {} itself reach no pod: they belong to its template",
                workload.name
            ));
        }
        let own = workload.as_ref().and_then(|w| w.namespace.clone());
        let wanted = agree("manifest", own, self.namespace)?;
        let (name, annotations) = self.namespace(manifest.as_ref(), wanted, &file)?;
        let none = Default::default();
        let of_pod = workload.as_ref().map_or(&none, |w| &w.annotations);
        let policy = source::resolve(&file, &name, &annotations, Some(of_pod))?;
        let title = workload.as_ref().map_or("any pod", |w| &w.name);
        Ok(Subject {
            name: format!("{name}/{title}"),
            namespace: Some(name),
            pod: workload.map(|workload| workload.name),
            attachment: None,
            policy: policy.effective,
            exempt: policy.exempt,
            egress: policy.egress,
            addresses: Vec::new(),
            local: Vec::new(),
            guarded: Vec::new(),
            notes,
        })
    }

    /// The namespace's name and annotations: from its manifest, else from the policy file.
    fn namespace(
        &self,
        manifest: Option<&Manifest>,
        wanted: Option<String>,
        file: &PolicyFile,
    ) -> Result<(String, NamespaceAnnotations), SubjectError> {
        let found = match self.namespace_manifest {
            Some(path) => {
                let own = Manifest::read(path)?;
                let found = match own.namespace(wanted.as_deref())? {
                    None => own.namespace(None)?,
                    found => found,
                };
                Some(found.ok_or_else(|| own.without_namespace())?)
            }
            None => match manifest {
                Some(manifest) => {
                    manifest.namespace(Some(wanted.as_deref().unwrap_or("default")))?
                }
                None => None,
            },
        };
        let said = found.as_ref().map(|namespace| namespace.name.clone());
        let name = agree("namespace's manifest", said, wanted.as_deref())?;
        let name = name.unwrap_or_else(|| "default".to_owned());
        let annotations = match found {
            Some(namespace) => {
                let place = format!("namespace {name}: annotations");
                NamespaceAnnotations::from_map(&place, &namespace.annotations)?
            }
            None => file.namespace(&name),
        };
        Ok((name, annotations))
    }
}

/// One name, said here, there, or at both places alike.
fn agree(
    what: &'static str,
    said: Option<String>,
    wanted: Option<&str>,
) -> Result<Option<String>, SubjectError> {
    match (said, wanted) {
        (Some(said), Some(wanted)) if said != wanted => Err(SubjectError::OtherNamespace {
            what,
            said,
            wanted: wanted.to_owned(),
        }),
        (said, wanted) => Ok(said.or(wanted.map(str::to_owned))),
    }
}

/// The attachment of this node that is called `source`: `NAMESPACE/POD`, `POD`, an attachment's id or an address.
pub(super) fn attached(
    state_dir: &Path,
    source: &str,
    namespace: Option<&str>,
) -> Result<Subject, SubjectError> {
    let state = StateDir::new(state_dir);
    let record = find(&state, state_dir, source, namespace)?;
    let name = title(&record);
    let policy = record
        .policy
        .rebuild()
        .map_err(|faults| SubjectError::OtherVersion {
            name: name.clone(),
            faults,
        })?;
    let mut rtnl = Rtnl::open(Instant::now() + KERNEL_TIMEOUT)?;
    let local = address::all(&mut rtnl)?;
    Ok(Subject {
        name,
        namespace: record.namespace,
        pod: record.pod,
        attachment: Some(record.plan.id),
        policy,
        exempt: record.exempt,
        egress: record.plan.egress.into_iter().map(IpNet::from).collect(),
        addresses: record.plan.addresses,
        local: local.into_iter().map(|own| own.address).collect(),
        guarded: state.list_egress()?,
        notes: Vec::new(),
    })
}

fn title(record: &Record) -> String {
    match (&record.namespace, &record.pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        _ => format!("container {}", record.container_id),
    }
}

fn find(
    state: &StateDir,
    state_dir: &Path,
    source: &str,
    namespace: Option<&str>,
) -> Result<Record, SubjectError> {
    let mut unreadable = None;
    let mut found: Vec<Record> = Vec::new();
    for id in state.list_attachments()? {
        match state.read_attachment::<Record>(&id) {
            Ok(record) => found.extend(record.filter(|r| is_called(r, &id, source, namespace))),
            // It may be the one that is meant, or any other.
            Err(error) => unreadable = Some(error),
        }
    }
    if source.parse::<IpAddr>().is_ok() {
        // Indexes are given in order: of two records, a stale one has the lower.
        found.sort_by_key(|record| record.veth_index);
        found.drain(..found.len().saturating_sub(1));
    }
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(SubjectError::NoAttachment {
            name: source.to_owned(),
            state: state_dir.to_owned(),
            unreadable,
        }),
        (Some(record), true) => Ok(record),
        (Some(last), false) => Err(SubjectError::SeveralAttachments {
            name: source.to_owned(),
            list: found.iter().chain([&last]).map(one_line).collect(),
        }),
    }
}

fn is_called(record: &Record, id: &AttachmentId, source: &str, namespace: Option<&str>) -> bool {
    if namespace.is_some() && namespace != record.namespace.as_deref() {
        return false;
    }
    if let Ok(address) = source.parse::<IpAddr>() {
        return record.plan.addresses.contains(&address);
    }
    let pod = record.pod.as_deref();
    match source.split_once('/') {
        Some((namespace, name)) => {
            record.namespace.as_deref() == Some(namespace) && pod == Some(name)
        }
        None => pod == Some(source) || id.as_str() == source,
    }
}

fn one_line(record: &Record) -> String {
    let addresses: Vec<String> = record
        .plan
        .addresses
        .iter()
        .map(IpAddr::to_string)
        .collect();
    format!(
        "  {}  {}  interface {}  {}",
        record.plan.id,
        title(record),
        record.ifname,
        addresses.join(" ")
    )
}
