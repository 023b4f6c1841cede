//! Which addresses a destination stands for.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use super::destination::{Destination, Host};
use crate::attachment::records::{self, Records};

/// Why a destination has no address.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// A name that would have to be resolved.
    #[error(
        "{0} is a name and no pod of this node, and rules see addresses: give one, or --resolve to ask this machine's resolver for all of them"
    )]
    Name(String),
    /// No such pod is attached.
    #[error("no pod {name} is attached on this node: give its address (`kubectl get pod -o wide`)")]
    NoPod {
        /// `NAMESPACE/NAME`
        name: String,
    },
    /// It has addresses, none of which the traffic can go to.
    #[error("{name} has no address of the IP version that the protocol belongs to")]
    NoSuchAddress {
        /// As it was asked about.
        name: String,
    },
    /// What this machine's resolver says.
    #[error("{0}")]
    Resolve(String),
    /// This node's pods can't be listed, or several are called so.
    #[error(transparent)]
    Records(#[from] records::Error),
}

impl Destination {
    /// All addresses that it stands for: its own, those of the pod of this node that it names (in `namespace` first,
    /// which is the asking pod's), or, with `resolve`, what this machine's resolver says of a name.
    ///
    /// # Errors
    /// There is none, or it is not known which.
    pub fn addresses(
        &self,
        state_dir: &Path,
        namespace: Option<&str>,
        resolve: bool,
    ) -> Result<Vec<IpAddr>, DestinationError> {
        let (name, found) = match &self.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) if resolve => (name, self::resolve(name)?),
            Host::Name(name) => {
                let found = attached(state_dir, name, &[namespace, None])?;
                let unknown = || DestinationError::Name(name.clone());
                (name, found.ok_or_else(unknown)?)
            }
            Host::Pod { namespace, name } => {
                let found = attached(state_dir, name, &[Some(namespace)])?;
                let unknown = || DestinationError::NoPod {
                    name: format!("{namespace}/{name}"),
                };
                (name, found.ok_or_else(unknown)?)
            }
        };
        let addresses: Vec<IpAddr> = found.into_iter().filter(|a| self.suits(*a)).collect();
        if addresses.is_empty() {
            let name = name.clone();
            return Err(DestinationError::NoSuchAddress { name });
        }
        Ok(addresses)
    }
}

/// The addresses of the pod of this node that is called so, in the first of the namespaces that has one.
fn attached(
    state_dir: &Path,
    name: &str,
    namespaces: &[Option<&str>],
) -> Result<Option<Vec<IpAddr>>, records::Error> {
    let records = Records::read(state_dir)?;
    for namespace in namespaces {
        match records.find(name, *namespace) {
            Ok(record) => return Ok(Some(record.addresses.clone())),
            Err(records::Error::NotFound { .. }) => {}
            Err(several) => return Err(several),
        }
    }
    Ok(None)
}

/// All addresses of a name, as this machine's resolver knows them.
fn resolve(name: &str) -> Result<Vec<IpAddr>, DestinationError> {
    let failed = |why: String| DestinationError::Resolve(format!("cannot resolve {name}: {why}"));
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|e| failed(e.to_string()))?;
    let mut addresses: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(failed("it has no address".to_owned()));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_addresses() {
        let loopback = resolve("localhost").unwrap();
        assert!(loopback.iter().all(IpAddr::is_loopback), "{loopback:?}");
    }
}
