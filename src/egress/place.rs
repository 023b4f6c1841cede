//! Whether an egress address is where the packets leave that have it, and whether it is answered for there.

use std::net::IpAddr;

use crate::attachment::now::Devices;
use crate::store::Owner;
use netlink::link::Link;
use netlink::route::{self, Family, Route};
use netlink::{self, Rtnl};

/// The node's devices and routes at one moment.
#[derive(Debug, Default)]
pub struct Ways {
    /// The devices.
    pub devices: Devices,
    /// IPv4, IPv6.
    routes: [Vec<Route>; 2],
}

/// What is wrong with an egress address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFault {
    /// In words.
    pub why: String,
    /// It can be mended on this node.
    pub mends: bool,
}

impl Ways {
    /// Asks the kernel.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read(rtnl: &mut Rtnl) -> Result<Ways, netlink::Error> {
        Ok(Ways {
            devices: Devices::read(rtnl)?,
            routes: [route::all(rtnl, Family::V4)?, route::all(rtnl, Family::V6)?],
        })
    }

    /// The same without routes: for a node that has no egress address.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn read_devices(rtnl: &mut Rtnl) -> Result<Ways, netlink::Error> {
        Ok(Ways {
            devices: Devices::read(rtnl)?,
            ..Ways::default()
        })
    }

    /// The device of the default route by which packets of an address leave; of the other family's, if its own
    /// has none.
    pub fn out(&self, address: IpAddr) -> Option<u32> {
        let [v4, v6] = &self.routes;
        let other = if address.is_ipv4() { v6 } else { v4 };
        route::default_device(self.of(address)).or_else(|| route::default_device(other))
    }

    fn of(&self, address: IpAddr) -> &[Route] {
        let [v4, v6] = &self.routes;
        if address.is_ipv4() { v4 } else { v6 }
    }

    fn name(&self, index: u32) -> String {
        let link = self.devices.link(index);
        link.map_or_else(|| format!("device {index}"), |link| link.name.clone())
    }

    /// What is wrong with an address that this node has.
    pub fn faults(&self, address: IpAddr, owner: &Owner) -> Vec<AddressFault> {
        let fault = |mends, why| vec![AddressFault { why, mends }];
        let uplink = &owner.uplink;
        if owner.follows_route
            && let Some(out) = self.out(address)
            && out != owner.uplink_index
        {
            let out = self.name(out);
            return fault(
                true,
                format!("it is on {uplink}, and the default route now uses {out}"),
            );
        }
        let Some(link) = self.devices.link(owner.uplink_index) else {
            return fault(false, format!("its uplink {uplink} is gone"));
        };
        let mut faults = Vec::new();
        if let Some(why) = cannot_carry(link) {
            faults.extend(fault(false, format!("its uplink {why}")));
        } else if let Some(out) = leaves_elsewhere(self.of(address), link.index) {
            let why = said_elsewhere(&link.name, &self.name(out));
            faults.extend(fault(false, why));
        }
        let mut there = self.devices.addresses(link.index).iter();
        match there.find(|a| a.address == address) {
            None => faults.extend(fault(true, format!("it is missing on {}", link.name))),
            Some(found) if found.dad_failed => faults.extend(fault(
                false,
                format!("another host on {} has it, too", link.name),
            )),
            Some(_) => {}
        }
        faults
    }
}

/// The device of the default route, if no route leads out by the uplink that somebody has named: so no packet leaves
/// there. One in another table may be what leads pods there.
pub fn leaves_elsewhere(routes: &[Route], uplink: u32) -> Option<u32> {
    let out = route::default_device(routes)?;
    let by_uplink = routes
        .iter()
        .filter(|route| route.devices.contains(&uplink));
    let mut leads_out = by_uplink.filter(|route| match (route.is_main, route.is_default) {
        // Several next hops share what leaves; of several routes one takes all.
        (true, true) => route.devices.contains(&out),
        (_, is_default) => is_default || route.by_router,
    });
    leads_out.next().is_none().then_some(out)
}

/// That in words.
pub fn said_elsewhere(uplink: &str, out: &str) -> String {
    format!("no route goes out by {uplink}: the default route takes {out}")
}

/// Why no packet leaves by a link.
pub fn cannot_carry(link: &Link) -> Option<String> {
    match (link.up, link.carrier) {
        (false, _) => Some(format!("{} is down", link.name)),
        (true, false) => Some(format!("{} has no carrier", link.name)),
        (true, true) => None,
    }
}
