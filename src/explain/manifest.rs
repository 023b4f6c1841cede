//! Kubernetes manifests, as far as they say what applies to a pod.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::source::annotation::PREFIX;
use rules::fault::{printable, shown};

/// Why a manifest does not say what applies to a pod.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum ManifestError {
    #[error("cannot read {}: {cause}", shown(path))]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: not YAML: {cause}", shown(path))]
    NotYaml { path: PathBuf, cause: String },
    #[error("{}: {kind} {name}: {cause}", shown(path))]
    NotAnObject {
        path: PathBuf,
        kind: String,
        name: String,
        cause: serde_json::Error,
    },
    #[error(
        "{}: no Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob{}",
        shown(path),
        wanted.as_ref().map(|name| format!(" called {name}")).unwrap_or_default()
    )]
    NoWorkload {
        path: PathBuf,
        wanted: Option<String>,
    },
    #[error(
        "{} has several workloads: say which as SOURCE, one of {}",
        shown(path),
        names.join(", ")
    )]
    SeveralWorkloads { path: PathBuf, names: Vec<String> },
    #[error("{}: no Namespace", shown(path))]
    NoNamespace { path: PathBuf },
    #[error("{}: several Namespaces: say which with --namespace", shown(path))]
    SeveralNamespaces { path: PathBuf },
    #[error(
        "{}: {workload} has `hostNetwork: true`: its pods never come to a CNI plugin, and no rule applies to them",
        shown(path)
    )]
    HostNetwork { path: PathBuf, workload: String },
}

/// A pod, or what makes pods.
#[derive(Debug)]
pub(super) struct Workload {
    /// `deployment/web`.
    pub name: String,
    pub namespace: Option<String>,
    /// Of the pod.
    pub annotations: BTreeMap<String, String>,
    /// The workload itself has annotations of ours, which no pod gets.
    pub misplaced: bool,
}

/// A Namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    pub name: String,
    pub annotations: BTreeMap<String, String>,
}

/// The objects of a file.
#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    /// Kind, name and all of it.
    objects: Vec<(String, String, Value)>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    namespace: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// A Pod, or a template.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodManifest {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
}

