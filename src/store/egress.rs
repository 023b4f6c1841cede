//! Egress addresses: who uses which, on which device.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::document::{Document, Unknown};
use super::{AttachmentId, StateDir, StateError, remove};

/// What is known of an egress address that this node has, or is about to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The namespace whose pods have it.
    pub namespace: String,
    /// The device that it is on.
    pub uplink: String,
    /// That device's index.
    pub uplink_index: u32,
    /// Nobody has named the device: it is that of the default route, wherever that goes.
    #[serde(default)]
    pub follows_route: bool,
    /// The conflist's `arpProbe`: whether the network is asked before the address is taken, or put back.
    #[serde(default = "asked")]
    pub arp_probe: bool,
    /// None are left: only the Lease is still to be given back.
    pub users: Vec<AttachmentId>,
    /// The Lease by which this node has it, in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Held>,
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What was written before it could be told.
const fn asked() -> bool {
    true
}

/// A Lease of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The way to the API, for a DEL that is not told it.
    pub kubeconfig: PathBuf,
    /// The holder: this node's name.
    pub node: String,
    /// When it was renewed, in seconds since 1970.
    pub renewed: i64,
    /// Another node has it: the address is not used here any more.
    #[serde(default)]
    pub lost: bool,
    /// What a newer version has added.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Document for Owner {
    const VERSION: u32 = 1;
}

impl Owner {
    /// Another node has the address.
    pub fn is_lost(&self) -> bool {
        self.lease.as_ref().is_some_and(|held| held.lost)
    }
}

impl StateDir {
    /// Writes who uses an egress address, in one step.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn write_egress(&self, address: IpAddr, owner: &Owner) -> Result<(), StateError> {
        self.write(&self.egress_path(address), owner)
    }

    /// Reads who uses an egress address; none if nobody does.
    ///
    /// # Errors
    /// [`StateError::Damaged`], [`StateError::OtherVersion`], [`StateError::Io`]
    pub fn read_egress(&self, address: IpAddr) -> Result<Option<Owner>, StateError> {
        self.read(&self.egress_path(address))
    }

    /// Forgets who uses an egress address.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn remove_egress(&self, address: IpAddr) -> Result<(), StateError> {
        remove(&self.egress_path(address))
    }

    /// The egress addresses of which something is known, in order.
    ///
    /// # Errors
    /// [`StateError::Io`]: the directory can't be listed.
    pub fn list_egress(&self) -> Result<Vec<IpAddr>, StateError> {
        let mut addresses: Vec<IpAddr> = self
            .documents("egress")?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    pub(super) fn egress_path(&self, address: IpAddr) -> PathBuf {
        self.root.join("egress").join(format!("{address}.json"))
    }
}
