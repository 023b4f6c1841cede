//! The device on which an egress address is, and what keeps it from serving one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::place::{cannot_carry, leaves_elsewhere, said_elsewhere};
use super::take::{Claimant, Miss, unreached};
use crate::refusal::CniError;
use netlink::link::{self, Link};
use netlink::{Rtnl, address, route};

impl Claimant<'_> {
    /// The device that the address is to be on.
    pub(super) fn uplink(&self, rtnl: &mut Rtnl, address: IpAddr) -> Result<Link, Miss> {
        let link = match self.uplink {
            Some(name) => link::get_by_name(rtnl, name).map_err(unreached)?,
            None => {
                let families = match address {
                    IpAddr::V4(_) => [route::Family::V4, route::Family::V6],
                    IpAddr::V6(_) => [route::Family::V6, route::Family::V4],
                };
                let mut found = None;
                for family in families {
                    found = match found {
                        None => route::default_route_device(rtnl, family).map_err(unreached)?,
                        found => found,
                    };
                }
                match found {
                    Some(index) => link::get_by_index(rtnl, index).map_err(unreached)?,
                    None => None,
                }
            }
        };
        // As wrong for every other address.
        let link = link.ok_or_else(|| {
            Miss::All(CniError::egress_ip(match self.uplink {
                Some(name) => format!(
                    "egress IP {address}: the conflist's `uplink` {name:?} does not exist on this node"
                ),
                None => format!(
                    "egress IP {address}: this node has no default route; name the device in `uplink` of the conflist"
                ),
            }))
        })?;
        if let Some(why) = cannot_carry(&link) {
            return Err(Miss::All(CniError::try_again(format!(
                "egress IP {address}: its uplink {why}"
            ))));
        }
        if self.uplink.is_none() {
            return Ok(link);
        }
        let family = match address {
            IpAddr::V4(_) => route::Family::V4,
            IpAddr::V6(_) => route::Family::V6,
        };
        let routes = route::all(rtnl, family).map_err(unreached)?;
        let Some(out) = leaves_elsewhere(&routes, link.index) else {
            return Ok(link);
        };
        let out = link::get_by_index(rtnl, out).map_err(unreached)?;
        let out = out.map_or_else(|| "another device".to_owned(), |out| out.name);
        Err(Miss::All(CniError::egress_ip(format!(
            "egress IP {address}: {}; correct `uplink` in the conflist, or leave it out",
            said_elsewhere(&link.name, &out)
        ))))
    }

    /// By `arp_ignore`, this node may answer nobody who asks for an address of its own
    /// (`Documentation/networking/ip-sysctl.rst`).
    pub(super) fn is_answered(
        &self,
        rtnl: &mut Rtnl,
        uplink: &Link,
        address: IpAddr,
    ) -> Result<(), Miss> {
        let setting = |device: &str| {
            let path = format!("/proc/sys/net/ipv4/conf/{device}/arp_ignore");
            let value = std::fs::read_to_string(path).unwrap_or_default();
            value.trim().parse().unwrap_or(0u8)
        };
        let (ignore, name) = (setting("all").max(setting(&uplink.name)), &uplink.name);
        if address.is_ipv6() || !matches!(ignore, 2 | 8) {
            return Ok(());
        }
        let own = address::of_link(rtnl, uplink.index).map_err(unreached)?;
        let is_neighbour = own.iter().any(|a| {
            IpNet::new(a.address, a.prefix_length).is_ok_and(|net| net.contains(&address))
        });
        let what = format!(
            "egress IP {address}: with arp_ignore={ignore} (net.ipv4.conf.all or .{name}) this node answers no ARP request for it on {name}"
        );
        match (ignore, is_neighbour) {
            (2, true) => Ok(()),
            (_, true) => Err(Miss::All(CniError::egress_ip(format!(
                "{what}: set it to 0, 1 or 2"
            )))),
            // A route to this node may lead it here without anybody asking.
            (_, false) => {
                tracing::warn!("{what}: the network must have a route to it by way of this node");
                Ok(())
            }
        }
    }
}
