//! What is asked of the cluster about egress addresses, and told to it.

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::refusal::CniError;

/// This node as a member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The way to the API.
    pub kubeconfig: PathBuf,
    /// Its name, by which it holds addresses.
    pub node: String,
}

/// Where the cluster's nodes agree on who has which address.
pub trait Registry: Debug + Sync {
    /// As `member` uses it. All questions together may take as long as `limit`. Nothing is asked yet.
    fn open(&self, member: &Member, limit: Duration) -> Box<dyn Ownership>;
}

/// Who has which address. Each call waits for its answer.
pub trait Ownership {
    /// Reads how all stand.
    ///
    /// # Errors
    /// Code 11 or 7: there is no answer, or a refusal.
    fn look(&mut self) -> Result<(), CniError>;

    /// How an address stood at the last look.
    fn standing(&self, address: IpAddr) -> Standing;

    /// The addresses that this node held for a namespace at the last look.
    fn own(&self, namespace: &str) -> Vec<IpAddr>;

    /// Takes an address that was free, or this node's own, at the last look. False: another node was faster.
    ///
    /// # Errors
    /// As [`Ownership::look`].
    fn take(&mut self, address: IpAddr, namespace: &str) -> Result<bool, CniError>;

    /// Gives an address back, if it is still this node's.
    ///
    /// # Errors
    /// As [`Ownership::look`].
    fn give_back(&mut self, address: IpAddr) -> Result<(), CniError>;
}

/// How an address stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This node may try to take it, or has it already.
    Free,
    /// Another node has it.
    Held {
        /// That node.
        by: String,
        /// When it may be taken if that node does not renew it; none: never.
        ends_in: Option<Duration>,
    },
}
