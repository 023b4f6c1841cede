//! What the process that stays does for the cluster's sake, each in a thread of its own, so that one
//! slow answer holds up nothing else: follows the policy, renews the token and the Leases.

use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::configmap::{Cluster, POLICY_KEY, Policy};
use super::credentials::{self, ServiceAccount};
use super::resident::{Gate, News, spawn};
use super::{Error, policy};
use crate::egress::lease::Access;
use crate::egress::renew::{self, Renewer};
use crate::store::StateDir;

/// After an answer that was a failure, the next question waits this long.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts them.
pub(super) fn start(
    config: &Config,
    cluster: &Cluster,
    gate: &Gate,
    tell: &Sender<News>,
) -> Result<(), Error> {
    let (found, policies) = mpsc::channel();
    let (own, follower) = (cluster.clone(), cluster.clone());
    spawn("follow", move || follow(&follower, &found))?;
    let (to, passing, told) = (config.clone(), gate.clone(), tell.clone());
    spawn("policy", move || {
        for policy in policies {
            passing.pass(|| apply(&to, &own, &policy, &told));
        }
    })?;
    if let Some(account) = config.account.clone() {
        let (cluster, gate, dir) = (cluster.clone(), gate.clone(), config.own_dir());
        spawn("token", move || {
            renew_token(&account, &cluster, &dir, &gate)
        })?;
    }
    let (cluster, gate) = (cluster.clone(), gate.clone());
    let state = StateDir::new(&config.state_dir);
    spawn("leases", move || renew_leases(&cluster, state, &gate))
}

/// Writes the policy file once.
///
/// # Errors
/// There is no policy that could be used, or the API does not answer.
pub(super) fn fetch(config: &Config, cluster: &Cluster) -> Result<(), Error> {
    let refused = |why: String| Error::ConfigMap {
        configmap: cluster.configmap.to_string(),
        why,
    };
    write(config, cluster, &cluster.policy()?)
        .map(drop)
        .map_err(refused)
}

fn follow(cluster: &Cluster, found: &Sender<Policy>) {
    let mut said = String::new();
    loop {
        let followed = cluster.follow_policy(|policy| {
            let _ = found.send(policy);
        });
        let problem = followed.err().map(|e| e.to_string()).unwrap_or_default();
        if problem != said && !problem.is_empty() {
            tracing::warn!("the last good policy stays: {problem}");
        }
        said = problem;
        thread::sleep(AGAIN);
    }
}

fn apply(config: &Config, cluster: &Cluster, policy: &Policy, tell: &Sender<News>) {
    match write(config, cluster, policy) {
        Ok(changed) => {
            if changed {
                let (file, from) = (config.policy_file.display(), &cluster.configmap);
                tracing::info!("wrote {file} from ConfigMap {from}; pods that start now have it");
            }
            let _ = tell.send(News::Policy);
        }
        Err(why) => {
            tracing::error!(
                "ConfigMap {} is not used, the last good policy stays: {why}",
                cluster.configmap
            );
            cluster.warn_of_policy("InvalidPolicy", &why);
        }
    }
}

/// True if the file has changed; else why the policy can't be used.
fn write(config: &Config, cluster: &Cluster, found: &Policy) -> Result<bool, String> {
    let source = format!("ConfigMap {} {POLICY_KEY}", cluster.configmap);
    match found {
        Policy::Missing => Err("it does not exist".to_owned()),
        Policy::NoKey => Err(format!("it has no key {POLICY_KEY}")),
        Policy::Text(text) => policy::write(config, &source, text).map_err(|e| e.to_string()),
    }
}

fn renew_token(account: &ServiceAccount, cluster: &Cluster, own: &std::path::Path, gate: &Gate) {
    let mut good_until = None;
    loop {
        let asked = Instant::now();
        let wait = match cluster.token() {
            Ok((token, seconds)) => {
                note(gate.pass(|| credentials::put_token(own, &token)));
                let lasts = Duration::from_secs(seconds);
                good_until = Some(asked + lasts);
                lasts / 2
            }
            Err(e) => {
                tracing::warn!("the plugin's token is not renewed: {e}");
                if good_until.is_none_or(|until| until <= Instant::now()) {
                    note(gate.pass(|| account.copy_token(own)));
                }
                AGAIN * 6
            }
        };
        thread::sleep(wait.max(AGAIN));
    }
}

fn note<T, E: std::fmt::Display>(outcome: Option<Result<T, E>>) {
    if let Some(Err(e)) = outcome {
        tracing::error!("{e}");
    }
}

fn renew_leases(cluster: &Cluster, state: StateDir, gate: &Gate) {
    let access = Access {
        kubeconfig: cluster.kubeconfig.clone(),
        node: cluster.node.clone(),
    };
    let mut renewer = Renewer::new(state, access, cluster.lease_duration);
    let mut said = String::new();
    loop {
        let news = match gate.pass(|| renewer.round()) {
            Some(Ok(news)) => {
                said.clear();
                news
            }
            Some(Err(e)) => {
                let problem = e.to_string();
                if problem != said {
                    tracing::warn!("Leases of egress IPs are not renewed: {problem}");
                    said = problem;
                }
                Vec::new()
            }
            None => return, // the process is ending
        };
        for renew::News::Lost {
            address,
            namespace,
            holder,
        } in news
        {
            cluster.warn_of_node(
                "EgressIPLost",
                &format!(
                    "node {holder} has egress IP {address} by now; pods of namespace {namespace} here reach nothing outside until they are started again"
                ),
            );
        }
        thread::sleep(cluster.lease_duration / 3);
    }
}
