//! Taking an address: one that this node has already, or one that nobody has.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::remains::Remains;
use super::{Claim, Member, Registry, give_back, lock_name, net_error};
use crate::enforce;
use crate::plan::names::Purpose;
use crate::refusal::{CniError, nft_failure};
use crate::store::document::Unknown;
use crate::store::{AttachmentId, Owner, StateDir, StateError};
use netlink::link::Link;
use netlink::{Mac, Rtnl, address, neighbour};
use nft::{Family, Nft};

/// Who wants an egress address.
pub struct Claimant<'a> {
    /// Where it is written who uses an address.
    pub state: &'a StateDir,
    /// The attachment that wants one.
    pub id: &'a AttachmentId,
    /// Its namespace.
    pub namespace: &'a str,
    /// The conflist's `uplink`.
    pub uplink: Option<&'a str>,
    /// In a cluster: this node, as its nodes agree on who has which address. None: it takes the first.
    pub member: Option<&'a Member>,
    /// Where they agree on that.
    pub registry: &'a dyn Registry,
    /// Whether the network is asked by ARP if an address is in use.
    pub arp_probe: bool,
    /// When to give up.
    pub deadline: Instant,
}

/// Why an address was not taken.
pub(super) enum Miss {
    /// This one can't be had; another one may be.
    This(CniError),
    /// No other one could be, either.
    All(CniError),
}

impl From<Miss> for CniError {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::This(e) | Miss::All(e) => e,
        }
    }
}

impl From<StateError> for Miss {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Locked { .. } => Miss::This(error.into()),
            _ => Miss::All(error.into()),
        }
    }
}

/// What was found out about an address before anything was changed.
pub(super) struct Prepared {
    rtnl: Rtnl,
    pub(super) uplink: Link,
    pub(super) owner: Owner,
    /// It is on the uplink already.
    pub(super) here: bool,
    /// It is on this device, by which packets left before: it moves with them.
    pub(super) moves_from: Option<u32>,
}