/// Where the template stands in each kind that has one.
const KINDS: [(&str, &str); 7] = [
    ("Pod", ""),
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

impl Manifest {
    /// Reads a file, or stdin if it is `-`.
    pub(super) fn read(path: &Path) -> Result<Manifest, ManifestError> {
        let text = if path == Path::new("-") {
            io::read_to_string(io::stdin())
        } else {
            fs::read_to_string(path)
        };
        let text = text.map_err(|cause| ManifestError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        Manifest::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Manifest, ManifestError> {
        let options = serde_saphyr::options! { with_snippet: false, emit_comments: false };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| ManifestError::NotYaml {
                path: path.to_owned(),
                cause: error.to_string(),
            })?;
        let mut objects = Vec::new();
        for document in documents {
            gather(document, &mut objects);
        }
        Ok(Manifest {
            path: path.to_owned(),
            objects,
        })
    }

    /// The workload called `wanted` (`web` or `deployment/web`), or the only one.
    pub(super) fn workload(&self, wanted: Option<&str>) -> Result<Workload, ManifestError> {
        let found: Vec<_> = self
            .objects
            .iter()
            .filter_map(|(kind, name, object)| {
                let (kind, template) = KINDS.iter().find(|(known, _)| known == kind)?;
                let full = format!("{}/{name}", kind.to_ascii_lowercase());
                let is_wanted = wanted.is_none_or(|w| w == name || w.eq_ignore_ascii_case(&full));
                is_wanted.then_some((full, *kind, *template, object))
            })
            .collect();
        let (name, kind, template, object) = match found.as_slice() {
            [] => {
                return Err(ManifestError::NoWorkload {
                    path: self.path.clone(),
                    wanted: wanted.map(str::to_owned),
                });
            }
            [one] => one,
            several => {
                return Err(ManifestError::SeveralWorkloads {
                    path: self.path.clone(),
                    names: several.iter().map(|(name, ..)| name.clone()).collect(),
                });
            }
        };
        let own: Metadata = self.part(kind, name, object.pointer("/metadata"))?;
        let pod: PodManifest = self.part(kind, name, object.pointer(template))?;
        if pod.spec.host_network {
            return Err(ManifestError::HostNetwork {
                path: self.path.clone(),
                workload: name.clone(),
            });
        }
        let ours = |key: &String| key.starts_with(PREFIX);
        let is_pod = template.is_empty();
        Ok(Workload {
            name: name.clone(),
            namespace: own.namespace.as_deref().map(printable),
            annotations: pod.metadata.annotations.unwrap_or_default(),
            misplaced: !is_pod && own.annotations.unwrap_or_default().keys().any(ours),
        })
    }

    /// The Namespace of this name, or the only one; `None`: there is none.
    pub(super) fn namespace(
        &self,
        wanted: Option<&str>,
    ) -> Result<Option<Namespace>, ManifestError> {
        let mut found = self
            .objects
            .iter()
            .filter(|(kind, name, _)| kind == "Namespace" && wanted.is_none_or(|w| w == name));
        let Some((kind, name, object)) = found.next() else {
            return Ok(None);
        };
        if found.next().is_some() {
            return Err(ManifestError::SeveralNamespaces {
                path: self.path.clone(),
            });
        }
        let metadata: Metadata = self.part(kind, name, object.pointer("/metadata"))?;
        Ok(Some(Namespace {
            name: name.clone(),
            annotations: metadata.annotations.unwrap_or_default(),
        }))
    }

    /// The file holds no Namespace that is asked for.
    pub(super) fn without_namespace(&self) -> ManifestError {
        ManifestError::NoNamespace {
            path: self.path.clone(),
        }
    }

    /// What stands at a place of an object; nothing there is an empty mapping.
    fn part<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
        value: Option<&Value>,
    ) -> Result<T, ManifestError> {
        let value = value.filter(|value| !value.is_null()).cloned();
        let value = value.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        serde_json::from_value(value).map_err(|cause| ManifestError::NotAnObject {
            path: self.path.clone(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            cause,
        })
    }
}

/// Takes lists apart. What is no object at all, such as an empty document, is left out.
fn gather(document: Value, objects: &mut Vec<(String, String, Value)>) {
    let text = |pointer: &str| {
        let found = document.pointer(pointer).and_then(Value::as_str);
        found.map(printable)
    };
    let Some(kind) = text("/kind") else {
        return;
    };
    match (kind.as_str(), document.get("items")) {
        ("List", Some(Value::Array(items))) => {
            for item in items {
                gather(item.clone(), objects);
            }
        }
        _ => {
            let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
            objects.push((kind, name.unwrap_or_default(), document));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(Path::new("app.yaml"), text).unwrap_or_else(|e| panic!("{e}"))
    }

    const APP: &str = "
kind: Namespace
metadata: {name: shop, annotations: {egressway.dev/mode: audit}}
---
kind: Service
metadata: {name: web}
spec: {template: something else}
---
# nothing
---
kind: List
items:
- kind: CronJob
  metadata: {name: report, namespace: shop, annotations: {egressway.dev/rules: deny}}
  spec: {jobTemplate: {spec: {template: {metadata: {annotations: {egressway.dev/rules: allow}}}}}}
- kind: Pod
  metadata: {name: debug}
  spec: {hostNetwork: true}
";

    #[test]
    fn workloads_of_all_kinds() {
        let app = manifest(APP);
        let report = app.workload(Some("report")).unwrap();
        assert_eq!(report.name, "cronjob/report");
        assert_eq!(report.namespace.as_deref(), Some("shop"));
        assert_eq!(report.annotations["egressway.dev/rules"], "allow");
        assert!(report.misplaced);
        for (kind, _) in &KINDS[1..6] {
            let text = format!(
                "kind: {kind}\nmetadata: {{name: web}}\nspec: {{template: {{metadata: {{annotations: {{a: b}}}}}}}}"
            );
            let web = manifest(&text).workload(None).unwrap();
            assert_eq!(web.annotations["a"], "b", "{kind}");
            assert!(!web.misplaced, "{kind}");
        }
        let pod = "kind: Pod\nmetadata: {name: web, annotations: {egressway.dev/rules: deny}}";
        assert!(!manifest(pod).workload(Some("pod/web")).unwrap().misplaced);
    }

    #[test]
    fn namespaces() {
        let app = manifest(APP);
        let shop = app.namespace(Some("shop")).unwrap().unwrap();
        assert_eq!(shop.annotations["egressway.dev/mode"], "audit");
        assert!(app.namespace(Some("payments")).unwrap().is_none());
        assert_eq!(app.namespace(None).unwrap().unwrap().name, "shop");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let app = manifest(APP);
        for (wanted, expected) in [
            (
                None,
                "app.yaml has several workloads: say which as SOURCE, one of cronjob/report, pod/debug",
            ),
            (
                Some("web"),
                "app.yaml: no Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob called web",
            ),
            (
                Some("debug"),
                "app.yaml: pod/debug has `hostNetwork: true`: its pods never come to a CNI plugin, and no rule applies to them",
            ),
        ] {
            assert_eq!(app.workload(wanted).unwrap_err().to_string(), expected);
        }
        let escape = manifest("kind: Pod\nmetadata: {name: \"w\\u001bb\"}");
        assert_eq!(escape.workload(None).unwrap().name, "pod/w\\u{1b}b");
        let number = manifest("kind: Pod\nmetadata: {name: web, annotations: {a: 1}}");
        assert_eq!(
            number.workload(None).unwrap_err().to_string(),
            "app.yaml: Pod pod/web: invalid type: integer `1`, expected a string"
        );
    }
}
