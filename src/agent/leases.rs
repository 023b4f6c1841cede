//! The Leases of this node's egress addresses: renewed while pods use them, given back when none does, and
//! given up when another node has them by now.
//!
//! Asked is on the runtime, done by the worker: no lock is waited for here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::api::Api;
use super::worker::Worker;
use super::{Context, Error, tell};
use crate::cluster::leases::{self, Leases, Renewal};
use crate::cluster::{self};
use crate::egress::held::{self, HeldAddress};
use crate::store::StateDir;

/// How long a Lease lasts that is renewed for the last time: as long as it may take until the next agent is
/// there. Nobody takes an address from a node that is being upgraded.
const PARTING: Duration = Duration::from_secs(60);

/// How long after the start the addresses of an earlier life of this node are kept for its pods, which are
/// being started again.
const COMING_BACK: Duration = Duration::from_secs(120);

/// How long the last renewal may take.
const LAST: Duration = Duration::from_millis(500);

/// Another node has an address that this one was using.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The address.
    pub address: IpAddr,
    /// The namespace whose pods had it.
    pub namespace: String,
    /// The other node.
    pub holder: String,
}

/// Renews them until all is to end, and then once more, for the time without an agent.
pub(super) async fn tend(context: Context, api: Api) -> Result<(), Error> {
    let renewing = renew(context.clone(), api.clone());
    if let Some(e) = context.cancel.run_until_cancelled(renewing).await {
        return Err(e);
    }
    part(&context, &api).await;
    Ok(())
}

async fn renew(context: Context, api: Api) -> Error {
    let part = context.readiness.part("leases");
    part.ready();
    let cluster = api.cluster();
    let duration = cluster.lease_duration;
    let state = StateDir::new(&context.config.state_dir);
    let mut renewer = Renewer::new(state, context.worker.clone(), COMING_BACK);
    let mut rounds = interval(duration / 3);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let (node, renewer) = (cluster.node(), &mut renewer);
        let round = api
            .ask(|client| async move { renewer.round(&Leases::of(client, &node, duration)).await });
        match round.await {
            Ok(lost) => {
                part.ready();
                for lost in lost {
                    say(&context, &api, lost).await;
                }
            }
            Err(e) if e.is_outage() => {} // said once for all
            Err(e) => part.behind(format!("Leases of egress IPs are not renewed: {e}")),
        }
    }
}

async fn say(context: &Context, api: &Api, lost: Lost) {
    let Lost {
        address,
        namespace,
        holder,
    } = lost;
    let note = format!(
        "egress IP {address} is now held by node {holder}; pods of namespace {namespace} here reach nothing outside until they are recreated"
    );
    tracing::error!("{note}");
    let regarding = tell::own_daemonset(api).await;
    context
        .teller
        .warn(regarding, "EgressIPLost", "RenewLease", note);
}

/// Renews what this node holds so that it lasts until the next agent is there.
async fn part(context: &Context, api: &Api) {
    let state = StateDir::new(&context.config.state_dir);
    let renewed = api.ask(|client| async move {
        let leases = Leases::of(client, &api.cluster().node(), PARTING);
        let held = context.worker.run(move || held::all(&state)).await;
        let held = held
            .unwrap_or_default()
            .into_iter()
            .filter(|held| held.in_use);
        let renewals = held.map(|held| {
            let leases = leases.clone();
            async move { leases.renew(held.address, &held.namespace, &mut None).await }
        });
        for renewed in futures_util::future::join_all(renewals).await {
            renewed?;
        }
        Ok(())
    });
    match timeout(LAST, renewed).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!(
            "Leases of egress IPs were not renewed for the time without an agent: {e}"
        ),
        Err(_) => tracing::warn!(
            "there was no time to renew all Leases of egress IPs for the time without an agent"
        ),
    }
}

/// A node's Leases.
pub struct Renewer {
    state: StateDir,
    worker: Worker,
    /// How the Leases were left, so that renewing one is one question.
    seen: BTreeMap<IpAddr, Option<Lease>>,
    /// Until when those of an earlier life of this node are kept; none: they were given back.
    keep_until: Option<Instant>,
}

impl Renewer {
    /// For the Leases of which `state` knows, and those that this node holds without knowing it: they are given
    /// back if no pod has asked for them `coming_back` from now.
    pub fn new(state: StateDir, worker: Worker, coming_back: Duration) -> Renewer {
        Renewer {
            state,
            worker,
            seen: BTreeMap::new(),
            keep_until: Some(Instant::now() + coming_back),
        }
    }

