//! The samples in conf/ work: each conflist is one that this version takes, each policy is valid,
//! and every key that exists is shown in some sample.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use egressway::conf::{self, Command, Conf, PodAnnotations, RawConf, WhenUnenforceable};
use egressway::source::{PolicyFile, resolve};
use rules::effective::DefaultAction;
use serde_json::{Map, Value, json};

/// Every key that a policy file can have.
const POLICY_KEYS: [&str; 16] = [
    "apiVersion",
    "kind",
    "enforced",
    "defaults",
    "defaultAction",
    "mode",
    "clusterCIDRs",
    "clusterDNS",
    "nodeCIDRs",
    "nat64Prefixes",
    "tunnelPorts",
    "exemptNamespaces",
    "egressIPs",
    "limits",
    "names",
    "namespaces",
];

fn samples(extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

fn conflists() -> Vec<(String, Value)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{} is not JSON: {e}", path.display()));
        (path.display().to_string(), value)
    };
    samples("conflist").into_iter().map(read).collect()
}

/// Our entry: the last one, since what comes behind us could change what we have looked at.
fn ours(name: &str, conflist: &Value) -> Map<String, Value> {
    let plugins = conflist["plugins"].as_array().unwrap();
    let types: Vec<_> = plugins
        .iter()
        .map(|p| p["type"].as_str().unwrap())
        .collect();
    assert_eq!(types.last(), Some(&"egressway"), "{name}: {types:?}");
    assert!(types.len() > 1, "{name}: nothing to be chained after");
    plugins.last().unwrap().as_object().unwrap().clone()
}

/// What libcni makes of our entry for one call.
fn stdin(conflist: &Value, mut entry: Map<String, Value>) -> Vec<u8> {
    entry.insert("name".into(), conflist["name"].clone());
    entry.insert("cniVersion".into(), conflist["cniVersion"].clone());
    let annotations = json!({"egressway.dev/rules": "allow"});
    let runtime = json!({"io.kubernetes.cri.pod-annotations": annotations});
    entry.insert("runtimeConfig".into(), runtime);
    entry.insert("prevResult".into(), json!({}));
    serde_json::to_vec(&entry).unwrap()
}

#[test]
fn every_conflist_is_taken() {
    let conflists = conflists();
    assert_eq!(conflists.len(), 4);
    for (name, conflist) in &conflists {
        let stdin = stdin(conflist, ours(name, conflist));
        let entry = RawConf::decode(&stdin).unwrap_or_else(|e| panic!("{name}: {e}"));
        for command in [Command::Add, Command::Del] {
            let conf = Conf::new(&entry, command).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(conf.warnings.is_empty(), "{name}: {:?}", conf.warnings);
            assert_eq!(
                conf.kubernetes.is_some(),
                name.contains("ptp"),
                "{name}: only the sample with every key asks an API"
            );
            assert_eq!(conf.unenforceable, WhenUnenforceable::Refuse, "{name}");
            assert!(
                matches!(&conf.pod_annotations, PodAnnotations::Present(map) if map.len() == 1),
                "{name}: {:?}",
                conf.pod_annotations
            );
        }
    }
}

#[test]
fn annotations_are_asked_for() {
    for (name, conflist) in conflists() {
        let capabilities = &ours(&name, &conflist)["capabilities"];
        let wanted = json!({"io.kubernetes.cri.pod-annotations": true});
        assert_eq!(capabilities, &wanted, "{name}");
    }
}

#[test]
fn every_conflist_key_is_shown() {
    let shown: BTreeSet<String> = conflists()
        .iter()
        .flat_map(|(name, conflist)| ours(name, conflist).into_iter().map(|(key, _)| key))
        .collect();
    let of_the_spec = ["type", "capabilities"].into_iter();
    let all = of_the_spec.chain(conf::OURS).map(str::to_owned);
    assert_eq!(shown, all.collect());
}

#[test]
fn every_policy_is_valid() {
    let policies = samples("yaml");
    assert_eq!(policies.len(), 3);
    for path in policies {
        let file = PolicyFile::load(&path).unwrap_or_else(|e| panic!("{e}"));
        for namespace in ["default", "payments", "shop", "kube-system"] {
            resolve(&file, namespace, &file.namespace(namespace), Ok(None))
                .unwrap_or_else(|e| panic!("{} for {namespace}: {e}", path.display()));
        }
    }
}

#[test]
fn the_full_policy_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/policy-full.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let shown: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(shown, POLICY_KEYS.into());
    // The list above is the program's own, which it shows to whoever asks for a key that is none.
    let wrong = format!("{text}\nzzzzzzzz: x\n");
    let error = PolicyFile::parse("f", &wrong).unwrap_err().to_string();
    let known = format!("known here: {}", POLICY_KEYS.join(", "));
    assert!(error.contains(&known), "{error}");
}

#[test]
fn the_strict_policy_denies_what_no_rule_allows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/policy-strict.yaml");
    let file = PolicyFile::load(&path).unwrap();
    assert_eq!(file.default_action, DefaultAction::Deny);
}

/// A node without a cluster: the unit starts the agent with the capabilities that the DaemonSet gives it.
#[test]
fn the_unit_runs_the_agent_with_the_daemonsets_capabilities() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
    let unit = fs::read_to_string(dir.join("egressway.service")).unwrap();
    let value = |key: &str| {
        let mut lines = unit.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(found, _)| *found == key);
        found.unwrap_or_else(|| panic!("no {key}")).1
    };
    assert_eq!(value("ExecStart"), "/usr/local/sbin/egressway agent");
    let daemonset = fs::read_to_string(dir.join("base/daemonset.yaml")).unwrap();
    let added = daemonset.split("add:\n").nth(1).unwrap();
    let added = added
        .lines()
        .map_while(|line| line.trim().strip_prefix("- "));
    let added: BTreeSet<String> = added
        .map(|line| format!("CAP_{}", line.split(' ').next().unwrap()))
        .collect();
    let ours = value("CapabilityBoundingSet").split(' ');
    let ours: BTreeSet<String> = ours.map(str::to_owned).collect();
    assert_eq!(ours, added);
    // systemd's own word, where it is installed.
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("egressway.service");
    fs::write(
        &path,
        unit.replace("/usr/local/sbin/egressway", env!("CARGO_BIN_EXE_egressway")),
    )
    .unwrap();
    let verified = std::process::Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    if let Ok(verified) = verified {
        let said = String::from_utf8_lossy(&verified.stderr);
        let about = said
            .lines()
            .filter(|line| line.contains("egressway.service"));
        assert_eq!(about.collect::<Vec<_>>(), [""; 0]);
    }
}
