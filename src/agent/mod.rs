//! `egressway agent`: the process that stays on a node, and keeps there what others change.
//!
//! ```text
//!                    ┌ health     answers probes with readiness, Prometheus with metrics
//!  one runtime,      ├ tell       readiness and Events, to the log and to the API
//!  one thread        ├ conflist   program, kubeconfig, our entry ──────────────┐
//!                    ├ policy     follows the ConfigMap ───────────────────────┤
//!                    ├ token      asks for the plugin's ───────────────────────┼─> worker: one thread for all
//!                    ├ live       rules of running pods, as they are written ──┤
//!                    ├ names      where the resolver listens, whom it asks ────┤
//!                    ├ heal       what others break in the kernel, put back ───┤
//!                    ├ leases     renews those of egress IPs ──────────────────┤   that touches the node
//!                    ├ taint      keeps pods away from a node that is not ready, if wanted
//!                    ├ removal    follows the DaemonSet and its namespace      │
//!                    └ on SIGTERM: nothing; or, if it is deleted, uninstall ───┘
//! ```
//!
//! Beside it, threads of their own read what rules log, and hand it out: `verdicts`; and relay the questions of pods
//! whose rules name domains: `crate::names`.
//!
//! What pods may do never depends on this process: if it ends, everything stays as it is.

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::defaults;
use crate::names::{Resolver, ResolverThreads};
use crate::refusal::CniError;
use crate::setup::config::{Cluster, Config};
use crate::setup::conflist::PluginEntry;
use crate::setup::install;
use crate::setup::options::{AgentArgs, Listen};
use crate::setup::uninstall::uninstall;
use crate::store::StateDir;

use api::Api;
use counters::Counters;
use metrics::Metrics;
use readiness::Readiness;
use removal::Removal;
use seen::Pods;
use status::Status;
use tell::Teller;
use verdicts::denials::First;
use verdicts::hub::Hub;
use worker::Worker;

mod api;
mod conflist;
pub mod counters;
mod cover;
mod denied;
mod dirs;
mod follow;
mod heal;
mod health;
mod keeper;
pub mod leases;
mod live;
mod metrics;
mod names;
mod networks;
mod policy;
mod readiness;
mod removal;
mod seen;
mod sign;
mod status;
mod taint;
mod tell;
mod token;
mod verdicts;
pub mod worker;

/// How long the tasks may take to end.
const DRAIN: Duration = Duration::from_millis(600);

