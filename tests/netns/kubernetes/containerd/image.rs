//! An image for a pod that does nothing: one static busybox, asleep.

use crate::harness::exec;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What containerd's configuration calls it.
pub const PAUSE: &str = "localhost/pause:1";

/// Writes an OCI image archive.
pub fn write(archive: &Path, scratch: &Path) {
    let (root, image) = (scratch.join("root"), scratch.join("image"));
    let blobs = image.join("blobs/sha256");
    for dir in [&root, &blobs] {
        fs::create_dir_all(dir).expect("make a directory");
    }
    fs::copy("/bin/busybox", root.join("busybox")).expect("busybox-static is installed");
    tar(&scratch.join("layer.tar"), &root);
    let layer = fs::read(scratch.join("layer.tar")).expect("the layer");
    let store = |kind: &str, bytes: &[u8]| -> Value {
        let digest: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(blobs.join(&digest), bytes).expect("write a blob");
        let media = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = store("layer.v1.tar", &layer);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/busybox", "sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = store("config.v1+json", config.to_string().as_bytes());
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": [layer]});
    let mut manifest = store("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"io.containerd.image.name": PAUSE});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(image.join("index.json"), index.to_string()).expect("write the index");
    fs::write(
        image.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("write");
    tar(archive, &image);
}

fn tar(archive: &Path, directory: &Path) {
    exec::must(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(directory)
            .arg("."),
        b"",
    );
}
