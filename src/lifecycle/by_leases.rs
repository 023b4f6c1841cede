//! Leases for whoever has no runtime: the plugin, which lives for milliseconds, and `uninstall`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::runtime::Runtime;

use crate::cluster::leases::{self, Leases};
use crate::cluster::{self, Client, Error, TimeLimit};
use crate::egress::{Member, Ownership, Registry, Standing};
use crate::refusal::CniError;

/// How long what is taken here lasts. Whoever stays renews it soon, for its own time; without that one, as
/// long as a restart may take.
const LASTS: Duration = Duration::from_secs(60);

/// The Leases in the Kubernetes API.
#[derive(Debug, Clone, Copy)]
pub struct ByLeases;

impl Registry for ByLeases {
    fn open(&self, member: &Member, limit: Duration) -> Box<dyn Ownership> {
        Box::new(OwnLeases {
            member: member.clone(),
            limit: TimeLimit::overall(limit, Instant::now() + limit),
            asking: None,
            seen: BTreeMap::new(),
        })
    }
}

struct OwnLeases {
    member: Member,
    limit: TimeLimit,
    /// From the first question on.
    asking: Option<Asking>,
    seen: BTreeMap<String, Lease>,
}

struct Asking {
    leases: Leases,
    runtime: Option<Runtime>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Not as it drops by itself: that would wait for a name to be resolved, which has a time limit of its own.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl OwnLeases {
    fn ask<T, F>(&mut self, question: impl FnOnce(Leases) -> F) -> Result<T, CniError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asking = match &mut self.asking {
            Some(asking) => asking,
            none => none.insert(Asking::start(&self.member, self.limit).map_err(|e| e.cni())?),
        };
        let ended = || Error::Runtime {
            cause: io::Error::other("it has ended"),
        };
        let runtime = asking.runtime.as_ref().ok_or_else(|| ended().cni())?;
        let answer = runtime.block_on(question(asking.leases.clone()));
        answer.map_err(|e| e.cni())
    }
}

impl Asking {
    fn start(member: &Member, limit: TimeLimit) -> Result<Asking, Error> {
        let runtime = cluster::runtime()?;
        let client = {
            let _inside = runtime.enter();
            Client::from_kubeconfig(&member.kubeconfig, limit)?
        };
        Ok(Asking {
            leases: Leases::of(client, &member.node, LASTS),
            runtime: Some(runtime),
        })
    }
}

impl Ownership for OwnLeases {
    fn look(&mut self) -> Result<(), CniError> {
        self.seen = self.ask(|leases| async move { leases.list().await })?;
        Ok(())
    }

    fn standing(&self, address: IpAddr) -> Standing {
        let Some(lease) = self.seen.get(&leases::name(address)) else {
            return Standing::Free;
        };
        let ends_in = leases::held_for(lease, Timestamp::now());
        match leases::holder(lease) {
            Some(holder) if holder != self.member.node && ends_in != Some(Duration::ZERO) => {
                Standing::Held {
                    by: holder.to_owned(),
                    ends_in,
                }
            }
            _ => Standing::Free,
        }
    }

    fn own(&self, namespace: &str) -> Vec<IpAddr> {
        let own = self.seen.values().filter(|lease| {
            leases::holder(lease) == Some(&self.member.node)
                && leases::annotation(lease, leases::FOR) == Some(namespace)
        });
        own.filter_map(leases::address).collect()
    }

    fn take(&mut self, address: IpAddr, namespace: &str) -> Result<bool, CniError> {
        let seen = self.seen.get(&leases::name(address)).cloned();
        self.ask(|leases| async move { leases.take(address, namespace, seen.as_ref()).await })
    }

    fn give_back(&mut self, address: IpAddr) -> Result<(), CniError> {
        self.ask(|leases| async move { leases.give_back(address).await })
    }
}
