//! What `install/` gives to a cluster, by the programs that render it: kustomize as kubectl has it, Helm, buildah.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> Output {
    let output = command.current_dir(root()).output();
    output.unwrap_or_else(|e| panic!("{command:?}: {e}: tests/run.sh installs it"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command prints that has to succeed.
fn printed(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

type Objects = BTreeMap<(String, String), Value>;

fn objects(yaml: &str) -> Objects {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let named = all.into_iter().filter(|one| !one.is_null()).map(|one| {
        let word = |at: &str| one.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let name = (word("/kind"), word("/metadata/name"));
        let (Some(kind), Some(name)) = name else {
            panic!("no object: {one}");
        };
        ((kind, name), one)
    });
    named.collect()
}

fn kustomize(directory: &str) -> Objects {
    objects(&printed(
        Command::new("kubectl").args(["kustomize", directory]),
    ))
}

fn helm(values: &[&str]) -> Objects {
    let mut helm = Command::new("helm");
    helm.args(["template", "egressway", "install/chart"]);
    helm.args(["--namespace", "egressway-system"]).args(values);
    objects(&printed(&mut helm))
}

/// Names what differs, and not a screen of what does not.
fn same(one: &Objects, other: &Objects) {
    let names = |all: &Objects| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other));
    for (name, object) in one {
        assert_eq!(object, &other[name], "{name:?}");
    }
}

#[test]
fn the_chart_makes_what_the_base_does() {
    let base = kustomize("install");
    assert!(base.len() > 10, "{:?}", base.keys());
    same(&base, &helm(&[]));
    let k3s = "cni.binDir=/var/lib/rancher/k3s/data/cni,cni.confDir=/var/lib/rancher/k3s/agent/etc/cni/net.d";
    same(&kustomize("install/overlays/k3s"), &helm(&["--set", k3s]));
}

/// And all components together, as README says to put them beside the base.
#[test]
fn the_chart_makes_what_the_components_do() {
    let dir = root().join("target/kustomization");
    fs::create_dir_all(&dir).expect("a directory");
    let file = "resources: [../../install]\n\
                components: [../../install/components/monitoring, ../../install/components/taint]\n";
    fs::write(dir.join("kustomization.yaml"), file).expect("write");
    let values =
        "taint=true,metrics.podMonitor=true,metrics.prometheusRule=true,metrics.dashboard=true";
    same(
        &kustomize("target/kustomization"),
        &helm(&["--set", values]),
    );
}

#[test]
fn each_value_of_the_chart_is_used() {
    let default = helm(&[]);
    for value in [
        "image.repository=other",
        "image.tag=v2",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "image.pullPolicy=Always",
        "createNamespace=false",
        "policy=mode: audit",
        "existingConfigMap=true",
        "cni.binDir=/opt/bin",
        "cni.confDir=/etc/cni",
        "uplink=eth1",
        "logGroup=7",
        "unenforceable=allow",
        "taint=true",
        "admission.policies=false",
        "metrics.port=9000",
        "metrics.podMonitor=true",
        "metrics.prometheusRule=true",
        "metrics.dashboard=true",
        "resources.limits.memory=1Gi",
        "tolerations[0].key=a",
        "nodeSelector.a=b",
        "priorityClassName=a",
        "podLabels.a=b",
        "podAnnotations.a=b",
        "updateStrategy.type=OnDelete",
    ] {
        assert_ne!(helm(&["--set", value]), default, "{value}");
    }
    let wrong = |values: &[&str], why: &str| {
        let mut helm = Command::new("helm");
        helm.args(["template", "egressway", "install/chart"])
            .args(values);
        let output = run(&mut helm);
        assert!(!output.status.success(), "{values:?}");
        let said = text(&output.stderr);
        assert!(said.contains(why), "{values:?}: {said}");
    };
    let in_system = ["--namespace", "egressway-system", "--set"];
    wrong(
        &[&in_system[..], &["imge.tag=1"]].concat(),
        "'imge' not allowed",
    );
    wrong(
        &[&in_system[..], &["unenforceable=maybe"]].concat(),
        "/unenforceable",
    );
    wrong(
        &["--namespace", "default"],
        "install it there, not into default",
    );
}

/// The paths that a platform's overlay gives are the same on the host, in the pod, and for the agent.
#[test]
fn overlays_say_one_path_in_three_places() {
    let base = kustomize("install");
    for overlay in ["k3s", "gke", "openshift", "eks"] {
        let all = kustomize(&format!("install/overlays/{overlay}"));
        for name in base.keys() {
            assert!(all.contains_key(name), "{overlay}: {name:?}");
        }
        let name = ("DaemonSet".to_owned(), "egressway".to_owned());
        let pod = &all[&name]["spec"]["template"]["spec"];
        let agent = &pod["containers"][0];
        let args = agent["args"].as_array().expect("args");
        for (volume, flag, usual) in [
            ("cni-bin", "--cni-bin-dir=", "/opt/cni/bin"),
            ("cni-conf", "--cni-conf-dir=", "/etc/cni/net.d"),
        ] {
            let of = |list: &Value| -> Value {
                let list = list.as_array().expect("a list").iter();
                list.clone()
                    .find(|one| one["name"] == volume)
                    .expect(volume)
                    .clone()
            };
            let host = of(&pod["volumes"])["hostPath"]["path"].clone();
            assert_eq!(host, of(&agent["volumeMounts"])["mountPath"], "{overlay}");
            let mut given = args
                .iter()
                .filter_map(|arg| arg.as_str()?.strip_prefix(flag));
            assert_eq!(host, given.next().unwrap_or(usual), "{overlay}");
        }
    }
}

/// Prometheus and its operator get the same rules.
#[test]
fn the_operators_rules_are_the_rule_file() {
    let file = |name: &str| -> Value {
        let path = root().join("install/components/monitoring").join(name);
        serde_saphyr::from_str(&fs::read_to_string(path).expect(name)).expect(name)
    };
    assert_eq!(file("prometheusrule.yaml")["spec"], file("alerts.yaml"));
}

/// An image of what stands for programs of two architectures, in a store of its own.
fn image(dir: &Path, name: &str) -> Value {
    let buildah = |command: &mut Command| -> String {
        command.env("STORAGE_DRIVER", "vfs");
        command.env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"));
        printed(command)
    };
    let programs = ["amd64", "arm64"].map(|architecture| {
        let program = dir.join(architecture);
        fs::write(&program, format!("a program for {architecture}")).expect("write");
        format!("{architecture}={}", program.display())
    });
    buildah(Command::new("install/image.sh").arg(name).args(programs));
    let oci = dir.join(name);
    let mut push = Command::new("buildah");
    push.args(["manifest", "push", "--quiet", "--all", name]);
    buildah(push.arg(format!("oci:{}", oci.display())));
    read(&oci.join("index.json"))
}

fn read(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn the_image_is_the_same_whenever_it_is_made() {
    let dir = std::env::temp_dir().join(format!("egressway-image-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let store = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/store\"\nrunroot = \"{0}/run\"\n",
        dir.display()
    );
    fs::write(dir.join("storage.conf"), store).expect("write");
    let first = image(&dir, "first");
    assert_eq!(first, image(&dir, "second"), "made twice, it is the same");

    let blob = |oci: &str, descriptor: &Value| -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let hash = digest.strip_prefix("sha256:").expect("SHA-256");
        dir.join(oci).join("blobs/sha256").join(hash)
    };
    let index = read(&blob("first", &first["manifests"][0]));
    let mut architectures = Vec::new();
    for descriptor in index["manifests"].as_array().expect("manifests") {
        let manifest = read(&blob("first", descriptor));
        let config = read(&blob("first", &manifest["config"]));
        architectures.push(config["architecture"].as_str().expect("one").to_owned());
        assert_eq!(config["config"]["Entrypoint"][0], "/egressway");
        let labels = &config["config"]["Labels"];
        for label in [
            "title",
            "description",
            "version",
            "revision",
            "source",
            "documentation",
            "licenses",
        ] {
            let value = labels[format!("org.opencontainers.image.{label}")].as_str();
            assert!(
                value.is_some_and(|value| !value.is_empty()),
                "{label}: {labels}"
            );
        }
        assert_eq!(
            labels["org.opencontainers.image.version"],
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
    }
    architectures.sort();
    assert_eq!(architectures, ["amd64", "arm64"]);
    fs::remove_dir_all(&dir).expect("remove");
}
