//! `egressway install` and `egressway uninstall`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tracing::Level;

use super::output::{self, Tone};
use crate::defaults;
use crate::setup::check::{self, Status};
use crate::setup::config::{Config, Keys};
use crate::setup::configmap::{Cluster, ObjectName};
use crate::setup::credentials::ServiceAccount;
use crate::setup::{resident, uninstall};
use crate::{cluster, logging};

/// Put the plugin on this node, and keep it there.
///
/// Checks that the kernel can do what is needed, puts this program among the CNI plugins and its
/// entry into the conflist that the runtime uses, and stays: when the primary plugin writes its
/// conflist anew, the entry is put back. SIGTERM ends it and leaves everything in place.
///
/// Examples:
///
///   egressway install --check
///   egressway install --once
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Install {
    #[command(flatten)]
    paths: Paths,

    /// Only look: list what is there and what would be changed. Status 1 if something is missing
    #[arg(long, conflicts_with = "once")]
    check: bool,

    /// Put everything in place and end
    #[arg(long)]
    once: bool,

    /// The device that gets the egress IPs, if not the default route's
    #[arg(long, value_name = "DEVICE")]
    uplink: Option<String>,

    /// The NFLOG group of logged packets
    #[arg(long, value_name = "N")]
    log_group: Option<u16>,

    /// How much the plugin says about itself: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// Where it says it; without it, runtimes throw it away
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,

    /// For how many seconds a Lease of an egress IP holds; it is renewed three times as often
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=60))]
    lease_duration: u64,

    /// What becomes of pods that can't be enforced: refuse, allow
    #[arg(long, value_name = "WHAT")]
    unenforceable: Option<String>,
}

/// Take off this node what `install` put there.
///
/// The conflist's entry goes first, then the rules in the kernel, the egress addresses, the state
/// directory and the files. The program stays, since runtimes may still call it for pods that it
/// was once called for; it answers them with success.
///
/// Pods that run keep running, without any policy.
///
/// Example:
///   egressway uninstall
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Uninstall {
    #[command(flatten)]
    paths: Paths,
}

#[derive(Debug, clap::Args)]
struct Paths {
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

    /// Where it is written who is attached
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

    /// The DaemonSet whose end means that everything is taken out
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

impl Paths {
    fn config(&self, keys: Keys, lease_duration: u64) -> Config {
        let account = ServiceAccount::find(&self.service_account_dir, self.api_server.as_deref());
        let cluster = account.as_ref().map(|account| Cluster {
            kubeconfig: defaults::kubeconfig_in(&self.cni_conf_dir),
            node: self.node_name.clone().unwrap_or_else(cluster::hostname),
            configmap: self.policy_configmap.clone(),
            daemonset: self.daemonset.clone(),
            account: ObjectName {
                namespace: account
                    .namespace()
                    .unwrap_or_else(|| self.daemonset.namespace.clone()),
                name: "egressway".to_owned(),
            },
            lease_duration: Duration::from_secs(lease_duration),
        });
        Config {
            cluster,
            bin_dirs: self.cni_bin_dir.clone(),
            conf_dir: self.cni_conf_dir.clone(),
            policy_file: self.policy_file.clone(),
            state_dir: self.state_dir.clone(),
            node_name: self.node_name.clone(),
            account,
            keys,
        }
    }
}

pub(super) fn install(args: &Install) -> ExitCode {
    let keys = Keys {
        uplink: args.uplink.clone(),
        log_group: args.log_group,
        log_level: args.log_level.clone(),
        log_file: args.log_file.clone(),
        unenforceable: args.unenforceable.clone(),
    };
    let config = args.paths.config(keys, args.lease_duration);
    if args.check {
        return print_check(&config);
    }
    logging::init(Level::INFO, None);
    let outcome = if args.once {
        resident::once(&config)
    } else {
        resident::stay(&config)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "egressway: {e}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn uninstall(args: &Uninstall) -> ExitCode {
    logging::init(Level::INFO, None);
    let failures = uninstall::uninstall(&args.paths.config(Keys::default(), 60));
    for failure in &failures {
        let _ = writeln!(io::stderr(), "egressway: {failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_check(config: &Config) -> ExitCode {
    output::run(|out| {
        let colour = output::colour();
        let items = check::check(config);
        for item in &items {
            let tone = match item.status {
                Status::Good => Tone::Good,
                Status::Change | Status::Note => Tone::Warning,
                Status::Bad => Tone::Bad,
            };
            let status = output::toned(&format!("{:6}", item.status), tone, colour);
            writeln!(out, "{status}  {:10}  {}", item.what, item.seen)?;
        }
        let bad = items.iter().any(|item| item.status == Status::Bad);
        Ok(if bad {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })
}
