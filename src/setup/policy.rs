//! The policy file on the node: written from the cluster's ConfigMap, and known again later.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use sha2::{Digest, Sha256};

use super::config::{Cluster, Config};
use super::files::{self, FileError};
use crate::cluster::{self, Client, ObjectName, Request, TimeLimit};
use crate::source::{PolicyFile, SourceError};

/// The key of the ConfigMap that has the policy.
pub const POLICY_KEY: &str = "policy.yaml";

/// How long the API may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What the cluster says of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InCluster {
    /// There is no ConfigMap.
    Missing,
    /// There is one, without [`POLICY_KEY`].
    NoKey,
    /// Its text.
    Text(String),
}

impl InCluster {
    /// What a ConfigMap says, or that there is none.
    pub fn of(configmap: Option<&ConfigMap>) -> InCluster {
        let Some(configmap) = configmap else {
            return InCluster::Missing;
        };
        let data = configmap.data.as_ref();
        let text = data.and_then(|data| data.get(POLICY_KEY));
        text.map_or(InCluster::NoKey, |text| InCluster::Text(text.clone()))
    }
}

/// Asks what the ConfigMap says now.
///
/// # Errors
/// The API does not answer, or refuses.
pub fn fetch(config: &Config, cluster: &Cluster) -> Result<InCluster, cluster::Error> {
    let ObjectName { namespace, name } = &cluster.configmap;
    cluster::run(async {
        let limit = TimeLimit::Each(ANSWER);
        let client = match config.kubeconfig().exists() {
            true => Client::from_kubeconfig(&config.kubeconfig(), limit)?,
            false => Client::in_cluster(limit)?, // whoever only looks writes no kubeconfig
        };
        let api: Api<ConfigMap> = Api::namespaced(client.kube(), namespace);
        let request = Request::new("get", "configmaps")
            .within(namespace)
            .named(name);
        let found = client.ask(request, api.get_opt(name)).await?;
        Ok(InCluster::of(found.as_ref()))
    })
}

/// Writes what the ConfigMap says as the node's policy file. True if the file has changed.
///
/// # Errors
/// Why it can't be used. The last good policy stays.
pub fn apply(config: &Config, configmap: &ObjectName, policy: &InCluster) -> Result<bool, String> {
    let source = format!("ConfigMap {configmap} {POLICY_KEY}");
    match policy {
        InCluster::Missing => Err("it does not exist".to_owned()),
        InCluster::NoKey => Err(format!("it has no key {POLICY_KEY}")),
        InCluster::Text(text) => write(config, &source, text).map_err(|e| e.to_string()),
    }
}

/// Why the policy file was not replaced.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
enum Error {
    #[error("{0}")]
    Text(#[from] SourceError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `text` as the node's policy file, if it is a whole policy. `source` says to people where it
/// stands. True if the file has changed.
///
/// # Errors
/// The text has a fault, or the disk refuses: the last good one stays.
fn write(config: &Config, source: &str, text: &str) -> Result<bool, Error> {
    PolicyFile::parse(source, text)?;
    let path = &config.policy_file;
    // Noted first: a file that nobody remembers having written would stay for ever.
    files::create_dir(&config.own_dir())?;
    files::replace(&note(config), digest(text.as_bytes()).as_bytes(), 0o644)?;
    if files::read(path)?.as_deref() == Some(text.as_bytes()) {
        return Ok(false);
    }
    if let Some(dir) = path.parent() {
        files::create_dir(dir)?;
    }
    files::replace(path, text.as_bytes(), 0o644)?;
    Ok(true)
}

/// Removes the policy file, if it is as it was written here. Somebody's own stays.
///
/// # Errors
/// The disk refuses.
pub fn remove_ours(config: &Config) -> Result<(), FileError> {
    let (written, there) = (
        files::read(&note(config))?,
        files::read(&config.policy_file)?,
    );
    if let (Some(written), Some(there)) = (written, there)
        && written == digest(&there).as_bytes()
    {
        files::remove(&config.policy_file)?;
    }
    Ok(())
}

/// Where it is noted what was written.
fn note(config: &Config) -> PathBuf {
    config.own_dir().join("policy.sha256")
}

fn digest(bytes: &[u8]) -> String {
    crate::hex::hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::config::Keys;
    use std::fs;

    const GOOD: &str = "apiVersion: egressway.dev/v1alpha1\nkind: ClusterEgressPolicy\n";

    fn config(dir: &std::path::Path) -> Config {
        Config {
            bin_dirs: vec![dir.join("bin")],
            conf_dir: dir.join("net.d"),
            policy_file: dir.join("etc/policy.yaml"),
            state_dir: dir.join("run"),
            cluster: None,
            kept: None,
            keys: Keys::default(),
        }
    }

    #[test]
    fn a_bad_text_leaves_the_last_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let read = || fs::read_to_string(&config.policy_file).unwrap();
        assert!(write(&config, "ConfigMap x", GOOD).unwrap());
        assert!(!write(&config, "ConfigMap x", GOOD).unwrap());
        let bad = format!("{GOOD}enforced: |\n  deny to nowhere\n");
        let error = write(&config, "ConfigMap x", &bad).unwrap_err().to_string();
        assert!(
            error.contains("ConfigMap x") && error.contains("^^^^^^^"),
            "{error}"
        );
        assert_eq!(read(), GOOD);
        let better = format!("{GOOD}defaultAction: deny\n");
        assert!(write(&config, "ConfigMap x", &better).unwrap());
        assert_eq!(read(), better);
        remove_ours(&config).unwrap();
        assert!(!config.policy_file.exists());
        remove_ours(&config).unwrap();
    }

    #[test]
    fn somebodys_own_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(&config.policy_file, GOOD).unwrap();
        remove_ours(&config).unwrap();
        assert!(config.policy_file.exists(), "never written here");
        write(&config, "ConfigMap x", &format!("{GOOD}mode: audit\n")).unwrap();
        fs::write(&config.policy_file, GOOD).unwrap();
        remove_ours(&config).unwrap();
        assert!(config.policy_file.exists(), "changed by hand");
    }
}
