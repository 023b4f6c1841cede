//! Whose packet it is: an attachment of this node, or what manifests and a policy file describe.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::attachment::now::{Devices, Interface};
use crate::attachment::records::{self, Records};
use crate::source::{self, NamespaceAnnotations, PolicyFile, SourceError};
use crate::store::{Record, StateDir, StateError};
use netlink::{self, Rtnl, route};
use rules::effective::Effective;
use rules::fault::{Faults, shown};

use super::manifest::{Manifest, ManifestError};
use super::ways::Unresolved;

/// How long the kernel may take to list addresses.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A policy file that says nothing.
const EMPTY: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

/// Why it is not known what applies.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum SubjectError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Records(#[from] records::Error),
    #[error("cannot list this node's addresses: {0}")]
    Addresses(#[from] netlink::Error),
    #[error("the rules recorded for {name} were written by another version: {faults}")]
    OtherVersion { name: String, faults: Faults },
    #[error(
        "no pod {name} is attached on this node, by {}; elsewhere, use --manifest and --policy{}",
        shown(state),
        unreadable.as_ref().map(|e| format!(" ({e})")).unwrap_or_default()
    )]
    NoAttachment {
        name: String,
        state: PathBuf,
        unreadable: Option<StateError>,
    },
    #[error("the {what} says that the namespace is {said}, not {wanted}")]
    OtherNamespace {
        what: &'static str,
        said: String,
        wanted: String,
    },
}

/// Whose packet it is, and all that applies to it.
#[derive(Debug)]
pub struct Subject {
    /// For people: `payments/web-0`, `payments/deployment/web`.
    pub name: String,
    /// `None`: not known.
    pub namespace: Option<String>,
    /// `None`: any pod of the namespace, or not known.
    pub pod: Option<String>,
    /// On a node, the attachment.
    pub attachment: Option<String>,
    /// All that decides about its packets.
    pub policy: Effective,
    /// What it has names for, but no addresses.
    pub unknown: Unresolved,
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
pub struct Files<'a> {
    /// A pod, or a workload whose template makes pods; `-` is stdin.
    pub manifest: Option<&'a Path>,
    /// The pod's Namespace.
    pub namespace_manifest: Option<&'a Path>,
    /// The policy file.
    pub policy: Option<&'a Path>,
    /// The pod's namespace.
    pub namespace: Option<&'a str>,
    /// Which workload of the manifest.
    pub workload: Option<&'a str>,
}

impl Files<'_> {
    /// What they say of a pod.
    ///
    /// # Errors
    /// They can't be read, are at fault, or do not say which pod.
    pub fn subject(&self) -> Result<Subject, SubjectError> {
        let mut notes = Vec::new();
        let mut file = match self.policy {
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
                "egressway.dev/ annotations of {} itself reach no pod: they belong to its template",
                workload.name
            ));
        }
        let own = workload.as_ref().and_then(|w| w.namespace.clone());
        let wanted = agree("manifest", own, self.namespace)?;
        let (name, annotations) = self.namespace(manifest.as_ref(), wanted, &file)?;
        let none = Default::default();
        let of_pod = workload.as_ref().map_or(&none, |w| &w.annotations);
        let of_pod = source::pod::rules(Some(of_pod));
        let unknown = Unresolved::of(&file, &annotations, &of_pod);
        unknown.fill(&mut file.facts);
        let policy = source::resolve(&file, &name, &annotations, of_pod)?;
        if unknown.dns && !policy.exempt && self.policy.is_some() {
            notes.push(
                "the policy file has no clusterDNS: that a node, which may ask the API, lets pods ask it is not \
                 considered"
                    .to_owned(),
            );
        }
        let title = workload.as_ref().map_or("any pod", |w| &w.name);
        Ok(Subject {
            name: format!("{name}/{title}"),
            namespace: Some(name),
            pod: workload.map(|workload| workload.name),
            attachment: None,
            policy: policy.effective,
            unknown,
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

impl Subject {
    /// The pod of an attachment, by what is enforced for it. What only the node's kernel knows is left out.
    ///
    /// # Errors
    /// Its rules were written by another version.
    pub fn of_record(record: Record) -> Result<Subject, SubjectError> {
        let name = record.title();
        let policy = match record.policy.rebuild() {
            Ok(policy) => policy,
            Err(faults) => return Err(SubjectError::OtherVersion { name, faults }),
        };
        Ok(Subject {
            name,
            namespace: record.namespace,
            pod: record.pod,
            attachment: Some(record.id.into()),
            policy,
            unknown: Unresolved::default(),
            exempt: record.exempt,
            egress: record.egress.into_iter().map(IpNet::from).collect(),
            addresses: record.addresses,
            local: Vec::new(),
            guarded: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// The attachment of this node that is called `source`: `NAMESPACE/POD`, `POD`, an attachment's id or an address.
    ///
    /// # Errors
    /// There is none or there are several, it can't be read, or the kernel can't be asked.
    pub fn attached(
        state_dir: &Path,
        source: &str,
        namespace: Option<&str>,
    ) -> Result<Subject, SubjectError> {
        let record = find(state_dir, source, namespace)?;
        let mut rtnl = Rtnl::open(Instant::now() + KERNEL_TIMEOUT)?;
        let local = route::own_addresses(&mut rtnl)?;
        // What it sends from an address that nobody knows of is dropped, whatever the rules say.
        let notes = match Devices::read(&mut rtnl)?.interface(&mut rtnl, &record)? {
            Interface::Here(now) => now.told,
            Interface::Gone | Interface::Elsewhere => Vec::new(),
        };
        Ok(Subject {
            local,
            guarded: StateDir::new(state_dir).list_egress()?,
            notes,
            ..Subject::of_record(record)?
        })
    }
}

/// # Errors
/// Where there is no such attachment, also that a record can't be read: it may be the one meant.
fn find(state_dir: &Path, source: &str, namespace: Option<&str>) -> Result<Record, SubjectError> {
    let mut records = Records::read(state_dir)?;
    match records.find(source, namespace) {
        Ok(record) => Ok(record.clone()),
        Err(records::Error::NotFound { name, dir }) => Err(SubjectError::NoAttachment {
            name,
            state: dir,
            unreadable: records.unreadable.pop(),
        }),
        Err(other) => Err(other.into()),
    }
}
