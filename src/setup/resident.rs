//! `egressway install`: puts everything in place, and stays to keep it there.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::config::Config;
use super::configmap::Cluster;
use super::conflist::Entry;
use super::keeper::{Keeper, Step};
use super::uninstall::uninstall;
use super::watch::Watch;
use super::{Error, coverage, files, follow, kernel};
use crate::source::PolicyFile;
use crate::store::StateDir;

/// How often everything is looked at, even if nothing seems to have happened.
const TICK: Duration = Duration::from_secs(10);

/// Puts everything in place once, and ends.
///
/// # Errors
/// What is missing. Nothing was put into the conflist then.
pub fn once(config: &Config) -> Result<(), Error> {
    prepare(config)?;
    if let Some(cluster) = &config.cluster {
        follow::fetch(config, cluster)?;
    }
    PolicyFile::load(&config.policy_file)?;
    let entry = config.entry().map_err(Error::Entry)?;
    match Keeping::new(config, entry).step()? {
        Step::Fine(_) | Step::Put { .. } => Ok(()),
        Step::Nothing | Step::Wait(_) => {
            Err(Error::NoConflist(config.conf_dir.display().to_string()))
        }
    }
}

/// Puts everything in place and keeps it there, until a signal ends it. Then everything is left as it
/// is, and pods start and stop as before; unless the DaemonSet is being removed, and everything with it.
///
/// # Errors
/// What is missing, or why it can't be kept.
pub fn stay(config: &Config) -> Result<(), Error> {
    let (tell, told) = mpsc::channel();
    catch_signals(tell.clone())?;
    let gate = Gate::default();
    prepare(config)?;
    let entry = config.entry().map_err(Error::Entry)?;
    let mut keeping = Some(Keeping::new(config, entry));
    let policy = PolicyFile::load(&config.policy_file);
    let mut ready = policy.is_ok(); // also one of an earlier life, while the API does not answer
    match (&config.cluster, policy) {
        (Some(cluster), _) => follow::start(config, cluster, &gate, &tell)?,
        (None, policy) => drop(policy?),
    }
    loop {
        if ready && let Some(keeping) = keeping.take() {
            let (config, gate, tell) = (config.clone(), gate.clone(), tell.clone());
            spawn("conflist", move || {
                let failed = keeping.keep(&config, &gate);
                let _ = tell.send(News::Failed(failed));
            })?;
        }
        match told.recv() {
            Ok(News::Policy) => ready = true,
            Ok(News::Failed(error)) => {
                gate.close();
                if let Some(cluster) = &config.cluster {
                    cluster.warn_of_node("NotInConflist", &error.to_string());
                }
                return Err(error);
            }
            Ok(News::Signal) | Err(_) => {
                gate.close();
                end(config);
                return Ok(());
            }
        }
    }
}

/// What is done when the process is told to end.
fn end(config: &Config) {
    let removed = config.cluster.as_ref().map(Cluster::is_being_removed);
    match removed {
        Some(Ok(true)) => {
            tracing::info!("the DaemonSet is being removed, and everything with it");
            for failure in uninstall(config) {
                tracing::error!("{failure}");
            }
        }
        Some(Err(e)) => tracing::warn!(
            "everything stays in place, since it is not known whether the DaemonSet is being removed: {e}"
        ),
        Some(Ok(false)) | None => tracing::info!("ending; everything stays in place"),
    }
}

/// What the threads tell the one that waits.
#[derive(Debug)]
pub(super) enum News {
    /// SIGTERM or SIGINT.
    Signal,
    /// There is a policy file.
    Policy,
    /// Something can't be kept.
    Failed(Error),
}

/// What may be changed only while nobody is ending.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<RwLock<bool>>);

impl Gate {
    /// Does the work, unless the gate is closed.
    pub(super) fn pass<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let closed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (!*closed).then(work)
    }

    /// Waits until nobody is at work, and lets nobody begin.
    fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map(drop).map_err(Error::Start)
}

