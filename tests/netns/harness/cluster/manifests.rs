//! What `kubectl apply -k install/` sends, as far as `install/base` uses kustomize.

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
    let base = documents("base/kustomization.yaml").remove(0);
    let mut objects = resources("base", &base);
    for component in base["components"].as_array().expect("components") {
        let component = component.as_str().expect("a directory");
        let component = component.strip_prefix("../").expect("beside the base");
        let file = format!("{component}/kustomization.yaml");
        objects.extend(resources(component, &documents(&file).remove(0)));
    }
    let maps = base["configMapGenerator"].as_array();
    objects.extend(maps.expect("configMapGenerator").iter().map(config_map));
    objects
}

fn resources(directory: &str, kustomization: &Value) -> Vec<Value> {
    let files = kustomization["resources"].as_array().expect("resources");
    let files = files.iter().map(|file| file.as_str().expect("a file"));
    files
        .flat_map(|file| documents(&format!("{directory}/{file}")))
        .collect()
}

fn config_map(generator: &Value) -> Value {
    let files = generator["files"].as_array().expect("files");
    let data: Map<String, Value> = files
        .iter()
        .map(|file| file.as_str().expect("a file's name"))
        .map(|file| (file.to_owned(), json!(read(&format!("base/{file}")))))
        .collect();
    let metadata = json!({"name": generator["name"], "namespace": generator["namespace"]});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
}

/// The documents of a YAML file of `install/`.
pub fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(file)).unwrap_or_else(|e| panic!("install/{file}: {e}"))
}

fn read(file: &str) -> String {
    fs::read_to_string(directory().join(file)).unwrap_or_else(|e| panic!("install/{file}: {e}"))
}
