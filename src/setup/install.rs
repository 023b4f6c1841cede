//! `egressway install`: puts everything on a node, once.

use super::confdir::Ensured;
use super::config::Config;
use super::coverage::CNI_CACHE;
use super::program::{self, InPlace, InstalledProgram};
use super::{coverage, files, guard, kernel, policy};
use crate::cluster;
use crate::guard::trial;
use crate::refusal::CniError;
use crate::source::{PolicyFile, SourceError};
use crate::store::StateDir;
use rules::fault::shown;

/// Why an installation stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error("this node's kernel cannot enforce egress rules: {0}")]
    Kernel(#[from] kernel::Error),
    #[error("{0}; `--forged-checksums resolve` does without it")]
    Guard(#[from] trial::Failure),
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error(transparent)]
    Program(#[from] program::Error),
    #[error("the conflist entry would be invalid: {0}")]
    Entry(CniError),
    #[error(transparent)]
    Policy(#[from] SourceError),
    #[error("the policy of ConfigMap {configmap} cannot be used: {why}")]
    ConfigMap { configmap: String, why: String },
    #[error(transparent)]
    Api(#[from] cluster::Error),
    #[error(
        "{dir} has no configuration that a runtime could use; install the primary CNI plugin first{reasons}"
    )]
    NoConflist { dir: String, reasons: String },
}

/// Puts everything in place.
///
/// # Errors
/// What is missing. Nothing was put into the conflist then.
pub fn install(config: &Config) -> Result<(), Error> {
    prepare(config)?;
    if let Some(cluster) = &config.cluster {
        let found = policy::fetch(config, cluster)?;
        policy::apply(config, &cluster.configmap, &found).map_err(|why| Error::ConfigMap {
            configmap: cluster.configmap.to_string(),
            why,
        })?;
    }
    PolicyFile::load(&config.policy_file)?;
    let entry = config.entry().map_err(Error::Entry)?;
    let confs = config.confs();
    let look = confs.look()?;
    look.skipped
        .iter()
        .for_each(|skipped| tracing::warn!("{skipped}"));
    match confs.ensure(&entry, &look)? {
        Ensured::Put(path) => {
            tracing::info!("added egressway to {}", shown(&path));
            tell_uncovered(config);
            Ok(())
        }
        Ensured::Already(path) => {
            tracing::info!("egressway is in {} already", shown(&path));
            Ok(())
        }
        Ensured::Nothing => Err(Error::NoConflist {
            dir: shown(&config.conf_dir),
            reasons: look.reasons(),
        }),
    }
}

/// Puts in place what must be there before any runtime may call the plugin, but for the policy.
///
/// # Errors
/// What the kernel lacks, or the disk refuses.
pub fn prepare(config: &Config) -> Result<(), Error> {
    kernel::check()?;
    tracing::info!(
        "the kernel ({}) has all features that are needed",
        kernel::release()
    );
    let found = guard::look(config)?;
    match found.is_good() {
        true => tracing::info!("{}", found.text()),
        false => tracing::warn!("{}", found.text()),
    }
    let mut program = InstalledProgram::at(config.program());
    if program.put()? != InPlace::Same {
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!("installed version {version} as {}", shown(program.path()));
    }
    files::create_dir(&config.conf_dir)?;
    if let Some(cluster) = &config.cluster {
        cluster.account.copy_to(&config.own_dir(), None)?;
        cluster.account.copy_token(&config.own_dir())?;
        tracing::info!("wrote {}", shown(&config.kubeconfig()));
    }
    Ok(())
}

fn tell_uncovered(config: &Config) {
    match coverage::uncovered(&StateDir::new(&config.state_dir), CNI_CACHE.as_ref()) {
        Ok(names) => {
            if let Some(sentence) = coverage::sentence(&names) {
                tracing::warn!("{sentence}");
            }
        }
        Err(error) => tracing::warn!("cannot tell which pods are not covered: {error}"),
    }
}