/// Every thread started after this leaves the signals to the one that waits for them.
fn catch_signals(tell: Sender<News>) -> Result<(), Error> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals
        .thread_block()
        .map_err(|errno| Error::Start(errno.into()))?;
    spawn("signals", move || {
        let _ = signals.wait();
        let _ = tell.send(News::Signal);
    })
}

/// What must be there before any runtime may call the plugin, but for the policy.
fn prepare(config: &Config) -> Result<(), Error> {
    kernel::check()?;
    tracing::info!(
        "the kernel ({}) can do all that is needed",
        kernel::release()
    );
    let program = config.program();
    if files::put_program(&program)? {
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!("put version {version} in place as {}", program.display());
    }
    files::create_dir(&config.conf_dir)?;
    if let Some(account) = &config.account {
        account.copy_to(&config.own_dir())?;
        account.copy_token(&config.own_dir())?;
        tracing::info!("wrote {}", config.kubeconfig().display());
    }
    Ok(())
}

/// Keeps our entry in the conflist.
struct Keeping {
    confs: super::confdir::ConfDir,
    entry: Entry,
    state: StateDir,
    keeper: Keeper,
    /// What was said last about files passed over, so that it is said once.
    said: Vec<String>,
}

impl Keeping {
    fn new(config: &Config, entry: Entry) -> Self {
        Keeping {
            confs: config.confs(),
            entry,
            state: StateDir::new(&config.state_dir),
            keeper: Keeper::default(),
            said: Vec::new(),
        }
    }

    /// Never returns but with what went wrong.
    fn keep(mut self, config: &Config, gate: &Gate) -> Error {
        let dir = &self.confs.dir;
        let watch_failed = |source| Error::Watch {
            dir: config.conf_dir.display().to_string(),
            source,
        };
        let watch = match Watch::new(dir) {
            Ok(watch) => watch,
            Err(source) => return watch_failed(source),
        };
        loop {
            let stepped = gate.pass(|| {
                if let Some(account) = &config.account {
                    account.copy_to(&config.own_dir())?;
                }
                self.step()
            });
            let wait = match stepped {
                Some(Ok(Step::Wait(until))) => until.saturating_duration_since(Instant::now()),
                Some(Ok(_)) => TICK,
                Some(Err(error @ Error::Keep(super::keeper::Error::Fight { .. }))) => return error,
                // A full disk, say, may have room again later.
                Some(Err(error)) => {
                    tracing::error!("{error}");
                    TICK
                }
                None => TICK, // the process is ending
            };
            if let Err(source) = watch.wait(wait) {
                return watch_failed(source);
            }
        }
    }

    /// Looks once, does what is due, and says what is new.
    fn step(&mut self) -> Result<Step, Error> {
        let look = self.confs.look()?;
        let step = self
            .keeper
            .step(&self.confs, &self.entry, &look, Instant::now())?;
        let mut news: Vec<String> = look.skipped.iter().map(ToString::to_string).collect();
        if step == Step::Nothing {
            news.push(format!(
                "waiting for the primary CNI plugin: {} has no configuration that a runtime could use",
                self.confs.dir.display()
            ));
        }
        if news != self.said {
            news.iter().for_each(|line| tracing::warn!("{line}"));
            self.said = news;
        }
        match &step {
            Step::Put { path, again: false } => {
                tracing::info!("put egressway into {}", path.display());
                self.tell_uncovered();
            }
            Step::Put { path, again: true } => {
                tracing::warn!(
                    "put egressway into {} again: something had taken it out",
                    path.display()
                );
                self.tell_uncovered();
            }
            Step::Fine(_) | Step::Wait(_) | Step::Nothing => {}
        }
        Ok(step)
    }

    fn tell_uncovered(&self) {
        match coverage::uncovered(&self.state) {
            Ok(names) => {
                if let Some(sentence) = coverage::sentence(&names) {
                    tracing::warn!("{sentence}");
                }
            }
            Err(error) => tracing::warn!("cannot tell which pods are not covered: {error}"),
        }
    }
}
