//! What a pod with domain names in its rules needs of the node.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::policy::Policy;
use crate::plan::resolver::{Led, resolver};
use crate::refusal::{CniError, net_failure};
use netlink::{Rtnl, address};

/// How long the node's own resolver may take to accept a connection: it is on this machine.
const PATIENCE: Duration = Duration::from_millis(500);

/// Refuses a pod whose names nobody would resolve.
///
/// # Errors
/// Code 11: the agent does not listen; 101: clusterDNS is on the node itself.
pub(super) fn check(rtnl: &mut Rtnl, policy: &Policy<'_>) -> Result<(), CniError> {
    if policy.head.names.is_none() {
        return Ok(());
    }
    let read = policy.read()?;
    let resolvers = &read.effective.facts.resolvers;
    let failed = |e| net_failure("look at the node's addresses", e);
    let own = address::all(rtnl).map_err(failed)?;
    let is_own = |led: &Led| own.iter().any(|own| own.address == led.asked);
    if let Some(here) = Led::all(resolvers).find(is_own) {
        return Err(CniError::unenforceable(format!(
            "rules with domain names do not work where a resolver runs on the node itself (NodeLocal DNS): {} of `clusterDNS` is an address of this node; have pods ask another one, or write addresses",
            here.asked
        )));
    }
    if policy.head.start_without_agent {
        return Ok(());
    }
    let listens = |led: &Led| {
        let there = SocketAddr::new(resolver(led.family()), led.port);
        TcpStream::connect_timeout(&there, PATIENCE).is_ok()
    };
    match Led::all(resolvers).find(|led| !listens(led)) {
        None => Ok(()),
        Some(led) => Err(CniError::try_again(format!(
            "rules with domain names need the agent, which does not listen on {}: start `egressway agent` on this node, or set `names: {{ withoutAgent: start }}` in the policy file",
            SocketAddr::new(resolver(led.family()), led.port)
        ))),
    }
}