    /// One round. To be repeated three times within a Lease's duration.
    ///
    /// While the API does not answer, addresses stay in use: nobody can take their Leases then, and
    /// whoever could would find them answering on the network.
    ///
    /// # Errors
    /// The API does not answer, or refuses. What could be done was done.
    pub async fn round(&mut self, leases: &Leases) -> Result<Vec<Lost>, cluster::Error> {
        let held = self.on_node(|state| held::all(&state)).await?;
        let (mut lost, mut failure) = (Vec::new(), None);
        for held in held {
            match self.tend(leases, &held).await {
                Ok(news) => lost.extend(news),
                Err(e) => failure = Some(e),
            }
        }
        if let Some(e) = failure {
            return Err(e);
        }
        if let Some(until) = self.keep_until {
            let keep = Instant::now() < until;
            self.tend_unknown(leases, keep).await?;
            if !keep {
                self.keep_until = None;
            }
        }
        Ok(lost)
    }

    /// Does what one address needs.
    async fn tend(
        &mut self,
        leases: &Leases,
        held: &HeldAddress,
    ) -> Result<Option<Lost>, cluster::Error> {
        let (address, namespace) = (held.address, &held.namespace);
        if !held.in_use {
            self.seen.remove(&address);
            let taken = self.on_node(move |state| held::take_away(&state, address));
            return self.give_back(leases, address, taken.await?).await;
        }
        let seen = self.seen.entry(address).or_default();
        match leases.renew(address, namespace, seen).await? {
            Renewal::Held => self.renewed(address).await?,
            // Somebody has removed it; if the address is still in use here, it is this node's.
            Renewal::Gone => {
                let used = self.on_node(move |state| held::still_used(&state, address));
                match used.await? {
                    // Nobody gives it back while it is locked.
                    Ok(Some(_lock)) => {
                        if leases.take(address, namespace, None).await? {
                            self.renewed(address).await?;
                        }
                    }
                    Ok(None) => {}
                    Err(e) => tracing::debug!("{e}"),
                }
            }
            Renewal::Lost { holder } => {
                self.seen.remove(&address);
                match self
                    .on_node(move |state| held::lost(&state, address))
                    .await?
                {
                    Ok(()) => {
                        return Ok(Some(Lost {
                            address,
                            namespace: namespace.clone(),
                            holder,
                        }));
                    }
                    Err(e) => tracing::error!("egress IP {address} is another node's: {e}"),
                }
            }
        }
        Ok(None)
    }

    async fn renewed(&self, address: IpAddr) -> Result<(), cluster::Error> {
        let now = Timestamp::now().as_second();
        self.on_node(move |state| held::renewed(&state, address, now))
            .await
    }

    /// Gives the Lease of an address back that was taken away; it is locked.
    async fn give_back(
        &self,
        leases: &Leases,
        address: IpAddr,
        taken: Result<Option<crate::store::Lock>, String>,
    ) -> Result<Option<Lost>, cluster::Error> {
        match taken {
            Ok(Some(lock)) => {
                leases.give_back(address).await?;
                tracing::info!(%address, "released the egress IP's Lease");
                self.on_node(move |state| held::forget(&state, address, lock))
                    .await?;
            }
            Ok(None) => {} // a pod uses it by now
            Err(e) => tracing::error!("egress IP {address} is not released yet: {e}"),
        }
        Ok(None)
    }

    /// Leases that this node held before it was started again, and that no pod has asked for since.
    async fn tend_unknown(&self, leases: &Leases, keep: bool) -> Result<(), cluster::Error> {
        let all = leases.list().await?;
        let own = all.values().filter(|lease| leases.is_own(lease));
        for lease in own {
            let Some(address) = leases::address(lease) else {
                continue;
            };
            let unknown = self.on_node(move |state| held::unknown(&state, address));
            if let Ok(Some(_lock)) = unknown.await? {
                if keep {
                    let namespace = leases::annotation(lease, leases::FOR).unwrap_or_default();
                    let mut seen = Some(lease.clone());
                    leases.renew(address, namespace, &mut seen).await?;
                    continue;
                }
                leases.give_back(address).await?;
                tracing::info!(%address, "released a Lease that no pod of this node uses any more");
            }
        }
        Ok(())
    }

    /// Does what has to do with the node.
    async fn on_node<T: Send + 'static>(
        &self,
        work: impl FnOnce(StateDir) -> T + Send + 'static,
    ) -> Result<T, cluster::Error> {
        let state = self.state.clone();
        self.worker
            .run(|| work(state))
            .await
            .map_err(|e| cluster::Error::Runtime {
                cause: std::io::Error::other(e),
            })
    }
}
