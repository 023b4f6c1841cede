//! What the process that stays on a node does for its Leases: renews those that are in use, gives back
//! those that are not, and stops using what another node has by now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::lease::{self, Access, Leases, Renewal};
use super::{Owner, has_record, lock_name};
use crate::cluster::{self, Limit};
use crate::enforce::Remove;
use crate::store::StateDir;
use netlink::{Rtnl, address};
use nft::Nft;

/// How long one answer of the API may take, and how long an ADD or DEL may hold an address.
const PATIENCE: Duration = Duration::from_secs(5);

/// What people have to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Another node has an address that this one was using.
    Lost {
        /// The address.
        address: IpAddr,
        /// The namespace whose pods had it.
        namespace: String,
        /// The other node.
        holder: String,
    },
}

/// A node's Leases.
pub struct Renewer {
    state: StateDir,
    access: Access,
    duration: Duration,
    /// How the Leases were left, so that renewing one is one question.
    seen: BTreeMap<IpAddr, Option<Lease>>,
    /// Those of an earlier life of this node were looked for.
    looked: bool,
}

impl Renewer {
    /// For the Leases of which `state` knows, and those that this node holds without knowing it.
    pub fn new(state: StateDir, access: Access, duration: Duration) -> Renewer {
        Renewer {
            state,
            access,
            duration,
            seen: BTreeMap::new(),
            looked: false,
        }
    }

    /// One round. To be repeated three times within a Lease's duration.
    ///
    /// While the API does not answer, addresses stay in use: nobody can take their Leases then, and
    /// whoever could would find them answering on the network.
    ///
    /// # Errors
    /// The API does not answer, or refuses. What could be done was done.
    pub fn round(&mut self) -> Result<Vec<News>, cluster::Error> {
        let known = self.state.list_egress().unwrap_or_else(|e| {
            tracing::warn!("{e}");
            Vec::new()
        });
        if known.is_empty() && self.looked {
            return Ok(Vec::new()); // the API is asked nothing
        }
        let (access, duration) = (self.access.clone(), self.duration);
        cluster::run(async {
            let leases = Leases::open(&access, Limit::Each(PATIENCE), duration)?;
            let mut news = Vec::new();
            for address in known {
                news.extend(self.tend(&leases, address).await?);
            }
            if !self.looked {
                self.give_back_unknown(&leases).await?;
                self.looked = true;
            }
            Ok(news)
        })
    }

    /// Does what one address needs, under its lock.
    async fn tend(
        &mut self,
        leases: &Leases,
        address: IpAddr,
    ) -> Result<Option<News>, cluster::Error> {
        let deadline = Instant::now() + PATIENCE;
        let _lock = match self.state.lock_named(&lock_name(address), deadline) {
            Ok(lock) => lock,
            Err(e) => {
                tracing::debug!("{e}; its Lease is renewed with the next round");
                return Ok(None);
            }
        };
        let mut owner = match self.state.read_egress::<Owner>(address) {
            Ok(Some(owner)) => owner,
            Ok(None) => return Ok(None), // it went meanwhile
            Err(e) => {
                tracing::warn!("{e}");
                return Ok(None);
            }
        };
        let Some(held) = owner.lease.as_mut().filter(|held| !held.lost) else {
            return Ok(None);
        };
        if !owner.users.iter().any(|user| has_record(&self.state, user)) {
            self.give_back(leases, address, &owner, deadline).await?;
            return Ok(None);
        }
        let seen = self.seen.entry(address).or_default();
        match leases.renew(address, &owner.namespace, seen).await? {
            Renewal::Held => {
                held.renewed = Timestamp::now().as_second();
                self.write(address, &owner);
                Ok(None)
            }
            Renewal::Lost { holder } => {
                self.seen.remove(&address);
                self.stop_using(address, &mut owner, deadline);
                tracing::error!(
                    %address,
                    namespace = owner.namespace,
                    "node {holder} has the egress IP by now: this node has stopped using it, and its pods reach nothing outside until they are started again"
                );
                Ok(Some(News::Lost {
                    address,
                    namespace: owner.namespace,
                    holder,
                }))
            }
        }
    }

    /// First of all no packet leaves with it any more: what the pods send is dropped, since no other
    /// source is theirs. Then nobody is answered that this node has it.
    fn stop_using(&self, address: IpAddr, owner: &mut Owner, deadline: Instant) {
        let note = |outcome: Result<(), String>| {
            if let Err(e) = outcome {
                tracing::error!("{e}");
            }
        };
        note(self.forget_in_kernel(address, deadline));
        let deleted = Rtnl::open(deadline)
            .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address));
        note(deleted.map(drop).map_err(|e| e.to_string()));
        if let Some(held) = &mut owner.lease {
            held.lost = true;
        }
        self.write(address, owner);
    }

    /// The base's `leak-stop` drops whatever leaves with a source that is not among the node's egress
    /// addresses, open connections included.
    fn forget_in_kernel(&self, address: IpAddr, deadline: Instant) -> Result<(), String> {
        let _lock = self.state.lock(deadline).map_err(|e| e.to_string())?;
        let remove = Remove {
            egress: &[address],
            ..Remove::default()
        };
        Nft::open()
            .and_then(|mut nft| remove.commit(&mut nft).map(drop))
            .map_err(|e| e.to_string())
    }

    /// A DEL took the address away while the API did not answer, or was killed before.
    async fn give_back(
        &mut self,
        leases: &Leases,
        address: IpAddr,
        owner: &Owner,
        deadline: Instant,
    ) -> Result<(), cluster::Error> {
        let removed = self.forget_in_kernel(address, deadline).and_then(|()| {
            Rtnl::open(deadline)
                .and_then(|mut rtnl| address::delete(&mut rtnl, owner.uplink_index, address))
                .map_err(|e| e.to_string())
        });
        if let Err(e) = removed {
            // While the address is here, its Lease is not another node's business.
            tracing::error!("{e}");
            return Ok(());
        }
        leases.give_back(address).await?;
        self.seen.remove(&address);
        tracing::info!(%address, "gave the egress IP's Lease back");
        if let Err(e) = self.state.remove_egress(address) {
            tracing::warn!("{e}");
        }
        Ok(())
    }

    /// Leases that this node held before it was started again, and that no pod has asked for since.
    async fn give_back_unknown(&self, leases: &Leases) -> Result<(), cluster::Error> {
        let all = leases.list().await?;
        for lease in all.values().filter(|lease| leases.is_own(lease)) {
            let address = lease::annotation(lease, lease::ADDRESS).and_then(|a| a.parse().ok());
            let Some(address) = address else { continue };
            let deadline = Instant::now() + PATIENCE;
            // An ADD that takes it writes its file before it lets the lock go.
            let lock = self.state.lock_named(&lock_name(address), deadline);
            if lock.is_ok() && matches!(self.state.read_egress::<Owner>(address), Ok(None)) {
                leases.give_back(address).await?;
                tracing::info!(%address, "gave a Lease back that no pod of this node uses any more");
            }
        }
        Ok(())
    }

    fn write(&self, address: IpAddr, owner: &Owner) {
        if let Err(e) = self.state.write_egress(address, owner) {
            tracing::warn!("{e}");
        }
    }
}
