//! What an installation is told: where things are on the node, and what our conflist entry says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::confdir::ConfDir;
use super::conflist::PluginEntry;
use super::credentials::ServiceAccount;
use crate::cluster::{self, ObjectName};
use crate::conf::{self, Command, Conf, RawConf};
use crate::defaults;
use crate::guard;
use crate::refusal::CniError;

/// Where things are on the node, and who this is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our plugin goes into the first; the primary's are looked for in all.
    pub bin_dirs: Vec<PathBuf>,
    /// Where runtimes look for their conflist.
    pub conf_dir: PathBuf,
    /// The policy file.
    pub policy_file: PathBuf,
    /// Who is attached.
    pub state_dir: PathBuf,
    /// Who this process is in the cluster; none outside of one.
    pub cluster: Option<Cluster>,
    /// Outside of a cluster's pod: what our entry there says of `kubernetes`, which stays.
    pub kept: Option<serde_json::Value>,
    /// Further keys of our entry.
    pub keys: Keys,
}

/// Who this process is in the cluster, and which of its objects it has to do with.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// By which the API is asked.
    pub account: ServiceAccount,
    /// This node's name, if it was given.
    pub node_name: Option<String>,
    /// Where the policy is.
    pub configmap: ObjectName,
    /// Whose pod this process runs in.
    pub daemonset: ObjectName,
    /// Whose token the plugin has.
    pub account_name: ObjectName,
    /// The pod in which this process runs, and its UID, if that was given.
    pub pod: Option<(ObjectName, String)>,
    /// How long a Lease of this node holds without being renewed.
    pub lease_duration: Duration,
    /// The Node has a taint while pods that start there may not be enforced.
    pub taint: bool,
}

impl Cluster {
    /// This node's name.
    pub fn node(&self) -> String {
        self.node_name.clone().unwrap_or_else(cluster::hostname)
    }
}

/// Keys of our conflist entry that are only there if they were given.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// The device that gets the egress IPs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// NFLOG group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_group: Option<u16>,
    /// How much the plugin says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Where it says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// `allow` or `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unenforceable: Option<String>,
    /// `on` or `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp_probe: Option<String>,
    /// What becomes of packets whose checksum would be written behind the rules.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_mode"
    )]
    pub forged_checksums: Option<guard::Mode>,
    /// Of `kubernetes`.
    #[serde(skip)]
    pub kubernetes: ApiKeys,
}

fn serialize_mode<S: Serializer>(mode: &Option<guard::Mode>, to: S) -> Result<S::Ok, S::Error> {
    mode.map(guard::Mode::as_str).serialize(to)
}

