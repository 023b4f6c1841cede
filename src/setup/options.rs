//! What `agent`, `install` and `uninstall` are told on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::config::{ApiKeys, Cluster, Config, Keys};
use super::credentials::ServiceAccount;
use crate::cluster::ObjectName;
use crate::defaults;
use crate::guard;

/// Where things are on the node, and who this is in the cluster.
#[derive(Debug, clap::Args)]
pub struct Paths {
    /// Where the runtime finds its CNI plugins. If given several times, ours goes into the first
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: Vec<PathBuf>,

    /// Where the runtime finds its conflist
    #[arg(long, value_name = "DIR", default_value = defaults::CONF_DIR)]
    cni_conf_dir: PathBuf,

    /// The policy file
    #[arg(
        long,
        value_name = "FILE",
        default_value = defaults::POLICY_FILE
    )]
    policy_file: PathBuf,

    /// Directory for attachment records
    #[arg(long, value_name = "DIR", default_value = defaults::STATE_DIR)]
    state_dir: PathBuf,

    /// This node's name in the cluster
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,

    /// The service account by which the Kubernetes API is asked
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    service_account_dir: PathBuf,

    /// The ConfigMap whose policy.yaml becomes the policy file
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "egressway-system/egressway-policy"
    )]
    policy_configmap: ObjectName,

    /// Uninstall from the node when this DaemonSet is deleted
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "egressway-system/egressway"
    )]
    daemonset: ObjectName,

    /// The Kubernetes API, if not where the pod's environment says
    #[arg(long, value_name = "URL")]
    api_server: Option<String>,
}

/// What our conflist entry says beside paths.
#[derive(Debug, clap::Args)]
pub struct EntryKeys {
    /// The device that gets the egress IPs, if not the default route's
    #[arg(long, value_name = "DEVICE")]
    uplink: Option<String>,

    /// The NFLOG group of what enforced rules log; the next one is that of all others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=65534))]
    log_group: Option<u16>,

    /// How much the plugin says about itself: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Log file [default: stderr, which runtimes discard]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// What to do with pods that cannot be enforced: refuse, allow
    #[arg(long, value_name = "WHAT")]
    unenforceable: Option<String>,

    /// Ask the network by ARP whether an egress IP is in use: on, off
    #[arg(long, value_name = "WHETHER")]
    arp_probe: Option<String>,

    /// What to do with packets whose checksum would be written behind the rules: drop, resolve, ignore
    #[arg(long, value_name = "WHAT")]
    forged_checksums: Option<guard::Mode>,

    /// How long the questions of one pod start may take together: 5s
    #[arg(long, value_name = "DURATION")]
    api_timeout: Option<String>,

    /// What to do while the Kubernetes API cannot be reached: refuse, snapshot
    #[arg(long, value_name = "WHAT")]
    when_unreachable: Option<String>,

    /// How old a snapshot may be: 1h
    #[arg(long, value_name = "DURATION")]
    snapshot_max_age: Option<String>,
}

/// For how many seconds a Lease of an egress IP holds if nobody says otherwise: a node that died has lost its
/// addresses after a quarter more, and no pod start that waits for one has to be tried again.
pub const LEASE_SECONDS: u64 = 7;

/// What only a pod of the DaemonSet is told.
#[derive(Debug, clap::Args)]
pub struct InPod {
    /// For how many seconds a Lease of an egress IP holds; it is renewed three times as often
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE_SECONDS, value_parser = clap::value_parser!(u64).range(3..=60))]
    lease_duration: u64,

    /// The name of the pod in which this runs, for Events
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod_name: Option<String>,

    /// Its UID
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pod_uid: Option<String>,

    /// Keep the taint egressway.dev/not-ready:NoSchedule on this Node while pods that start there may not be
    /// enforced; this needs the rights of install/components/taint
    #[arg(long)]
    taint: bool,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On every address of the node.
    Everywhere(u16),
    /// On one.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    /// `:9471`, `127.0.0.1:9471`, `[::1]:9471`
    fn from_str(text: &str) -> Result<Self, String> {
        let everywhere = text.strip_prefix(':').map(str::parse);
        match (everywhere, text.parse()) {
            (Some(Ok(port)), _) => Ok(Listen::Everywhere(port)),
            (_, Ok(address)) => Ok(Listen::At(address)),
            _ => Err("expected :PORT or ADDRESS:PORT, such as :9471 or 127.0.0.1:9471".to_owned()),
        }
    }
}

