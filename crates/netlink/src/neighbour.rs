//! Whether somebody on a link uses an address already, and telling everybody that this node
//! does now. IPv4 by ARP (RFC 5227), IPv6 by neighbour discovery (RFC 4862, RFC 4861).

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{Error, arp, link::Link, ndp, packet_socket::PacketSocket, wait};

/// How often each announcement is sent: one may get lost.
const ANNOUNCEMENTS: usize = 2;

/// Somebody else on the link uses an address, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The address that was probed.
    pub address: IpAddr,
    /// Who claims it.
    pub mac: [u8; 6],
}

/// How patiently to probe. RFC 5227 takes seconds, which a pod's start can't.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Probes for each address.
    pub tries: u32,
    /// From one probe to the next, and from the last to the verdict.
    pub interval: Duration,
}

impl Default for Timing {
    /// Three probes, 450 ms in all.
    fn default() -> Self {
        Timing {
            tries: 3,
            interval: Duration::from_millis(150),
        }
    }
}

/// Asks the link's other hosts, for all addresses at once, which of them are in use.
///
/// Ends early only when all of them are. Never says that an address is free without having
/// waited for the whole of the timing: if the deadline is before that, it fails at once.
/// This host's own addresses are not found: a host doesn't answer itself. A link without
/// neighbours (loopback, IFF_NOARP) has no conflicts.
pub fn probe(
    link: &Link,
    addresses: &[IpAddr],
    timing: Timing,
    deadline: Instant,
) -> Result<Vec<Conflict>, Error> {
    let operation = format!("probe for addresses on link {}", link.name);
    let Some(mac) = link.mac.filter(|_| link.has_neighbours) else {
        return Ok(Vec::new());
    };
    if Instant::now() + timing.interval * timing.tries > deadline {
        return Err(Error::Timeout { operation });
    }
    let mut round = Round {
        own_mac: mac,
        open: addresses.iter().copied().collect(),
        conflicts: Vec::new(),
    };
    round
        .run(link, timing)
        .map_err(|cause| Error::system(operation, cause))?;
    Ok(round.conflicts)
}

/// Tells the link's other hosts that the addresses are here now, so that those that knew them
/// elsewhere send here from now on. A link without neighbours needs no telling.
pub fn announce(link: &Link, addresses: &[IpAddr]) -> Result<(), Error> {
    let Some(mac) = link.mac.filter(|_| link.has_neighbours) else {
        return Ok(());
    };
    let send_all = || -> io::Result<()> {
        let sockets = Sockets::open(link, addresses)?;
        for _ in 0..ANNOUNCEMENTS {
            sockets.announce(mac, addresses)?;
        }
        Ok(())
    };
    send_all()
        .map_err(|cause| Error::system(format!("announce addresses on link {}", link.name), cause))
}

/// One run of probes.
struct Round {
    own_mac: [u8; 6],
    /// Addresses that nobody has claimed so far.
    open: BTreeSet<IpAddr>,
    conflicts: Vec<Conflict>,
}

impl Round {
    fn run(&mut self, link: &Link, timing: Timing) -> io::Result<()> {
        let addresses: Vec<IpAddr> = self.open.iter().copied().collect();
        let sockets = Sockets::open(link, &addresses)?;
        for _ in 0..timing.tries {
            if self.open.is_empty() {
                break;
            }
            sockets.probe(self.own_mac, &self.open)?;
            self.listen(&sockets, Instant::now() + timing.interval)?;
        }
        Ok(())
    }

    fn listen(&mut self, sockets: &Sockets, until: Instant) -> io::Result<()> {
        while !self.open.is_empty() && sockets.wait(until)? {
            for (address, mac) in sockets.claims()? {
                // A switch or bridge may send our own probes back.
                if mac != self.own_mac && self.open.remove(&address) {
                    self.conflicts.push(Conflict { address, mac });
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }
}

/// A socket for each IP version that is needed.
struct Sockets {
    arp: Option<PacketSocket>,
    ndp: Option<PacketSocket>,
}

impl Sockets {
    fn open(link: &Link, addresses: &[IpAddr]) -> io::Result<Self> {
        let mut sockets = Sockets {
            arp: None,
            ndp: None,
        };
        if addresses.iter().any(IpAddr::is_ipv4) {
            sockets.arp = Some(PacketSocket::open(link.index, arp::ETHERTYPE, &[])?);
        }
        if addresses.iter().any(IpAddr::is_ipv6) {
            let socket = PacketSocket::open(link.index, ndp::ETHERTYPE, &ndp::FILTER)?;
            // Others who probe send to the address's own group. Owners answer to all nodes, and
            // every link that can have IPv6 addresses is in that group.
            for address in addresses {
                if let IpAddr::V6(v6) = address {
                    socket.join(ndp::solicited_node_mac(*v6))?;
                }
            }
            sockets.ndp = Some(socket);
        }
        Ok(sockets)
    }

    fn probe<'a>(
        &self,
        mac: [u8; 6],
        addresses: impl IntoIterator<Item = &'a IpAddr>,
    ) -> io::Result<()> {
        for address in addresses {
            match address {
                IpAddr::V4(v4) => send(&self.arp, &arp::probe(mac, *v4))?,
                IpAddr::V6(v6) => send(&self.ndp, &ndp::probe(mac, *v6))?,
            }
        }
        Ok(())
    }

    fn announce(&self, mac: [u8; 6], addresses: &[IpAddr]) -> io::Result<()> {
        for address in addresses {
            match address {
                IpAddr::V4(v4) => send(&self.arp, &arp::announcement(mac, *v4))?,
                IpAddr::V6(v6) => send(&self.ndp, &ndp::announcement(mac, *v6))?,
            }
        }
        Ok(())
    }

    fn wait(&self, until: Instant) -> io::Result<bool> {
        let both: Vec<_> = [&self.arp, &self.ndp]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
            .collect();
        wait::readable(&both, until)
    }

    /// What the next frame of each socket claims.
    fn claims(&self) -> io::Result<Vec<(IpAddr, [u8; 6])>> {
        let mut claims = Vec::new();
        if let Some(frame) = receive(&self.arp)? {
            claims.extend(arp::claim(&frame).map(|(address, mac)| (address.into(), mac)));
        }
        if let Some(frame) = receive(&self.ndp)? {
            claims.extend(ndp::claim(&frame).map(|(address, mac)| (address.into(), mac)));
        }
        Ok(claims)
    }
}

fn send(socket: &Option<PacketSocket>, frame: &[u8]) -> io::Result<()> {
    match socket {
        Some(socket) => socket.send(frame),
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

fn receive(socket: &Option<PacketSocket>) -> io::Result<Option<Vec<u8>>> {
    match socket {
        Some(socket) => socket.receive(),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