impl Claimant<'_> {
    /// Takes one address of each of these families, as far as the list has any: makes sure that nobody
    /// else answers for it or owns it, adds it to the uplink and announces it.
    ///
    /// # Errors
    /// Code 102: the address can't be had; 11: somebody else has it, or the API does not answer. What
    /// had been taken for this attachment is given back.
    pub fn take(&self, list: &[IpNet], families: &[Family]) -> Result<Claim, CniError> {
        let lists = |family: &Family| list.iter().any(|net| Family::of(&net.addr()) == *family);
        // All lock in this order.
        let wanted = [Family::V4, Family::V6].into_iter();
        let families: Vec<Family> = wanted
            .filter(|family| families.contains(family) && lists(family))
            .collect();
        let mut claim = Claim::default();
        let taken = match self.member {
            _ if families.is_empty() => Ok(()),
            None => self.take_first(list, &families, &mut claim),
            Some(member) => self.take_leased(member, list, &families, &mut claim),
        };
        match taken {
            Ok(()) => Ok(claim),
            Err(e) => {
                drop(claim);
                give_back(self.state, self.registry, self.id, self.deadline);
                Err(e)
            }
        }
    }

    /// Without a cluster: the first address of each family.
    fn take_first(
        &self,
        list: &[IpNet],
        families: &[Family],
        claim: &mut Claim,
    ) -> Result<(), CniError> {
        for family in families {
            let nets = list.iter().map(IpNet::network);
            for address in nets.filter(|a| Family::of(a) == *family).take(1) {
                let lock = self.state.lock_named(&lock_name(address), self.deadline)?;
                claim.locks.push(lock);
                claim.uplink = Some(self.take_one(address)?);
                claim.addresses.push(address);
            }
        }
        Ok(())
    }

    /// Takes one address, which must be locked. Returns the uplink's index.
    pub(crate) fn take_one(&self, address: IpAddr) -> Result<u32, CniError> {
        let mut prepared = self.prepare(address, false)?;
        if prepared.here {
            self.state.write_egress(address, &prepared.owner)?;
        } else {
            self.probe(&mut prepared, address)?;
            self.add(&mut prepared, address)?;
        }
        Ok(prepared.uplink.index)
    }

    /// Looks where the address is and who has it. This attachment becomes one of its users. `leased`:
    /// this node's Lease says that it is the namespace's.
    pub(super) fn prepare(&self, address: IpAddr, leased: bool) -> Result<Prepared, Miss> {
        let mut rtnl = Rtnl::open(self.deadline).map_err(unreached)?;
        let uplink = self.uplink(&mut rtnl, address)?;
        let known = match self.state.read_egress(address) {
            Err(e) if e.is_other_version() => {
                let refused = CniError::egress_ip(format!("egress IP {address}: {e}"));
                return Err(Miss::This(refused));
            }
            read => read.unwrap_or_else(|e| {
                tracing::warn!("{e}; it is rewritten");
                None
            }),
        };
        let everywhere = address::all(&mut rtnl).map_err(unreached)?;
        let mut places = everywhere.iter().filter(|a| a.address == address);
        let here = match places.clone().find(|a| a.link == uplink.index) {
            Some(found) => Some(found.link),
            None => places.next().map(|found| found.link),
        };
        let known = match known {
            None => {
                self.is_no_pods(address)?;
                self.without_file(address, here, &uplink, leased)?
            }
            known => known,
        };
        let mut owner = self.owner(address, known, here, &uplink)?;
        if !owner.users.contains(self.id) {
            owner.users.push(self.id.clone());
        }
        let is_here = here == Some(uplink.index);
        Ok(Prepared {
            here: is_here,
            moves_from: here.filter(|_| !is_here),
            rtnl,
            uplink,
            owner,
        })
    }

    /// What `clusterCIDRs` says of it is checked before; a pod of this node is met whatever that says.
    fn is_no_pods(&self, address: IpAddr) -> Result<(), Miss> {
        let kernel = |e| Miss::All(nft_failure(e));
        let mut nft = Nft::open().map_err(kernel)?;
        let Some(chain) = enforce::owner_of(&mut nft, address).map_err(kernel)? else {
            return Ok(());
        };
        let id = Purpose::of(&chain).and_then(Purpose::attachment);
        let id = id.and_then(|id| id.parse().ok());
        let title = id.and_then(|id| self.state.title_of(&id));
        Err(Miss::This(CniError::egress_ip(format!(
            "egress IP {address} of namespace {}: it is the address of the pod {} on this node; list another one, and the cluster's networks in `clusterCIDRs` of the policy file",
            self.namespace,
            title.as_deref().unwrap_or(&chain)
        ))))
    }

    /// What other software, or other hosts, may make of an address that is on the uplink now.
    fn tell_others(&self, rtnl: &mut Rtnl, uplink: &Link, address: IpAddr) -> Result<(), Miss> {
        if address.is_ipv4() {
            return Ok(());
        }
        let there = address::of_link(rtnl, uplink.index).map_err(unreached)?;
        let is_global = |a: &&address::IfAddr| {
            a.address.is_ipv6() && a.scope == address::AddressScope::Universe
        };
        let mut global = there.iter().filter(is_global);
        let is_first = global.next().is_some_and(|a| a.address == address);
        // The kernel lists the newest first, and there is no other place for it.
        if let (true, Some(own)) = (is_first, global.find(|a| !a.deprecated)) {
            tracing::warn!(
                "egress IP {address} is listed before {} on {}: software that takes a device's first global IPv6 address for the node's has to be told the right one (`--node-ip` of kubelet, for one)",
                own.address,
                uplink.name
            );
        }
        Ok(())
    }

    /// Adds an address that nobody else has to the uplink, and announces it.
    pub(super) fn add(&self, prepared: &mut Prepared, address: IpAddr) -> Result<(), Miss> {
        self.state.write_egress(address, &prepared.owner)?;
        let uplink = &prepared.uplink;
        address::add(&mut prepared.rtnl, uplink.index, address).map_err(unreached)?;
        self.tell_others(&mut prepared.rtnl, uplink, address)?;
        if let Err(e) = neighbour::announce(uplink, &[address]) {
            // Neighbours that never heard of the address will ask; those that did are rare.
            tracing::warn!("cannot announce {address}: {e}");
        }
        tracing::info!(%address, uplink = uplink.name, "acquired the egress IP");
        Ok(())
    }

    /// Who has an address of which no file speaks, as far as records and kernel tell: the state
    /// directory may have been emptied, or the file cut short. None: it is not one of ours.
    fn without_file(
        &self,
        address: IpAddr,
        here: Option<u32>,
        uplink: &Link,
        leased: bool,
    ) -> Result<Option<Owner>, Miss> {
        let found = Remains::find(self.state, address, here.is_some());
        let remains = match found.map_err(Miss::All)? {
            Some(remains) if here.is_none_or(|device| device == uplink.index) => remains,
            _ => return Ok(None),
        };
        if !leased && !remains.strangers.is_empty() {
            return Err(Miss::This(CniError::egress_ip(format!(
                "egress IP {address}: pods of which no record is left use it ({}), and whose they are is not known: delete them",
                remains.name_strangers()
            ))));
        }
        let namespace = remains
            .namespace
            .unwrap_or_else(|| self.namespace.to_owned());
        Ok(Some(Owner {
            namespace,
            users: remains.users,
            ..self.new_owner(uplink)
        }))
    }

    /// The owner to write, if the address may be taken.
    fn owner(
        &self,
        address: IpAddr,
        known: Option<Owner>,
        here: Option<u32>,
        uplink: &Link,
    ) -> Result<Owner, Miss> {
        match (known, here) {
            (Some(owner), _) if owner.namespace != self.namespace => {
                let users: Vec<_> = owner.users.iter().filter(|id| self.is_alive(id)).collect();
                if users.is_empty() {
                    return Ok(self.new_owner(uplink));
                }
                Err(Miss::This(CniError::egress_ip(format!(
                    "egress IP {address}: namespace {} on this node uses it ({} pods)",
                    owner.namespace,
                    users.len()
                ))))
            }
            (Some(mut owner), Some(device)) if device == uplink.index && !owner.is_lost() => {
                owner.users.retain(|id| self.is_alive(id));
                owner.uplink.clone_from(&uplink.name);
                owner.uplink_index = uplink.index;
                owner.follows_route = self.uplink.is_none();
                owner.arp_probe = self.arp_probe;
                Ok(owner)
            }
            // The default route has gone to another device, or somebody names another one.
            (Some(mut owner), Some(device)) if device == owner.uplink_index && !owner.is_lost() => {
                owner.users.retain(|id| self.is_alive(id));
                Ok(Owner {
                    users: owner.users,
                    lease: owner.lease,
                    unknown: owner.unknown,
                    ..self.new_owner(uplink)
                })
            }
            (_, Some(device)) => Err(Miss::This(CniError::egress_ip(format!(
                "egress IP {address} is already an address of this node (on device {device}): list another one in egressway.dev/egress-ip of namespace {}",
                self.namespace
            )))),
            // Somebody took it from the uplink, or this node had lost it: its pods get it back.
            (Some(owner), None) if owner.namespace == self.namespace => {
                let mut users = owner.users;
                users.retain(|id| self.is_alive(id));
                Ok(Owner {
                    users,
                    unknown: owner.unknown,
                    ..self.new_owner(uplink)
                })
            }
            (_, None) => Ok(self.new_owner(uplink)),
        }
    }

    pub(crate) fn new_owner(&self, uplink: &Link) -> Owner {
        Owner {
            namespace: self.namespace.to_owned(),
            uplink: uplink.name.clone(),
            uplink_index: uplink.index,
            follows_route: self.uplink.is_none(),
            arp_probe: self.arp_probe,
            users: Vec::new(),
            lease: None,
            unknown: Unknown::default(),
        }
    }

    /// Users are written with their address locked until their record is there, too.
    fn is_alive(&self, id: &AttachmentId) -> bool {
        id == self.id || self.state.has_attachment(id)
    }

    /// Whether somebody else has it. One that moves is taken from its old device before: else this node would
    /// answer for it itself.
    pub(super) fn probe(&self, prepared: &mut Prepared, address: IpAddr) -> Result<(), Miss> {
        self.is_answered(&mut prepared.rtnl, &prepared.uplink, address)?;
        let from = prepared.moves_from;
        if let Some(from) = from {
            address::delete(&mut prepared.rtnl, from, address).map_err(unreached)?;
        }
        let probed = self.ask(&prepared.uplink, address);
        if let (Err(_), Some(from)) = (&probed, from) {
            address::add(&mut prepared.rtnl, from, address).map_err(unreached)?;
        }
        probed
    }

    fn ask(&self, uplink: &Link, address: IpAddr) -> Result<(), Miss> {
        if address.is_ipv4() && !self.arp_probe {
            return Ok(());
        }
        let conflicts = neighbour::probe(
            uplink,
            &[address],
            neighbour::Timing::default(),
            self.deadline,
        )
        .map_err(unreached)?;
        match conflicts.first() {
            None => Ok(()),
            Some(conflict) => Err(Miss::This(CniError::try_again(format!(
                "egress IP {address} of namespace {}: {} on {} answers for it; free it there, or list another address (if that is a router that answers for every address, set `arpProbe: off` in the conflist)",
                self.namespace,
                Mac(conflict.mac),
                uplink.name
            )))),
        }
    }
}

pub(super) fn unreached(error: netlink::Error) -> Miss {
    Miss::This(net_error(error))
}
