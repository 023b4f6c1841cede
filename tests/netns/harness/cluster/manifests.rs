//! What `kubectl apply -k install/` sends, as far as `install/kustomization.yaml` uses kustomize.

use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The directory `install/`.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("install")
}

/// All objects that a Kubernetes 1.20 knows, namespaces first, as the kustomization lists them.
pub fn install() -> Vec<Value> {
    let mut objects = all();
    objects.retain(|object| !kind(object).starts_with("ValidatingAdmission"));
    objects
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().expect("a kind")
}

/// All objects.
pub fn all() -> Vec<Value> {
    let kustomization = documents("kustomization.yaml").remove(0);
    let namespace = &kustomization["namespace"];
    let files = kustomization["resources"].as_array().expect("resources");
    let mut objects: Vec<Value> = files
        .iter()
        .flat_map(|file| documents(file.as_str().expect("a file's name")))
        .collect();
    let maps = kustomization["configMapGenerator"].as_array();
    objects.extend(maps.expect("configMapGenerator").iter().map(config_map));
    for object in &mut objects {
        let kind = kind(object);
        let of_cluster = ["Namespace", "Cluster", "ValidatingAdmission"];
        if !of_cluster.iter().any(|prefix| kind.starts_with(prefix)) {
            object["metadata"]["namespace"] = namespace.clone();
        }
    }
    objects
}

fn config_map(generator: &Value) -> Value {
    let files = generator["files"].as_array().expect("files");
    let data: Map<String, Value> = files
        .iter()
        .map(|file| file.as_str().expect("a file's name"))
        .map(|file| (file.to_owned(), json!(read(file))))
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
}

/// The documents of a YAML file of `install/`.
pub fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(file)).unwrap_or_else(|e| panic!("install/{file}: {e}"))
}

fn read(file: &str) -> String {
    fs::read_to_string(directory().join(file)).unwrap_or_else(|e| panic!("install/{file}: {e}"))
}
