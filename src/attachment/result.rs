//! What the primary plugin's result says about the pod, in every version's shape.
//!
//! | version | addresses |
//! |---|---|
//! | 0.1.0, 0.2.0 | `ip4.ip`, `ip6.ip`; no interfaces |
//! | 0.3.0 | `ips`; in the spec's own text `ip` |
//! | 0.3.1 to 1.1.0 | `ips` |
//!
//! The shape is told by the keys, not by the version: real plugins mix them up. Nothing that isn't
//! needed is looked at, since plugins put strange things into the rest (AWS: a routing table's
//! number in `mac`, a device's number in `sandbox`). What is printed is always the original text.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde_json::value::RawValue;

use super::push_new;
use crate::json::{self, JsonObject};
use crate::refusal::{CniError, quoted};

/// The part of a result that says who the pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodResult {
    /// The pod's addresses, as far as the primary plugin tells them. Not all that it has: others
    /// may have been added inside its network namespace.
    pub addresses: Vec<IpAddr>,
    /// The gateways of these addresses, each once.
    pub gateways: Vec<IpAddr>,
    /// The interfaces on the host's side, in the primary plugin's order: a bridge, a veth.
    pub host_interfaces: Vec<String>,
}

struct Interface {
    name: String,
    /// Where it is: the path of a network namespace; empty for the host.
    sandbox: String,
}

struct Ip {
    address: IpAddr,
    gateway: Option<IpAddr>,
    /// Index into the interfaces. May be missing, or point nowhere.
    interface: Option<i64>,
}

impl PodResult {
    /// Reads `result`, for the attachment `ifname` in `netns`.
    ///
    /// The pod's addresses are those of the interfaces in `netns`, or named `ifname` in any sandbox
    /// (one namespace has many paths). If no address says so, they are all that are not on a
    /// host's interface.
    ///
    /// # Errors
    /// Code 7, naming the field that is malformed.
    pub fn parse(result: &RawValue, ifname: &str, netns: &Path) -> Result<PodResult, CniError> {
        let result: JsonObject<'_> = serde_json::from_str(result.get()).map_err(|_| {
            json::invalid(
                "prevResult",
                &format!("expected an object, got {}", quoted(result.get())),
            )
        })?;
        let interfaces = interfaces(&result)?;
        let mut ips = ips(&result, "ips")?;
        ips.extend(self::ips(&result, "ip")?);
        ips.extend(ip_of_family(&result, "ip4")?);
        ips.extend(ip_of_family(&result, "ip6")?);

        let interface_of = |ip: &Ip| interfaces.get(usize::try_from(ip.interface?).ok()?);
        let is_pods = |ip: &&Ip| {
            interface_of(ip).is_some_and(|i| {
                !i.sandbox.is_empty() && (Path::new(&i.sandbox) == netns || i.name == ifname)
            })
        };
        let not_hosts = |ip: &&Ip| interface_of(ip).is_none_or(|i| !i.sandbox.is_empty());
        let mut selected: Vec<&Ip> = ips.iter().filter(is_pods).collect();
        if selected.is_empty() {
            selected = ips.iter().filter(not_hosts).collect();
        }

        let mut pod = PodResult::default();
        for ip in selected {
            push_new(&mut pod.addresses, ip.address);
            if let Some(gateway) = ip.gateway {
                push_new(&mut pod.gateways, gateway);
            }
        }
        pod.host_interfaces = interfaces
            .into_iter()
            .filter(|i| i.sandbox.is_empty() && !i.name.is_empty())
            .map(|i| i.name)
            .collect();
        Ok(pod)
    }
}

fn interfaces(result: &JsonObject<'_>) -> Result<Vec<Interface>, CniError> {
    let list = json::objects(result, "interfaces", "prevResult.interfaces")?.unwrap_or_default();
    let mut interfaces = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let text = |key: &str| {
            let at = format!("prevResult.interfaces[{i}].{key}");
            json::value::<String>(item, key, &at, "a string").map(Option::unwrap_or_default)
        };
        interfaces.push(Interface {
            name: text("name")?,
            sandbox: text("sandbox")?,
        });
    }
    Ok(interfaces)
}

fn ips(result: &JsonObject<'_>, key: &str) -> Result<Vec<Ip>, CniError> {
    let at = format!("prevResult.{key}");
    let list = json::objects(result, key, &at)?.unwrap_or_default();
    let mut ips = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        ips.push(Ip {
            address: network(item, "address", &at)?,
            gateway: gateway(item, &at)?,
            interface: json::value(item, "interface", &format!("{at}.interface"), "a number")?,
        });
    }
    Ok(ips)
}

/// `ip4` or `ip6` of 0.1.0 and 0.2.0: one address a family, no interfaces.
fn ip_of_family(result: &JsonObject<'_>, key: &str) -> Result<Option<Ip>, CniError> {
    let at = format!("prevResult.{key}");
    let Some(item) = json::object(result, key, &at)? else {
        return Ok(None);
    };
    Ok(Some(Ip {
        address: network(&item, "ip", &at)?,
        gateway: gateway(&item, &at)?,
        interface: None,
    }))
}

/// An address, with its network's prefix length or without.
fn network(item: &JsonObject<'_>, key: &str, at: &str) -> Result<IpAddr, CniError> {
    let at = format!("{at}.{key}");
    const EXPECTED: &str = "an address such as \"10.1.2.3/24\"";
    let text: String = json::value(item, key, &at, EXPECTED)?
        .ok_or_else(|| json::invalid(&at, &format!("expected {EXPECTED}, got nothing")))?;
    text.parse::<IpNet>()
        .map(|net| net.addr())
        .or_else(|_| text.parse::<IpAddr>())
        .map_err(|_| json::invalid(&at, &format!("expected {EXPECTED}, got {}", quoted(&text))))
}

fn gateway(item: &JsonObject<'_>, at: &str) -> Result<Option<IpAddr>, CniError> {
    let at = format!("{at}.gateway");
    const EXPECTED: &str = "an address such as \"10.1.2.1\"";
    let text: Option<String> = json::value(item, "gateway", &at, EXPECTED)?;
    match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| json::invalid(&at, &format!("expected {EXPECTED}, got {}", quoted(text)))),
    }
}

#[cfg(test)]
mod tests;
