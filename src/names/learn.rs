//! Puts addresses into the kernel's sets, by packets: one of our rules in this host's output takes what we send to an
//! address at [`LEARN_PORT`], puts the address into the set that the packet's secret is for, and drops the packet. So no
//! transaction is needed, which would wait for others' and have every pod start compare all rules anew.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};

use super::life::Life;
use crate::hex::bytes;
use crate::plan::named::LEARN_PORT;
use crate::store::NameGroup;

/// Length of a secret.
const LENGTH: usize = 16;

/// What one group's packets consist of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens(HashMap<(bool, Life), [u8; LENGTH]>);

impl Tokens {
    /// Of a document. What it lacks can't be learned.
    pub fn read(group: &NameGroup) -> Tokens {
        let mut tokens = HashMap::new();
        for (family, is_v4) in [("4", true), ("6", false)] {
            for life in Life::ALL {
                let text = group
                    .tokens
                    .get(family)
                    .and_then(|all| all.get(life.as_str()));
                let token = text.and_then(|text| bytes(text)?.try_into().ok());
                if let Some(token) = token {
                    tokens.insert((is_v4, life), token);
                }
            }
        }
        Tokens(tokens)
    }

    fn of(&self, address: IpAddr, life: Life) -> Option<&[u8; LENGTH]> {
        self.0.get(&(address.is_ipv4(), life))
    }
}

/// Why an address is not in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No name opens it.
    Never,
    /// The set has as many as it may have.
    Full,
    /// The rule that should have taken the packet is not there, or its set is full.
    NotTaken,
    /// No way leads from this node to the address: no pod can reach it, either.
    NoRoute,
    /// The group's document says not how.
    NoToken,
    /// The system refused to send.
    System,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 6] = [
        Failure::Never,
        Failure::Full,
        Failure::NotTaken,
        Failure::NoRoute,
        Failure::NoToken,
        Failure::System,
    ];

    /// As metrics call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Never => "never",
            Failure::Full => "full",
            Failure::NotTaken => "not-taken",
            Failure::NoRoute => "no-route",
            Failure::NoToken => "no-token",
            Failure::System => "system",
        }
    }
}

/// Who sends them.
#[derive(Debug)]
pub struct Learner {
    v4: UdpSocket,
    /// None: this host has no IPv6.
    v6: Option<UdpSocket>,
}

impl Learner {
    /// In the network namespace of the caller.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn open() -> io::Result<Learner> {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Then it needs no route; and what nobody takes ends there, or at the first router.
        setsockopt(&v4, sockopt::BindToDevice, &"lo".into())?;
        setsockopt(&v4, sockopt::Ipv4Ttl, &1)?;
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
        if let Some(v6) = &v6 {
            setsockopt(v6, sockopt::Ipv6Ttl, &1)?;
        }
        for socket in [Some(&v4), v6.as_ref()].into_iter().flatten() {
            socket.set_nonblocking(true)?;
        }
        Ok(Learner { v4, v6 })
    }

    /// Puts an address into a group's set for so long. It is there when this returns.
    ///
    /// # Errors
    /// It is not.
    pub fn put(&self, tokens: &Tokens, address: IpAddr, life: Life) -> Result<(), Failure> {
        let token = tokens.of(address, life).ok_or(Failure::NoToken)?;
        let socket = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(Failure::NoRoute)?,
        };
        let sent = socket.send_to(token, SocketAddr::new(address, LEARN_PORT));
        match sent.map_err(|e| e.raw_os_error()) {
            // A rule has dropped it: ours, which has learned the address.
            Err(Some(libc::EPERM)) => Ok(()),
            Ok(_) => Err(Failure::NotTaken),
            Err(Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EADDRNOTAVAIL
                | libc::EINVAL
                | libc::EACCES
                | libc::ENETDOWN,
            )) => Err(Failure::NoRoute),
            Err(_) => Err(Failure::System),
        }
    }
}

#[cfg(test)]
mod tests;