/// Keys of our entry's `kubernetes` that are only there if they were given.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// For all questions of one pod start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `refuse` or `snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_unreachable: Option<String>,
    /// How old a snapshot may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_max_age: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours<'a> {
    r#type: &'static str,
    capabilities: serde_json::Value,
    policy_file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<Api<'a>>,
    state_dir: &'a Path,
    #[serde(flatten)]
    keys: &'a Keys,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Api<'a> {
    Own(Kubernetes<'a>),
    Kept(&'a serde_json::Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kubernetes<'a> {
    kubeconfig: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    #[serde(flatten)]
    keys: &'a ApiKeys,
}

impl Config {
    /// Our place among the plugins.
    pub fn program(&self) -> PathBuf {
        let dir = self
            .bin_dirs
            .first()
            .map_or(Path::new("/"), PathBuf::as_path);
        dir.join(conf::TYPE)
    }

    /// The runtimes' configurations.
    pub fn confs(&self) -> ConfDir {
        ConfDir {
            dir: self.conf_dir.clone(),
            bin_dirs: self.bin_dirs.clone(),
        }
    }

    /// What is ours beside the conflists: `CONF_DIR/egressway.d`. No runtime looks into it.
    pub fn own_dir(&self) -> PathBuf {
        self.conf_dir.join(defaults::OWN_DIR)
    }

    /// The plugin's way to the API.
    pub fn kubeconfig(&self) -> PathBuf {
        defaults::kubeconfig_in(&self.conf_dir)
    }

    /// Our entry of the conflist.
    ///
    /// # Errors
    /// The plugin would refuse it.
    pub fn entry(&self) -> Result<PluginEntry, CniError> {
        let ours = Ours {
            r#type: conf::TYPE,
            capabilities: serde_json::json!({ conf::POD_ANNOTATIONS: true }),
            policy_file: &self.policy_file,
            kubernetes: match &self.cluster {
                Some(cluster) => Some(Api::Own(Kubernetes {
                    kubeconfig: self.kubeconfig(),
                    node_name: cluster.node_name.as_deref(),
                    keys: &self.keys.kubernetes,
                })),
                None => self.kept.as_ref().map(Api::Kept),
            },
            state_dir: &self.state_dir,
            keys: &self.keys,
        };
        let unwritable = |e: serde_json::Error| CniError::invalid_config(e.to_string());
        let entry = PluginEntry::new(&ours).map_err(unwritable)?;
        self.try_entry(&entry)?;
        Ok(entry)
    }

    /// Reads the entry as the plugin will.
    fn try_entry(&self, entry: &PluginEntry) -> Result<(), CniError> {
        let stdin = entry.as_stdin("check", crate::refusal::version::CniVersion::CURRENT);
        Conf::new(&RawConf::decode(stdin.as_bytes())?, Command::Status).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/libexec/cni".into()],
            conf_dir: "/etc/cni/net.d".into(),
            policy_file: "/etc/egressway/policy.yaml".into(),
            state_dir: "/run/egressway".into(),
            cluster: None,
            kept: None,
            keys: Keys::default(),
        }
    }

    #[test]
    fn the_entry_is_one_that_the_plugin_takes() {
        let mut config = config();
        let text = |config: &Config| config.entry().unwrap().as_line().to_owned();
        assert_eq!(
            text(&config),
            r#"{"type":"egressway","capabilities":{"io.kubernetes.cri.pod-annotations":true},"policyFile":"/etc/egressway/policy.yaml","stateDir":"/run/egressway"}"#
        );
        config.cluster = Some(Cluster {
            account: ServiceAccount {
                dir: "/sa".into(),
                server: "https://10.96.0.1:443".into(),
            },
            node_name: Some("node-1".into()),
            configmap: "egressway-system/egressway-policy".parse().unwrap(),
            daemonset: "egressway-system/egressway".parse().unwrap(),
            account_name: "egressway-system/egressway".parse().unwrap(),
            pod: None,
            lease_duration: Duration::from_secs(60),
            taint: false,
        });
        config.keys.uplink = Some("eth1".into());
        config.keys.arp_probe = Some("off".into());
        config.keys.forged_checksums = Some(guard::Mode::Resolve);
        config.keys.kubernetes.when_unreachable = Some("snapshot".into());
        let with_api = text(&config);
        assert!(
            with_api.contains(r#""kubernetes":{"kubeconfig":"/etc/cni/net.d/egressway.d/kubeconfig","nodeName":"node-1","whenUnreachable":"snapshot"}"#),
            "{with_api}"
        );
        assert!(with_api.contains(r#""uplink":"eth1""#), "{with_api}");
        assert!(with_api.contains(r#""arpProbe":"off""#), "{with_api}");
        assert!(
            with_api.contains(r#""forgedChecksums":"resolve""#),
            "{with_api}"
        );
        config.keys.kubernetes.timeout = Some("never".into());
        assert!(
            config
                .entry()
                .unwrap_err()
                .msg
                .contains("kubernetes.timeout")
        );
        config.keys.kubernetes.timeout = Some("2s".into());
        assert!(text(&config).contains(r#""timeout":"2s""#));
        assert_eq!(config.program(), Path::new("/opt/cni/bin/egressway"));
    }

    #[test]
    fn an_entry_that_the_plugin_would_refuse_is_not_put_anywhere() {
        let mut config = config();
        config.keys.unenforceable = Some("maybe".into());
        assert_eq!(config.entry().unwrap_err().code, 7);
        config.keys.unenforceable = None;
        config.policy_file = "policy.yaml".into();
        assert!(config.entry().unwrap_err().msg.contains("absolute"));
    }
}