/// Maintain the plugin, the policy and the node's egress IPs: what the DaemonSet runs.
///
/// Checks that the kernel has the features it needs, installs this program beside the CNI plugins
/// and its entry in the conflist that the runtime uses, and keeps running: what others remove is
/// restored, the policy file follows the ConfigMap, running pods follow their annotations and their
/// namespaces', and the token and the Leases of egress IPs are renewed. SIGTERM ends it and leaves
/// everything installed, unless the DaemonSet itself is being deleted: then everything is removed
/// from the node.
///
/// /readyz on the metrics address says whether all of that is as it should be, and if not, why.
///
/// Example:
///
///   egressway agent --metrics-address 127.0.0.1:9471
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct AgentArgs {
    #[command(flatten)]
    paths: Paths,

    #[command(flatten)]
    keys: EntryKeys,

    #[command(flatten)]
    pod: InPod,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ":9471")]
    metrics_address: Listen,
}

impl AgentArgs {
    /// What an installation is told.
    pub fn config(&self) -> Config {
        self.paths.config(Some(&self.keys), Some(&self.pod))
    }

    /// Where probes are answered.
    pub const fn listen(&self) -> Listen {
        self.metrics_address
    }
}

impl Paths {
    /// All of it, with what our entry says beside paths.
    pub fn config(&self, keys: Option<&EntryKeys>, pod: Option<&InPod>) -> Config {
        let account = ServiceAccount::find(&self.service_account_dir, self.api_server.as_deref());
        let cluster = account.map(|account| {
            let namespace = account
                .namespace()
                .unwrap_or_else(|| self.daemonset.namespace.clone());
            let named = |name: String| ObjectName {
                namespace: namespace.clone(),
                name,
            };
            let own = pod.and_then(|pod| Some((pod.pod_name.clone()?, pod.pod_uid.clone()?)));
            Cluster {
                account,
                node_name: self.node_name.clone(),
                configmap: self.policy_configmap.clone(),
                daemonset: self.daemonset.clone(),
                account_name: named("egressway".to_owned()),
                pod: own.map(|(name, uid)| (named(name), uid)),
                taint: pod.is_some_and(|pod| pod.taint),
                lease_duration: Duration::from_secs(pod.map_or(60, |pod| pod.lease_duration)),
            }
        });
        let mut config = Config {
            cluster,
            kept: None,
            bin_dirs: self.cni_bin_dir.clone(),
            conf_dir: self.cni_conf_dir.clone(),
            policy_file: self.policy_file.clone(),
            state_dir: self.state_dir.clone(),
            keys: keys.map(EntryKeys::keys).unwrap_or_default(),
        };
        if config.cluster.is_none() {
            // A shell on a cluster's node: the agent has put that there.
            config.kept = config.confs().ours().and_then(|mut ours| {
                let kubernetes = ours["kubernetes"].take();
                kubernetes.is_object().then_some(kubernetes)
            });
        }
        config
    }
}

impl EntryKeys {
    fn keys(&self) -> Keys {
        Keys {
            uplink: self.uplink.clone(),
            log_group: self.log_group,
            log_level: self.log_level.clone(),
            log_file: self.log_file.clone(),
            unenforceable: self.unenforceable.clone(),
            arp_probe: self.arp_probe.clone(),
            forged_checksums: self.forged_checksums,
            kubernetes: ApiKeys {
                timeout: self.api_timeout.clone(),
                when_unreachable: self.when_unreachable.clone(),
                snapshot_max_age: self.snapshot_max_age.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(":9471".parse(), Ok(Listen::Everywhere(9471)));
        for address in ["127.0.0.1:9471", "[::1]:9471"] {
            assert_eq!(
                address.parse(),
                Ok(Listen::At(address.parse().expect("an address")))
            );
        }
        for bad in ["", ":", "9471", "localhost:9471", "::1:9471", ":70000"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