/// Where the kubelet finds why a container has ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each message says what it is about
pub enum Error {
    #[error(transparent)]
    Install(#[from] install::Error),
    #[error("the conflist entry would be invalid: {0}")]
    Entry(CniError),
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    #[error("the agent has failed unexpectedly: see the log")]
    Worker,
    #[error("a task of the agent has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What every task has.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    worker: Worker,
    readiness: Readiness,
    teller: Teller,
    counters: Counters,
    /// This node's pods, as the API has them.
    pods: Pods,
    /// What is written and not in force.
    status: Status,
    metrics: Metrics,
    /// What names stand for.
    resolver: Arc<Resolver>,
    /// There is a policy file that the plugin can use.
    policy: watch::Sender<bool>,
    cancel: CancellationToken,
}

impl Context {
    fn has_policy(&self) {
        self.policy
            .send_if_modified(|has| !std::mem::replace(has, true));
    }
}

/// The tasks. Each ends only with what has failed, or when all are to end.
type Tasks = JoinSet<Result<(), Error>>;

/// Runs until a signal ends it.
pub fn main(args: &AgentArgs) -> ExitCode {
    let ended = verdicts::begin(Level::INFO)
        .map_err(Error::Start)
        .and_then(|hub| {
            let ended = run(args.config(), args.listen(), &hub);
            verdicts::end(&hub);
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "egressway: {e}");
            // Only where the kubelet has put such a file.
            let file = std::fs::OpenOptions::new()
                .append(true)
                .open(TERMINATION_LOG);
            let _ = file.and_then(|mut file| writeln!(file, "{e}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, listen: Listen, hub: &Hub) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    let ended = runtime.block_on(stay(config, listen, hub));
    // Not by dropping it: that would wait for a name to be resolved, which has a time limit of its own.
    runtime.shutdown_background();
    ended
}

async fn stay(config: Config, listen: Listen, hub: &Hub) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    let config = Arc::new(config);
    let entry = config.entry().map_err(Error::Entry)?;
    let (teller, notes) = Teller::new();
    let (pods, status) = (Pods::default(), Status::default());
    let state = StateDir::new(&config.state_dir);
    let counters = Counters::default();
    let names = Arc::new(names::start(state.clone()).map_err(Error::Start)?);
    let resolver = Arc::clone(names.resolver());
    let metrics = Metrics::new(
        state,
        Arc::clone(&resolver),
        status.clone(),
        pods.clone(),
        hub.clone(),
        counters.clone(),
    );
    let context = Context {
        config: Arc::clone(&config),
        worker: Worker::start().map_err(Error::Start)?,
        readiness: Readiness::default(),
        teller,
        counters,
        pods,
        metrics,
        resolver,
        status,
        policy: watch::Sender::new(false),
        cancel: CancellationToken::new(),
    };
    let mut tasks = Tasks::new();
    let kernel = context.readiness.part("kernel");
    let (readiness, metrics) = (context.readiness.clone(), context.metrics.clone());
    spawn(&context, &mut tasks, async move {
        match health::serve(listen, readiness, metrics).await {}
    });
    // Before anything is put anywhere.
    let preparing = context.worker.run(move || install::prepare(&config));
    tokio::select! {
        prepared = preparing => prepared??,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    let metrics = context.metrics.clone();
    context.worker.run(move || metrics.begin()).await?;
    kernel.ready();
    let first = read_verdicts(&context, hub)?;
    let keeping = names::keep(context.clone(), Arc::clone(&names));
    spawn(&context, &mut tasks, keeping);
    let removal = start(&context, &mut tasks, entry, notes, first);
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        Some(ended) = tasks.join_next() => match ended {
            Ok(ended) => ended.err(),
            Err(e) => Some(e.into()),
        },
    };
    if let Some(e) = failed {
        tasks.shutdown().await;
        return Err(e);
    }
    end(&context, tasks, removal, names).await
}

/// Starts to read what rules log.
fn read_verdicts(context: &Context, hub: &Hub) -> Result<First, Error> {
    let config = &context.config;
    let node = config.cluster.as_ref().map(Cluster::node);
    let (pods, seen) = (context.pods.clone(), context.pods.clone());
    let (state, status) = (StateDir::new(&config.state_dir), context.status.clone());
    let about = verdicts::About {
        reads: verdicts::Reads {
            group: config.keys.log_group.unwrap_or(defaults::LOG_GROUP),
            state_dir: config.state_dir.clone(),
            node: node.clone(),
            workload: Box::new(move |uid| pods.workload(uid)),
        },
        about_node: Box::new(move |denials| {
            status::node(&state, node.clone(), &status, &seen, denials)
        }),
        resolver: Arc::clone(&context.resolver),
    };
    verdicts::start(hub, about).map_err(Error::Start)
}

/// Runs `task` until all are to end.
fn spawn(context: &Context, tasks: &mut Tasks, task: impl Future<Output = Error> + Send + 'static) {
    let cancel = context.cancel.clone();
    tasks.spawn(async move {
        let failed = cancel.run_until_cancelled(task).await;
        failed.map_or(Ok(()), Err)
    });
}

/// Starts what the node and the cluster need.
fn start(
    context: &Context,
    tasks: &mut Tasks,
    entry: PluginEntry,
    notes: tell::Notes,
    first: First,
) -> Option<Removal> {
    let config = &context.config;
    let api = config.cluster.as_ref().map(|cluster| {
        let (cluster, worker) = (cluster.clone(), context.worker.clone());
        let part = context.readiness.part("api");
        Api::new(config.kubeconfig(), cluster, worker, part)
    });
    spawn(context, tasks, conflist::keep(context.clone(), entry));
    spawn(context, tasks, heal::keep(context.clone()));
    spawn(
        context,
        tasks,
        tell::tell(context.clone(), api.clone(), notes),
    );
    let Some(api) = api else {
        spawn(context, tasks, policy::look(context.clone()));
        spawn(context, tasks, live::keep(context.clone(), None));
        return None;
    };
    spawn(context, tasks, policy::follow(context.clone(), api.clone()));
    spawn(context, tasks, denied::tell(context.clone(), first));
    spawn(context, tasks, cover::find(context.clone(), api.clone()));
    spawn(context, tasks, token::renew(context.clone(), api.clone()));
    spawn(
        context,
        tasks,
        live::keep(context.clone(), Some(api.clone())),
    );
    tasks.spawn(leases::tend(context.clone(), api.clone()));
    if api.cluster().taint {
        spawn(context, tasks, taint::keep(context.clone(), api.clone()));
    }
    Some(Removal::follow(context, &api))
}

/// Ends everything, and takes everything out if the DaemonSet is being deleted.
async fn end(
    context: &Context,
    mut tasks: Tasks,
    removal: Option<Removal>,
    names: Arc<ResolverThreads>,
) -> Result<(), Error> {
    let api = removal.as_ref().map(|removal| removal.api().clone());
    let removed = async {
        match removal {
            Some(removal) => removal.decide().await,
            None => false,
        }
    };
    let ended = async {
        context.cancel.cancel();
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, all).await;
    };
    let policy_file = context.config.policy_file.clone();
    let resolved = tokio::task::spawn_blocking(move || names::end(&names, &policy_file));
    let (removed, (), _) = tokio::join!(removed, ended, resolved);
    tasks.shutdown().await;
    if !removed {
        tracing::info!("ending; everything stays in place");
        // What has begun ends first.
        return context.worker.run(|| ()).await;
    }
    tracing::info!("the DaemonSet is being deleted: removing everything from this node");
    if let Some(api) = api.filter(|api| api.cluster().taint) {
        taint::lift(&api).await;
    }
    let config = Arc::clone(&context.config);
    context.worker.run(names::remove).await?;
    for failure in context.worker.run(move || uninstall(&config)).await? {
        tracing::error!("{failure}");
    }
    Ok(())
}
